"""Where services listen, as ``extraction.yaml`` says it now: taken up while everything runs, cut-overs included.

Only the service's addresses and how they are checked are: for all else ``fig up`` starts its processes anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.settings import ExtractionSettings, ServiceSettings
from stranglerfig.extraction.store import Store
from stranglerfig.facade.model import ContextRouting
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at the files."""
TAKEN_UP = ("url", "urls", "tls", "health", "health_interval", "health_timeout")


def taken_up(old: ServiceSettings, new: ServiceSettings) -> ServiceSettings:
    """``old`` with what of ``new`` takes effect without a restart."""
    return old.model_copy(update={name: getattr(new, name) for name in TAKEN_UP})


class Addresses:
    """Follows the files for the leading controller; what could not be put in force is tried again."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wanted: dict[str, ServiceSettings] = {}

    async def follow(self) -> None:
        """Look every second.

        Raises:
            FigError: ``envoy_unreachable`` and the like; begun again, it goes on where it was.
        """
        store = await Store.open(self._parts.control_dsn)
        try:
            while True:
                for name, found in (await asyncio.to_thread(self._parts.changed)).items():
                    await self._read(store, name, found)
                await self._put_in_force(store)
                await asyncio.sleep(EVERY)
        finally:
            await store.close()

    async def _read(self, store: Store, name: str, found: ExtractionSettings | FigError) -> None:
        if name not in self._parts.contexts:
            return
        if isinstance(found, FigError):
            log.warning("extraction.yaml is ignored: %s", found, extra={"action": "ignored", "context": name})
            await store.milestone(name, "configuration", {"refused": found.message})
            return
        now = self._parts.contexts[name].settings
        self._wanted[name] = taken_up(now.service, found.service)

    async def _put_in_force(self, store: Store) -> None:
        if not self._wanted:
            return
        contexts = {
            name: replace(part, settings=part.settings.model_copy(update={"service": self._wanted[name]}))
            if name in self._wanted
            else part
            for name, part in self._parts.contexts.items()
        }
        try:
            await self._parts.envoy.lead_to(
                [
                    ContextRouting(name, part.settings.routes, part.settings.service.upstream)
                    for name, part in contexts.items()
                ]
            )
        except FigError as error:
            if error.code == "routes_rejected":
                for name in self._wanted:
                    await store.milestone(name, "configuration", {"refused": error.message})
                self._wanted.clear()
            raise
        for name, service in self._wanted.items():
            said = {"before": self._parts.contexts[name].settings.service.addresses, "urls": service.addresses}
            log.info("%s listens at %s", name, service.addresses, extra={"action": "addresses", "context": name})
            self._parts.contexts[name] = contexts[name]
            await store.milestone(name, "configuration", said)
        self._wanted.clear()

"""How the controller speaks to the router: it writes the table, and asks it to hold."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.facade.asking import Asking
from stranglerfig.facade.holding import HoldReport
from stranglerfig.facade.messages import ContextTable
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


class RouterClient(Asking):
    """The router of an estate.

    Args:
        url: its base URL.
        table: the file from which it has its table, after a restart too.
        nodes: where the broker's nodes tell of their queues.
    """

    def __init__(self, url: str, table: Path, nodes: Sequence[str] = ()) -> None:
        super().__init__(url, who="router", code="router_unreachable")
        self._file = table
        self.nodes = tuple(nodes)

    async def apply(self, contexts: Sequence[ContextTable], *, timeout: float = 5.0) -> None:
        """Make ``contexts`` the table; returns when the router acts by it.

        Raises:
            FigError: ``router_unreachable`` after ``timeout`` seconds; the table is in its file all the same.
        """
        plain = [each.as_dict() for each in contexts]
        version = hashlib.blake2s(orjson.dumps(plain), digest_size=8).hexdigest()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps({"version": version, "contexts": plain}))
        temporary.replace(self._file)
        deadline = clock.monotonic() + timeout
        while True:
            try:
                if (await self.ask("POST", "/table", 2.0))["version"] == version:
                    return
            except FigError:
                if clock.monotonic() >= deadline:
                    raise
            await asyncio.sleep(0.02)

    async def close_fence(self, context: str, epoch: int, *, timeout: float) -> dict[str, Any]:
        """Hold the context's commands; returns when none is in flight. The table must say that they are fenced.

        Raises:
            FigError: ``router_unreachable``, or what the router refuses with.
        """
        return await self.ask("POST", f"/close/{context}", timeout, {"epoch": epoch, "timeout": timeout})

    async def state(self) -> dict[str, Any]:
        """What ``MessageRouter.state`` says."""
        return await self.ask("GET", "/state", 2.0)

    async def hold(self, context: str, epoch: int) -> HoldReport | None:
        """The report of the hold of one epoch; None when no command waited."""
        found = (await self.ask("GET", "/holds", 2.0)).get(context, [])
        return next((HoldReport(**hold) for hold in reversed(found) if hold["epoch"] == epoch), None)

"""The end of the monolith: whether anything still passes to it, the façade's last routes taken over, or given back.

What is looked at is what the façade let pass (``passing``), not what anybody declared: a route that no context names is
the monolith's until the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.passing import MESSAGE
from stranglerfig.extraction.stages import Stage
from stranglerfig.extraction.store import Command, Store
from stranglerfig.extraction.switch import lead
from stranglerfig.facade.envoy import FLUSH_MS, EnvoyControl
from stranglerfig.facade.model import MONOLITH, writes_cluster
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError

ESTATE = ""
"""Where a command's context stands: what concerns no context alone."""
RETIRE, RESTORE = "retire", "retire-restore"
VERBS = frozenset({RETIRE, RESTORE})
FRESH = 5.0
"""Seconds within which the access log was read by somebody who counts as being there."""
SHOWN = 100
"""Kinds of request that are listed."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Requests or messages of one kind: how many in the hours that were looked at, and when the last one ended.

    Of messages ``route`` is the queue that they came by, ``method`` is ``message`` and ``path`` their type.
    """

    route: str
    method: str
    path: str
    requests: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """What stands between the monolith and its end.

    Attributes:
        contexts: where each stands.
        remaining: those that have not left.
        quiet: seconds in which nothing may have passed.
        passing: what did, the most frequent first.
        requests: all that the façade answered or the router passed in the hours that were looked at.
        since, until: between which moments nothing was missed; None before the first look.
        in_flight: requests at the monolith now; None where Envoy was not asked.
        retired: when, by whom; None while the monolith is there.
        refused: what was asked for since and answered 410, and messages that wait for nobody in the monolith's queue.
    """

    contexts: dict[str, str]
    remaining: Sequence[str]
    quiet: float
    passing: Sequence[Passed]
    requests: int
    since: datetime | None
    until: datetime | None
    in_flight: int | None = None
    retired: dict[str, Any] | None = None
    refused: Sequence[Passed] = field(default_factory=tuple)

    def reasons(self, now: datetime) -> list[FigError]:
        """Why the monolith cannot be retired; nothing when it can. The first kind is not to be overridden."""
        found = []
        if self.remaining:
            places = ", ".join(f"{name} is in {self.contexts[name]}" for name in self.remaining)
            found.append(
                FigError(
                    "contexts_remain",
                    f"not every context has left the monolith: {places}",
                    "Take them to done, or abort them and remove their extraction.yaml.",
                    contexts=list(self.remaining),
                )
            )
        if self.since is None or self.until is None or now - self.until > timedelta(seconds=FRESH):
            found.append(
                FigError(
                    "not_watched", "nobody counts what passes", "Is fig up running, its router too? fig ps shows it."
                )
            )
        elif now - self.since < timedelta(seconds=self.quiet):
            found.append(
                FigError(
                    "not_watched",
                    f"the façade is watched without a gap since {self.since:%Y-%m-%d %H:%M:%S} UTC only,"
                    f" and {self.quiet:g} s are wanted",
                    "Wait, or say less in fig.yaml: facade.quiet.",
                    since=self.since.isoformat(),
                )
            )
        if self.passing:
            first = self.passing[0]
            found.append(
                FigError(
                    "still_passing",
                    f"requests of {len(self.passing)} kinds passed to the monolith within {self.quiet:g} s, such as"
                    f" {first.method} {first.path} at {first.last_at:%H:%M:%S} UTC",
                    "Find out who asks (fig retire lists them); an approver may go on all the same: --override REASON.",
                    kinds=len(self.passing),
                )
            )
        if self.in_flight:
            found.append(
                FigError(
                    "still_passing",
                    f"{self.in_flight} requests await the monolith's answer now",
                    "Wait for them: long ones, such as open web sockets, are in no access log yet.",
                    in_flight=self.in_flight,
                )
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


async def look(dsn: str, contexts: Sequence[str], quiet: float, envoy: EnvoyControl | None) -> Look:
    """Look into the control database ``dsn`` and at Envoy, if there is one, for those ``contexts``."""
    now = clock.now()
    store = await Store.open(dsn, what="retire")
    try:
        standings = {name: await store.known(name) for name in contexts}
        retired = await store.retired()
    finally:
        await store.close()
    begin = retired["at"] if retired else now - timedelta(seconds=quiet)
    async with postgres.session(dsn, what="retire") as conn:
        passing = await postgres.one(conn, "SELECT since, until FROM fig.passing")
        rows = await postgres.fetch(
            conn,
            "SELECT side, route, method, path, sum(requests)::bigint, max(last_at) FROM fig.passed"
            " WHERE last_at >= %s GROUP BY side, route, method, path ORDER BY 5 DESC",
            (begin,),
        )
    return Look(
        contexts={name: str(found.place) if found else Stage.PREPARE.value for name, found in standings.items()},
        remaining=[n for n, found in standings.items() if found is None or found.place.stage is not Stage.DONE],
        quiet=quiet,
        passing=[Passed(*row) for side, *row in rows if side == "monolith"][:SHOWN],
        requests=sum(row[4] for row in rows),
        since=passing[0] if passing else None,
        until=passing[1] if passing else None,
        in_flight=await _in_flight(envoy, contexts),
        retired=retired,
        refused=[Passed(*row) for side, *row in rows if side == "facade" or row[1] == MESSAGE][:SHOWN]
        if retired
        else (),
    )


async def _in_flight(envoy: EnvoyControl | None, contexts: Sequence[str]) -> int | None:
    if envoy is None:
        return None
    with suppress(FigError):
        clusters = [MONOLITH, *(writes_cluster(context, "monolith") for context in contexts)]
        return sum([await envoy.in_flight(cluster) for cluster in clusters])
    return None


class Retirement:
    """What the controller does of ``fig retire``."""

    def __init__(self, parts: Parts, store: Store) -> None:
        self._parts = parts
        self._store = store

    async def do(self, command: Command) -> dict[str, Any]:
        """Take the façade's last routes over, or give them back to the monolith.

        Raises:
            FigError: ``not_confirmed``, ``contexts_remain``, ``not_watched``, ``still_passing``, and what Envoy's table
                is refused with.
        """
        dry = bool(command.args.get("dry_run"))
        if command.verb == RESTORE:
            return await self._restore(dry)
        return await self._retire(command, dry)

    async def _retire(self, command: Command, dry: bool) -> dict[str, Any]:
        if await self._store.retired():
            await lead(self._parts, self._store)
            return {"text": "the monolith is retired: nothing passes to it"}
        name, confirm = self._parts.name, command.args.get("confirm")
        if not dry and confirm != name:
            raise FigError(
                "not_confirmed",
                f"{'nothing' if confirm is None else repr(confirm)} was given where the estate's name is wanted",
                f"Repeat the name: --confirm {name} (or look first, with --dry-run).",
            )
        found = await self._now()
        reasons = found.reasons(clock.now())
        effects = ["all that no service answers is answered 410 Gone", "nothing leads to the monolith any more"]
        if dry:
            text = "; ".join(each.message for each in reasons) or "the monolith can be retired"
            return {"text": text, "effects": effects, "reasons": [each.as_dict() for each in reasons]}
        override = str(command.args.get("override") or "").strip()
        if reasons and (not override or reasons[0].code == "contexts_remain"):
            raise reasons[0]
        evidence = {"override": override or None, **found.as_dict()}
        await self._store.retire(by=command.asked_by, evidence=evidence)
        self._parts.kill_point("retire")
        try:
            await lead(self._parts, self._store)
        except FigError:
            await self._store.unretire()
            with suppress(FigError):
                await lead(self._parts, self._store)
            raise
        return {"text": f"{name}'s monolith is retired: nothing passes to it", "effects": effects}

    async def _restore(self, dry: bool) -> dict[str, Any]:
        if dry:
            return {"text": "all that no service answers would pass to the monolith again"}
        await self._store.unretire()
        self._parts.kill_point("retire-restore")
        await lead(self._parts, self._store)
        return {"text": "all that no service answers passes to the monolith again"}

    async def _now(self) -> Look:
        """A look that misses nothing of what was answered before it was asked for."""
        asked = clock.now() + timedelta(milliseconds=3 * FLUSH_MS)
        deadline = clock.monotonic() + FRESH
        while True:
            found = await look(self._parts.control_dsn, [*self._parts.contexts], self._parts.quiet, self._parts.envoy)
            if (found.until is not None and found.until > asked) or clock.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)

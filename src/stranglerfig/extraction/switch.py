"""The cut-over wired to what it moves: the façade's fence and tables, the flows, the proof, the journal."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stranglerfig.changes.mapping import identity_violations
from stranglerfig.changes.model import Direction
from stranglerfig.databases import sides
from stranglerfig.databases.model import Side
from stranglerfig.extraction import both, cutover, made, messages
from stranglerfig.extraction.cutover import CutoverPlan, CutoverResult, Ports, SequencePair
from stranglerfig.extraction.cutover_plan import MARGIN
from stranglerfig.extraction.history import History
from stranglerfig.extraction.journal import Journal
from stranglerfig.extraction.model import CutoverDirection, Row, owner_of
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.ports import HoldStats, Progress
from stranglerfig.extraction.proof import mapping_now
from stranglerfig.extraction.proof_across import quick_proof
from stranglerfig.extraction.routing import routing
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing, Store
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification import across

log = logging.getLogger(__name__)

OVERLAP = 0.05
"""Seconds after a flip in which a worker of Envoy's may still use the old table (seen: 6 ms median, 49 ms at most)."""

CAUGHT_UP = 20
"""Records of the log that sync may be behind and count as caught up."""
REPORTED = 10.0
"""Seconds within which a flow reports, with room for clocks that differ."""


async def apply_routes(parts: Parts, store: Store, *, timeout: float = 5.0) -> None:
    """Make the routes of all contexts what their standings say, with the writes of one held that is being cut over."""
    wanted = []
    for name, context in parts.contexts.items():
        standing = await store.standing(name)
        wanted.append(routing(context.settings, standing, fenced=name == parts.turns.fenced))
    await parts.envoy.apply(wanted, retired=await store.retired() is not None, timeout=timeout)
    await messages.apply_tables(parts, store, timeout=timeout)


async def lead(parts: Parts, store: Store) -> None:
    """As :func:`apply_routes` where ownership has changed: that the router is away stops nothing."""
    try:
        await apply_routes(parts, store)
    except FigError as error:
        if error.code != "router_unreachable":
            raise
        # Requests are led; commands too, once the router is back: it goes by the rows, then by its file.
        log.warning("%s", error, extra={"action": "router_away"})


class Switch:
    """Ownership of one context's writes, forward and back."""

    def __init__(self, parts: Parts, context: ContextParts, store: Store, progress: Progress) -> None:
        self._parts = parts
        self._context = context
        self._store = store
        self._progress = progress

    @property
    def _name(self) -> str:
        return self._context.settings.context

    async def ready_forward(self) -> None:
        """Refuse what could not be taken back, before anything is held.

        Raises:
            FigError: ``mapping_not_reversible``, ``mapping_not_identical`` with the columns, ``in_flight_unknown``.
        """
        messages.require_knowledge(self._parts, self._context.settings)
        if self._context.settings.both_write:
            await both.require(self._parts.monolith_dsn, self._context)
        mapping = await mapping_now(self._parts, self._context, retired=False)
        mapping.require_reversible()
        if mysql.is_mysql(self._parts.monolith_dsn):
            wrong = await across.identity_violations(self._parts.monolith_dsn, self._context.service_dsn, mapping)
        else:
            async with postgres.session(self._parts.monolith_dsn, what="identity") as conn:
                wrong = await identity_violations(conn, mapping)
        if wrong:
            raise FigError(
                "mapping_not_identical",
                "there and back is not the same: "
                + "; ".join(f"{v.table}.{v.column}: {v.rows} rows, such as {', '.join(v.examples[:3])}" for v in wrong),
                "Correct columns or reverse in extraction.yaml: the way back would change these rows.",
            )

    async def forward(self, standing: Standing, *, by: str, gate: Any) -> Standing:
        """The service takes the writes."""
        await both.prepare(self._parts.monolith_dsn, self._context)
        await self._cut("forward", standing)
        reached = await self._settled(standing, by=by, gate=gate)
        assert reached.place.stage is Stage.WRITES
        return reached

    async def back(self, standing: Standing, place: Place, *, by: str, gate: Any) -> Standing:
        """The monolith takes the writes back; reads stay with the service."""
        await self._cut("back", standing)
        # A person's way back says nothing against the reads: their evidence stands. A breach's way back does.
        reached = await self._owned(await self._store.enter(standing, place, by=by, gate=gate, resume=by != "fig"))
        await lead(self._parts, self._store)  # with the shadow of these reads, or none of them where ``place`` says so
        return reached

    async def _cut(self, direction: CutoverDirection, standing: Standing) -> None:
        async with self._parts.turns.cut_over(self._parts.control_dsn, self._name, self._progress):
            await self._cut_now(direction, standing)

    async def _cut_now(self, direction: CutoverDirection, standing: Standing) -> None:
        plan = await self._plan(direction, standing)
        proof = quick_proof(self._parts, self._context, standing, self._progress)
        journal = Journal(self._parts.control_dsn)
        try:
            await journal.migrate()
            result = await cutover.cut_over(
                plan,
                Ports(
                    _Facade(self._parts, self._store, self._context), journal, proof, _Flows(self._parts, self._name)
                ),
                progress=self._progress,
                kill_point=self._parts.kill_point,
            )
            await self._keep(result)
        except FigError as error:
            if error.code != "already_owner":
                raise
        finally:
            await proof.close()
            await journal.close()

    async def _keep(self, result: CutoverResult) -> None:
        await self._store.milestone(self._name, "cutover", result.as_dict())
        await History(self._parts).say(self._name, "WritesSwitched", result.as_dict())

    async def recover(self, standing: Standing) -> Standing:
        """Finish or undo what the ownership rows say is under way; then the stage follows the rows, not the reverse."""
        async with self._parts.turns.cut_over(self._parts.control_dsn, self._name, self._progress):
            if not await self._recovered(standing):
                return standing
        return await self._settled(standing, by="fig", gate=None)

    async def _recovered(self, standing: Standing) -> bool:
        """Whether there was anything to finish or undo in: the context is installed in both databases."""
        plan = await self._plan("forward", standing)
        proof = quick_proof(self._parts, self._context, standing, self._progress)
        journal = Journal(self._parts.control_dsn)
        facade = _Facade(self._parts, self._store, self._context)
        try:
            await journal.migrate()
            found = await cutover.recover(
                plan, Ports(facade, journal, proof, _Flows(self._parts, self._name)), kill_point=self._parts.kill_point
            )
            if found.outcome == "finished" and found.direction is not None:
                hold = await facade.holds(self._name, found.epoch)
                await self._keep(CutoverResult(found.direction, found.epoch, 0.0, hold, {}))
        except FigError as error:
            if error.code != "not_installed":
                raise
            return False
        finally:
            await proof.close()
            await journal.close()
        return True

    async def _settled(self, standing: Standing, *, by: str, gate: Any) -> Standing:
        """Bring the stage's row to what the ownership rows say."""
        standing = await self._owned(standing)
        stage = standing.place.stage
        if standing.owner == "service" and stage is Stage.READS:
            standing = await self._store.enter(standing, Place(Stage.WRITES), by=by, gate=gate)
        elif standing.owner == "monolith" and stage is Stage.WRITES:
            last = Place(Stage.READS, f"{self._context.settings.gates.reads.steps[-1]:g}")
            standing = await self._store.enter(standing, last, by=by, gate=gate, resume=True)
        return standing

    async def _owned(self, standing: Standing) -> Standing:

        rows = {}
        for side, dsn in (("monolith", self._parts.monolith_dsn), ("service", self._context.service_dsn)):
            async with sides.session(dsn, what="ownership") as conn:
                found = await conn.read(self._name)
            if found is None:
                return standing
            rows[side] = Row(found.state, found.epoch, found.nonce)
        owner = owner_of(rows["monolith"], rows["service"])
        if owner is None:
            return standing
        await self._store.owns(self._name, owner, rows[owner].epoch)
        return replace(standing, owner=owner, epoch=rows[owner].epoch)

    async def _plan(self, direction: CutoverDirection, standing: Standing) -> CutoverPlan:
        settings = self._context.settings
        retired = bool(standing.facts.get("retired"))
        async with (
            sides.session(self._parts.monolith_dsn, what="plan") as source,
            sides.session(self._context.service_dsn, what="plan") as target,
        ):
            theirs = await source.sequences(self._context.sources(retired))
            ours = await target.sequences(settings.targets)
        pairs = []
        mapping = await mapping_now(self._parts, self._context, retired=retired)
        for entry in mapping.forward:
            for column, source_column in zip((a.column for a in entry.key), entry.source_key, strict=False):
                left = [s.name for s in theirs if (s.table, s.column) == (entry.source, source_column)]
                right = [s.name for s in ours if (s.table, s.column) == (entry.target, column)]
                if left and right:
                    pairs.append(SequencePair(left[0], right[0]))
        return CutoverPlan(
            context=self._name,
            direction=direction,
            monolith_dsn=self._parts.monolith_dsn,
            service_dsn=self._context.service_dsn,
            monolith_tables=self._context.sources(retired),
            service_tables=settings.targets,
            budget=settings.facade.fence.budget,
            drain=settings.facade.fence.budget / 2,
            # Where writers stay in the monolith, its keys and the service's go on apart, also on the way back.
            sequences=() if settings.both_write and direction == "back" else tuple(dict.fromkeys(pairs)),
            margin=both.APART if settings.both_write else MARGIN,
            shared=settings.both_write,
            made_with=made.made_with(settings),
        )


class _Facade:
    """``FacadePort``: the fence server, then the fenced table, then no write in flight; and the way out of it."""

    def __init__(self, parts: Parts, store: Store, context: ContextParts) -> None:
        self._parts = parts
        self._store = store
        self._context = context

    async def close(self, context: str, epoch: int, *, timeout: float) -> None:
        """See ``FacadePort``."""
        deadline = clock.monotonic() + timeout
        owner = (await self._store.standing(context)).owner
        side: Side = "service" if owner == "service" else "monolith"
        self._parts.turns.fenced = context
        # Commands first: they wait without harm, and what was passed on may take its time; requests wait shorter so.
        await messages.hold_commands(self._parts, self._store, context, epoch, timeout=timeout)
        await self._parts.fence.close_fence(context, epoch, timeout=max(0.1, deadline - clock.monotonic()))
        await apply_routes(self._parts, self._store, timeout=max(0.1, deadline - clock.monotonic()))
        await asyncio.sleep(OVERLAP)
        while (active := await self._parts.envoy.writes_in_flight(context, side)) > 0:
            if clock.monotonic() >= deadline:
                raise FigError(
                    "writes_in_flight",
                    f"{active} writes to the {side} did not end within the budget",
                    "A slow upload or a hung request: find it in the façade's access log, then try again.",
                    active=active,
                )
            await asyncio.sleep(0.003)

    async def steady(self, context: str, owner: Side) -> None:
        """See ``FacadePort``."""
        self._parts.turns.fenced = None
        standing = await self._store.standing(context)
        await self._store.owns(context, owner, standing.epoch)
        await lead(self._parts, self._store)

    async def holds(self, context: str, epoch: int) -> HoldStats:
        """See ``FacadePort``; the fence server reports a hold once the last request of it is let go."""

        async def ended() -> Any:
            return await self._parts.fence.hold(context, epoch)

        stats = HoldStats()
        with suppress(FigError):
            found = await clock.until(ended, timeout=2, what="the fence server's report")
            stats = HoldStats(
                found.held_requests, found.hold_p50_ms, found.hold_p99_ms, found.hold_max_ms, tuple(found.waits_ms)
            )
        return await messages.held_commands(self._parts, context, epoch, stats)


class _Flows:
    """``FlowsPort`` over what capture and sync report."""

    def __init__(self, parts: Parts, context: str) -> None:
        self._parts = parts
        self._context = context

    async def lag(self, direction: str) -> float | None:
        """See ``FlowsPort``: a flow that has caught up is as late as capture is now, whatever the last minute was like
        (a killed process must not bar the way for as long); one that has not, as late as its changes lately were."""
        flow = await self._parts.flows.get(self._context, Direction(direction))
        if flow is None or flow.sync.get("state") != "applying":
            return None
        silent = (clock.now() - flow.sync_at).total_seconds() if flow.sync_at is not None else 0.0
        behind = int(flow.sync.get("behind") or 0)
        if behind <= CAUGHT_UP:
            late = flow.capture.get("lag_ms")
        elif (late := (flow.sync.get("latency_ms") or {}).get("p99")) is None:  # still catching up with its copy
            committed = flow.sync.get("last_source_committed_at")
            late = None if committed is None else (clock.epoch() - float(committed)) * 1000
        return max(float(late or 0.0) / 1000, silent - REPORTED)

    async def connected(self, direction: str) -> bool:
        """See ``FlowsPort``."""
        flow = await self._parts.flows.get(self._context, Direction(direction))
        return flow is not None and flow.capture.get("state") == "streaming" and flow.sync.get("state") == "applying"

    async def parked(self, direction: str) -> int:
        """See ``FlowsPort``."""
        flow = await self._parts.flows.get(self._context, Direction(direction))
        return 0 if flow is None else int(flow.sync.get("parked") or 0)

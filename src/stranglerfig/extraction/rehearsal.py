"""Step 0 of a cut-over: everything that would go wrong, found while nobody waits."""

from __future__ import annotations

from stranglerfig.changes.model import Direction
from stranglerfig.databases import catalogue, markers, ownership
from stranglerfig.extraction.cutover_plan import CutoverPlan
from stranglerfig.extraction.ports import FlowsPort, Ports
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "cutover.sql")


async def rehearse(plan: CutoverPlan, ports: Ports, loser: Connection, winner: Connection) -> None:
    """Refuse what would fail later; afterwards the guards of both sides refuse.

    Raises:
        FigError: ``guard_missing``, ``stream_not_live``, ``changes_parked``,
            ``lag_too_large``, ``transaction_too_old``, ``marker_not_applied``, or what the
            proof says.
    """
    await _guards(plan, loser, winner)
    for direction in Direction:
        await _stream(plan, ports.flows, direction)
    await _old_transactions(plan, loser)
    await ports.proof.rehearse()
    await _canary(plan, loser, winner)


async def _guards(plan: CutoverPlan, loser: Connection, winner: Connection) -> None:
    for side, conn in ((plan.loser, loser), (plan.winner, winner)):
        found = await catalogue.tables(conn, plan.tables(side))
        wanted = {name for table in found.values() for name in (table.qualified, *table.leaves)}
        missing = wanted - set(await ownership.guarded(conn, plan.context))
        if missing or len(found) != len(plan.tables(side)):
            missing |= {name for name in plan.tables(side) if name not in found}
            raise FigError(
                "guard_missing",
                f"tables of the {side} have no guard: {', '.join(sorted(missing))}",
                "fig rollback to reads and advance again: the guards are put back when sync is entered.",
                side=side,
                tables=sorted(missing),
            )
        await ownership.enforce(conn, plan.context, True)


async def _stream(plan: CutoverPlan, flows: FlowsPort, direction: Direction) -> None:
    lag = await flows.lag(direction)
    if lag is None or not await flows.connected(direction):
        raise FigError(
            "stream_not_live",
            f"the {direction} stream of '{plan.context}' does not run",
            "See fig status; a cut-over without a way back is refused.",
            direction=str(direction),
        )
    if parked := await flows.parked(direction):
        raise FigError(
            "changes_parked",
            f"{parked} changes of the {direction} stream of '{plan.context}' wait to be decided about",
            "See fig sync; skip or retry each.",
            direction=str(direction),
            parked=parked,
        )
    if direction is plan.stream and lag > plan.max_lag:
        raise FigError(
            "lag_too_large",
            f"the {plan.winner} is {lag:.1f} s behind, more than {plan.max_lag:g} s",
            "Wait until it has caught up; see fig status for the rates.",
            lag=lag,
        )


async def _old_transactions(plan: CutoverPlan, loser: Connection) -> None:
    limit = min(plan.drain, plan.budget)
    tables = list(plan.tables(plan.loser))
    rows = await postgres.fetch(loser, _sql.old_writers, {"seconds": limit, "tables": tables, "context": plan.context})
    if rows:
        raise FigError(
            "transaction_too_old",
            f"a transaction of {rows[0][1]} that wrote the tables has been open for {rows[0][2]:.1f} s: "
            "the fence would wait for it longer than the budget",
            "Let it end, or end it, then try again.",
            transactions=[dict(zip(("pid", "application", "seconds"), row, strict=True)) for row in rows],
        )


async def _canary(plan: CutoverPlan, loser: Connection, winner: Connection) -> None:
    """A marker of ours goes the whole way round: into W and back into L."""
    for direction, source, target in (
        (plan.stream, loser, winner),
        (plan.stream.opposite, winner, loser),
    ):
        nonce = await markers.emit_marker(source, plan.context, direction, canary=True)
        await markers.await_marker(target, plan.context, direction, nonce, timeout=plan.canary)

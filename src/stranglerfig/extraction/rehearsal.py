"""Step 0 of a cut-over: everything that would go wrong, found while nobody waits."""

from __future__ import annotations

from stranglerfig.changes.model import Direction
from stranglerfig.databases.model import Side
from stranglerfig.databases.side import SideSession
from stranglerfig.extraction import made
from stranglerfig.extraction.cutover_plan import CutoverPlan
from stranglerfig.extraction.ports import FlowsPort, Ports
from stranglerfig.foundation.errors import FigError


async def rehearse(plan: CutoverPlan, ports: Ports, loser: SideSession, winner: SideSession) -> None:
    """Refuse what would fail later; afterwards the guards of both sides refuse.

    Raises:
        FigError: ``configuration_changed``, ``guard_missing``, ``stream_not_live``, ``changes_parked``,
            ``lag_too_large``, ``transaction_too_old``, ``missing_privilege``, ``marker_not_applied``, or what the
            proof says.
    """
    if plan.direction == "back" and plan.made_with:
        was = await loser.made_with(plan.context)
        if (error := made.changed(plan.context, was, plan.made_with)) is not None:
            raise error
    for side, conn in ((plan.loser, loser), (plan.winner, winner)):
        await _guarded(plan, side, conn)
    for direction in Direction:
        await _stream(plan, ports.flows, direction)
    await _old_transactions(plan, loser)
    for pair in plan.sequences:
        await loser.last_given(pair.monolith if plan.direction == "forward" else pair.service)
    for side, conn in ((plan.loser, loser), (plan.winner, winner)):
        kept = plan.made_with if (plan.winner, side) == ("service", "service") else None
        await conn.enforce(plan.context, True, shared=plan.shared and side == "monolith", made_with=kept)
    await ports.proof.rehearse()
    await _canary(plan, loser, winner)


async def _guarded(plan: CutoverPlan, side: Side, conn: SideSession) -> None:
    if missing := await conn.unguarded(plan.context, plan.tables(side)):
        raise FigError(
            "guard_missing",
            f"tables of the {side} have no guard: {', '.join(sorted(missing))}",
            "fig rollback to reads and advance again: the guards are put back when sync is entered.",
            side=side,
            tables=sorted(missing),
        )


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
            "No cut-over, in either direction, until each is decided about: fig sync parked lists them.",
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


async def _old_transactions(plan: CutoverPlan, loser: SideSession) -> None:
    limit = min(plan.drain, plan.budget)
    writers = await loser.old_writers(plan.context, plan.tables(plan.loser), limit)
    if writers:
        oldest = writers[0]
        raise FigError(
            "transaction_too_old",
            f"a transaction of {oldest.application} that wrote the tables has been open for {oldest.seconds:.1f} s: "
            "the fence would wait for it longer than the budget",
            "Let it end, or end it, then try again.",
            transactions=[writer._asdict() for writer in writers],
        )


async def _canary(plan: CutoverPlan, loser: SideSession, winner: SideSession) -> None:
    """A marker of ours goes the whole way round: into W and back into L."""
    for direction, source, target in (
        (plan.stream, loser, winner),
        (plan.stream.opposite, winner, loser),
    ):
        nonce = await source.emit_marker(plan.context, direction, canary=True)
        await target.await_marker(plan.context, direction, nonce, timeout=plan.canary)

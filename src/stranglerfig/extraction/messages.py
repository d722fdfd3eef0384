"""The message façade as the controller uses it: the router's table, the commands in a cut-over, what a plan says."""

from __future__ import annotations

from contextlib import suppress

from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.ports import HoldStats
from stranglerfig.extraction.routing import routing
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.store import Standing, Store
from stranglerfig.facade.messages import ContextTable, in_flight_unknown
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


def table(settings: ExtractionSettings, standing: Standing, *, fenced: bool = False) -> ContextTable:
    """Where a context's messages go: as its requests do."""
    found = routing(settings, standing, fenced=fenced)
    return ContextTable(settings.context, found.writes, found.reads)


async def apply_tables(parts: Parts, store: Store, *, timeout: float = 5.0) -> None:
    """Make the router's table what the standings say; the commands of a context that is being cut over wait."""
    if parts.router is None:
        return
    wanted = [
        table(context.settings, await store.standing(name), fenced=name == parts.turns.fenced)
        for name, context in parts.contexts.items()
        if context.settings.queues
    ]
    await parts.router.apply(wanted, timeout=timeout)


async def hold_commands(parts: Parts, store: Store, context: str, epoch: int, *, timeout: float) -> None:
    """Let the commands of ``context``, whose turn it is, wait in their queues; returns when none is in flight.

    Raises:
        FigError: ``commands_in_flight``, ``in_flight_unknown``, ``router_unreachable``, ``broker_lost``.
    """
    if parts.router is None or not parts.contexts[context].settings.queues:
        return
    deadline = clock.monotonic() + timeout
    await apply_tables(parts, store, timeout=timeout)
    await parts.router.close_fence(context, epoch, timeout=max(0.1, deadline - clock.monotonic()))


async def held_commands(parts: Parts, context: str, epoch: int, stats: HoldStats) -> HoldStats:
    """``stats`` with the commands that waited in the hold of ``epoch``."""
    if parts.router is None or not parts.contexts[context].settings.queues:
        return stats
    router = parts.router
    with suppress(FigError):
        found = await clock.until(
            lambda: router.hold(context, epoch), timeout=0.5, what="the router's report of the hold"
        )
        assert found is not None
        return stats.with_commands(found.held_requests, found.hold_p99_ms, found.hold_max_ms)
    return stats


def require_knowledge(parts: Parts, settings: ExtractionSettings) -> None:
    """Refuse a cut-over of commands whose end could not be known.

    Raises:
        FigError: ``in_flight_unknown``.
    """
    if settings.queues and (parts.router is None or not parts.router.nodes):
        raise in_flight_unknown("broker.metrics in fig.yaml names no address")


def warnings(settings: ExtractionSettings) -> list[str]:
    """Which commands could be done twice, and when: queues deliver again what was not acknowledged."""
    found = []
    for route in settings.routes.queue_writes:
        queue = settings.queues[route.queue]
        types = ", ".join(route.types)
        if queue.command_id is None:
            found.append(
                f"{types} of {route.queue}: no command_id is declared, so each could be done twice: when the router, "
                "the broker or a consumer dies after passing it on or doing it and before acknowledging it. When a "
                "cut-over lies between, the second time is at the other side."
            )
        else:
            found.append(
                f"{types} of {route.queue}: delivered again when the router, the broker or a consumer dies before it "
                f"is acknowledged; both sides must know it by its {queue.command_id}, written in the command's own "
                "transaction into a table of the context, so that it moves along."
            )
    return found

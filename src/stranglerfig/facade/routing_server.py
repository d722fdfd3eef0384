"""The router's process: one router per inbound queue, the table that the controller writes, and the fence for messages.

Like Envoy, it has its table from a file, so that one that was killed goes on with what was last said. Like the fence
server, it lets fenced commands go only toward an owner whose row it has read itself since the hold began.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from aiohttp import web

from stranglerfig.databases.model import Side
from stranglerfig.facade.fence import REMEMBERED, FenceContext, Gatekeeper, Refused
from stranglerfig.facade.holding import HoldReport, report
from stranglerfig.facade.inflight import InFlight
from stranglerfig.facade.messages import ContextTable, Message, QueuePlan
from stranglerfig.facade.router import QueueRouter, keep
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)
_LOOK = 0.02
"""Seconds between two looks for commands that have begun to wait."""
_FILE = 0.25
"""Seconds between two looks at the table's file: whoever wrote it could not tell us, if we did not answer then."""


def read_table(file: Path) -> tuple[str, dict[str, ContextTable]]:
    """The table's version and its contexts; version "" and none before the first was written."""
    if not file.exists():
        return "", {}
    found = orjson.loads(file.read_bytes())
    return found["version"], {each["context"]: ContextTable(**each) for each in found["contexts"]}


class MessageRouter:
    """All routers of an estate.

    Args:
        contexts: those that take commands from a queue; their fences.
        table: the file that the controller writes.
        nodes: where the broker's nodes tell of their queues.
    """

    def __init__(
        self,
        plans: Mapping[str, QueuePlan],
        contexts: Sequence[FenceContext],
        url: str,
        table: Path,
        *,
        nodes: Sequence[str] = (),
        impersonator: bool = False,
    ) -> None:
        # A command that waits has nobody whom it could be refused to: it waits.
        self.keepers = {
            each.context: Gatekeeper(replace(each, settings=each.settings.model_copy(update={"mode": "hold"})))
            for each in contexts
        }
        self.routers = [
            QueueRouter(plan, url, self._where, impersonator=impersonator, held=self._somebody_waits)
            for plan in plans.values()
        ]
        vhost = urlsplit(url).path[1:]
        self._figures = InFlight(nodes, unquote(vhost) if vhost else "/")
        self._file = table
        self.version, self._table = read_table(table)
        self._waits: dict[str, list[float]] = defaultdict(list)
        for keeper in self.keepers.values():
            keeper.measure_held = False  # commands are held in the queue
        self.holds: dict[str, deque[HoldReport]] = {context: deque(maxlen=REMEMBERED) for context in self.keepers}
        self._waiting = asyncio.Event()
        self._begun = clock.epoch()

    # -- what goes where

    def _where(self, plan: QueuePlan, message: Message) -> Side | None:
        meaning = message.meaning
        if meaning.kind == "other":
            return "monolith"
        table = self._table.get(meaning.context)
        if table is None:
            return "monolith"
        if meaning.kind == "read":
            return "service" if message.lot < table.reads else "monolith"
        return self.keepers[meaning.context].now() if table.writes == "fenced" else table.writes

    def _somebody_waits(self) -> None:
        self._waiting.set()

    def reload(self) -> str:
        """Take the table from its file; returns its version. What waited and may go, goes."""
        self.version, self._table = read_table(self._file)
        self._release()
        return self.version

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_FILE)
            if read_table(self._file)[0] != self.version:
                self.reload()

    def _held(self, context: str) -> dict[tuple[int, int], Message]:
        return {
            (number, message.tag): message
            for number, router in enumerate(self.routers)
            for message in router.lines.held(context)
        }

    def _release(self) -> None:
        """Let go what may go, and remember how long it had waited."""
        before = {context: self._held(context) for context in self.keepers}
        for router in self.routers:
            router.pump()
        now = clock.monotonic()
        for context, held in before.items():
            gone = held.keys() - self._held(context).keys()
            self._waits[context] += [now - held[each].arrived for each in gone]
            metrics.HELD.labels(context).set(len(held) - len(gone))

    async def _look_after(self, context: str) -> None:
        """While commands wait at the fence, ask who owns: that counts as waiting, so the budget is kept."""
        keeper = self.keepers[context]
        while True:
            fenced = (table := self._table.get(context)) is not None and table.writes == "fenced"
            if not fenced or not self._held(context):
                self._waiting.clear()
                await clock.signalled(self._waiting, timeout=_LOOK)
                continue
            begun, wall = clock.monotonic(), clock.epoch()
            self._waits.pop(context, None)
            try:
                side = await keeper.ask()
            except Refused:
                continue
            epoch = keeper.judgement().epoch
            self._release()
            if waits := self._waits.pop(context, []):
                said = report(
                    context,
                    epoch=epoch,
                    began=wall,
                    seconds=clock.monotonic() - begun,
                    target=side,
                    waits=waits,
                    refused=0,
                    given_up=False,
                )
                self.holds[context].append(said)
                log.info("%d commands of %s go to the %s", len(waits), context, side, extra={"action": "release"})
            else:
                await asyncio.sleep(_LOOK)

    # -- life

    async def run(self, ready: Callable[[], None]) -> None:
        """Route until cancelled; ``ready`` is called once every inbound queue is consumed.

        Raises:
            FigError: what the first attempt was refused with, where there has never been a table.
        """
        waiting = {router.plan.name for router in self.routers}

        def begun(name: str) -> None:
            waiting.discard(name)
            if not waiting:
                ready()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                for keeper in self.keepers.values():
                    group.create_task(tasks.supervise(keeper.run, name=f"fence:{keeper.context}"))
                    group.create_task(self._look_after(keeper.context))
                for router in self.routers:
                    # One that has never had a table has just been configured: its mistakes are told at once.
                    once = partial(begun, router.plan.name)
                    group.create_task(keep(router, once, patient=bool(self.version)))
        except BaseExceptionGroup as group:
            told, others = group.split(FigError)
            if told is None or others is not None:
                raise
            raise _first(told) from None
        finally:
            await self._figures.close()

    # -- the fence

    async def close(self, context: str, epoch: int, *, timeout: float) -> dict[str, Any]:
        """Return once commands of ``context`` wait for ``epoch`` and whoever owned them has done all it was given.

        Raises:
            FigError: ``fence_not_closed``, ``commands_in_flight``, ``in_flight_unknown``, ``broker_lost``.
        """
        deadline = clock.monotonic() + timeout
        keeper = self.keepers[context]
        table = self._table.get(context)
        if table is None or table.writes != "fenced":
            raise FigError(
                "fence_not_closed",
                f"the router's table does not hold the commands of '{context}'",
                "Nothing is held; try again.",
                version=self.version,
            )
        await keeper.close(epoch, timeout=timeout)
        side = keeper.judgement().side
        assert side is not None
        concerned = [router for router in self.routers if context in router.plan.services]
        for router in concerned:
            await router.drained(side, context, self._figures, deadline=deadline)
        return self.state()

    def state(self) -> dict[str, Any]:
        """The table in force, the queues, per context who waits, and since when this counts; JSON-able."""
        return {
            "version": self.version,
            "since": self._begun,
            "contexts": {
                context: {
                    **(self._table.get(context) or ContextTable(context)).as_dict(),
                    "held": len(self._held(context)),
                    "fence": keeper.state(),
                }
                for context, keeper in self.keepers.items()
            },
            "queues": [router.state() for router in self.routers],
        }


def _first(group: BaseExceptionGroup[FigError]) -> FigError:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


class RouterServer:
    """The router's HTTP interface, for the controller; on loopback."""

    def __init__(self, router: MessageRouter) -> None:
        self._router = router
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/state", self._state)
        app.router.add_get("/holds", self._holds)
        app.router.add_post("/table", self._table)
        app.router.add_post("/close/{context}", self._close)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(self._router.state())

    async def _holds(self, _: web.Request) -> web.Response:
        return web.json_response(
            {context: [hold.as_dict() for hold in holds] for context, holds in self._router.holds.items()}
        )

    async def _table(self, _: web.Request) -> web.Response:
        return web.json_response({"version": self._router.reload()})

    async def _close(self, request: web.Request) -> web.Response:
        context = request.match_info["context"]
        if context not in self._router.keepers:
            error = FigError(
                "unknown_context",
                f"the router knows no context '{context}'",
                "Start it again, so that it reads the extractions anew.",
            )
            return web.json_response(error.as_dict(), status=404)
        wanted = await request.json()
        try:
            return web.json_response(
                await self._router.close(context, int(wanted["epoch"]), timeout=float(wanted["timeout"]))
            )
        except FigError as error:
            return web.json_response(error.as_dict(), status=409)


async def serve_router(host: str, port: int, router: MessageRouter, *, ready: Callable[[], None]) -> None:
    """Run the router and its interface until cancelled."""
    server = RouterServer(router)
    try:
        await server.start(host, port)
        await router.run(ready)
    finally:
        await server.stop()

"""The fence server: Envoy asks it before a fenced write goes on, and it answers when it has seen who owns the writes.

It keeps no state of its own: what it does follows from the ownership rows in the two databases, which it reads itself.
Killed and started again, it holds or opens as they say.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from aiohttp import web

from stranglerfig.databases import sides
from stranglerfig.databases.model import Ownership, Side
from stranglerfig.databases.side import SideSession
from stranglerfig.facade.asking import Asking
from stranglerfig.facade.holding import FRESH, HoldReport, Judgement, Seen, judge, may_open, overdue, report
from stranglerfig.facade.model import FENCE_PATH, TARGET, Matcher
from stranglerfig.facade.settings import FenceSettings, Routes
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

QUICK = 0.005
"""Seconds between two looks at a row while something is held or undecided."""
STEADY = 0.2
"""Seconds between two looks otherwise."""
BATCH = 20
"""Held requests that are let go per millisecond: all at once would be a burst of connections."""
PATIENCE = 15.0
"""Seconds after which a request is refused even though the cut-over can only go forward."""
REMEMBERED = 200
"""Holds whose reports are kept."""


@dataclass(frozen=True)
class FenceContext:
    """What the fence server is told about a context."""

    context: str
    routes: Routes
    monolith_dsn: str
    service_dsn: str
    settings: FenceSettings = field(default_factory=FenceSettings)


class Eye:
    """Reads one side's ownership row, again and again, and tells of every look.

    A look that hangs (a stopped server) delays only this eye; what it saw before grows old and then counts for nothing.
    """

    def __init__(self, dsn: str, context: str, looked: Callable[[], None], quick: Callable[[], bool]) -> None:
        self.seen: Seen | None = None
        self.error: str | None = None
        self._dsn = dsn
        self._context = context
        self._looked = looked
        self._quick = quick
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        conn: SideSession | None = None
        try:
            while True:
                began = clock.monotonic()
                try:
                    if conn is None:
                        conn = await sides.watch(self._dsn, what="fence")
                    self.seen = Seen(await conn.read(self._context), began)
                    self.error = None
                except (FigError, psycopg.Error, OSError) as error:
                    self.seen, self.error = None, str(error)
                    await _closed(conn)
                    conn = None
                self._looked()
                await self._pause()
        finally:
            await _closed(conn)

    async def _pause(self) -> None:
        pause = QUICK if self._quick() and self.error is None else STEADY
        self._wake.clear()
        await clock.signalled(self._wake, timeout=pause)


async def _closed(conn: SideSession | None) -> None:
    if conn is not None:
        with suppress(psycopg.Error, OSError):
            await conn.close()


class Refused(Exception):
    """A held request that is answered 503; the message says why."""


@dataclass
class _Hold:
    epoch: int
    began: float
    wall: float
    waits: list[float] = field(default_factory=list)
    refused: int = 0
    given_up: bool = False


class Gatekeeper:
    """One context at the fence: who waits, since when, and toward whom it is open."""

    def __init__(self, settings: FenceContext) -> None:
        self.settings = settings
        self.context = settings.context
        self.holds: deque[HoldReport] = deque(maxlen=REMEMBERED)
        self.measure_held = True
        """Not where it only decides, and what is held is elsewhere."""
        metrics.REFUSED.labels(self.context)
        metrics.GIVEN_UP.labels(self.context)
        self._target: Side | None = None
        self._hold: _Hold | None = None
        self._waiting: dict[int, tuple[asyncio.Future[Side], float]] = {}
        self._numbers = itertools.count()
        self._urgent_until = 0.0
        self._stepped = clock.monotonic()
        self._looks_again_until = 0.0
        self._changed = asyncio.Event()
        self._giving_up: asyncio.Task[None] | None = None
        self._letting_go: asyncio.Task[None] | None = None
        self._eyes: dict[Side, Eye] = {
            "monolith": Eye(settings.monolith_dsn, self.context, self.step, self._quick),
            "service": Eye(settings.service_dsn, self.context, self.step, self._quick),
        }

    async def run(self) -> None:
        """Watch the rows until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for eye in self._eyes.values():
                    group.create_task(eye.run())
                group.create_task(self._tick())
        finally:
            for task in (self._giving_up, self._letting_go):
                if task is not None:
                    await tasks.stop(task)

    def _quick(self) -> bool:
        undecided = self._hold is not None or self._target is None
        return undecided or bool(self._waiting) or clock.monotonic() < self._urgent_until

    async def _tick(self) -> None:
        # Looks may hang; budgets run all the same.
        while True:
            await asyncio.sleep(0.02 if self._waiting else 0.1)
            self.step()
            self._measure()

    def _measure(self) -> None:
        now = clock.monotonic()
        hold, context = self._hold, self.context
        metrics.HOLD_SECONDS.labels(context).set(now - hold.began if hold is not None else 0)
        oldest = max((now - since for _, since in self._waiting.values()), default=0.0)
        metrics.OLDEST_WAIT.labels(context).set(oldest)
        metrics.BLIND.labels(context).set(self.judgement().kind == "blind")
        if self.measure_held:
            metrics.HELD.labels(context).set(len(self._waiting))

    def judgement(self) -> Judgement:
        """What the rows say now."""
        return judge(self._eyes["monolith"].seen, self._eyes["service"].seen, clock.monotonic())

    # --- decisions

    def step(self) -> None:
        """Act on what is seen now."""
        now = clock.monotonic()
        if now - self._stepped > FRESH:  # this process stood still: its looks are old for that reason alone
            self._looks_again_until = now + FRESH / 2
            for eye in self._eyes.values():
                eye.wake()
        self._stepped = now
        seen = self.judgement()
        if seen.kind == "hold":
            self._close(seen)
        elif seen.kind == "blind":
            self._target = None
        elif may_open(seen, self._hold.began if self._hold else None):
            assert seen.side is not None
            self._open(seen.side)
        self._look_after(seen)
        self._changed.set()
        self._changed = asyncio.Event()

    def _close(self, seen: Judgement) -> None:
        self._target = None
        if self._hold is None:
            self._hold = _Hold(seen.epoch, clock.monotonic(), clock.epoch())
            log.info(
                "writes of %s are held, epoch %d",
                self.context,
                seen.epoch,
                extra={"action": "hold", "epoch": seen.epoch},
            )
            for eye in self._eyes.values():
                eye.wake()
        self._hold.epoch = max(self._hold.epoch, seen.epoch)

    def _open(self, side: Side) -> None:
        self._target = side
        if (self._hold or self._waiting) and (self._letting_go is None or self._letting_go.done()):
            self._letting_go = tasks.spawn(self._let_go(side), name=f"let-go:{self.context}")

    async def _let_go(self, side: Side) -> None:
        hold = self._hold
        count = 0
        while self._waiting and self._target == side:
            number = next(iter(self._waiting))
            future, since = self._waiting.pop(number)
            if not future.done():
                future.set_result(side)
                if hold:
                    hold.waits.append(clock.monotonic() - since)
            count += 1
            if count % BATCH == 0:
                await asyncio.sleep(0.001)
        if hold is None or self._target != side or self._hold is not hold:
            return  # closed again meanwhile: who is left waits on
        self._hold = None
        self.holds.append(
            report(
                self.context,
                epoch=hold.epoch,
                began=hold.wall,
                seconds=clock.monotonic() - hold.began,
                target=side,
                waits=hold.waits,
                refused=hold.refused,
                given_up=hold.given_up,
            )
        )
        log.info(
            "writes of %s go to the %s, %d were held", self.context, side, len(hold.waits), extra={"action": "release"}
        )

    def _look_after(self, seen: Judgement) -> None:
        now = clock.monotonic()
        budget = self.settings.settings.budget
        for number, (future, since) in list(self._waiting.items()):
            fate = overdue(seen, now - since, budget, max(PATIENCE, budget))
            if fate == "wait" or (fate == "refuse" and now < self._looks_again_until):
                break  # the oldest come first
            if fate == "abort":
                self._give_up(seen)
                break
            del self._waiting[number]
            if self._hold:
                self._hold.refused += 1
            metrics.REFUSED.labels(self.context).inc()
            if not future.done():
                future.set_exception(Refused("who owns these writes cannot be seen"))

    def _give_up(self, seen: Judgement) -> None:
        if self._giving_up is None or self._giving_up.done():
            assert seen.side is not None
            self._giving_up = tasks.spawn(self._abort(seen.side, seen.epoch), name=f"give-up:{self.context}")

    async def _abort(self, side: Side, epoch: int) -> None:
        """The budget is over: compare-and-set the loser back to owner; open only when that has succeeded."""
        dsn = self.settings.monolith_dsn if side == "monolith" else self.settings.service_dsn
        log.warning("the budget of the hold of %s is over, epoch %d is given up", self.context, epoch)
        conn = None
        try:
            conn = await sides.watch(dsn, what="fence")
            began = clock.monotonic()
            row = await conn.abort(self.context, epoch=epoch, lock_timeout=0.3)
            metrics.GIVEN_UP.labels(self.context).inc()
            if self._hold:
                self._hold.given_up = True
            # The answer of the transaction is a look of its own, younger than the hold.
            self._eyes[side].seen = Seen(row, began)
        except (FigError, psycopg.Error, OSError) as error:
            # Changed by another, busy or unknown: the rows will say, hold until they are seen.
            log.warning("giving up %s epoch %d did not succeed: %s", self.context, epoch, error)
            await asyncio.sleep(QUICK)
        finally:
            await _closed(conn)
        for eye in self._eyes.values():
            eye.wake()
        self.step()

    # --- requests

    def now(self) -> Side | None:
        """Where a write goes at this moment; None while it has to wait."""
        seen = self.judgement()
        if seen.kind == "hold" and self._hold is None:
            self._close(seen)
        if self._hold is None and self._target is not None and seen.kind == "open":
            return self._target
        if self._hold is not None and self._target is not None:
            return self._target  # being let go
        return None

    async def ask(self) -> Side:
        """Where a write goes; returns when that is known.

        Raises:
            Refused: nobody can be seen to own the writes, or this context refuses rather than holds.
        """
        if (side := self.now()) is not None:
            return side
        if self.settings.settings.mode == "reject":
            raise Refused("a cut-over is under way")
        number = next(self._numbers)
        future: asyncio.Future[Side] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, clock.monotonic())
        for eye in self._eyes.values():
            eye.wake()
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def close(self, epoch: int, *, timeout: float) -> dict[str, Any]:
        """Return once ``intent(epoch)`` (or what follows it) has been seen and writes are held for it.

        Raises:
            FigError: ``fence_not_closed`` after ``timeout`` seconds.
        """
        deadline = clock.monotonic() + timeout
        self._urgent_until = deadline
        while not (self._hold and self._hold.epoch == epoch and self._target is None):
            changed = self._changed
            for eye in self._eyes.values():
                eye.wake()
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - clock.monotonic()):
                    await changed.wait()
            except TimeoutError:
                raise FigError(
                    "fence_not_closed",
                    f"the fence server has not seen that epoch {epoch} of '{self.context}' is intended",
                    "Nothing is held for it; read the ownership rows and try again.",
                    **self.state(),
                ) from None
        return self.state()

    def state(self) -> dict[str, Any]:
        """What is seen and done, JSON-able; ``since`` is wall time of the hold's begin, seconds since 1970."""
        now = clock.monotonic()
        seen = self.judgement()
        holding = self._hold is not None and self._target is None
        return {
            "context": self.context,
            "phase": "holding" if holding else "open" if seen.kind == "open" else "blind",
            "target": self._target,
            "epoch": self._hold.epoch if self._hold else seen.epoch,
            "held": len(self._waiting),
            "oldest_ms": round(max((now - since for _, since in self._waiting.values()), default=0.0) * 1000, 1),
            "since": self._hold.wall if self._hold else None,
            "mode": self.settings.settings.mode,
            "budget": self.settings.settings.budget,
            "rows": {side: self._row(eye, now) for side, eye in self._eyes.items()},
        }

    @staticmethod
    def _row(eye: Eye, now: float) -> dict[str, Any] | None:
        if eye.seen is None:
            return None if eye.error is None else {"error": eye.error}
        row: Ownership | None = eye.seen.row
        seen = {"state": None, "epoch": None} if row is None else {"state": row.state, "epoch": row.epoch}
        return {**seen, "age_ms": round((now - eye.seen.began) * 1000, 1)}


class FenceServer:
    """The gatekeepers of all contexts behind one port.

    Args:
        contexts: what is fenced.
    """

    def __init__(self, contexts: Sequence[FenceContext]) -> None:
        self.keepers = {each.context: Gatekeeper(each) for each in contexts}
        self._match = Matcher([(each.context, each.routes) for each in contexts], kinds=("write",))
        self._runner: web.AppRunner | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> None:
        """Watch the rows and listen."""
        self._watching = [
            tasks.spawn(tasks.supervise(keeper.run, name=f"fence:{name}"), name=f"fence:{name}")
            for name, keeper in self.keepers.items()
        ]
        app = web.Application()
        app.router.add_get("/state", self._state)
        app.router.add_get("/holds", self._holds)
        app.router.add_post("/close/{context}", self._close)
        app.router.add_route("*", FENCE_PATH + "{path:.*}", self._check)
        # A client that goes away stops waiting: else it would count as held, and its budget would end the cut-over.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=4096).start()

    async def stop(self) -> None:
        """Stop listening and watching; who waits gets no answer."""
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._watching:
            await tasks.stop(task)

    async def _check(self, request: web.Request) -> web.Response:
        found = self._match(request.method, request.raw_path.removeprefix(FENCE_PATH))
        if found is None:
            return _later("this is no write of a context that the fence server knows")
        try:
            side = await self.keepers[found.context].ask()
        except Refused as refused:
            return _later(str(refused))
        return web.Response(headers={TARGET: side})

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({name: keeper.state() for name, keeper in self.keepers.items()})

    async def _holds(self, _: web.Request) -> web.Response:
        return web.json_response(
            {name: [hold.as_dict() for hold in keeper.holds] for name, keeper in self.keepers.items()}
        )

    async def _close(self, request: web.Request) -> web.Response:
        keeper = self.keepers.get(request.match_info["context"])
        if keeper is None:
            error = FigError(
                "unknown_context",
                f"the fence server knows no context '{request.match_info['context']}'",
                "Start it again, so that it reads the extractions anew.",
            )
            return web.json_response(error.as_dict(), status=404)
        wanted = await request.json()
        try:
            return web.json_response(
                await keeper.close(int(wanted["epoch"]), timeout=float(wanted.get("timeout", 2.0)))
            )
        except FigError as error:
            return web.json_response(error.as_dict(), status=409)


def _later(why: str) -> web.Response:
    return web.json_response({"error": why, "code": "writes_held"}, status=503, headers={"Retry-After": "1"})


async def serve_fence(
    host: str, port: int, contexts: Sequence[FenceContext], *, ready: Callable[[], None] | None = None
) -> None:
    """Run the fence server until cancelled; ``ready`` is called once it listens."""
    server = FenceServer(contexts)
    try:
        await server.start(host, port)
        if ready is not None:
            ready()
        await asyncio.Event().wait()
    finally:
        await server.stop()


class FenceClient(Asking):
    """How the controller speaks to the fence server.

    Args:
        url: its base URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, who="fence server", code="fence_unreachable")

    async def close_fence(self, context: str, epoch: int, *, timeout: float = 2.0) -> dict[str, Any]:
        """Ask it to hold; returns its state once it has itself seen ``intent(epoch)`` and holds.

        Raises:
            FigError: ``fence_not_closed``, ``unknown_context``, ``fence_unreachable``.
        """
        return await self.ask("POST", f"/close/{context}", timeout, {"epoch": epoch, "timeout": timeout})

    async def state(self) -> dict[str, Any]:
        """Per context: phase (open, holding, blind), target, epoch, held, since."""
        return await self.ask("GET", "/state", 2.0)

    async def holds(self, context: str) -> list[HoldReport]:
        """The reports of a context's holds, oldest first."""
        found = await self.ask("GET", "/holds", 2.0)
        return [HoldReport(**hold) for hold in found.get(context, [])]

    async def hold(self, context: str, epoch: int) -> HoldReport | None:
        """The report of the hold of one epoch, or None when it has not ended (or was forgotten by a restart)."""
        return next((hold for hold in reversed(await self.holds(context)) if hold.epoch == epoch), None)

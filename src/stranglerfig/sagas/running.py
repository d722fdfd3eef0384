"""Sagas of a service, run by any number of its processes: no one of them coordinates, the rows do.

A saga goes on in the transaction that handles what has happened to it: its row, and the commands that follow, are
written together, or not at all when another worker was faster. Time passes for it in the same way: whoever finds it due
takes it. Calls outward are made between two transactions; the first one says who makes it and until when.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg.types.json import Json

from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Event, NotYet, Refused, Service, Transaction
from stranglerfig.kit.consumer import Unfit
from stranglerfig.kit.messages import Message, key_of, kind_of
from stranglerfig.kit.tenants import within
from stranglerfig.kit.transactions import Changed, commit, write
from stranglerfig.sagas import model
from stranglerfig.sagas.declaring import Kind, Saga, StepDeclaration, kind_of_saga
from stranglerfig.sagas.drawing import drawn
from stranglerfig.sagas.instances import (
    Instance,
    Lock,
    Place,
    command_id,
    keep_tables,
    key_of_step,
    place_of,
    queries,
    saga_id,
)
from stranglerfig.sagas.model import Answered, Ask, Began, Broke, Due, Happening, Held, Resolved, Retried, Status
from stranglerfig.sagas.spans import spans_of
from stranglerfig.telemetry import traces

log = logging.getLogger(__name__)
SUBSCRIPTION: Final = "sagas"
MOST: Final = 200
"""How many due sagas a worker takes at a time."""
CALLS: Final = 100
"""How many calls outward a worker makes at a time."""
LOOK: Final = 0.25
"""Seconds between looks for what is due, at most."""
WAKE: Final = 0.01
"""Seconds after which who waits for a lock is told that it may be free: by then the transaction has mostly ended."""
PATIENCE: Final = 2.0
"""Seconds after which a saga that waits for a lock looks again, should nobody wake it."""


class Sagas:
    """The sagas of a service: declares what it reacts to, and what it runs beside.

    Args:
        kinds: their classes; of one name the newest version begins, older ones go on with what they began.

    Raises:
        FigError: ``saga_misdeclared`` when two classes are the same version.
    """

    def __init__(self, service: Service, kinds: Iterable[type[Saga]]) -> None:
        self._service = service
        self._kinds: dict[tuple[str, int], Kind] = {}
        for kind in map(kind_of_saga, kinds):
            if self._kinds.setdefault((kind.name, kind.version), kind) is not kind:
                raise FigError(
                    "saga_misdeclared",
                    f"there are two classes of version {kind.version} of {kind.name}",
                    "Give the newer one a higher version.",
                )
        self._known = {"kinds": [f"{name}/{version}" for name, version in self._kinds]}
        self._calling: set[asyncio.Task[None]] = set()
        self._poked = asyncio.Event()
        # What came of calls outward, by saga, until it is told.
        self._news: list[tuple[str, Happening]] = []
        self._heard = asyncio.Event()
        keep_tables(service)
        service.beside(SUBSCRIPTION, self.run)
        service.fit(SUBSCRIPTION, self.check)
        self._declare()

    def _declare(self) -> None:
        newest: dict[str, Kind] = {}
        answers: dict[type[Event], set[type[Message]]] = defaultdict(set)
        for kind in sorted(self._kinds.values(), key=lambda each: each.version):
            newest[kind.name] = kind
            says = {
                each for step in kind.steps.values() for each in (step.ask, step.undo) if isinstance(each, type)
            } | {each for each in (kind.completed, kind.compensated) if each is not None}
            for step in kind.steps.values():
                for event in (*step.ok, *step.fail, *step.undone, *step.undo_fail):
                    answers[event] |= says
        for event, emits in answers.items():
            self._service.on(event, subscription=SUBSCRIPTION, emits=emits)(self._answered)
        for kind in newest.values():
            self._service.on(kind.starts, subscription=SUBSCRIPTION)(_beginning(self, kind))

    # What happens

    async def begin(self, kind: Kind, event: Event, tx: Transaction) -> None:
        """A saga begins with an event; one that has begun already goes on as it was."""
        assert tx.event is not None  # a consumer's
        id = saga_id(kind.name, tx.event.source, tx.event.id, tx.tenant)
        if await tx.find(Instance, id) is not None:
            return
        now = await tx.now()
        data = kind.of_start(event)
        stands = model.begin(kind.definition, data, now.timestamp())
        lock = kind.lock_name(data)
        row = Instance(
            id, kind.name, kind.version, key_of(event), tx.cause.correlationid, tx.cause.traceparent, stands.status,
            data, {}, [], None, lock and within(tx.tenant, lock), now, None, None, 0, None, tx.tenant,
        )  # fmt: skip
        row.now_stands(stands, now)
        await tx.add(row)
        await self._try(kind, row, tx, now)

    async def _try(self, kind: Kind, row: Instance, tx: Transaction, now: datetime) -> None:
        """Begin one that waits, if nothing holds it up."""
        if row.lock is not None:
            held = await tx.find(Lock, row.lock)
            if held is not None and held.saga != row.id:
                if kind.when_held == "refuse":
                    return await self._apply(kind, row, Held(), tx, now)
                again = now + timedelta(seconds=PATIENCE)
                limit = _at(row.stands(kind.definition).limit)
                row.due_at = again if limit is None else min(limit, again)
                return
            if held is None:
                await tx.add(Lock(row.lock, row.id))
        await self._apply(kind, row, Began(), tx, now)

    async def _answered(self, event: Event, tx: Transaction) -> None:
        place = place_of(tx.event and tx.event.causationid)
        if place is None:
            return
        row = await tx.find(Instance, place.id)
        if row is None and not any(name == place.saga for name, _ in self._kinds):
            return  # another service's
        if row is None or row.tenant != tx.tenant:  # nobody is answered in another's name
            unknown = FigError(
                "saga_answer_unknown",
                f"{kind_of(event).type} answers a saga {place.saga} {place.id}, which is not known here",
                "If it was written to another database, give this service its own topic of answers; if it is a "
                "tenant's, have who answers carry its tenantid on.",
                saga=place.id,
            )
            raise NotYet(unknown) if row is None else unknown
        try:
            kind = self._kind(row)
        except FigError as error:
            # Begun by a newer release, whose processes have the code: theirs is the answer.
            raise Unfit(error) from error
        if place.step not in kind.steps:
            return
        if (answer := kind.answer(place.step, place.execution, event, undo=place.undo)) is not None:
            # A service that names only the command leaves the flow to us.
            tx.cause = replace(tx.cause, correlationid=row.flow or tx.cause.correlationid)
            await self._apply(kind, row, answer, tx, await tx.now())

    async def _apply(self, kind: Kind, row: Instance, happening: Happening, tx: Transaction, now: datetime) -> None:
        """Have a saga go on: its row and what follows, in the handler's transaction."""
        before = row.stands(kind.definition)
        saga, asks = model.advance(
            kind.definition, before, happening, now=now.timestamp(), chance=random.random()  # noqa: S311
        )  # fmt: skip
        if saga == before:
            return
        for span in spans_of(row, before, saga):
            tx.span(span)
        calls = [ask for ask in asks if kind.steps[ask.step].is_call]
        row.course = {**row.course, "calls": [*row.course["calls"], *([*_plain(ask)] for ask in calls)]}
        row.now_stands(saga, now)
        if row.course["calls"]:
            row.due_at = now
            self._poked.set()
        fields = kind.saga(saga.data, row.tenant) if asks or saga.status in model.ENDED else None
        for ask in asks:
            if (message := kind.command(ask, fields)) is not None:
                tx.send(message, id=command_id(_place(row, ask), ask.attempt))
        if saga.status in model.ENDED:
            await self._end(kind, row, saga.status, fields, tx, now)

    async def _end(
        self, kind: Kind, row: Instance, status: Status, fields: Any, tx: Transaction, now: datetime
    ) -> None:
        row.ended_at, row.due_at = now, None
        tx.span(traces.since(f"saga {row.name}", row.trace, row.begun_at.timestamp(), saga=row.id, status=str(status)))
        if (said := kind.end(status, fields)) is not None:
            tx.send(said)
        if row.lock is not None and (held := await tx.find(Lock, row.lock)) is not None and held.saga == row.id:
            await tx.remove(held)
            # Told beside the transaction: the one that waits may be a row of this very transaction.
            tasks.spawn(self._wake(row.lock), name=f"wake {row.lock}")

    async def _wake(self, lock: str) -> None:
        """Have the one that has waited longest look; should this get lost, it looks by itself after ``PATIENCE``."""
        await asyncio.sleep(WAKE)
        with contextlib.suppress(FigError, psycopg.Error):
            async with self._service.session() as conn:
                await conn.execute(queries.wake, (lock,))
            self._poked.set()

    def _kind(self, row: Instance) -> Kind:
        found = self._kinds.get((row.name, row.version))
        if found is None:
            raise _no_code([(row.name, row.version, 1)])
        return found

    # Time, and calls outward

    async def run(self) -> None:
        """See to what is due until cancelled.

        Raises:
            FigError: ``saga_version_missing`` when sagas are in flight that no class here can go on with.
        """
        await self.check()
        telling = tasks.spawn(tasks.supervise(self._tell_on, name="sagas' answers"), name="sagas' answers")
        try:
            while True:
                self._poked.clear()
                # None is taken that would have to wait here: another worker may have room.
                while (room := CALLS - len(self._calling)) <= 0:
                    await asyncio.wait(self._calling, return_when=asyncio.FIRST_COMPLETED)
                for call in await self.due(min(room, MOST)):
                    self._begin_call(*call)
                async with self._service.session() as conn:
                    wait = await postgres.value(conn, queries.next_due, self._known)
                if wait is None or wait > 0:
                    await clock.signalled(self._poked, timeout=LOOK if wait is None else min(wait, LOOK))
                await asyncio.sleep(self._service.linger)
        finally:
            # What is cut off in the middle is asked for again, under the same key, when its time is up.
            await asyncio.gather(*(tasks.stop(task) for task in [telling, *self._calling]))
            self._news.clear()

    def _begin_call(self, row: Instance, kind: Kind, ask: Ask) -> None:
        self._calling.add(task := tasks.spawn(self._call(row, kind, ask), name=f"call of saga {row.id}"))
        task.add_done_callback(self._calling.discard)

    async def _tell_on(self) -> None:
        """Tell sagas what came of their calls: of all that ended meanwhile in one transaction."""
        while True:
            if not self._news:
                self._heard.clear()
                await self._heard.wait()
            await asyncio.sleep(self._service.linger)
            news = self._news[:MOST]
            calls: list[tuple[Instance, Kind, Ask]] = []
            try:
                calls = await self._told(news)
            except Exception as error:  # a saga's own, such as a property that fails, is its alone
                if postgres.is_unreachable(error):
                    raise
                log.info("what calls came to is told singly: %r", error, extra={"action": "singly"})
                for id, happening in news:
                    await self._told_alone(id, happening)
            del self._news[: len(news)]
            self._service.kill_point("saga/told")
            for call in calls:  # each in the place of one that has ended
                self._begin_call(*call)

    async def _told(self, news: Sequence[tuple[str, Happening]]) -> list[tuple[Instance, Kind, Ask]]:
        """The calls that follow, which are begun with: they need not be found due first."""
        calls: list[tuple[Instance, Kind, Ask]] = []
        async with self._service.session() as conn:
            unit = self._service.unit(conn)
            await unit.load([(Instance, id) for id, _ in news])
            for id, happening in news:
                if (row := unit.held(Instance, id)) is None:
                    continue  # kept for so long that it is forgotten
                kind, tx = self._kind(row), Transaction(unit, row.cause)
                await self._apply(kind, row, happening, tx, await tx.now())
                calls += self._taken(kind, row)
                tx.settle()
            await commit(unit)
            traces.end_together("sagas: commit", unit.spans, size=len(news))
        self._service.wrote()
        return calls

    async def _told_alone(self, id: str, happening: Happening) -> None:
        try:
            await self.tell(id, happening)
        except Exception as error:
            if postgres.is_unreachable(error):
                raise
            # Asked for again when its time is up.
            log.error("the saga %s cannot be told: %r", id, error, extra={"action": "saga_failed"})

    async def check(self) -> None:
        """Refuse to begin without the code of what is in flight; leave word of what each version is like."""
        async with self._service.session() as conn:
            found = await postgres.fetch(conn, queries.in_flight)
            for (name, version), kind in self._kinds.items():
                drawing = Json(drawn(kind))
                await conn.execute(queries.know, {"name": name, "version": version, "drawing": drawing})
        if missing := [row for row in found if (row[0], row[1]) not in self._kinds]:
            raise _no_code(missing)

    async def due(self, most: int = MOST) -> list[tuple[Instance, Kind, Ask]]:
        """Have all go on that are due now (some hundreds of them); returns the calls that are to be made.

        When that fails, each by itself: what one of them cannot do is not the others' fault.
        """
        try:
            return await self._due(most)
        except Exception as error:
            if postgres.is_unreachable(error):
                raise
            log.info("what is due is done singly: %r", error, extra={"action": "singly"})
        async with self._service.session() as conn:
            found = await postgres.fetch(conn, queries.due_ids, self._known | {"most": most})
        calls: list[tuple[Instance, Kind, Ask]] = []
        for (id,) in found:
            try:
                calls += await self._due(1, id)
            except Changed:
                continue  # somebody else's; it is looked at again
            except Exception as error:
                if postgres.is_unreachable(error):
                    raise
                log.error("the saga %s cannot go on: %r", id, error, extra={"action": "saga_failed"})
                async with self._service.session() as conn:
                    await conn.execute(queries.postpone, (id,))
        return calls

    async def _due(self, most: int, only: str | None = None) -> list[tuple[Instance, Kind, Ask]]:
        """The same, in one transaction."""
        calls: list[tuple[Instance, Kind, Ask]] = []
        async with self._service.session() as conn, conn.transaction():
            found = await postgres.fetch(conn, queries.due, self._known | {"most": most, "only": only})
            if not found:
                return []
            unit = self._service.unit(conn)
            await unit.load([(Instance, row[0]) for row in found])
            for (id,) in found:
                row = unit.held(Instance, id)
                assert row is not None
                tx = Transaction(unit, row.cause)
                calls += await self._time(row, tx)
                tx.settle()
            await write(unit)
            self._service.kill_point("saga/written")
        traces.end_together("sagas: commit", unit.spans, size=len(found))
        self._service.wrote()
        self._service.kill_point("saga/claimed")
        return calls

    async def _time(self, row: Instance, tx: Transaction) -> list[tuple[Instance, Kind, Ask]]:
        kind = self._kind(row)
        now = await tx.now()
        if row.asked is not None:
            word, row.asked = row.asked, None
            await self._apply(kind, row, Retried() if word == "retry" else Resolved(), tx, now)
        await self._apply(kind, row, Due(), tx, now)
        if row.status == Status.WAITING:
            await self._try(kind, row, tx, now)
        return self._taken(kind, row)

    def _taken(self, kind: Kind, row: Instance) -> list[tuple[Instance, Kind, Ask]]:
        """The calls that a saga wants made, which the transaction's worker makes once it is committed."""
        stands = row.stands(kind.definition)
        taken = [ask for ask in (Ask(*each) for each in row.course["calls"]) if _is_current(stands, ask)]
        if row.course["calls"]:
            row.course = {**row.course, "calls": []}
        if row.status != Status.WAITING and row.asked is None:  # an operator's word is still to be taken up
            row.due_at = _at(stands.due)
        return [(row, kind, ask) for ask in taken]

    async def _call(self, row: Instance, kind: Kind, ask: Ask) -> None:
        """Make a call outward, and tell the saga what came of it."""
        step: StepDeclaration = kind.steps[ask.step]
        do = step.work(undo=ask.undo)
        assert do is not None and not isinstance(do, type)
        happening: Happening
        try:
            # What it asks of others can be told to which trace it belongs: traces.current().
            with traces.span(f"call {row.name}.{ask.step}", traceparent=row.trace, kind="client", saga=row.id):
                async with asyncio.timeout(step.timeout):
                    given = await do(kind.saga(row.data, row.tenant), key_of_step(_place(row, ask))) or {}
            # What its fields cannot take is no answer.
            happening = Answered(ask.step, ask.execution, True, ask.undo, kind.kept(row.data, given))
        except Refused as refused:
            happening = Answered(ask.step, ask.execution, False, ask.undo, kind.kept_of(row.data, refused.facts))
        except Exception as error:  # noqa: BLE001  whatever it is, it is no answer
            log.warning("%s of saga %s: %r", ask.step, row.id, error, extra={"action": "call_failed"})
            happening = Broke(ask.step, ask.attempt, ask.undo)
        self._service.kill_point("saga/called")
        self._news.append((row.id, happening))
        self._heard.set()

    async def tell(self, id: str, happening: Happening) -> None:
        """Have one saga go on with what has happened to it.

        Raises:
            FigError: ``unknown_saga``.
        """

        async def work(tx: Transaction) -> None:
            row = await tx.find(Instance, id)
            if row is None:
                raise FigError("unknown_saga", f"there is no saga {id}", "See fig saga list.", saga=id)
            tx.cause = row.cause
            await self._apply(self._kind(row), row, happening, tx, await tx.now())

        await self._service.execute(work)

    async def retry(self, id: str) -> None:
        """Have what failed tried again: an operator's word."""
        await self.tell(id, Retried())

    async def resolve(self, id: str) -> None:
        """Count what failed as done, or as undone: an operator has seen to it."""
        await self.tell(id, Resolved())


def _beginning(sagas: Sagas, kind: Kind) -> Any:
    async def begin(event: Event, tx: Transaction) -> None:
        await sagas.begin(kind, event, tx)

    return begin


def _place(row: Instance, ask: Ask) -> Place:
    return Place(row.name, row.id, ask.step, ask.execution, ask.undo)


def _plain(ask: Ask) -> Sequence[Any]:
    return ask.step, ask.execution, ask.attempt, ask.undo


def _is_current(saga: model.Saga, ask: Ask) -> bool:
    """Whether a call is still to be made: time, or a turn back, may have made it another one."""
    at = saga.steps[ask.step]
    phase = model.Phase.UNDOING if ask.undo else model.Phase.ASKED
    return (at.phase, at.execution, at.attempt) == (phase, ask.execution, ask.attempt)


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _no_code(missing: Sequence[Sequence[Any]]) -> FigError:
    told = ", ".join(f"{count} of {name} version {version}" for name, version, count in missing)
    return FigError(
        "saga_version_missing",
        f"sagas are in flight that no class here can go on with: {told}",
        "Keep the class of each version, under another name, until the last of its sagas has ended.",
        missing=[[*each] for each in missing],
    )

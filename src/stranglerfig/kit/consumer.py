"""A subscription's consumer: each event handled once, its effects and the mark that it was handled in one transaction.

Events come in batches, and a batch is one transaction: its handlers run in the order of the log, with what they want to
load fetched together. When something fails the batch is done again event by event. An event that cannot be handled is
parked, and the later ones of its topic and key behind it; others go on. Who takes a partition over counts its attempt
before it is made: so an event that ends its process is parked as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import re
import traceback
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final

import orjson
import psycopg
from psycopg.types.json import Json

from stranglerfig.eventlog import cloudevents
from stranglerfig.eventlog.model import LEASE, Event, Record, shown
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import tenants
from stranglerfig.kit.aggregates import Refused
from stranglerfig.kit.driving import Failed, in_turn
from stranglerfig.kit.messages import Command, Message, decode, keys_wanted, kind_of
from stranglerfig.kit.sealing import Destroyed, Keys, keys_of
from stranglerfig.kit.states import Forms, Part, queries, together
from stranglerfig.kit.tenants import tenant_of, within
from stranglerfig.kit.transactions import Cause, Changed, Outbox, Transaction, Unit, by_hand, owning, wire, write
from stranglerfig.telemetry import metrics, traces

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""How often an event is tried before it is parked."""
ROUNDS: Final = 20
"""How often a transaction is done again because others were faster."""
FEWER: Final = 3
"""How often a batch is, before it is halved because of that."""
PAUSE: Final = 0.1
"""Seconds between the first two attempts; four times as long between the next."""
ATTEMPT: Final = "#"
"""What is between a command's id and the number of the attempt, from the second one on."""
LOOK: Final = 0.5
"""Seconds between looks for parked events that are to be tried again."""
LETTERS: Final = 100
"""How many of them are fetched at a time."""
AWAITED: Final = 60.0
"""Seconds after which what an event waits for (:class:`NotYet`) is not expected any more."""

FAILURES: Final = (Failed, Changed, psycopg.Error)
"""What may be an event's fault: its handler fails, others are always faster, the database refuses what it writes."""

_NTH = re.compile(rf"{ATTEMPT}\d+$")
Handler = Callable[[Any, Transaction], Awaitable[None]]


class Unfit(Exception):
    """A handler's word that not the event is at fault but this process, which lacks what others have: nothing is done,
    nothing is parked, and the process stands back.

    Args:
        error: what it lacks.
    """

    def __init__(self, error: FigError) -> None:
        super().__init__(str(error))
        self.error = error


class NotYet(Exception):
    """A handler's word that what the event is about is not here yet, as the log keeps order within a partition only.
    Nothing is done, and the event is tried again twice a second, the later ones of its key behind it; it is parked for
    a person when a minute has passed.

    Args:
        error: why it is parked then.
    """

    def __init__(self, error: FigError | Refused) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Reaction:
    """What handles a type of messages, and which messages it may send because of them (None: any)."""

    message: type[Message]
    handler: Handler
    emits: frozenset[type[Message]] | None = None

    def check(self, said: Iterable[Message]) -> None:
        """Refuse what the declaration does not say.

        Raises:
            FigError: ``emit_undeclared``.
        """
        for message in said if self.emits is not None else ():
            if type(message) not in (self.emits or ()):
                raise FigError(
                    "emit_undeclared",
                    f"the handler of {self.message.__name__} sends {type(message).__name__}, "
                    "which its declaration does not say",
                    "Add it to emits=, so that the drawing of the flow stays true.",
                    handler=kind_of(self.message).type,
                    emits=kind_of(message).type,
                )


@dataclass(frozen=True, slots=True)
class _Task:
    """A record that is to be handled: the message that it holds, or why it cannot be read."""

    record: Record
    digest: uuid.UUID
    message: Message | None
    error: str | None

    @property
    def key(self) -> str:
        return self.record.event.partitionkey or ""

    @property
    def line(self) -> tuple[str | None, str]:
        """Whose it is, and its key: of what waits for each other."""
        return _kept(tenant_of(self.record.event)), self.key


class Consumer:
    """One member of a subscription.

    Args:
        name: of the subscription; the group in the log.
        reactions: by the type of the events.
        committed: told after each transaction that may have sent something.
        fit: called before it joins the others; raises where this process is not to.
        lease: seconds for which a member that is not heard of keeps its partitions.
        linger: seconds for which events are let gather.
        kill_point: called with the name of each point at which a fault test may kill the process.
        tenant: whose messages it handles; others' are passed over. None: everybody's.
    """

    def __init__(
        self,
        name: str,
        reactions: dict[str, list[Reaction]],
        sessions: postgres.Few,
        log: EventLog,
        forms: Forms,
        outbox: Outbox,
        committed: Callable[[], None] = lambda: None,
        *,
        fit: Sequence[Callable[[], Awaitable[None]]] = (),
        lease: float = LEASE,
        linger: float = 0.0,
        kill_point: Callable[[str], None] = lambda name: None,
        tenant: str | None = None,
    ) -> None:
        self.name = name
        self._tenant = tenant
        self._reactions = reactions
        self._sessions = sessions
        self._log = log
        self._forms = forms
        self._outbox = outbox
        self._committed = committed
        self._fit = fit
        self._lease = lease
        self._linger = linger
        self._kill_point = kill_point
        self._number = 0
        # Where we were when the database or the log was away: that attempt was nobody's fault.
        self._innocent: dict[tuple[str, int], int] = {}
        # Where what we have handled ends.
        self._handled_to: dict[tuple[str, int], int] = {}
        self.handled = 0

    @property
    def topics(self) -> list[str]:
        """Where its events come from."""
        return sorted({each.message.__kind__.topic for found in self._reactions.values() for each in found})

    async def run(self) -> None:
        """Consume until cancelled.

        Raises:
            FigError: ``database_unreachable``, ``unknown_topic``, what the log says when it cannot be reached, and why
                this process is not fit.
        """
        for is_fit in self._fit:
            await is_fit()
        await self.begin()
        feed = await self._log.subscribe(self.topics, self.name, lease=self._lease)
        again = tasks.spawn(tasks.supervise(self._retry, name=f"retry {self.name}"), name=f"retry {self.name}")
        try:
            async for batch in feed.batches():
                await self.handle(batch, feed.commit)
                self._kill_point("consumer/committed")
                await feed.commit(batch[-1])
                await asyncio.sleep(self._linger)
        finally:
            await tasks.stop(again)
            await feed.close()

    async def begin(self) -> None:
        """Find out the subscription's number."""
        for each in (metrics.HANDLED, metrics.PARKED):
            each.labels(self.name)  # there before it grows, so that its growth is seen
        async with self._sessions.session() as conn:
            while not self._number:  # two that begin at once: the second finds it at its second look
                self._number = await postgres.value(conn, queries.subscription, {"name": self.name}) or 0

    async def handle(self, batch: Sequence[Record], commit: Callable[[Record], Awaitable[None]] | None = None) -> None:
        """Handle records of one partition, in order; when it returns each is handled or parked, once.

        Args:
            commit: told of each record up to which all is handled, while the batch takes long.
        """
        ours = [record for record in batch if record.event.type in self._reactions]
        if self._tenant is not None:
            ours = [record for record in ours if record.event.tenantid == self._tenant]
        if not ours:
            return
        place = ours[0].topic, ours[0].partition
        keys = await self._keys([record.event for record in ours])
        found = [self._task(record, keys) for record in ours]
        self._at = found[0].record
        try:
            await self._handle(found, commit, goes_on=self._handled_to.pop(place, None) == batch[0].position)
        except FigError:
            self._innocent[place] = self._at.position
            raise
        self._handled_to[place] = batch[-1].position + 1

    async def _handle(
        self, found: Sequence[_Task], commit: Callable[[Record], Awaitable[None]] | None, *, goes_on: bool
    ) -> None:
        """Where a process ends is seen by the next one, which does not go on from what it has handled itself."""
        count = 1 if goes_on else await self._attempt(found[0].record)
        self._kill_point("consumer/attempted")
        if count == 1:
            try:
                return await self._together(found)
            except FAILURES as error:
                log.info("a batch of %s is done again singly: %r", self.name, error, extra={"action": "singly"})
            if goes_on:
                await self._attempt(found[0].record)  # the one that has just failed
            count = await self._attempt(found[0].record)
        for task in found:
            await self._singly(task, count or await self._attempt(task.record))
            count = 0
            if commit is not None:
                await commit(task.record)

    async def _keys(self, events: Sequence[Event]) -> Keys:
        """What opens the personal values in events that are handled here."""
        wanted = {id for event in events for id in keys_wanted(self._reactions[event.type][0].message, event)}
        if not wanted:
            return {}
        async with self._sessions.session() as conn:
            return await self._forms.keys.of_ids(conn, wanted)

    def _task(self, record: Record, keys: Keys) -> _Task:
        event = record.event
        message, error = None, None
        try:
            tenants.checked(tenant_of(event))
            message = decode(self._reactions[event.type][0].message, event, keys)
        except FigError as caught:
            error = str(caught)
        is_command = issubclass(self._reactions[event.type][0].message, Command)
        return _Task(record, digest(event, command=is_command), message, error)

    async def _attempt(self, record: Record) -> int:
        """How often this record was begun with, this time included."""
        self._at = record
        async with self._sessions.session() as conn:
            place = {"topic": record.topic, "partition": record.partition, "position": record.position}
            innocent = self._innocent.pop((record.topic, record.partition), None) == record.position
            params = {"subscription": self._number, "anew": innocent} | place
            return int(await postgres.value(conn, queries.attempt, params))

    async def _singly(self, task: _Task, count: int) -> None:
        """Handle one, the ``count``-th time; park it when it has failed too often."""
        said: str | None = f"its process ended {ATTEMPTS} times while it handled it"
        while count <= ATTEMPTS:
            try:
                return await self._together([task])
            except FAILURES as error:
                if isinstance(error.__cause__, NotYet):
                    said, count = None, 0
                    break
                said = told(error, task.message)
                log.warning(
                    "%s cannot handle %s (attempt %d): %s", self.name, task.record.event.id, count, said,
                    extra={"action": "attempt_failed"},
                )  # fmt: skip
            if count < ATTEMPTS:
                await asyncio.sleep(PAUSE * 4 ** (count - 1))
            count = await self._attempt(task.record)
        async with self._sessions.session() as conn, conn.transaction():
            if await postgres.fetch(conn, queries.receive, {"subscription": self._number, "events": [task.digest]}):
                await self._park(conn, task, said, min(count, ATTEMPTS))

    async def _together(self, found: Sequence[_Task]) -> None:
        """Handle tasks in one transaction; again when others were faster, which is nobody's fault.

        Raises:
            Failed: a handler did; nothing was done.
            Changed: others were faster, twenty times, with one of them; nothing of that one was done.
            FigError: ``not_owner``: the same, and nothing is at fault; it waits until this side owns the data.
        """
        with owning(self.name):
            for round_ in range(ROUNDS - 1 if len(found) == 1 else FEWER - 1):
                try:
                    return await self._once(found)
                except Changed:
                    await asyncio.sleep(random.uniform(0, 0.01) * round_)  # noqa: S311  who meets again should not
            if len(found) == 1:
                return await self._once(found)
        # The more there are, the more others meet: halves end where the whole would be done again and again.
        half = len(found) // 2
        await self._together(found[:half])
        await self._together(found[half:])

    async def _once(self, found: Sequence[_Task]) -> None:
        begun = clock.monotonic()
        try:
            await self._in_transaction(found)
        except FigError as error:
            if not postgres.is_unreachable(error) or clock.monotonic() - begun < postgres.STILL:
                raise
            # It was ended for standing still, which may be a handler's fault.
            raise Failed(0) from TimeoutError(f"its transaction takes longer than {postgres.STILL} s")

    async def _in_transaction(self, found: Sequence[_Task]) -> None:
        async with self._sessions.session() as conn, by_hand(conn):
            async with conn.pipeline():
                await conn.execute("BEGIN")
                fresh_ = await conn.execute(
                    queries.receive, {"subscription": self._number, "events": [each.digest for each in found]}
                )
                keys = {"keys": list({each.key for each in found}), "topic": found[0].record.topic}
                waiting_ = await conn.execute(queries.waiting, keys | {"subscription": self._number})
                now_ = await conn.execute(queries.now)
                fresh = {row[0] for row in await fresh_.fetchall()}
                waiting = {tuple(row) for row in await waiting_.fetchall()}
                ((now,),) = await now_.fetchall()
            ready: list[_Task] = []
            again: list[_Task] = []
            for task in found:
                if task.digest not in fresh:
                    again.append(task)
                    continue
                fresh.discard(task.digest)  # the same event may be in the log twice
                if task.error is not None or task.line in waiting:
                    await self._park(conn, task, None if task.line in waiting else task.error, 0)
                    waiting.add(task.line)
                else:
                    ready.append(task)
            await self._tell_again(conn, again)
            unit = await self._effects(conn, ready, now)
            await write(unit, commit=True)
        self._record(unit, len(ready))
        self.handled += len(ready)
        metrics.HANDLED.labels(self.name).inc(len(ready))
        self._committed()

    def _record(self, unit: Unit, size: int) -> None:
        traces.end_together(f"{self.name}: commit", unit.spans, size=size)

    async def _tell_again(self, conn: postgres.Connection, tasks_: Sequence[_Task]) -> None:
        """Somebody asks again for what was done: the answers may be lost, so they are given once more."""
        asking = [each for each in tasks_ if isinstance(each.message, Command) and ATTEMPT in each.record.event.id]
        if not asking:
            return
        params = {"subscription": self._number, "commands": [each.digest for each in asking]}
        known: dict[uuid.UUID, list[list[str]]] = dict(await postgres.fetch(conn, queries.replies, params))
        told_ = [(reply, cause_of(each.record.event)) for each in asking for reply in known.get(each.digest, ())]
        if told_:
            rows = [(None, *reply) for reply, _ in told_]
            await conn.execute(*together([self._outbox.rows(rows, [cause for _, cause in told_])]))

    async def _effects(self, conn: postgres.Connection, found: Sequence[_Task], now: datetime | None = None) -> Unit:
        """Have all handled; what they changed and said is to be written."""
        unit = Unit(conn, self._forms, self._outbox, now=now)
        work: list[tuple[_Task, Reaction, Transaction]] = []
        for task in found:
            event, cause = task.record.event, cause_of(task.record.event)
            if (span := _handling(task.record)) is not None:
                unit.spans.append(span)
                cause = replace(cause, traceparent=str(span.own))
            work += [(task, each, Transaction(unit, cause, event)) for each in self._reactions[event.type]]
        replies: dict[uuid.UUID, list[tuple[str | None, Message]]] = defaultdict(list)

        def done(number: int) -> None:
            task, reaction, tx = work[number]
            said = tx.settle()
            reaction.check(said)
            if isinstance(task.message, Command):
                replies[task.digest] += [(tx.tenant, each) for each in said]

        try:
            await in_turn([_run(reaction, task.message, tx) for task, reaction, tx in work], unit.load, done)
        except Failed as error:
            if isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                raise error.__cause__ from None  # the database's failure, not the event's
            if isinstance(error.__cause__, Unfit):
                raise error.__cause__.error from None
            raise
        self._kill_point("consumer/handled")
        try:
            await unit.ready()
        except FigError as error:
            if error.code == "backend_not_installed":
                raise
            raise Failed(0) from error
        if replies:
            wired = [[wire(each, keys_of(whose, unit.keys)) for whose, each in said] for said in replies.values()]
            texts = [orjson.dumps(each).decode() for each in wired]
            unit.write(Part(queries.put_replies, [self._number, [*replies], texts]))
        return unit

    async def _park(self, conn: postgres.Connection, task: _Task, error: str | None, attempts: int) -> None:
        record = task.record
        await conn.execute(
            queries.park,
            {
                "subscription": self._number, "key": task.key, "topic": record.topic, "partition": record.partition,
                "position": record.position, "event": Json(told_event(record.event)), "data": record.event.data,
                "digest": task.digest, "error": error, "attempts": attempts,
            },
        )  # fmt: skip
        if error is not None:
            traces.end(_handling(record), error="parked", attempts=attempts)
            metrics.PARKED.labels(self.name).inc()
            log.error(
                "%s parks the event %s at %s/%d/%s and what follows of its key: %s", self.name, record.event.id,
                record.topic, record.partition, shown(record.position), error, extra={"action": "parked"},
            )  # fmt: skip

    async def _retry(self) -> None:
        """Handle parked events that somebody wants tried again, and what waited behind them."""
        after = tried = 0
        while True:
            async with self._sessions.session() as conn:
                params = {"subscription": self._number, "after": after, "most": LETTERS}
                due = await postgres.fetch(conn, queries.due, params)
            for number, _key, topic, partition, position, event, data, digest_ in due:
                record = Record(topic, partition, int(position), event_told(event, data), clock.now())
                tried += await self._again(number, _Task(record, digest_, *await self._read(record.event)))
            after = due[-1][0] if len(due) == LETTERS else 0
            if not after:
                if not tried:
                    await asyncio.sleep(LOOK)
                tried = 0

    async def _read(self, event: Event) -> tuple[Message | None, str | None]:
        if event.type not in self._reactions:
            return None, f"nothing handles {event.type} any more"
        task = self._task(Record("", 0, 0, event, event.time), await self._keys([event]))
        return task.message, task.error

    async def _again(self, number: int, task: _Task) -> bool:
        """Try one; whether that came to something, so that there may be more to do."""
        async with self._sessions.session() as conn:
            if not await postgres.value(conn, queries.lock_letter, (number,)):
                return False
            try:
                counted = {"id": number, "attempts": ATTEMPTS}
                if await postgres.one(conn, queries.try_letter, counted) is None:
                    return False
                error = task.error or await self._handled(conn, number, task)
                if error is not None:
                    await conn.execute(queries.keep_letter, {"id": number, "error": error.replace("\0", "\\0")})
            except NotYet as early:
                waits = {"id": number, "error": told(early.error, task.message), "seconds": AWAITED}
                await conn.execute(queries.await_letter, waits)
                return False
            finally:
                with contextlib.suppress(psycopg.Error):
                    await conn.execute(queries.unlock_letter, (number,))
        return True

    async def _handled(self, conn: postgres.Connection, number: int, task: _Task) -> str | None:
        """Handle a parked event and take it away; or the reason why not.

        Raises:
            NotYet: its handler said so.
        """
        said = ""
        for round_ in range(ROUNDS):
            try:
                async with conn.transaction():
                    unit = await self._effects(conn, [task])
                    await write(unit)
                    await conn.execute(queries.remove_letter, (number,))
            except Changed as error:
                said = told(error, task.message)
                await asyncio.sleep(random.uniform(0, 0.01) * round_)  # noqa: S311  who meets again should not
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the others' turn comes
                if isinstance(error.__cause__, NotYet):
                    raise error.__cause__ from None
                return told(error, task.message)
            else:
                self._record(unit, 1)
                self._committed()
                return None
        return said


def _handling(record: Record) -> traces.Opened | None:
    """A span that goes on from where the event came about."""
    event = record.event
    return traces.begin(
        f"handle {event.type}", event.traceparent, "consumer",
        **{"messaging.destination.name": record.topic, "messaging.message.id": event.id},
    )  # fmt: skip


async def _run(reaction: Reaction, message: Any, tx: Transaction) -> None:
    await reaction.handler(message, tx)


def digest(event: Event, *, command: bool = False) -> uuid.UUID:
    """What tells an event apart from all others: whose it is, its source and id, as sixteen bytes.

    What is behind a ``command``'s ``#`` counts attempts of the same one, and makes no other of it.
    """
    told = f"{within(tenant_of(event), event.source)}\0{_NTH.sub('', event.id) if command else event.id}"
    return uuid.UUID(bytes=hashlib.blake2b(told.encode(), digest_size=16).digest())


def cause_of(event: Event) -> Cause:
    """What follows from an event carries its flow on; an event of no flow begins one."""
    return Cause(event.id, event.correlationid or event.id, event.traceparent, tenant_of(event))


def told(error: BaseException, message: Message | None = None) -> str:
    """An error as an operator reads it. It is kept, so what it says is left out where it may quote personal values."""
    cause = error.__cause__ or error
    if isinstance(cause, Refused):
        return f"refused: {cause.code}"
    if message is not None and kind_of(message).personal and not isinstance(cause, Destroyed):
        name = f"[{cause.code}]" if isinstance(cause, FigError) else type(cause).__name__
        *_, at = [None, *traceback.extract_tb(cause.__traceback__)]
        return name if at is None else f"{name}, in {at.name} (line {at.lineno} of {PurePath(at.filename).name})"
    return str(cause) if isinstance(cause, FigError) else f"{type(cause).__name__}: {cause}"


def told_event(event: Event) -> dict[str, str]:
    """An event's attributes, for keeping; :func:`event_told` reads them."""
    told = dict(cloudevents.attributes(event)) | {cloudevents.CONTENT_TYPE: event.datacontenttype}
    return told if event.tenantid is None else told | {"tenantid": _kept(event.tenantid) or ""}


def _kept(tenant: str | None) -> str | None:
    """A tenant as a text of the database's; one that cannot be is parked, and can be none when it is tried again."""
    return tenant.replace("\0", "\1") if tenant else None


def event_told(attributes: dict[str, str], data: bytes) -> Event:
    """The event of kept attributes and data."""
    return cloudevents.event(
        attributes, bytes(data), content_type=attributes.get(cloudevents.CONTENT_TYPE), key=None, otherwise=(),
        at=clock.now(),
    )  # fmt: skip

"""One transaction of a service: what it loads, changes and says, written all together or not at all.

Reading takes no transaction; what was read is checked when it is written. All writes, and the commit, are one round
trip. When somebody else was faster nothing is written and the work is done again.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, NamedTuple, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from stranglerfig.databases.ownership import REFUSED_WRITE
from stranglerfig.eventlog import model as log
from stranglerfig.foundation import ids, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.aggregates import Aggregate, Refused, belong, report_to, whole_id_of
from stranglerfig.kit.aggregates import within as within_class
from stranglerfig.kit.driving import is_early, turn
from stranglerfig.kit.messages import Event, Message, key_of, kind_of, sealed_data_of, subjects_of
from stranglerfig.kit.sealing import NO_KEYS, Keys, keys_of
from stranglerfig.kit.states import NEW, Change, Class, Forms, Held, Part, Rows, Statement, queries, together
from stranglerfig.kit.tenants import within
from stranglerfig.telemetry import traces

A = TypeVar("A", bound=Aggregate)
MESSAGES = uuid.UUID("0b0e6d43-3b0f-4a6d-9a6b-8d6a6f1d1a55")
_OUTBOX: LiteralString = """INSERT INTO {table}
(id, topic, type, key, data, subject, dataschema, traceparent, correlationid, causationid)
SELECT id::{id}, topic, type, key, data::{data}, key, dataschema, traceparent, correlationid, causationid
FROM {given} AS m (id, topic, type, key, data, dataschema, traceparent, correlationid, causationid)"""
_OUTBOX_OF_TENANTS: LiteralString = """INSERT INTO {table}
(id, topic, type, key, data, subject, dataschema, traceparent, correlationid, causationid, tenantid)
SELECT id::{id}, topic, type, key, data::{data}, key, dataschema, traceparent, correlationid, causationid, tenantid
FROM {given} AS m (id, topic, type, key, data, dataschema, traceparent, correlationid, causationid, tenantid)"""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something happens; what is said because of it carries it on.

    Attributes:
        id: of the event or command that is handled, or the request's idempotency key.
        correlationid: what all messages of one business flow have in common.
        traceparent: the trace that it is part of (W3C).
        tenant: for whom; nobody else's data are touched.
    """

    id: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    tenant: str | None = None


class Said(NamedTuple):
    """A message on its way to the outbox: who recorded it (None: sent), and its id where that is not left to us."""

    by: Aggregate | None
    message: Message
    id: str | None = None


class Changed(Exception):
    """What a transaction rests on has changed meanwhile: nothing was written, the work is to be done again."""


class Unit:
    """What is loaded and said in one transaction of the database, by one handler or by many, one after the other."""

    def __init__(self, conn: postgres.Connection, forms: Forms, outbox: Outbox, *, now: datetime | None = None) -> None:
        self.conn = conn
        self.now = now
        self._forms = forms
        self._outbox = outbox
        self._held: dict[tuple[Class, Any], Held | None] = {}
        self._news: list[tuple[Any, ...]] = []
        """What aggregates report, and what was sent: see :class:`Said`, whose first two an aggregate gives."""
        self._causes: list[Cause] = []
        self._rows: list[tuple[Any, ...]] = []
        """Of each the outbox's row; where keys are wanted for it, itself until there are."""
        self._extra: list[Statement] = []
        self._parts: list[Part] = []
        self._subjects: set[str] = set()
        self.keys: Keys = {}
        """Of those whose personal data are said, by subject within its tenant, when it is :meth:`ready`."""
        self.spans: list[traces.Opened] = []
        """What is to be recorded once all is committed; with what is not, they are forgotten."""

    async def load(self, wanted: Iterable[tuple[Class, Any]]) -> None:
        """Have these at hand: one query for those of a class. Of one that is kept by tenant ids are whole ones."""
        missing: dict[Class, dict[Any, None]] = defaultdict(dict)
        for cls, id in wanted:
            if (cls, id) not in self._held:
                missing[cls][id] = None
        for cls, ids_ in missing.items():
            self._held |= dict.fromkeys(((cls, id) for id in ids_), None)
            for each in await (await self._forms.of(self.conn, cls)).load(self.conn, [*ids_]):
                report_to(each.aggregate, cast(list[tuple[Aggregate, Event]], self._news))
                self._held[cls, whole_id_of(each.aggregate)] = each
                self.now = self.now or each.read_at

    async def find(self, cls: type[A], id: Any) -> A | None:
        """One, or None where there is none."""
        if (cls, id) not in self._held:
            await self.load([(cls, id)])
        return self.held(cls, id)

    def held(self, cls: type[A], id: Any) -> A | None:
        """One that is at hand, or None where there is none."""
        found = self._held[cls, id]
        return None if found is None or found.is_removed else cast(A, found.aggregate)

    async def add(self, aggregate: Aggregate) -> None:
        """One that is not in the database yet."""
        form = await self._forms.of(self.conn, type(aggregate))
        if isinstance(form, Rows):
            form.check(aggregate)
        report_to(aggregate, cast(list[tuple[Aggregate, Event]], self._news))
        place = type(aggregate), whole_id_of(aggregate)
        before = self._held.get(place)
        # One that takes the place of another, which was removed a moment ago, is its successor.
        origin = before.origin if before is not None and before.is_removed else NEW
        self._held[place] = Held(aggregate, origin, ())

    def remove(self, aggregate: Aggregate) -> None:
        """One that is to be there no more."""
        held = self._held[type(aggregate), whole_id_of(aggregate)]
        assert held is not None
        held.is_removed = True

    def write(self, what: Said | Statement | Part) -> None:
        """A message, a statement that comes before all others, or a change of rows beside the aggregates'."""
        if isinstance(what, Part):
            self._parts.append(what)
        elif isinstance(what, Statement):
            self._extra.append(what)
        else:
            self._news.append(what)

    @property
    def is_one_statement(self) -> bool:
        """Whether all that is written goes into one statement, which needs no transaction around it."""
        return not self._extra

    def said_because(self, cause: Cause) -> list[Message]:
        """What was said since this was last asked, all of it because of ``cause``."""
        fresh = self._news[len(self._causes) :]
        self._causes += [cause] * len(fresh)
        for each in fresh:
            subjects = subjects_of(each[1])
            if subjects:
                self._subjects |= {within(cause.tenant, subject) for subject in subjects}
            self._rows.append(Said(*each) if subjects else self._outbox.row(Said(*each)))
        return [each[1] for each in fresh]

    @property
    def wants_keys(self) -> bool:
        """Whether personal data are said, and it is not :meth:`ready`."""
        return bool(self._subjects)

    async def ready(self) -> None:
        """Have the keys of those whose personal data are said; within the transaction that is to be written.

        Raises:
            Destroyed: one of them was destroyed.
            Changed: somebody else was about to make the same ones, and it came to a deadlock.
            FigError: ``event_too_large``, ``backend_not_installed``.
        """
        if not self._subjects:
            return
        try:
            self.keys = await self._forms.keys.of_subjects(self.conn, self._subjects)
        except _MEANWHILE as error:
            raise Changed(str(error)) from error
        self._subjects.clear()
        self._rows = [
            self._outbox.row(each, keys_of(cause.tenant, self.keys)) if isinstance(each, Said) else each
            for each, cause in zip(self._rows, self._causes, strict=True)
        ]

    def statements(self) -> list[Statement]:
        """All that is to be written, in one statement beside those that were given as such.

        The messages come last: they are numbered while the state's rows are locked.
        """
        news: dict[int, list[tuple[Event, str | None]]] = defaultdict(list)
        for each, cause in zip(self._news, self._causes, strict=True):
            if each[0] is not None:
                news[id(each[0])].append((each[1], cause.tenant))
        by_class: dict[Class, list[Held]] = defaultdict(list)
        for (cls, _), held in self._held.items():
            if held is not None:
                by_class[cls].append(held)
        parts = list(self._parts)
        for cls, all_of_them in by_class.items():
            form = self._forms.known(cls)
            if isinstance(form, Rows):
                parts += form.parts(all_of_them, news)
            else:
                parts += form.parts(all_of_them, news, self.keys)
        if self._news:
            parts.append(self._outbox.rows(self._rows, self._causes))
        return [*self._extra, together(parts)] if parts else self._extra


class Outbox:
    """The table that messages are written to. The service's own will do, if it has the columns of ``fig.outbox``.
    It may be without ``tenantid`` while nothing is said in a tenant's name.

    Args:
        data, id: the types of these columns.

    Attributes:
        most_bytes: of a message's data, which the log takes; None where none is known.
    """

    most_bytes: int | None = None

    def __init__(self, table: str = "fig.outbox", *, data: LiteralString = "json", id: LiteralString = "text") -> None:
        name = sql.Identifier(*table.split("."))
        parts = {"table": name, "id": sql.SQL(id), "data": sql.SQL(data)}
        self._change = Change(_OUTBOX, parts, ["text"] * 9)
        self._change_of_tenants = Change(_OUTBOX_OF_TENANTS, parts, ["text"] * 10)

    def row(self, said: Said, keys: Keys = NO_KEYS) -> tuple[str | None, ...]:
        """A message as its id (None: a new one) and what :func:`wire` makes of it.

        Raises:
            FigError: ``event_too_large``: behind one that the log refuses its whole topic would wait.
        """
        topic, type_, key, data, schema = wire(said.message, keys)
        if self.most_bytes is not None and len(data) * 4 > self.most_bytes < (size := len(data.encode())):
            raise FigError(
                "event_too_large",
                f"a {type_} of {key} has {size} bytes of data, the log takes {self.most_bytes}",
                "Keep what is large elsewhere, and say where.",
                type=type_,
                bytes=size,
                limit=self.most_bytes,
            )
        return said.id, topic, type_, key, data, schema

    def rows(self, rows: Sequence[tuple[str | None, ...]], causes: Sequence[Cause]) -> Part:
        """What writes messages, in order."""
        if any(cause.tenant is not None for cause in causes):
            return self._change_of_tenants.part(
                [
                    (id or ids.new_id(), *row, cause.traceparent, cause.correlationid, cause.id, cause.tenant)
                    for (id, *row), cause in zip(rows, causes, strict=True)
                ]
            )
        return self._change.part(
            [
                (id or ids.new_id(), *row, cause.traceparent, cause.correlationid, cause.id)
                for (id, *row), cause in zip(rows, causes, strict=True)
            ]
        )


def wire(message: Message, keys: Keys = NO_KEYS) -> tuple[str, ...]:
    """A message as the outbox has it: topic, type, key, data, dataschema.

    Args:
        keys: by subject, those that its personal values are sealed under.
    """
    kind = kind_of(message)
    return kind.topic, kind.type, key_of(message), sealed_data_of(message, keys).decode(), kind.dataschema


class Transaction:
    """What a handler is given: the service's database, through one transaction.

    Attributes:
        cause: why the handler runs.
        event: what is handled, as the log has it: its ``causationid`` is the command's that it answers. None in work
            that no event asked for.
    """

    def __init__(self, unit: Unit, cause: Cause, event: log.Event | None = None) -> None:
        self.event = event
        self._unit = unit
        self._early: list[Said | Statement] = []
        self.cause = cause

    @property
    def tenant(self) -> str | None:
        """For whom it is; None: for nobody in particular, so what is kept by tenant cannot be touched."""
        return self.cause.tenant

    async def find(self, cls: type[A], id: Any) -> A | None:
        """The aggregate of that id, or None; the same object whenever it is asked for.

        Raises:
            FigError: ``tenant_missing`` when the class is kept by tenant and the transaction has none.
        """
        wanted = cls, within_class(cls, id, self.cause.tenant)
        await self._turn(wanted)
        return await self._unit.find(*wanted)

    async def load(self, cls: type[A], id: Any) -> A:
        """The aggregate of that id.

        Raises:
            Refused: ``unknown_<class>`` when there is none, such as ``unknown_stock_level``.
        """
        found = await self.find(cls, id)
        if found is None:
            raise Refused(f"unknown_{_snake(cls.__name__)}", id=id)
        return found

    async def open(self, cls: type[A], id: Any) -> A:
        """The aggregate of that id; a stream that has recorded nothing yet begins."""
        found = await self.find(cls, id)
        return found if found is not None else await self.add(cls(id))

    async def add(self, aggregate: A) -> A:
        """Keep one that is new. When its id is there already, the work is done again (and finds it).

        Raises:
            FigError: ``tenant_missing`` as above; ``bad_tenant`` when its table cannot keep this one.
        """
        await self._turn(None)
        belong(aggregate, self.cause.tenant)
        await self._unit.add(aggregate)
        return aggregate

    async def remove(self, aggregate: Aggregate) -> None:
        """Have a row's aggregate be there no more; its table's row is deleted."""
        await self._turn(None)
        belong(aggregate, self.cause.tenant)
        self._unit.remove(aggregate)

    async def now(self) -> datetime:
        """The database's time: the same for all that is handled together."""
        await self._turn(None)
        if self._unit.now is None:
            self._unit.now = await postgres.value(self._unit.conn, queries.now)
        return cast(datetime, self._unit.now)

    def span(self, opened: traces.Opened | None) -> None:
        """Have a span recorded that ends with the commit."""
        if opened is not None:
            self._unit.spans.append(opened)

    def send(self, message: Message, *, id: str | None = None) -> None:
        """Publish an event that no aggregate records, or a command to another context.

        Args:
            id: the message's own, where it must be the same however often it is sent. In a tenant's transaction it is
                the tenant's alone: ``@acme/<id>``.
        """
        self._write(Said(None, message, id if id is None or self.tenant is None else within(self.tenant, id)))

    def execute(self, statement: LiteralString, params: Any = None) -> None:
        """Have a statement run with the commit, before the aggregates are written."""
        self._write(Statement(statement, params))

    def destroy_key(self, subject: str | int) -> None:
        """Destroy with the commit the key of a subject's personal data: what is sealed under it reads as None, in every
        process a minute later at the latest. No other key is made for the subject, who is the tenant's.
        """
        self.execute(queries.destroy_personal_key, {"subject": within(self.tenant, str(subject))})

    async def rows(self, query: LiteralString, params: Any = None) -> list[TupleRow]:
        """The rows of a query, by SQL."""
        await self._turn(None)
        return await postgres.fetch(self._unit.conn, query, params)

    async def value(self, query: LiteralString, params: Any = None) -> Any:
        """The first column of the first row, or None."""
        await self._turn(None)
        return await postgres.value(self._unit.conn, query, params)

    def settle(self) -> list[Message]:
        """The handler has ended: returns what it said, which from now on says why."""
        self._catch_up()
        return self._unit.said_because(self.cause)

    async def _turn(self, wanted: Any) -> None:
        await turn(wanted)
        self._catch_up()

    def _write(self, what: Said | Statement) -> None:
        if is_early():
            self._early.append(what)  # others, whose turn is before ours, have not spoken yet
        else:
            self._catch_up()
            self._unit.write(what)

    def _catch_up(self) -> None:
        for each in self._early:
            self._unit.write(each)
        self._early.clear()


async def commit(unit: Unit) -> None:
    """Write all of a unit in a transaction of its own, in one round trip; in three where personal data are in it.

    Raises:
        Changed: something was not as it had been read; nothing is written.
        Destroyed: the key of personal data that are in it was destroyed; nothing is written.
    """
    async with by_hand(unit.conn):
        if unit.wants_keys:
            await send(unit.conn, [_BEGIN])
            await write(unit, commit=True)
        elif made := unit.statements():
            # One of ours is a transaction by itself; in what was given as a statement anything may be.
            await send(unit.conn, made if unit.is_one_statement else [_BEGIN, *made, _COMMIT])


@asynccontextmanager
async def by_hand(conn: postgres.Connection) -> AsyncIterator[None]:
    """A transaction that the block begins and commits; what is open when the block fails is rolled back."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            await conn.rollback()
        raise


@contextmanager
def owning(name: str) -> Iterator[None]:
    """What a cut-over's guards refuse is told as such.

    Raises:
        FigError: ``not_owner``.
    """
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate != REFUSED_WRITE:
            raise
        what = str(error).partition("\n")[0]
        raise FigError(
            "not_owner", f"{name}: {what}", "Ask again once this side owns the data (fig status)."
        ) from error


async def write(unit: Unit, *, commit: bool = False) -> None:
    """Write all of a unit in the transaction that is open on its session; ``commit`` ends it in the same round trip.

    Raises:
        Changed: something was not as it had been read; the transaction is to be rolled back.
        Destroyed: the key of personal data that are in it was destroyed; the same.
    """
    await unit.ready()
    await send(unit.conn, [*unit.statements(), _COMMIT] if commit else unit.statements())


async def send(conn: postgres.Connection, made: Sequence[Statement]) -> None:
    """All statements in one round trip; the first one's failure is raised."""
    if len(made) == 1:
        try:
            await conn.execute(*made[0])
        except _MEANWHILE as error:
            raise Changed(str(error)) from error
        return
    failure: psycopg.Error | None = None
    async with conn.pipeline() as pipeline:
        try:
            for statement in made:
                await conn.execute(*statement)
            await pipeline.sync()
        except psycopg.Error as error:
            failure = error
            with contextlib.suppress(psycopg.Error):
                await pipeline.sync()  # what was behind it is said to be aborted, which is known
    if isinstance(failure, _MEANWHILE):
        raise Changed(str(failure)) from failure
    if failure is not None:
        raise failure


_MEANWHILE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)
_BEGIN, _COMMIT = Statement("BEGIN", None), Statement("COMMIT", None)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and n else c.lower() for n, c in enumerate(name))

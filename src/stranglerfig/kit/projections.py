"""Read models: rows that follow from events alone, rebuilt beside the ones that serve, then swapped.

A projection's methods are pure: an event and a row. So nothing outside can happen when history is read again. Each
build has a table of its own and its positions in the log, kept in the transaction of its rows; people read a view of
the projection's name, which shows the build that serves.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import types
import typing
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, Final, Literal, LiteralString, NamedTuple, dataclass_transform
from uuid import UUID

import psycopg
from psycopg import sql

from stranglerfig.eventlog.ahead import ahead
from stranglerfig.eventlog.model import LEASE, Capability, Record
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.aggregates import Form, belong, evolvers_of, whole_id_of, within
from stranglerfig.kit.consumer import digest
from stranglerfig.kit.keys import KeyStore
from stranglerfig.kit.messages import Event, decode, is_required, keys_wanted, kind_of, misdeclared
from stranglerfig.kit.sealing import NO_KEYS
from stranglerfig.kit.states import NEW, Held, Rows, Statement, queries, together
from stranglerfig.kit.tenants import may_be, tenant_of
from stranglerfig.kit.transactions import send

log = logging.getLogger(__name__)

SCHEMA: Final = "projections"
LOOK: Final = 0.3
"""Seconds between looks for builds that are wanted, and whether one has caught up."""
AT_ONCE: Final = 500
"""Events after which others in the process have their turn."""
PATIENCE: Final = "2s"
"""How long the swap may wait for who reads the view: those who come after him wait behind it."""
_TYPES: dict[Any, str] = {
    bool: "boolean", int: "bigint", str: "text", float: "double precision", Decimal: "numeric", UUID: "uuid",
    datetime: "timestamptz", date: "date", bytes: "bytea",
}  # fmt: skip


class Change(NamedTuple):
    """What an event changes: the row whose id is in the event's field ``by``."""

    event: type[Event]
    method: Callable[[Any, Any], None]
    by: str


@dataclass(frozen=True)
class Shape:
    """What a projection's class declares beside its fields.

    Attributes:
        name: of the view that people read.
        columns: by field, the type and whether it may be null.
        indexes: the fields that people look for.
        changes: by the type of the events.
        tenant: the column that says whose a row is; None: rows are not told apart by it.
    """

    name: str
    version: int
    id: str
    columns: dict[str, tuple[str, bool]]
    indexes: tuple[str, ...]
    changes: dict[str, Change]
    tenant: str | None = None

    @property
    def topics(self) -> list[str]:
        """Where its events are."""
        return sorted({kind_of(change.event).topic for change in self.changes.values()})


@dataclass_transform(eq_default=False)
class Projection:
    """The base of projections: a row and what events make of it. All fields but the id have a default::

        class StockByItem(Projection, name="stock_by_item", id="item_id", version=2, indexes=["on_hand"]):
            item_id: int
            on_hand: int = 0
            moves: int = 0

            @evolves(StockAdjusted)
            def _adjusted(self, event: StockAdjusted) -> None:
                self.on_hand = event.on_hand
                self.moves += 1

    A change of the fields or of the methods is a new ``version``: it is built from the log beside the one that serves.
    With ``tenant="tenant_id"`` each tenant has rows of its own, which that column tells apart; it is no field. Events
    of no tenant change nothing then.
    """

    __shape__: ClassVar[Shape]
    __form__: ClassVar[Form]
    _tenant: ClassVar[str | None] = None

    def __init_subclass__(
        cls, *, name: str, id: str, version: int = 1, indexes: Sequence[str] = (), tenant: str | None = None
    ) -> None:
        super().__init_subclass__()
        dataclass(eq=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        names = tuple(each.name for each in fields)
        empty = [f.name for f in fields if f.name != id and is_required(f)]
        if id not in names or empty:
            what = f"it has no field '{id}', which is to be its id" if id not in names else f"{empty} have no default"
            raise misdeclared(cls, what, "a row begins with its id and nothing else")
        if tenant in names:
            raise misdeclared(cls, f"'{tenant}' says whose a row is and is a field", "take the field away")
        if unknown := [each for each in indexes if each not in names]:
            raise misdeclared(cls, f"there are indexes on {unknown}", f"its fields are {names}")
        changes = {kind_of(event).type: Change(event, method, by or id) for event, method, by in evolvers_of(cls)}
        for change in changes.values():
            if change.by not in (given := [f.name for f in dataclasses.fields(change.event)]):
                raise misdeclared(
                    cls, f"{change.event.__name__} has no field '{change.by}'", f"say by=, one of {given}"
                )
            if change.by in kind_of(change.event).personal:
                what = f"its rows' ids are the personal '{change.by}' of {change.event.__name__}, which may become None"
                raise misdeclared(cls, what, "say by=, another field")
        if not changes:
            raise misdeclared(cls, "nothing changes it", "add methods with @evolves(…)")
        hints = typing.get_type_hints(cls)
        columns = {each: _column(hints[each]) for each in names}
        cls.__shape__ = Shape(name, version, id, columns, tuple(indexes), changes, tenant)
        cls.__form__ = Form(id, names, None, None, 0, tenant)


class Build(NamedTuple):
    """One build of a projection's version."""

    shape: Shape
    generation: int

    @property
    def table(self) -> str:
        """Where its rows are."""
        return f"{SCHEMA}.{self.shape.name}_v{self.shape.version}_{self.generation}"

    @property
    def key(self) -> dict[str, Any]:
        """What tells it apart in the database."""
        return {"name": self.shape.name, "version": self.shape.version, "generation": self.generation}

    def create(self) -> str:
        """The statements that make its table."""
        name = sql.Identifier(*self.table.split("."))
        tenant = self.shape.tenant
        columns = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(column),
                sql.SQL(kind),
                sql.SQL(" PRIMARY KEY" if column == self.shape.id and tenant is None else "" if null else " NOT NULL"),
            )
            for column, (kind, null) in self.shape.columns.items()
        ]
        first = []
        if tenant is not None:
            first = [sql.Identifier(tenant)]
            key = sql.SQL(", ").join([*first, sql.Identifier(self.shape.id)])
            columns = [
                sql.SQL("{} text NOT NULL").format(*first), *columns, sql.SQL("PRIMARY KEY ({})").format(key),
            ]  # fmt: skip
        table = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}) WITH (fillfactor = 80)")
        made = [table.format(name, sql.SQL(", ").join(columns))]
        for each in self.shape.indexes:
            index = sql.Identifier(f"{self.table.split('.')[1]}_{each}")
            by = sql.SQL(", ").join([*first, sql.Identifier(each)])
            made.append(sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(index, name, by))
        return sql.SQL("; ").join(made).as_string()


class Projector:
    """Keeps the builds of one projection up to date; any number of processes share the log's partitions.

    Args:
        group: what the log's consumer groups begin with, the service's name.
        keys: what opens personal values of its events.
        tenant: whose events change it; others' are passed over. None: everybody's.
    """

    def __init__(
        self, cls: type[Projection], sessions: postgres.Few, log: EventLog, *, group: str, lease: float = LEASE,
        keys: KeyStore | None = None, tenant: str | None = None,
    ) -> None:  # fmt: skip
        self.shape = cls.__shape__
        self._cls: type[Any] = cls
        self._sessions = sessions
        self._log = log
        self._group = group
        self._lease = lease
        self._tenant = tenant
        self._keys = keys or KeyStore()
        self._is_personal = any(kind_of(change.event).personal for change in self.shape.changes.values())
        # Where the log may have an event twice, each build has an inbox.
        self._remembers = Capability.IDEMPOTENT_APPEND not in log.capabilities.has
        self._inboxes: dict[int, int] = {}
        self._following: dict[int, asyncio.Task[None]] = {}
        self._ends: dict[int, dict[tuple[str, int], int]] = {}
        self.applied = 0

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            FigError: ``database_unreachable``, ``unknown_topic``, what the log says when it cannot be reached.
        """
        try:
            while True:
                for build, state in await self.builds():
                    known = self._following.get(build.generation)
                    if known is None or known.done():
                        name = f"projection {self.shape.name} {build.generation}"
                        work = tasks.supervise(lambda build=build: self._follow(build), name=name)  # type: ignore[misc]
                        self._following[build.generation] = tasks.spawn(work, name=name)
                    if state == "building" and await self._has_caught_up(build):
                        await self._try_to_serve(build)
                await asyncio.sleep(LOOK)
        finally:
            await asyncio.gather(*(tasks.stop(task) for task in self._following.values()))
            self._following.clear()

    async def builds(self) -> list[tuple[Build, str]]:
        """The builds of this version that are to be kept up to date, and their states.

        The first is begun when there is none. While a newer version serves, the last one of ours is kept as well: it
        is there when people go back.
        """
        params = {"name": self.shape.name, "version": self.shape.version}
        async with self._sessions.session() as conn, conn.transaction():
            found = await postgres.fetch(conn, queries.projection_builds, params)
            if not found:
                await conn.execute(queries.projection_lock, params)
                found = await postgres.fetch(conn, queries.projection_builds, params)
            ours = {generation: state for version, generation, state in found if version == self.shape.version}
            newer = any(version > self.shape.version for version, _, _ in found)
            if not ours and not newer:
                ours = {int(await postgres.value(conn, queries.projection_begin, params)): "building"}
        last = max(ours, default=0)
        kept = [
            (Build(self.shape, generation), state)
            for generation, state in ours.items()
            if state != "retired" or (newer and generation == last)
        ]
        for gone in self._following.keys() - {build.generation for build, _ in kept}:
            await tasks.stop(self._following.pop(gone))
        return kept

    async def _follow(self, build: Build) -> None:
        async with self._sessions.session() as conn:
            async with conn.transaction():  # several members may come to make it
                await conn.execute(queries.projection_lock, build.key)
                await conn.execute(build.create())
            types_ = {name: kind for name, kind in await postgres.fetch(conn, queries.columns, (build.table,))}
        rows = Rows(self._cls, dataclasses.replace(self._cls.__form__, table=build.table), types_)
        feed = await self._log.subscribe(self.shape.topics, self._group_of(build), lease=self._lease)
        try:
            async with aclosing(ahead(feed.batches(), name=f"projection {self.shape.name} reads on")) as batches:
                async for batch in batches:
                    await self.apply(build, rows, batch)
                    try:
                        await feed.commit(batch[-1])
                    except FigError as error:
                        if error.code != "lease_lost":  # another member has it, and sees how far the rows are
                            raise
        finally:
            await feed.close()

    async def apply(self, build: Build, rows: Rows, batch: Sequence[Record]) -> None:
        """Have a batch of one partition in the build's table, and its position with it."""
        place = build.key | {"topic": batch[0].topic, "partition": batch[0].partition}
        async with self._sessions.session() as conn, conn.transaction():
            row = await postgres.one(conn, queries.projection_at, place)
            assert row is not None
            new, reached_to = _behind(batch, int(row[0]))
            if not new:
                return  # another member was here
            fresh = await self._fresh(conn, build, new)
            keys = NO_KEYS
            if self._is_personal:
                wanted = {id for record, change in fresh for id in keys_wanted(change.event, record.event)}
                keys = await self._keys.of_ids(conn, wanted)
            work = []
            for number, (record, change) in enumerate(fresh, 1):
                event, tenant = decode(change.event, record.event, keys), tenant_of(record.event)
                work.append((change, event, tenant, within(self._cls, getattr(event, change.by), tenant)))
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            ids = {which: None for *_, which in work}
            held = {whole_id_of(each.aggregate): each for each in await rows.load(conn, list(ids))}
            for number, (change, event, tenant, which) in enumerate(work, 1):
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
                found = held.get(which)
                if found is None:
                    found = held[which] = Held(self._cls(getattr(event, change.by)), NEW, ())
                    belong(found.aggregate, tenant)
                change.method(found.aggregate, event)
            reached = place | {"position": reached_to}
            changed = rows.parts(held.values())
            written = [together(changed)] if changed else []
            await send(conn, [*written, Statement(queries.projection_reached, reached)])
        self.applied += len(work)

    def _takes(self, record: Record) -> bool:
        """Whether an event is of whom the rows are."""
        tenant = tenant_of(record.event)
        if self._tenant is not None:
            return tenant == self._tenant
        return self.shape.tenant is None or (tenant is not None and may_be(tenant))

    async def _fresh(
        self, conn: postgres.Connection, build: Build, batch: Sequence[Record]
    ) -> list[tuple[Record, Change]]:
        """What changes something and is not in yet."""
        changes = self.shape.changes
        found = [(r, changes[r.event.type]) for r in batch if r.event.type in changes and self._takes(r)]
        if not self._remembers or not found:
            return found
        number = self._inboxes.get(build.generation)
        if number is None:
            name = {"name": self._group_of(build)}
            number = self._inboxes[build.generation] = int(await postgres.value(conn, queries.subscription, name))
        digests = [digest(record.event) for record, _ in found]
        fresh = {
            row[0] for row in await postgres.fetch(conn, queries.receive, {"subscription": number, "events": digests})
        }
        kept = []
        for each, of in zip(found, digests, strict=True):
            if of in fresh:
                fresh.discard(of)
                kept.append(each)
        return kept

    def _group_of(self, build: Build) -> str:
        return f"{self._group}.projection.{self.shape.name}.v{build.shape.version}.{build.generation}"

    async def _try_to_serve(self, build: Build) -> None:
        """Who cannot be swapped now goes on being built, and says why at each look."""
        try:
            await self.serve(build)
        except (FigError, psycopg.Error) as error:
            if postgres.is_unreachable(error):
                raise
            log.warning("%s cannot be served yet: %s", self.shape.name, error, extra={"action": "serve_failed"})

    async def _has_caught_up(self, build: Build) -> bool:
        """Whether all is in that the log had at the last look (at the first: has now); it may grow all the time."""
        ends: dict[tuple[str, int], int] = {}
        for name in self.shape.topics:
            topic = await self._log.topic(name)
            ends |= {(name, number): end for number, end in enumerate(topic.next_positions if topic else ())}
        async with self._sessions.session() as conn:
            at = await _positions(conn, queries.projection_positions, build)
        before, self._ends[build.generation] = self._ends.get(build.generation, ends), ends
        for (name, number), end in before.items():
            if (here := at.get((name, number), 0)) < end:
                left = await self._log.read(name, number, here, max_records=1)
                if left and left[0].position < end:
                    return False
        return True

    async def serve(self, build: Build) -> bool:
        """Have people read this build from now on. The one before is kept, retired; those retired before are dropped.

        Returns:
            Whether they do: not while the one that they read has more in it, or a later one.

        Raises:
            FigError: ``table_differs`` when something else has the view's name.
        """
        view = sql.Identifier(self.shape.name)
        async with self._sessions.session() as conn, conn.transaction():
            await conn.execute("SELECT set_config('lock_timeout', %s, true)", (PATIENCE,))
            await conn.execute(queries.projection_lock, build.key)
            serving = await postgres.one(conn, queries.projection_serving, build.key)
            if serving is not None and tuple(serving) >= (self.shape.version, build.generation):
                return False
            # The positions of the one that serves are held until the views are swapped: what was read stays read.
            theirs = await _positions(conn, queries.projection_held, build)
            ours = await _positions(conn, queries.projection_positions, build)
            if any(ours.get(place, 0) < there for place, there in theirs.items() if place[0] in self.shape.topics):
                return False
            kind = await postgres.value(conn, queries.projection_kind, (view.as_string(),))
            if kind not in (None, "v"):
                raise FigError(
                    "table_differs",
                    f"the projection {self.shape.name} is read by a view of its name, and a table has that name",
                    "Give the projection another name, or move the table away.",
                    table=self.shape.name,
                )
            grants = await postgres.fetch(conn, queries.projection_grants, (view.as_string(),))
            await conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
            await conn.execute(
                sql.SQL("CREATE VIEW {} AS SELECT * FROM {}").format(view, sql.Identifier(*build.table.split(".")))
            )
            for privilege, role in grants:
                who = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
                await conn.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(privilege), view, who))
            for version, generation in await postgres.fetch(conn, queries.projection_forget, build.key):
                gone = Build(dataclasses.replace(self.shape, version=version), generation)
                await conn.execute(queries.forget_subscription, {"name": self._group_of(gone)})
                table = Build(dataclasses.replace(self.shape, version=version), generation).table
                await conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(*table.split("."))))
            await conn.execute(queries.projection_retire, build.key)
            await conn.execute(queries.projection_serve, build.key)
        log.info("%s serves version %d, build %d", self.shape.name, self.shape.version, build.generation)
        return True


def _behind(batch: Sequence[Record], position: int) -> tuple[list[Record], int]:
    """The records from a position on, each once, and where they end. A member that lost its place and has it again is
    given what it had read ahead once more.
    """
    found = []
    for record in batch:
        if record.position >= position:
            found.append(record)
            position = record.position + 1
    return found, position


async def _positions(conn: postgres.Connection, query: LiteralString, build: Build) -> dict[tuple[str, int], int]:
    """By topic and partition, from one of the questions about a build."""
    return {
        (topic, partition): int(position) for topic, partition, position in await postgres.fetch(conn, query, build.key)
    }


def _column(hint: Any) -> tuple[str, bool]:
    """A field's type in the database, and whether it may be null."""
    null = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        given = [each for each in typing.get_args(hint) if each is not type(None)]
        null = len(given) < len(typing.get_args(hint))
        hint = given[0] if len(given) == 1 else Any
    if typing.get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        return "text", null
    return _TYPES.get(hint, "jsonb"), null

"""Aggregates in the service's database: rows of its own tables, or streams of events with snapshots.

A row is written only while it is the one that was read (its ``xmin``, PostgreSQL's own version of a row, is the same):
whoever else writes the table needs no column of ours, and is noticed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import orjson
from psycopg import sql as statements
from psycopg.types.numeric import Int2, Int4, Int8
from pydantic import TypeAdapter

from stranglerfig.eventlog import model as log
from stranglerfig.foundation import postgres, sql
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import aggregates, tenants
from stranglerfig.kit.aggregates import Aggregate, Form, form_of
from stranglerfig.kit.keys import KeyStore
from stranglerfig.kit.messages import Event, decode, keys_wanted, kind_of, sealed_data_of
from stranglerfig.kit.sealing import Keys, keys_of
from stranglerfig.kit.tenants import within

queries = sql.load(__package__ or "")

Class = type[Aggregate]
_VERSION = "text::xid"
_INTEGERS: dict[str, Callable[[Any], int]] = {"smallint": Int2, "integer": Int4, "bigint": Int8}
_TENANTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "text": ("text", str), "character varying": ("text", str), "uuid": ("uuid", UUID),
    **{each: (each, int) for each in _INTEGERS},
}  # fmt: skip
"""By the type of a tenant's column, the type that tenants are sent as (a cast would cut one that is too long for the
column) and the value that stands for one."""
_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
NEW: Any = object()
"""The origin of what is not in the database yet."""


class Statement(NamedTuple):
    """One to be sent with others in a single round trip."""

    text: LiteralString
    params: Any


class Part(NamedTuple):
    """A change of rows that may be one of many in a single statement, see :func:`together`.

    Attributes:
        rows: how many it must meet; None where it fails by itself when it meets others than are wanted.
    """

    text: LiteralString
    params: Sequence[Any]
    rows: int | None = None


def together(parts: Sequence[Part]) -> Statement:
    """Changes of different rows as one statement: when one meets others than it wants, none is made.

    One statement is one transaction and one round trip. All of them see the same snapshot; those that are counted come
    before those that are not.
    """
    text = _together(tuple(part.text for part in parts), tuple(part.rows is not None for part in parts))
    params = [value for part in parts for value in part.params]
    wanted = [part.rows for part in parts if part.rows is not None]
    return Statement(text, [*params, sum(wanted)] if wanted else params)


_COUNT: LiteralString = "SELECT count(*) FROM p{}"


@lru_cache(maxsize=1000)
def _together(texts: tuple[LiteralString, ...], counted: tuple[bool, ...]) -> LiteralString:
    *before, last = texts
    if any(counted):
        counts = " + ".join(f"({_COUNT.format(n)})" for n, each in enumerate(counted) if each)
        before, last = list(texts), f"SELECT fig.expect({counts}, %b)"
    with_ = ", ".join(f"p{n} AS ({text})" for n, text in enumerate(before))
    return f"WITH {with_} {last}" if before else last


@dataclass(slots=True)
class Held:
    """An aggregate in a transaction.

    Attributes:
        origin: the row's version when it was read, or the stream's; ``NEW`` for what is not there yet.
        before: its state when it was read.
        read_at: when that was, where it is known.
        is_removed: whether it is to be there no more.
    """

    aggregate: Any
    origin: Any
    before: tuple[Any, ...]
    read_at: datetime | None = None
    is_removed: bool = False


class Change:
    """A statement that is given rows, as ``{given}``: as values where it is one, otherwise as an array for each column.

    One row as arrays costs both processes a third more; in binary form, for the strings of a text array would be
    searched for what has to be escaped.

    Args:
        template: the statement.
        parts: what else is put into it.
        types: of the columns, as the catalogue writes them.
    """

    def __init__(self, template: LiteralString, parts: Mapping[str, Any], types: Sequence[str]) -> None:
        values = ", ".join(f"%b::{each}" for each in types)
        arrays = ", ".join(f"%b::{each.replace('::', '[]::')}[]" for each in types)
        self._one = _text(template, {**parts, "given": statements.SQL(_type(f"(VALUES ({values}))"))})
        self._many = _text(template, {**parts, "given": statements.SQL(_type(f"unnest({arrays})"))})
        # The driver sends an int in as many bytes as it needs: each combination would be another prepared statement.
        self._integers = [(n, _INTEGERS[each]) for n, each in enumerate(types) if each in _INTEGERS]

    def part(self, rows: Sequence[Sequence[Any]], *, is_counted: bool = False) -> Part:
        """It with these rows, at least one; counted, when it must meet each of them."""
        count = len(rows) if is_counted else None
        if len(rows) == 1:
            values = list(rows[0])
            for n, integer in self._integers:
                values[n] = None if values[n] is None else integer(values[n])
            return Part(self._one, values, count)
        columns = [list(column) for column in zip(*rows, strict=True)]
        for n, integer in self._integers:
            columns[n] = [None if each is None else integer(each) for each in columns[n]]
        return Part(self._many, columns, count)


class Rows:
    """A class as the rows of a table; one that is kept by tenant as each tenant's rows, which are told apart by both.

    Args:
        types: by column, what values are sent as.

    Raises:
        FigError: ``table_differs`` when the tenant's column is of a type that could have two tenants be one.
    """

    def __init__(self, cls: type[Any], form: Form, types: dict[str, str]) -> None:
        name = _table(form.table)
        columns = [statements.Identifier(each) for each in form.fields]
        kinds = [types[each] for each in form.fields]
        parts: dict[str, Any] = {
            "table": name,
            "id": statements.Identifier(form.id),
            "type": statements.SQL(_type(types[form.id])),
            "columns": statements.SQL(", ").join(columns),
            "sets": statements.SQL(", ").join(statements.SQL("{0} = v.{0}").format(c) for c in columns),
        }
        is_json = [kind in ("json", "jsonb") for kind in kinds]
        self._json = is_json if any(is_json) else None
        self._cls = cls
        self._integer = _INTEGERS.get(types[form.id])
        self._tenant: Callable[[str], Any] | None = None
        select: LiteralString = "SELECT xmin::text, clock_timestamp(), {columns} FROM {table} WHERE {id} = "
        self._one, self._many = _text(select + "%b::{type}", parts), _text(select + "ANY (%b::{type}[])", parts)
        self.insert = Change("INSERT INTO {table} ({columns}) SELECT * FROM {given} AS v", parts, kinds)
        self.update = Change(
            "UPDATE {table} AS t SET {sets} FROM {given} AS v (fig_version, {columns})"
            " WHERE t.{id} = v.{id} AND t.xmin = v.fig_version RETURNING 1",
            parts,
            [_VERSION, *kinds],
        )
        self.delete = Change(
            "DELETE FROM {table} AS t USING {given} AS v (fig_version, {id})"
            " WHERE t.{id} = v.{id} AND t.xmin = v.fig_version RETURNING 1",
            parts,
            [_VERSION, types[form.id]],
        )
        if form.tenant is not None:
            self._by_tenant(form, types, parts, kinds)

    def _by_tenant(self, form: Form, types: dict[str, str], parts: dict[str, Any], kinds: list[str]) -> None:
        """The same statements, each of a tenant's rows."""
        column = str(form.tenant)
        name = types[column].partition("(")[0]
        if name not in _TENANTS:
            raise FigError(
                "table_differs",
                f"the column {column} of {form.table} says whose a row is, and is of the type {types[column]}",
                f"Have it be {', '.join(_TENANTS)}: in other types two tenants may be the same.",
                table=form.table,
                column=column,
            )
        type_, make = _TENANTS[name]
        self._tenant = lambda tenant: _tenant_value(tenant, type_, make)
        self._tenant_integer = _INTEGERS.get(type_)
        own = statements.SQL(", ").join(statements.SQL("t.{}").format(statements.Identifier(c)) for c in form.fields)
        parts |= {"tenant": statements.Identifier(column), "tenant_type": statements.SQL(_type(type_)), "own": own}
        select: LiteralString = "SELECT t.xmin::text, clock_timestamp(), t.{tenant}::text, {own} FROM {table} AS t "
        self._one = _text(select + "WHERE t.{tenant} = %b::{tenant_type} AND t.{id} = %b::{type}", parts)
        self._many = _text(
            select + "JOIN unnest(%b::{tenant_type}[], %b::{type}[]) AS w (fig_tenant, fig_id)"
            " ON t.{tenant} = w.fig_tenant AND t.{id} = w.fig_id",
            parts,
        )
        self.insert = Change(
            "INSERT INTO {table} ({tenant}, {columns}) SELECT * FROM {given} AS v", parts, [type_, *kinds]
        )
        self.update = Change(
            "UPDATE {table} AS t SET {sets} FROM {given} AS v (fig_version, {tenant}, {columns})"
            " WHERE t.{tenant} = v.{tenant} AND t.{id} = v.{id} AND t.xmin = v.fig_version RETURNING 1",
            parts,
            [_VERSION, type_, *kinds],
        )
        self.delete = Change(
            "DELETE FROM {table} AS t USING {given} AS v (fig_version, {tenant}, {id})"
            " WHERE t.{tenant} = v.{tenant} AND t.{id} = v.{id} AND t.xmin = v.fig_version RETURNING 1",
            parts,
            [_VERSION, type_, types[form.id]],
        )

    def check(self, aggregate: Any) -> None:
        """Refuse one that is new of a tenant whom the table's column cannot hold.

        Raises:
            FigError: ``bad_tenant``.
        """
        if self._tenant is not None and self._tenant(aggregate._tenant) is None:
            raise tenants.bad(aggregate._tenant, f"not one that {form_of(aggregate).table} can keep")

    async def load(self, conn: postgres.Connection, ids: Sequence[Any]) -> list[Held]:
        """Those of ``ids`` that there are."""
        if self._tenant is not None:
            return await self._load_by_tenant(conn, ids)
        found = []
        wanted = list(ids) if self._integer is None else [self._integer(id) for id in ids]
        select, given = (self._one, wanted) if len(wanted) == 1 else (self._many, [wanted])
        for version, read_at, *state in await postgres.fetch(conn, select, given):
            made = self._cls(*state)
            found.append(Held(made, version, tuple(state) if self._json is None else self._sent(made), read_at))
        return found

    async def _load_by_tenant(self, conn: postgres.Connection, ids: Sequence[tenants.Within]) -> list[Held]:
        assert self._tenant is not None
        # A tenant whom the column cannot hold has no rows.
        wanted = [(value, id) for tenant, id in ids if (value := self._tenant(tenant)) is not None]
        whose: list[Any] = [value for value, _ in wanted]
        which: list[Any] = [id for _, id in wanted]
        if self._tenant_integer is not None:
            whose = list(map(self._tenant_integer, whose))
        if self._integer is not None:
            which = list(map(self._integer, which))
        if not wanted:
            return []
        select, given = (self._one, [*whose, *which]) if len(wanted) == 1 else (self._many, [whose, which])
        found = []
        for version, read_at, tenant, *state in await postgres.fetch(conn, select, given):
            made = self._cls(*state)
            made._tenant = tenant
            found.append(Held(made, version, tuple(state) if self._json is None else self._sent(made), read_at))
        return found

    def parts(self, held: Iterable[Held], news: Mapping[int, Any] = MappingProxyType({})) -> list[Part]:
        """What writes those that are new, have changed, or have ``news`` (by their Python id).

        One that says something and stays as it was is written as well: so it is still the one that was read, and what
        it says is numbered while its row is locked.
        """
        new, changed, gone = [], [], []
        for each in held:
            state = self._sent(each.aggregate)
            whose = () if self._tenant is None else (self._tenant(each.aggregate._tenant),)
            if each.is_removed:
                gone += [(each.origin, *whose, aggregates.id_of(each.aggregate))] if each.origin is not NEW else []
            elif each.origin is NEW:
                new.append(whose + state)
            elif state != each.before or id(each.aggregate) in news:
                changed.append((each.origin, *whose, *state))
        made = [self.insert.part(new)] if new else []
        made += [self.update.part(changed, is_counted=True)] if changed else []
        made += [self.delete.part(gone, is_counted=True)] if gone else []
        return made

    def _sent(self, aggregate: Any) -> tuple[Any, ...]:
        """Its state as it is sent: JSON as text."""
        if self._json is None:
            return aggregates.state_of(aggregate)
        return tuple(
            orjson.dumps(value).decode() if is_json and value is not None else value
            for value, is_json in zip(aggregates.state_of(aggregate), self._json, strict=True)
        )


class Streams:
    """A class of aggregates as streams of the events that they recorded.

    Of a class whose events have personal fields there are no snapshots: they would have these values opened.
    """

    def __init__(self, cls: Class, keys: KeyStore) -> None:
        self._cls = cls
        self._keys = keys
        self._form = form_of(cls)
        self._events = {kind_of(event).type: event for event in cls.__evolvers__}
        self._adapter: TypeAdapter[Any] = TypeAdapter(cls)
        shape = orjson.dumps(self._adapter.json_schema(), option=orjson.OPT_SORT_KEYS)
        self._fingerprint = hashlib.sha256(shape).hexdigest()[:16]

    def name(self, id: Any) -> str:
        """The stream's name.

        Args:
            id: of a class that is kept by tenant the whole one.
        """
        if isinstance(id, tenants.Within):
            return within(id.tenant, f"{self._form.stream}-{id.id}")
        return f"{self._form.stream}-{id}"

    async def load(self, conn: postgres.Connection, ids: Sequence[Any]) -> list[Held]:
        """Those of ``ids`` that have recorded anything, each from its last snapshot on."""
        names = {self.name(id): id for id in ids}
        start = await self._snapshots(conn, list(names)) if self._form.snapshot_every else {}
        after = [start[stream][0] if stream in start else 0 for stream in names]
        events: dict[str, list[Event]] = defaultdict(list)
        params = {"streams": list(names), "after": after}
        recorded = [self._recorded(*row) for row in await postgres.fetch(conn, queries.events, params)]
        wanted = {id for _, cls, written in recorded for id in keys_wanted(cls, written)}
        keys = await self._keys.of_ids(conn, wanted)
        for stream, cls, written in recorded:
            events[stream].append(decode(cls, written, keys))
        found = []
        for stream, id in names.items():
            if stream in start or stream in events:
                tenant, own = id if isinstance(id, tenants.Within) else (None, id)
                version, made = start.get(stream) or (0, self._cls(own))
                aggregates.belong(made, tenant)
                aggregates.evolve(made, events[stream], version=version)
                found.append(Held(made, aggregates.version_of(made), ()))
        return found

    async def _snapshots(self, conn: postgres.Connection, names: list[str]) -> dict[str, tuple[int, Aggregate]]:
        return {
            stream: (version, self._cls(*aggregates.state_of(self._adapter.validate_json(state))))
            for stream, version, form, state in await postgres.fetch(conn, queries.snapshots, (names,))
            if form == self._fingerprint
        }

    def _recorded(
        self, stream: str, version: int, type_: str, schema: str, data: str
    ) -> tuple[str, type[Event], log.Event]:
        if type_ not in self._events:
            raise FigError(
                "message_unreadable",
                f"the stream {stream} has recorded a {type_} (version {version}), and {self._cls.__name__} does not "
                "say what becomes of its state",
                f"Give {self._cls.__name__} back the method that evolves it.",
                stream=stream,
                version=version,
                type=type_,
            )
        written = log.Event(f"{stream}/{version}", "/", type_, _NO_TIME, data.encode(), dataschema=schema)
        return stream, self._events[type_], written

    def parts(self, held: Iterable[Held], news: dict[int, list[tuple[Event, str | None]]], keys: Keys) -> list[Part]:
        """What appends the news of each (by its Python id; each with its tenant), and a snapshot where one is due.

        Args:
            keys: by subject within its tenant, those of the news.
        """
        streams, versions, types, schemas, data = [], [], [], [], []
        snapshots: list[tuple[str, int, str]] = []
        for each in held:
            recorded = news.get(id(each.aggregate), ())
            stream = self.name(aggregates.whole_id_of(each.aggregate))
            origin = 0 if each.origin is NEW else each.origin
            for version, (event, tenant) in enumerate(recorded, origin + 1):
                streams.append(stream)
                versions.append(version)
                types.append(kind_of(event).type)
                schemas.append(kind_of(event).dataschema)
                data.append(sealed_data_of(event, keys_of(tenant, keys)).decode())
            now = origin + len(recorded)
            every = self._form.snapshot_every
            if every and now // every > origin // every:
                snapshots.append((stream, now, self._adapter.dump_json(each.aggregate).decode()))
        made = []
        if streams:
            made.append(Part(queries.append_events, [streams, versions, types, schemas, data]))
            if not self._form.snapshot_every:  # one from before its events had personal fields
                made.append(Part(queries.drop_snapshots, [streams]))
        if snapshots:
            names, at, states = map(list, zip(*snapshots, strict=True))
            forms = [self._fingerprint] * len(names)
            made.append(Part(queries.put_snapshots, [names, at, forms, states]))
        return made


_NO_TIME = datetime.fromtimestamp(0, UTC)


class Forms:
    """How each class of aggregates is kept, found out once.

    Args:
        keys: what opens personal values of their events.
    """

    def __init__(self, keys: KeyStore | None = None) -> None:
        self.keys = keys or KeyStore()
        self._rows: dict[Class, Rows] = {}
        self._streams: dict[Class, Streams] = {}

    async def of(self, conn: postgres.Connection, cls: Class) -> Rows | Streams:
        """How the class is kept.

        Raises:
            FigError: ``table_differs`` when the table is not there, or lacks columns.
        """
        if (found := self._rows.get(cls) or self._streams.get(cls)) is not None:
            return found
        form = form_of(cls)
        if form.table is None:
            return self._streams.setdefault(cls, Streams(cls, self.keys))
        types = {
            name: kind for name, kind in await postgres.fetch(conn, queries.columns, (_table(form.table).as_string(),))
        }
        fields = form.fields if form.tenant is None else (str(form.tenant), *form.fields)
        if lacking := [each for each in fields if each not in types]:
            raise FigError(
                "table_differs",
                f"{cls.__name__} is kept in the table {form.table}, which "
                + (f"has no column {', '.join(lacking)}" if types else "is not there"),
                "Create the table with a column for each field, or declare the class as the table is.",
                table=form.table,
                lacking=lacking,
            )
        return self._rows.setdefault(cls, Rows(cls, form, types))

    def known(self, cls: Class) -> Rows | Streams:
        """How a class is kept that was asked for before."""
        return self._rows.get(cls) or self._streams[cls]


def _tenant_value(tenant: str, type_: str, make: Callable[[str], Any]) -> Any:
    """What stands for a tenant in a column; None where nothing there can be this one and no other."""
    try:
        made = make(tenant)
    except ValueError:
        return None
    bits = _BITS.get(type_)
    if str(made) != tenant or "\0" in tenant or (bits is not None and not -(2 ** (bits - 1)) <= made < 2 ** (bits - 1)):
        return None
    return made


def _table(name: str | None) -> statements.Identifier:
    return statements.Identifier(*str(name).split("."))


def _text(template: LiteralString, parts: Mapping[str, Any]) -> LiteralString:
    # What is put in are identifiers, quoted, and types as the catalogue writes them.
    return statements.SQL(template).format(**parts).as_string()


def _type(name: str) -> LiteralString:
    # From the catalogue.
    return name

"""Do both databases hold the same rows, as the mapping says? Proved at a marker, under traffic.

Ranges of keys are compared by count and sum of hashes, both sides at once; what differs is cut smaller until its rows
can be read, and each of them is looked at again behind later markers, so that traffic is not mistaken for difference.
The stream is never stopped.

A repair is a message in the stream's *source*: it carries the row as it stands there, locked until the message commits.
So it has a place in the order of changes like any other, and sync applies it by the same rules; writing into the target
would race with the stream, and touching the source's row would fire the triggers of somebody else's table.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from stranglerfig.changes.mapping import Entry, canonical, plain_column, quote, quote_table
from stranglerfig.changes.mapping import Mapping as TableMap
from stranglerfig.changes.model import MARKER, Direction
from stranglerfig.databases import markers
from stranglerfig.foundation import clock, ids, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.verification.model import (
    Difference,
    Digest,
    Key,
    Range,
    RowResult,
    Sighting,
    difference,
    divide,
    judge,
    unlike,
)

# Names and expressions come from the user's configuration and from catalogues, quoted; values are parameters.
# ruff: noqa: S608

TABLES = postgres.Tables("verification_rows", __package__ or "", ("rows_tables.sql",))
_sql = load(__package__ or "", "rows.sql")

Progress = Callable[[dict[str, Any]], Awaitable[None]]
PARTS = 16


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """What to compare.

    Attributes:
        direction: the stream that runs now: forward while the monolith owns, reverse while the service does.
        source_dsn, target_dsn: that stream's ends.
        chunk_rows: rows per comparison; a differing range is cut down to ``fine_rows`` before rows are read.
        marker_seconds: how long a marker may take to be applied.
        limit: how many differing rows are looked at one by one; beyond it the result says that there are more.
        both: whether the stream's target is written as well, and its changes go back by the opposite stream.
    """

    context: str
    direction: Direction
    source_dsn: str
    target_dsn: str
    mapping: TableMap
    chunk_rows: int = 250_000
    fine_rows: int = 1_000
    marker_seconds: float = 30.0
    rounds: int = 5
    limit: int = 1_000
    both: bool = False

    @property
    def forward(self) -> bool:
        """Whether the stream's source is the monolith."""
        return self.direction is Direction.FORWARD


@dataclass(frozen=True, slots=True)
class _Side:
    """How one side's rows are read: a query of k0…, c0…, and the columns its keys stand in."""

    conn: postgres.Connection
    query: str
    keys: tuple[str, ...]
    types: tuple[str, ...]

    def rows(self, condition: str) -> str:
        """The subquery of the rows that meet a condition with parameters."""
        return f"({self.query.replace('%', '%%')} AND {condition}) AS r"

    def within(self, chunk: Range) -> tuple[str, list[str]]:
        """The condition for a range, and its parameters."""
        row = "(" + ", ".join(_ordered(k, t) for k, t in zip(self.keys, self.types, strict=True)) + ")"
        marks = "(" + ", ".join(f"%s::{t}" for t in self.types) + ")"
        parts: list[str] = ["true"]
        params: list[str] = []
        for bound, operator in ((chunk.after, ">"), (chunk.to, "<=")):
            if bound is not None:
                parts.append(f"{row} {operator} {marks}")
                params += bound
        return " AND ".join(parts), params


def _ordered(column: str, type_name: str) -> str:
    """A key column in an order that both servers share: texts by their bytes."""
    return f'{column} COLLATE "C"' if type_name.startswith(("text", "character")) else column


class _Pair:
    """One pair of tables, compared through one entry of the mapping."""

    def __init__(self, entry: Entry, mapping: TableMap, monolith: postgres.Connection, service: postgres.Connection):
        self.entry = entry
        keys = [a.column for a in entry.key]
        source_types = mapping.source_types[entry.source]
        target_types = mapping.target_types[entry.target]
        where = f"({entry.where})" if entry.where else "true"
        expressions = [
            *(f"({a.expression})::{canonical(a.type)} AS k{n}" for n, a in enumerate(entry.key)),
            *(f"({a.expression})::{canonical(a.type)} AS c{n}" for n, a in enumerate(entry.columns)),
        ]
        plain = [plain_column(a.expression) or a.expression for a in entry.key]
        self.monolith = _Side(
            monolith,
            f"SELECT {', '.join(expressions)}, input.xmin::text AS version FROM {quote_table(entry.source)} AS input"
            f" WHERE {where}",
            tuple(quote(c) for c in plain),
            tuple(source_types[c] for c in plain),
        )
        names = [
            *(f"{quote(a.column)}::{canonical(a.type)} AS k{n}" for n, a in enumerate(entry.key)),
            *(f"{quote(a.column)}::{canonical(a.type)} AS c{n}" for n, a in enumerate(entry.columns)),
        ]
        self.service = _Side(
            service,
            f"SELECT {', '.join(names)}, input.xmin::text AS version FROM {quote_table(entry.target)} AS input"
            " WHERE true",
            tuple(quote(c) for c in keys),
            tuple(target_types[c] for c in keys),
        )
        self._keys = [f"k{n}" for n in range(len(entry.key))]
        self._columns = [f"c{n}" for n in range(len(entry.columns))]

    @property
    def tables(self) -> tuple[str, str]:
        """The monolith's and the service's."""
        return self.entry.source, self.entry.target

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """The service's key columns and other columns."""
        return [a.column for a in self.entry.key], [a.column for a in self.entry.columns]

    async def digest(self, side: _Side, chunk: Range) -> Digest:
        """Count and hash a range."""
        condition, params = side.within(chunk)
        row = ", ".join([*self._keys, *self._columns])
        found = await postgres.one(
            side.conn,
            f"SELECT count(*), coalesce(sum(('x' || left(md5(ROW({row})::text), 16))::bit(64)::bigint), 0)"
            f" FROM {side.rows(condition)}",
            params,
        )
        assert found is not None
        return Digest(int(found[0]), int(found[1]))

    async def both(self, chunk: Range) -> tuple[Digest, Digest]:
        """Both sides' digests, taken at once."""
        monolith, service = await asyncio.gather(self.digest(self.monolith, chunk), self.digest(self.service, chunk))
        return monolith, service

    async def bounds(self, side: _Side, chunk: Range, every: int, most: int) -> list[Key]:
        """Every ``every``-th key of a range, at most ``most`` of them."""
        found: list[Key] = []
        # Named apart from the columns: ORDER BY would take an output of the same name, and order by its text.
        columns = ", ".join(f"{k}::text AS b{n}" for n, k in enumerate(side.keys))
        order = ", ".join(_ordered(k, t) for k, t in zip(side.keys, side.types, strict=True))
        table = quote_table(self.entry.source if side is self.monolith else self.entry.target)
        while len(found) < most:
            condition, params = side.within(Range(found[-1] if found else chunk.after, chunk.to))
            row = await postgres.one(
                side.conn,
                f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order} OFFSET {every - 1} LIMIT 1",
                params,
            )
            if row is None:
                break
            found.append(tuple(row))
        return found

    async def read(self, side: _Side, chunk: Range) -> dict[Key, Sighting]:
        """The rows of a range."""
        condition, params = side.within(chunk)
        return self._sightings(
            await postgres.fetch(side.conn, f"SELECT {self._list()} FROM {side.rows(condition)}", params)
        )

    async def look(self, side: _Side, keys: Sequence[Key]) -> dict[Key, Sighting]:
        """The rows of some keys."""
        listed = ", ".join(f"%s::{t}[]" for t in side.types)
        row = "(" + ", ".join(side.keys) + ")"
        condition = f"{row} IN (SELECT * FROM unnest({listed}))"
        params = [[key[n] for key in keys] for n in range(len(side.types))]
        return self._sightings(
            await postgres.fetch(side.conn, f"SELECT {self._list()} FROM {side.rows(condition)}", params)
        )

    def _list(self) -> str:
        return ", ".join([*(f"{k}::text" for k in self._keys), *(f"{c}::text" for c in self._columns), "version"])

    def _sightings(self, rows: Sequence[Sequence[Any]]) -> dict[Key, Sighting]:
        size = len(self._keys)
        return {tuple(row[:size]): Sighting(tuple(row[size:-1]), row[-1]) for row in rows}


@dataclass(slots=True)
class _State:
    """What is known so far; ``as_dict`` is what a later call goes on from."""

    table: int = 0
    after: Key | None = None
    rows: int = 0
    chunks: int = 0
    truncated: bool = False
    tables: dict[str, int] = field(default_factory=dict)
    candidates: dict[int, list[Key]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "after": list(self.after) if self.after else None,
            "rows": self.rows,
            "chunks": self.chunks,
            "truncated": self.truncated,
            "tables": self.tables,
            "candidates": {str(n): [list(k) for k in keys] for n, keys in self.candidates.items()},
        }

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> _State:
        if not body:
            return cls()
        return cls(
            body["table"],
            tuple(body["after"]) if body["after"] else None,
            body["rows"],
            body["chunks"],
            body["truncated"],
            dict(body["tables"]),
            {int(n): [tuple(k) for k in keys] for n, keys in body["candidates"].items()},
        )


@asynccontextmanager
async def _sessions(job: VerifyJob) -> AsyncIterator[tuple[postgres.Connection, postgres.Connection]]:
    what = f"verify {job.context}"
    options = "-c jit=off -c work_mem=64MB"
    async with (
        postgres.session(job.source_dsn, what=what, options=options) as source,
        postgres.session(job.target_dsn, what=what, options=options) as target,
    ):
        yield source, target


async def verify(
    job: VerifyJob,
    *,
    progress: Progress | None = None,
    resume: Mapping[str, Any] | None = None,
    lag: Callable[[], Awaitable[float]] | None = None,
) -> RowResult:
    """Compare every mapped row at a marker.

    Args:
        job: what to compare.
        progress: told after each chunk: ``resume`` (to go on from), ``rows``, ``rate``, ``table``, ``tables``.
        resume: what ``progress`` was last told under ``resume``.
        lag: seconds that the stream is behind; the comparison pauses while it is more than a second.

    Raises:
        FigError: ``marker_not_applied``, ``database_unreachable``.
    """
    begun = clock.monotonic()
    state = _State.of(resume)
    async with _sessions(job) as (source, target):
        monolith, service = (source, target) if job.forward else (target, source)
        pairs = [_Pair(entry, job.mapping, monolith, service) for entry in job.mapping.forward]
        marker, lsn = await _marker(job, source, target)
        for number in range(state.table, len(pairs)):
            state.table = number
            await _table(job, pairs, number, state, progress, lag, begun)
            state.after = None
        state.table = len(pairs)
        rechecked = sum(len(keys) for keys in state.candidates.values())
        differences, moving = await _settle(job, pairs, state, source, target)
    return RowResult(
        context=job.context,
        direction=job.direction.value,
        marker=marker,
        lsn=lsn,
        rows_compared=state.rows,
        chunks=state.chunks,
        seconds=clock.monotonic() - begun,
        differences=tuple(differences),
        truncated=state.truncated,
        unsettled=sum(map(len, moving.values())),
        rechecked=rechecked,
        tables=state.tables,
        moving=moving,
    )


async def _marker(job: VerifyJob, source: postgres.Connection, target: postgres.Connection) -> tuple[str, int]:
    """Wait until a marker written now is applied; returns its nonce and its place at the source.

    One that was written before the stream's slot existed never arrives, so another is written every few seconds.
    """
    nonces: list[str] = []
    until = clock.monotonic() + job.marker_seconds

    async def applied() -> tuple[str, int] | None:
        try:
            return await postgres.one(target, _sql.marker, (job.context, job.direction.value, nonces))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return None  # sync has never been here

    while True:
        nonces.append(await markers.emit_marker(source, job.context, job.direction.value, purpose="verification"))
        left = until - clock.monotonic()
        try:
            found = await clock.until(
                applied, timeout=min(3.0, max(left, 0.1)), what="a marker", every=0.002, at_most=0.01
            )
        except FigError as error:
            if left > 3.0:
                continue
            raise FigError(
                "marker_not_applied",
                f"the {job.direction} stream of '{job.context}' has not applied a marker in {job.marker_seconds:g} s",
                "See fig status for the lag of capture and sync; start them if they do not run.",
                context=job.context,
                direction=job.direction.value,
            ) from error
        assert found is not None
        return found


async def _table(
    job: VerifyJob,
    pairs: Sequence[_Pair],
    number: int,
    state: _State,
    progress: Progress | None,
    lag: Callable[[], Awaitable[float]] | None,
    begun: float,
) -> None:
    pair = pairs[number]
    while True:
        if lag is not None:
            await _patience(lag)
        rest = Range(state.after, None)
        bounds = await pair.bounds(pair.monolith, rest, job.chunk_rows, 1)
        chunk = Range(state.after, bounds[0] if bounds else None)
        monolith, service = await pair.both(chunk)
        state.rows += monolith.rows
        state.tables[pair.entry.target] = state.tables.get(pair.entry.target, 0) + monolith.rows
        state.chunks += 1
        if monolith != service:
            await _narrow(job, pair, chunk, monolith, service, state.candidates.setdefault(number, []), state)
        state.after = chunk.to
        if progress is not None:
            seconds = clock.monotonic() - begun
            await progress(
                {
                    "resume": (state if chunk.to else _next(state)).as_dict(),
                    "rows": state.rows,
                    "rate": round(state.rows / seconds, 1) if seconds else 0.0,
                    "table": pair.entry.target,
                    "tables": f"{number + 1}/{len(pairs)}",
                    "suspects": sum(len(keys) for keys in state.candidates.values()),
                }
            )
        if chunk.to is None:
            return


def _next(state: _State) -> _State:
    return _State(state.table + 1, None, state.rows, state.chunks, state.truncated, state.tables, state.candidates)


async def _patience(lag: Callable[[], Awaitable[float]]) -> None:
    async def caught_up() -> bool:
        return await lag() <= 1.0

    await clock.until(caught_up, timeout=3600, what="the stream to catch up", every=0.1)


async def _narrow(
    job: VerifyJob, pair: _Pair, chunk: Range, monolith: Digest, service: Digest, found: list[Key], state: _State
) -> None:
    """Cut a differing range until its rows can be read; keys of rows that differ are added to ``found``."""
    if len(found) >= job.limit:
        state.truncated = True
        return
    most = max(monolith.rows, service.rows)
    if most <= job.fine_rows:
        here, there = await asyncio.gather(pair.read(pair.monolith, chunk), pair.read(pair.service, chunk))
        found += unlike(here, there)
        if len(found) > job.limit:
            state.truncated = True
            del found[job.limit :]
        return
    larger = pair.monolith if monolith.rows >= service.rows else pair.service
    every = max(job.fine_rows // 2, -(-most // PARTS))
    bounds = await pair.bounds(larger, chunk, every, 2 * PARTS)
    for part in divide(chunk, bounds):
        here_digest, there_digest = await pair.both(part)
        if here_digest != there_digest:
            await _narrow(job, pair, part, here_digest, there_digest, found, state)


async def _settle(
    job: VerifyJob,
    pairs: Sequence[_Pair],
    state: _State,
    source: postgres.Connection,
    target: postgres.Connection,
) -> tuple[list[Difference], dict[str, tuple[Key, ...]]]:
    """Look at suspects again behind markers; returns what remains different, and what never held still, by table."""
    suspects = {number: list(keys) for number, keys in state.candidates.items() if keys}
    found: list[Difference] = []
    for _ in range(job.rounds):
        if not suspects:
            break
        sides = {n: (pairs[n].monolith, pairs[n].service) for n in suspects}
        ends = {n: both if job.forward else both[::-1] for n, both in sides.items()}
        before = {n: await pairs[n].look(ends[n][0], keys) for n, keys in suspects.items()}
        beside = {n: await pairs[n].look(ends[n][1], keys) for n, keys in suspects.items()} if job.both else {}
        await _marker(job, source, target)
        if job.both:
            await _marker(replace(job, direction=job.direction.opposite), target, source)
        behind = {n: await pairs[n].look(ends[n][1], keys) for n, keys in suspects.items()}
        after = {n: await pairs[n].look(ends[n][0], keys) for n, keys in suspects.items()}
        left: dict[int, list[Key]] = {}
        for number, keys in suspects.items():
            verdict = judge(keys, before[number], behind[number], after[number], beside.get(number))
            for key in sorted(verdict.different):
                here, there = before[number].get(key), behind[number].get(key)
                monolith, service = (here, there) if job.forward else (there, here)
                pair = pairs[number]
                found.append(difference(pair.tables, pair.names, key, monolith, service, forward=job.forward))
            if verdict.again:
                left[number] = sorted(verdict.again)
        suspects = left
    return found, {pairs[number].entry.target: tuple(keys) for number, keys in suspects.items()}


async def repair(job: VerifyJob, differences: Sequence[Difference]) -> int:
    """Bring the target's rows to what the source says, through the stream; returns how many messages were applied.

    Raises:
        FigError: ``repair_blocked`` when a row's absence could not be held for a moment, ``marker_not_applied``.
    """
    async with _sessions(job) as (source, target):
        nonces = await write_repairs(job, source, differences)
        for nonce in nonces:
            await markers.await_marker(target, job.context, job.direction.value, nonce, timeout=job.marker_seconds)
    return len(nonces)


def mended(mapping: TableMap, differences: Sequence[Difference]) -> dict[tuple[str, Key], Entry]:
    """The monolith's rows that differ, each once: by table and key (as the service shows it, by the names of the
    monolith's columns)."""
    forward = {(e.source, e.target): e for e in mapping.forward}
    found = {}
    for each in differences:
        pair = forward[each.table, each.service_table]
        found[pair.source, _sorted_key(pair, tuple(each.key[a.column] for a in pair.key))] = pair
    return found


async def write_repairs(job: VerifyJob, source: postgres.Connection, differences: Sequence[Difference]) -> list[str]:
    """Write the messages of a repair into the stream's source; their nonces.

    Raises:
        FigError: ``repair_blocked``.
    """
    nonces = []
    for (table, key), pair in mended(job.mapping, differences).items():
        names = sorted(pair.source_key)
        if job.forward:
            inputs = [(table, dict(zip(names, key, strict=True)))]
        else:
            # All that makes the monolith's row goes in one transaction: it may have to be inserted whole.
            values = dict(zip(names, key, strict=True))
            inputs = [
                (e.source, {str(plain_column(a.expression)): values[a.column] for a in e.key})
                for e in job.mapping.reverse
                if e.target == table
            ]
        nonces += await _repair_row(job, source, inputs)
    return nonces


def _sorted_key(entry: Entry, key: Key) -> Key:
    """A key by the names of the monolith's columns, so that two entries of a table mean the same row."""
    return tuple(value for _, value in sorted(zip(entry.source_key, key, strict=True)))


async def _repair_row(
    job: VerifyJob, source: postgres.Connection, inputs: Sequence[tuple[str, dict[str, str]]]
) -> list[str]:
    """Write the messages of one row's inputs in one transaction; tried again when a lock cannot be had at once."""
    for _ in range(20):
        try:
            async with source.transaction():
                await source.execute("SET LOCAL lock_timeout = '200ms'")
                return [await _message(job, source, table, key) for table, key in inputs]
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            await asyncio.sleep(0.05)
    raise blocked(*inputs[0])


def blocked(table: str, key: Mapping[str, str]) -> FigError:
    """A row that is to be repaired is held by others."""
    return FigError(
        "repair_blocked",
        f"a row of {table} could not be locked for a moment",
        "Try again when fewer or shorter transactions write the table.",
        table=table,
        key=dict(key),
    )


async def _message(job: VerifyJob, source: postgres.Connection, table: str, key: dict[str, str]) -> str:
    types = (job.mapping.source_types if job.forward else job.mapping.target_types)[table]
    columns = ", ".join(f"{quote(c)}::text" for c in types)
    condition = " AND ".join(f"{quote(c)} = %s::{types[c]}" for c in key)
    statement = f"SELECT {columns} FROM {quote_table(table)} WHERE {condition} FOR SHARE"
    row = await postgres.one(source, statement, list(key.values()))
    if row is None:
        # Nothing can be locked that is not there: for this moment nobody may insert it either.
        await source.execute(f"LOCK TABLE {quote_table(table)} IN SHARE ROW EXCLUSIVE MODE")
        row = await postgres.one(source, statement, list(key.values()))
    nonce = ids.nonce()
    body = repair_body(table, types, key, None if row is None else list(row))
    content = {"context": job.context, "direction": job.direction.value, "nonce": nonce, "repair": body}
    await source.execute("SELECT pg_logical_emit_message(true, %s, %s)", (MARKER, json.dumps(content)))
    return nonce


def repair_body(
    table: str, types: Mapping[str, str], key: Mapping[str, str], row: list[str | None] | None
) -> dict[str, Any]:
    """What a repair's message says (``sync.model.repaired`` reads it): a row as texts, or a key that has none."""
    schema, _, name = table.partition(".")
    return {
        "schema": schema,
        "table": name,
        "columns": [[c, t, c in key] for c, t in types.items()],
        "row": row,
        "key": [key.get(c) for c in types],
    }


async def migrate(conn: postgres.Connection) -> None:
    """Create or bring forward ``fig.verification`` in the control database."""
    await postgres.migrate(conn, *TABLES)


class Verifications:
    """The control database's record of comparisons: their progress, so that one can go on, and their results."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def run(
        self, job: VerifyJob, *, again: bool = False, lag: Callable[[], Awaitable[float]] | None = None
    ) -> RowResult:
        """Compare and remember; goes on with a comparison that was interrupted unless ``again``."""
        async with postgres.session(self._dsn, what=f"verify {job.context}") as conn:
            await migrate(conn)
            place = (job.context, job.direction.value)
            found = None if again else await postgres.one(conn, _sql.unfinished, place)
            number, resume = found if found else (ids.new_id(), None)
            if not found:
                await conn.execute(_sql.begin, (number, *place))

            async def progress(told: dict[str, Any]) -> None:
                await conn.execute(_sql.progress, (told["rows"], json.dumps(told), number))

            result = await verify(job, progress=progress, resume=(resume or {}).get("resume"), lag=lag)
            values = (result.marker, result.rows_compared, len(result.differences), result.seconds)
            await conn.execute(_sql.finish, (*values, json.dumps(result.as_dict()), number))
        return result

    async def latest(self, context: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """The last finished comparisons of a context, newest first."""
        async with postgres.session(self._dsn, what=f"verify {context}") as conn:
            await migrate(conn)
            rows = await postgres.fetch(conn, _sql.latest, (context, limit))
        return [{"id": str(row[0]), "started_at": row[1], "finished_at": row[2], **row[3]} for row in rows]

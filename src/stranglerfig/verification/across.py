"""Do a MariaDB and a PostgreSQL hold the same rows, as the mapping says? Proved at markers, under traffic.

The mapping's expressions are PostgreSQL's, so PostgreSQL evaluates them: the monolith's rows, read in one transaction,
are brought into a stage of the service's session as the texts that capture sends as well, and compared there. What
differs is looked at once more behind another marker, so that traffic is not mistaken for difference. The side where the
stream begins is read before the marker is written, the other one when it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from stranglerfig.changes import mapping as mappings
from stranglerfig.changes.mapping import Assignment, Entry, Violation, canonical, quote, quote_table
from stranglerfig.changes.mapping import Mapping as TableMap
from stranglerfig.changes.model import Direction
from stranglerfig.databases import markers
from stranglerfig.databases.mariadb import binlog, catalogue, messages, types
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification.model import Difference, Key, RowResult, Sighting, Values, difference

# Names and expressions come from the user's configuration and from catalogues, quoted.
# ruff: noqa: S608

_BATCH_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class AcrossJob:
    """What to compare.

    Attributes:
        monolith_dsn: the MariaDB.
        service_dsn: the PostgreSQL.
        direction: the stream that runs now: forward while the monolith owns, reverse while the service does.
        marker_seconds: how long a marker may take to be applied.
        rounds: how often rows that differ are looked at.
        limit: how many differing rows of a table are named; beyond it the result says that there are more.
    """

    context: str
    monolith_dsn: str
    service_dsn: str
    mapping: TableMap
    direction: Direction = Direction.FORWARD
    marker_seconds: float = 30.0
    rounds: int = 5
    limit: int = 1_000

    @property
    def forward(self) -> bool:
        """Whether the stream begins in the monolith."""
        return self.direction is Direction.FORWARD


class _Seen(NamedTuple):
    """A row that differs, as each side has it."""

    monolith: Sighting | None
    service: Sighting | None


@dataclass(slots=True)
class _Round:
    """One look at everything."""

    rows: dict[str, int]
    place: int
    nonce: str
    differing: dict[int, dict[Key, _Seen]]
    truncated: bool


async def verify(job: AcrossJob) -> RowResult:
    """Compare every mapped row at a marker; the stream must run.

    Raises:
        FigError: ``marker_not_applied``, ``database_unreachable``, ``zero_date``.
    """
    begun = clock.monotonic()
    async with (
        mysql.session(job.monolith_dsn, what=f"verify {job.context}") as monolith,
        postgres.session(job.service_dsn, what=f"verify {job.context}", options="-c jit=off") as service,
    ):
        await messages.prepare(monolith)
        first = last = await _look(job, monolith, service)
        rechecked = sum(map(len, first.differing.values()))
        settled: dict[int, dict[Key, _Seen]] = {}
        for _ in range(job.rounds - 1):
            if not any(last.differing.values()):
                break
            before, last = last, await _look(job, monolith, service)
            last.differing = {
                n: _left(before.differing[n], found, settled.setdefault(n, {}), forward=job.forward)
                for n, found in last.differing.items()
            }
    return RowResult(
        context=job.context,
        direction=job.direction.value,
        marker=first.nonce,
        lsn=first.place,
        rows_compared=sum(first.rows.values()),
        chunks=len(job.mapping.forward),
        seconds=clock.monotonic() - begun,
        differences=tuple(_named(job, settled)),
        truncated=first.truncated,
        unsettled=sum(map(len, last.differing.values())),
        rechecked=rechecked,
        tables=first.rows,
        moving={job.mapping.forward[n].target: tuple(found) for n, found in last.differing.items() if found},
    )


def _left(
    before: Mapping[Key, _Seen], now: Mapping[Key, _Seen], settled: dict[Key, _Seen], *, forward: bool = True
) -> dict[Key, _Seen]:
    """What is to be looked at again; what is known to differ goes to ``settled``.

    Between the two looks at the side where the stream begins a marker was applied and the other side was looked at. A
    row of PostgreSQL that has its old version did not change meanwhile; MariaDB's rows have none: one that looks the
    same may have changed and changed back, but then sync would have touched the service's.
    """
    again = {}
    for key in now.keys() & before.keys():
        stood = now[key].service == before[key].service
        if stood and (not forward or now[key].monolith == before[key].monolith):
            settled[key] = before[key]
        else:
            again[key] = now[key]
    return again


def _named(job: AcrossJob, settled: Mapping[int, Mapping[Key, _Seen]]) -> list[Difference]:
    found = []
    for number, rows in settled.items():
        entry = job.mapping.forward[number]
        names = [a.column for a in entry.key], [a.column for a in entry.columns]
        for key in sorted(rows):
            seen = rows[key]
            tables = (entry.source, entry.target)
            found.append(difference(tables, names, key, seen.monolith, seen.service, forward=job.forward))
    return found


async def _look(job: AcrossJob, monolith: mysql.Connection, service: postgres.Connection) -> _Round:
    """Read where the stream begins, wait for a marker written after that, read where it ends, compare."""
    entries = job.mapping.forward
    theirs = {entry.target: rows_of(entry) for entry in entries}
    if job.forward:
        place, stages = await _bring_all(job.mapping, monolith, service)
        nonce = await messages.emit_marker(monolith, job.context, job.direction.value, purpose="verification")
        await markers.await_marker(service, job.context, job.direction.value, nonce, timeout=job.marker_seconds)
    else:
        place = int(await postgres.value(service, "SELECT (pg_current_wal_lsn() - '0/0')::bigint"))
        for number, entry in enumerate(entries):
            stage = f"fig_service_{number}"
            await service.execute(f"DROP TABLE IF EXISTS pg_temp.{stage}")
            await service.execute(f"CREATE TEMP TABLE {stage} AS {theirs[entry.target]}")
            theirs[entry.target] = f"SELECT * FROM {stage}"
        nonce = await markers.emit_marker(service, job.context, job.direction.value, purpose="verification")
        await applied(monolith, job.context, job.direction, nonce, timeout=job.marker_seconds)
        _, stages = await _bring_all(job.mapping, monolith, service)
    done = _Round({}, place, nonce, {}, truncated=False)
    for number, entry in enumerate(entries):
        count = await postgres.value(
            service, f"SELECT count(*) FROM {stages[entry.source]} AS input WHERE {_where(entry)}"
        )
        done.rows[entry.target] = int(count)
        ours = f"{made_of(entry)} FROM {stages[entry.source]} AS input WHERE {_where(entry)}"
        done.differing[number] = await compare(service, entry, ours, theirs[entry.target], job.limit + 1)
        done.truncated |= len(done.differing[number]) > job.limit
    return done


async def applied(
    monolith: mysql.Connection, context: str, direction: Direction, nonce: str, *, timeout: float
) -> None:
    """Wait until a marker is applied in the monolith.

    Raises:
        FigError: ``marker_not_applied``.
    """

    async def there() -> bool:
        return await messages.marker_applied(monolith, context, direction.value, nonce)

    await markers.until_applied(there, context, direction.value, timeout=timeout)


async def _bring_all(
    mapping: TableMap, monolith: mysql.Connection, service: postgres.Connection, *, back: bool = False
) -> tuple[int, dict[str, str]]:
    """Bring the monolith's tables over, as they are at one place of its log; the place, and where each lies.

    ``back``: also the columns that only the way back fills.
    """
    entries = mapping.forward
    needs = {e.source: frozenset[str]() for e in entries}
    for entry in entries:
        needs[entry.source] |= entry.needs
    for entry in mapping.reverse if back else ():
        needs[entry.target] |= {a.column for a in (*entry.key, *entry.columns)}
    place = await binlog.begin_snapshot(monolith)
    stages = {}
    for number, (table, columns) in enumerate(needs.items()):
        stages[table] = f"fig_across_{number}"
        await bring(mapping, monolith, service, table, sorted(columns), stages[table])
    await monolith.execute("COMMIT")  # where it fails before, the session ends, and the transaction with it
    return place.number, stages


async def identity_violations(monolith_dsn: str, service_dsn: str, mapping: TableMap) -> list[Violation]:
    """Run reverse ∘ forward over every row of the monolith's tables, in the service's database.

    Raises:
        FigError: ``database_unreachable``, ``zero_date``.
    """
    async with (
        mysql.session(monolith_dsn, what="identity") as monolith,
        postgres.session(service_dsn, what="identity", options="-c jit=off") as service,
    ):
        _, stages = await _bring_all(mapping, monolith, service, back=True)
        return await mappings.identity_violations(service, mapping, stages)


def _where(entry: Entry) -> str:
    return f"({entry.where})" if entry.where else "true"


async def bring(
    mapping: TableMap,
    monolith: mysql.Connection,
    service: postgres.Connection,
    table: str,
    columns: Sequence[str],
    stage: str,
) -> None:
    """Copy columns of a table of the monolith into a temporary table of the service's session."""
    kinds = mapping.source_types[table]
    made = ", ".join(f"{quote(column)} {kinds[column]}" for column in columns)
    await service.execute(f"DROP TABLE IF EXISTS pg_temp.{stage}")
    await service.execute(f"CREATE TEMP TABLE {stage} ({made})")
    native: dict[str, Native] = {found.name: found for found, _ in await catalogue.natives(monolith, table)}
    if gone := [column for column in columns if column not in native]:
        raise FigError(
            "mapping_unknown_column",
            f"{table} has no column {', '.join(gone)} any more",
            "Make the mapping fit the table's new shape.",
            table=table,
        )
    asked = ", ".join(types.expression(native[column]) for column in columns)
    readers = tuple(types.reader(native[column]) for column in columns)
    listed = ", ".join(quote(column) for column in columns)
    async with service.cursor() as cursor, cursor.copy(f"COPY {stage} ({listed}) FROM STDIN") as copy:
        statement = f"SELECT {asked} FROM {mysql.quote_table(table)}"
        async with aclosing(monolith.stream(statement, rows=_BATCH_ROWS)) as batches:
            async for rows in batches:
                await copy.write(b"".join([types.copy_line(row, readers) for row in rows]))
    await service.execute(f"ANALYZE {stage}")


def _outputs(entry: Entry) -> list[tuple[str, Assignment]]:
    keys = [(f"k{n}", a) for n, a in enumerate(entry.key)]
    return keys + [(f"c{n}", a) for n, a in enumerate(entry.columns)]


def made_of(entry: Entry) -> str:
    """SELECT … of what the monolith's rows, ``input``, become: k0…, c0…"""
    made = ", ".join(f"({a.expression})::{canonical(a.type)} AS {name}" for name, a in _outputs(entry))
    return f"SELECT {made}, NULL AS version"


def rows_of(entry: Entry) -> str:
    """The service's rows, ``input``, in the same words."""
    made = ", ".join(f"{quote(a.column)}::{canonical(a.type)} AS {name}" for name, a in _outputs(entry))
    return f"SELECT {made}, input.xmin::text AS version FROM {quote_table(entry.target)} AS input"


async def compare(conn: postgres.Connection, entry: Entry, ours: str, theirs: str, limit: int) -> dict[Key, _Seen]:
    """The rows of which one side has none, or another; at most ``limit``. Both are queries of k0…, c0…, ``version``."""
    keys = [f"k{n}" for n in range(len(entry.key))]
    values = [f"c{n}" for n in range(len(entry.columns))]
    # As texts: what is compared is what people are shown, and every type has one.
    unlike = " OR ".join(
        ["m.side IS NULL", "s.side IS NULL"] + [f"m.{v}::text IS DISTINCT FROM s.{v}::text" for v in values]
    )
    shown = ", ".join(
        [f"{key}::text" for key in keys]
        + ["m.side", "s.side", "s.version"]
        + [f"{t}.{v}::text" for t in "ms" for v in values]
    )
    rows = await postgres.fetch(
        conn,
        f"SELECT {shown} FROM (SELECT true AS side, * FROM ({ours}) AS a) m"
        f" FULL JOIN (SELECT true AS side, * FROM ({theirs}) AS b) s"
        f" USING ({', '.join(keys)}) WHERE {unlike} LIMIT {limit}",
    )
    found = {}
    for row in rows:
        key, (left, right, version), rest = tuple(row[: len(keys)]), row[len(keys) :][:3], row[len(keys) + 3 :]
        mine: Values = tuple(rest[: len(values)])
        other: Values = tuple(rest[len(values) :])
        found[key] = _Seen(Sighting(mine) if left else None, Sighting(other, version) if right else None)
    return found

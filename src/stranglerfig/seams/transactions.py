"""Which tables change in one transaction: a sample of the monolith's change stream, while it lasts and no longer.

The stream is read through a temporary slot, which PostgreSQL drops when its session ends, however that ends, so that no
WAL is kept for it. The plugin that every server has, ``pgoutput``, wants publications: they are there for the sample
only, and such that they refuse the monolith nothing. A table whose rows nothing identifies is published with its
inserts alone, for PostgreSQL would refuse its updates.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load
from stranglerfig.seams.model import TRANSACTION, Coverage, Evidence, Told, Use, untold
from stranglerfig.seams.statements import table_name

_sql = load(__package__ or "")
SOURCE = "transactions"
_WHOLE, _INSERTS = "fig_seams_sample", "fig_seams_sample_inserts"
_LOOK = 0.25
"""Seconds from one look at the stream to the next."""
_CHANGES_AT_ONCE = 50_000
"""Of one look; what a transaction changed comes as a whole, so it may be more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a sample ends: after so many seconds, or transactions that changed something."""

    seconds: float
    transactions: int = 20_000


@dataclass(frozen=True, slots=True)
class _Tables:
    """Published tables by oid: all of their changes, or their inserts alone; how many are not the role's."""

    whole: Mapping[int, tuple[str, str]]
    inserts: Mapping[int, tuple[str, str]]
    others: int

    @property
    def names(self) -> dict[int, str]:
        return {oid: table_name(*name) for oid, name in (*self.whole.items(), *self.inserts.items())}


async def collect(dsn: str, bounds: Bounds, told: Told = untold) -> Evidence:
    """The evidence of a sample; what stands in its way is said as coverage, with what to grant.

    Raises:
        FigError: ``database_unreachable``.
    """
    patience = int(bounds.seconds * 1000) + 2000
    limits = f"-c lock_timeout={patience} -c statement_timeout={patience + 5000}"
    async with postgres.session(dsn, what="seams sample", options=limits) as conn:
        if (why := await _forbidden(conn)) is not None:
            return _absent(why)
        tables = await _tables(conn)
        if not tables.names:
            return _absent(f"{tables.others} tables, none of them the role's: its owner's role can publish them")
        try:
            async with _published(dsn, conn, tables) as publications:
                seen, waited = await _read(conn, publications, bounds, told)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
            return _absent(
                "a transaction that writes, or locks a table, was open all the time; end it, or sample longer"
            )
        except psycopg.Error as error:
            return _absent(str(error).splitlines()[0])
    names = tables.names
    sets = [frozenset(names[oid] for oid in oids if oid in names) for oids in seen]
    return counted(sets, _shortcomings(tables), seconds=waited)


def counted(sets: Iterable[frozenset[str]], shortcomings: Sequence[str] = (), *, seconds: float = 0.0) -> Evidence:
    """The evidence in the sets of tables that single transactions wrote: each set once, with how often.

    ``of`` is how many of the transactions wrote any of a set's tables.
    """
    often = Counter(each for each in sets if each)
    whole = sum(often.values())
    uses = []
    for tables, times in sorted(often.items(), key=lambda item: (-item[1], sorted(item[0]))):
        of = sum(count for other, count in often.items() if other & tables)
        where = f"{times} of the {of} sampled transactions that write any of them"
        uses.append(Use(TRANSACTION, " + ".join(sorted(tables)), where, writes=tables, times=times, of=of))
    several = sum(count for tables, count in often.items() if len(tables) > 1)
    said = f"{whole} transactions in {seconds:.0f} s, {several} of them wrote several tables"
    if not whole:
        said += ": sample while the monolith is at work"
    state = "partly" if shortcomings or not whole else "read"
    return Evidence(uses=tuple(uses), coverage=(Coverage(SOURCE, state, "; ".join((said, *shortcomings))),))


def _absent(why: str) -> Evidence:
    return Evidence(coverage=(Coverage(SOURCE, "absent", f"not read: {why}"),))


async def _forbidden(conn: Connection) -> str | None:
    """What stands in the way, and what to do about it."""
    row = await postgres.one(conn, _sql.may_sample)
    assert row is not None
    level, replicates, creates, role, database = row
    if level != "logical":
        return f"wal_level is {level}; ALTER SYSTEM SET wal_level = logical, and restart the server"
    if not replicates:
        return f"the role may not replicate; ALTER ROLE {role} REPLICATION"
    if not creates:
        return f"the role may not create a publication; GRANT CREATE ON DATABASE {database} TO {role}"
    if not await postgres.value(conn, _sql.claim_sample):
        return "another sample of this database is being taken"
    return None


async def _tables(conn: Connection) -> _Tables:
    whole, inserts, others = dict[int, tuple[str, str]](), dict[int, tuple[str, str]](), 0
    for oid, schema, name, ours, identified in await postgres.fetch(conn, _sql.publishable):
        if ours:
            (whole if identified else inserts)[oid] = (schema, name)
        else:
            others += 1
    return _Tables(whole, inserts, others)


def _shortcomings(tables: _Tables) -> list[str]:
    said = []
    if tables.inserts:
        said.append(f"of {len(tables.inserts)} tables without a key only inserts")
    if tables.others:
        said.append(f"{tables.others} tables are not the role's, and were not seen")
    return said


@asynccontextmanager
async def _published(dsn: str, conn: Connection, tables: _Tables) -> AsyncIterator[list[str]]:
    """Publications of the tables, for the length of a block; what an earlier sample was killed over goes as well."""
    wanted = {_WHOLE: (tables.whole, "insert, update, delete"), _INSERTS: (tables.inserts, "insert")}
    await _drop(conn)
    try:
        for name, (each, changes) in wanted.items():
            if each:
                await conn.execute(
                    sql.SQL(
                        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish = {}, publish_via_partition_root = true)"
                    ).format(
                        sql.Identifier(name),
                        sql.SQL(", ").join(sql.Identifier(*table) for table in each.values()),
                        sql.Literal(changes),
                    )
                )
        yield [name for name, (each, _) in wanted.items() if each]
    finally:
        if conn.closed:
            async with postgres.session(dsn, what="seams sample") as another:
                await _drop(another)
        else:
            await _drop(conn)


async def _drop(conn: Connection) -> None:
    for name in (_WHOLE, _INSERTS):
        await conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))


async def _read(
    conn: Connection, publications: Sequence[str], bounds: Bounds, told: Told
) -> tuple[list[list[int]], float]:
    """The tables' oids of each transaction, and how many seconds that took."""
    slot = f"fig_seams_{os.getpid()}_{conn.info.backend_pid}"
    names = ",".join(publications)
    seen: list[list[int]] = []
    await conn.execute(_sql.sample_slot, (slot,))
    began = clock.monotonic()
    try:
        while True:
            passed = clock.monotonic() - began
            seen += [row[0] for row in await postgres.fetch(conn, _sql.sampled, (slot, _CHANGES_AT_ONCE, names))]
            told(
                f"seconds of the sample, with {len(seen)} transactions",
                round(min(passed, bounds.seconds), 1),
                bounds.seconds,
            )
            if passed >= bounds.seconds or len(seen) >= bounds.transactions:
                return seen[: bounds.transactions], passed
            await asyncio.sleep(min(_LOOK, bounds.seconds - passed))
    finally:
        # The session's end would drop it as well: this only makes it sooner.
        with contextlib.suppress(psycopg.Error):
            await conn.execute(_sql.drop_sample_slot, (slot,))

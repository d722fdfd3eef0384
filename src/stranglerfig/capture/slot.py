"""A flow's place at its source: the publication, the replication slot, and what is true of them now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg import sql as statements

from stranglerfig.capture import wire
from stranglerfig.capture.model import PublicationFacts, Server, SlotFacts
from stranglerfig.changes.model import HEARTBEAT, Direction, lsn_number, names
from stranglerfig.foundation import clock, postgres, sql
from stranglerfig.foundation.errors import FigError

_queries = sql.load(__package__ or "")


@dataclass(frozen=True, slots=True)
class Watched:
    """One look at the source while streaming."""

    source_lsn: int
    slot: SlotFacts | None
    publication: PublicationFacts | None


async def server(conn: postgres.Connection) -> Server:
    """Which server this is.

    Raises:
        FigError: ``wal_level`` when it keeps too little for logical decoding.
    """
    row = await postgres.one(conn, _queries.server)
    assert row is not None
    if row[4] != "logical":
        raise FigError(
            "wal_level",
            f"the source has wal_level = {row[4]}",
            "ALTER SYSTEM SET wal_level = logical, and restart the server.",
            found=row[4],
        )
    return Server(*row[:4])


async def facts(conn: postgres.Connection, name: str) -> SlotFacts | None:
    """The slot as it stands, or None."""
    row = await postgres.one(conn, _queries.slot, (name,))
    if row is None:
        return None
    return SlotFacts(row[0] or 0, row[1] or 0, *row[2:])


async def publication(conn: postgres.Connection, name: str) -> PublicationFacts | None:
    """The publication as it stands, or None."""
    row = await postgres.one(conn, _queries.publication, (name,))
    return None if row is None else PublicationFacts(row[0], frozenset(row[1]))


async def watch(conn: postgres.Connection, name: str) -> Watched:
    """Slot, publication and the end of the source's WAL, in one look."""
    row = await postgres.one(conn, _queries.watch, {"name": name})
    assert row is not None
    slot = None if row[1] is None and row[2] is None else SlotFacts(row[1] or 0, row[2] or 0, *row[3:6])
    found = None if row[6] is None else PublicationFacts(row[6], frozenset(row[7]))
    return Watched(row[0], slot, found)


async def heartbeat(conn: postgres.Connection) -> bool:
    """Write a message into the stream, so that an idle slot moves on; False where the source is read-only for us."""
    try:
        await conn.execute(_queries.heartbeat, (HEARTBEAT,))
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.InsufficientPrivilege):
        return False
    return True


async def reading(conn: postgres.Connection, name: str) -> tuple[int, str] | None:
    """Who reads the slot: a process id, and when it began; None when nobody does."""
    row = await postgres.one(conn, _queries.reading, (name,))
    return None if row is None or row[0] is None else (row[0], row[1])


async def claim(conn: postgres.Connection, name: str) -> bool:
    """Be the only one, until ``conn`` ends, who directs the slot's reader."""
    return bool(await postgres.value(conn, _queries.claim, (name,)))


async def shapes(conn: postgres.Connection, tables: Sequence[str]) -> list[tuple[Any, ...]]:
    """The columns of ``tables`` as the query ``shapes`` lists them."""
    return await postgres.fetch(conn, _queries.shapes, {"tables": list(tables)})


class DescribedBy(NamedTuple):
    """Object ids of the catalogue's rows that describe tables."""

    classes: list[int]
    types: list[int]
    namespaces: list[int]


class Stamp(NamedTuple):
    """Who reads a slot (:func:`reading`), and which versions of the rows that describe its tables there are."""

    reading: tuple[int, str] | None
    versions: str


async def described_by(conn: postgres.Connection, tables: Sequence[str]) -> DescribedBy:
    """The rows that say what :func:`shapes` says of ``tables``."""
    row = await postgres.one(conn, _queries.described_by, {"tables": list(tables)})
    assert row is not None
    return DescribedBy(*row)


async def stamp(conn: postgres.Connection, name: str, rows: DescribedBy) -> Stamp:
    """The slot's reader and the versions of ``rows``: while they are equal, so are the shapes."""
    row = await postgres.one(conn, _queries.stamp, {"slot": name, **rows._asdict()})
    assert row is not None
    return Stamp(None if row[0] is None else (row[0], row[1]), row[2])


async def foreign_origins(conn: postgres.Connection) -> list[str]:
    """Replication origins that are not ours."""
    return [row[0] for row in await postgres.fetch(conn, _queries.foreign_origins)]


async def check_tables(conn: postgres.Connection, tables: Sequence[str]) -> None:
    """Refuse tables that are not there (``missing_table``)."""
    missing = [row[0] for row in await postgres.fetch(conn, _queries.missing_tables, (list(tables),))]
    if missing:
        raise FigError(
            "missing_table",
            f"the source has no table {', '.join(missing)}",
            "Correct the tables in extraction.yaml.",
            tables=missing,
        )


async def ensure_publication(conn: postgres.Connection, name: str, tables: Iterable[str]) -> PublicationFacts:
    """Publish ``tables`` (``schema.name``) under ``name``, by their partitions' roots.

    It must exist before the slot: what is decoded looks it up as it was then.

    Raises:
        FigError: ``missing_table``, ``missing_privilege``.
    """
    wanted = sorted(set(tables))
    await check_tables(conn, wanted)
    found = await publication(conn, name)
    if found is None or found.tables != frozenset(wanted):
        listed = statements.SQL(", ").join(statements.Identifier(*table.split(".", 1)) for table in wanted)
        try:
            async with conn.transaction():
                await conn.execute(statements.SQL("DROP PUBLICATION IF EXISTS {}").format(statements.Identifier(name)))
                await conn.execute(
                    statements.SQL(
                        "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)"
                    ).format(statements.Identifier(name), listed)
                )
        except psycopg.errors.InsufficientPrivilege as error:
            raise FigError(
                "missing_privilege",
                f"the publication {name} cannot be created: {str(error).strip()}",
                "Grant CREATE on the database and ownership of the tables to capture's role.",
            ) from error
        found = await publication(conn, name)
    assert found is not None
    return found


async def create(
    walsender: postgres.Connection, conn: postgres.Connection, name: str, *, export: bool, version: int
) -> tuple[int, str | None]:
    """Create the slot over a replication session; returns its consistent point and the exported snapshot's name.

    The snapshot lives until that session's next command. ``lock_timeout`` of the session bounds the wait for open
    writers (``statement_timeout`` is not heeded here).

    Raises:
        FigError: ``snapshot_blocked`` naming who holds a transaction open; ``no_free_slot``.
    """
    options = f"SNAPSHOT '{'export' if export else 'nothing'}'" + (", FAILOVER true" if version >= 170000 else "")
    try:
        rows = await wire.command(walsender, f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput ({options})")
    except psycopg.errors.LockNotAvailable as error:
        raise await _blocked(conn) from error
    except psycopg.errors.ConfigurationLimitExceeded as error:
        raise FigError(
            "no_free_slot",
            "the source has no free replication slot",
            "Raise max_replication_slots, or drop a slot that nothing uses (pg_replication_slots shows them).",
        ) from error
    _, point, snapshot, _ = rows[0]
    assert point is not None
    return lsn_number(point), snapshot


async def _blocked(conn: postgres.Connection) -> FigError:
    rows: Sequence[tuple[object, ...]] = await postgres.fetch(conn, _queries.blockers)
    who = "; ".join(
        f"pid {pid} ({application or 'unnamed'}, {user}, {state}, {age:.0f} s)"
        for pid, application, user, state, age in rows
    )
    return FigError(
        "snapshot_blocked",
        f"the slot waits for a transaction that has written and is open: {who or 'it has just ended'}",
        "End that transaction (pg_terminate_backend as the last resort); capture tries again by itself.",
        blockers=[{"pid": row[0], "application": row[1], "user": row[2]} for row in rows],
    )


async def drop_slot(conn: postgres.Connection, name: str) -> None:
    """Drop the slot, ending a walsender of ours that still holds it; does nothing when there is none.

    Raises:
        FigError: ``slot_active`` when it could not be freed within 10 s.
    """

    async def dropped() -> bool:
        try:
            await conn.execute(_queries.drop_slot, (name,))
        except psycopg.errors.ObjectInUse:
            await conn.execute(_queries.end_walsender, (name,))
            return False
        except psycopg.errors.UndefinedObject:
            pass
        return True

    try:
        await clock.until(dropped, timeout=10, what=f"slot {name} to be free")
    except FigError as error:
        raise active(name) from error


def active(name: str) -> FigError:
    """Something else reads the slot."""
    return FigError(
        "slot_active",
        f"the replication slot {name} is being read by another process",
        "Only one capture may read a flow: end the other one; this one waits and tries again.",
        slot=name,
    )


async def remove(dsn: str, context: str, direction: Direction) -> None:
    """Drop a flow's slot and publication at its source; what is not there is no error."""
    name = names(context, direction).slot
    async with postgres.session(dsn, what=f"capture {context} {direction}") as conn:
        await drop_slot(conn, name)
        await conn.execute(statements.SQL("DROP PUBLICATION IF EXISTS {}").format(statements.Identifier(name)))


async def narrow(dsn: str, context: str, direction: Direction, outbox: str) -> None:
    """Leave a flow's publication only its outbox: the slot stays, and events go on being published after the drop."""
    name = statements.Identifier(names(context, direction).publication)
    async with postgres.session(dsn, what=f"capture {context} {direction}") as conn:
        await conn.execute(
            statements.SQL("ALTER PUBLICATION {} SET TABLE {}").format(
                name, statements.Identifier(*outbox.split(".", 1))
            )
        )


async def type_names(conn: postgres.Connection, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """What the source calls types, by (oid, modifier)."""
    pairs = list(wanted)
    rows = await postgres.fetch(conn, _queries.types, ([oid for oid, _ in pairs], [modifier for _, modifier in pairs]))
    return {(oid, modifier): name for oid, modifier, name in rows}

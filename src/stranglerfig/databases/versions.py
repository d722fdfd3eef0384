"""Triggers that give each change of a row its version, where both sides of an extraction write.

They are on a context's tables of both sides from the cut-over until the extraction ends. Sync's own writes are no
changes of the side that they are applied to, and pass them by.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from stranglerfig.databases.model import split_name
from stranglerfig.databases.ownership import patiently
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

TABLES = postgres.Tables("versions", __package__ or "", ("versions.sql",))
_TOGETHER = 10_000
"""Versions forgotten per transaction."""


@dataclass(frozen=True, slots=True)
class Versioned:
    """One table's part in one pair.

    Attributes:
        table: ``schema.table``, on the side that it is installed on.
        pair: the service's table.
        key: the key's columns, in the order that both sides share.
        columns: whose changes count; of them ``counted`` are those to which differences are applied.
    """

    table: str
    pair: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    counted: tuple[str, ...] = ()


async def migrate(conn: Connection) -> None:
    """Create or bring forward schema ``fig``'s part for versions in the database of ``conn``."""
    await postgres.migrate(conn, *TABLES)


async def install(conn: Connection, context: str, tables: Sequence[Versioned], *, timeout: float = 30) -> None:
    """Put the triggers on ``tables``; those that stand as they should are left alone.

    Once it returns, every change of the tables that commits has its version: it waits for transactions that had written
    before. ``timeout`` in seconds is for all tables together.

    Raises:
        FigError: ``table_busy``, ``missing_privilege``.
    """
    await migrate(conn)
    role = str(await postgres.value(conn, "SELECT session_user"))
    standing = {
        (str(table), str(body))
        for table, body in await postgres.fetch(
            conn,
            "SELECT n.nspname || '.' || c.relname, p.prosrc FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid"
            " JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE t.tgname LIKE %s AND t.tgenabled = 'A'",
            (_pattern(context),),
        )
    }
    deadline = clock.monotonic() + timeout
    for table in tables:
        body = _body(context, table, role)
        if (".".join(split_name(table.table)), body) not in standing:
            await patiently(conn, table.table, _statements(context, table, body), deadline)


async def remove(conn: Connection, context: str, *, timeout: float = 30) -> None:
    """Take the triggers off and forget the versions. Idempotent.

    Raises:
        FigError: ``table_busy``, ``missing_privilege``.
    """
    if await postgres.value(conn, "SELECT to_regclass('fig.row_version')") is None:
        return
    deadline = clock.monotonic() + timeout
    rows = await postgres.fetch(
        conn,
        "SELECT n.nspname || '.' || c.relname, t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE t.tgname LIKE %s AND t.tgparentid = 0 ORDER BY 1, 2",
        (_pattern(context),),
    )
    for table, name in rows:
        drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(
            sql.Identifier(name), sql.Identifier(*split_name(table))
        )
        function = sql.SQL("DROP FUNCTION IF EXISTS fig.{}()").format(sql.Identifier(name))
        await patiently(conn, table, [drop, function], deadline)
    await conn.execute("DELETE FROM fig.row_version WHERE context = %s", (context,))


async def forget(conn: Connection, context: str, *, timeout: float = 30) -> None:
    """Forget the versions of changes made before: of a side that nobody had written, or that starts anew. Idempotent.

    A writer is not waited for, as it may wait for us in a circle; what it changes meanwhile has a new number
    and stays.

    Raises:
        FigError: ``table_busy`` when a row was held by others for ``timeout`` seconds.
    """
    await migrate(conn)
    deadline = clock.monotonic() + timeout
    before = await postgres.value(conn, "SELECT nextval('fig.row_version_number')")
    while True:
        gone = await conn.execute(
            "DELETE FROM fig.row_version WHERE ctid = ANY (ARRAY(SELECT ctid FROM fig.row_version"
            " WHERE context = %s AND local < %s LIMIT %s FOR UPDATE SKIP LOCKED))",
            (context, before, _TOGETHER),
        )
        if gone.rowcount == _TOGETHER:
            continue
        if not await postgres.value(
            conn,
            "SELECT EXISTS (SELECT FROM fig.row_version WHERE context = %s AND local BETWEEN 1 AND %s)",
            (context, before - 1),
        ):
            return
        if clock.monotonic() >= deadline:
            raise FigError(
                "table_busy",
                f"versions of rows of '{context}' could not be forgotten: open transactions have changed these rows",
                "Let the transactions that write the context's tables end, and try again.",
                table="fig.row_version",
            )
        await asyncio.sleep(0.05)


def _pattern(context: str) -> str:
    return f"fig\\_version\\_{context}\\_%"


def _name(context: str, table: Versioned) -> sql.Identifier:
    digest = hashlib.sha256(f"{table.table} {table.pair}".encode()).hexdigest()[:8]
    return sql.Identifier(f"fig_version_{context}_{digest}")


def _body(context: str, table: Versioned, role: str) -> str:
    """The trigger function's body, made for the table so that nothing is looked up when a row is written.

    A column that the application drops or renames must not make its writes fail: where one is missing, everything
    counts as changed, and where one of the key is, nothing is said. Sync stops there and names what it lacks. The block
    that finds this out writes nothing, so that its subtransaction costs no transaction id; and unlike a row as json it
    knows every value as it is written.
    """

    def row(which: str, columns: Sequence[str]) -> sql.Composable:
        each = (sql.SQL("{}.{}::text").format(sql.SQL(which), sql.Identifier(c)) for c in columns)
        return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(each))

    def said(lane: str, key: str) -> sql.Composable:
        return sql.SQL("PERFORM fig.row_changed({}, {}, {});").format(context, lane, sql.SQL(key))

    valued = [c for c in table.columns if c not in table.counted]
    lanes = [(table.pair, valued)] + ([(f"{table.pair}+", list(table.counted))] if table.counted else [])
    return (
        sql.SQL("""
DECLARE
    old_key text[];
    new_key text[];
    differ  boolean[];
BEGIN
    IF session_user = {role} THEN
        RETURN NULL;
    END IF;
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            old_key := {old_key};
        END IF;
        IF TG_OP <> 'DELETE' THEN
            new_key := {new_key};
        END IF;
        IF old_key = new_key THEN
            differ := ARRAY[{differ}];
        END IF;
    EXCEPTION WHEN undefined_column THEN
        differ := ARRAY[{all}];
    END;
    IF old_key = new_key THEN
        {changed}
        RETURN NULL;
    END IF;
    IF old_key IS NOT NULL THEN
        {gone}
    END IF;
    IF new_key IS NOT NULL THEN
        {made}
    END IF;
    RETURN NULL;
END
""")
        .format(
            role=role,
            old_key=row("OLD", table.key),
            new_key=row("NEW", table.key),
            differ=sql.SQL(", ").join(
                sql.SQL("{} IS DISTINCT FROM {}").format(row("OLD", c), row("NEW", c)) for _, c in lanes
            ),
            all=sql.SQL(", ").join(sql.SQL("true") for _ in lanes),
            changed=sql.SQL("\n        ").join(
                sql.SQL("IF differ[{}] THEN {} END IF;").format(sql.Literal(number), said(lane, "new_key"))
                for number, (lane, _) in enumerate(lanes, start=1)
            ),
            gone=sql.SQL(" ").join(said(lane, "old_key") for lane, _ in lanes),
            made=sql.SQL(" ").join(said(lane, "new_key") for lane, _ in lanes),
        )
        .as_string()
    )


def _statements(context: str, table: Versioned, body: str) -> list[sql.Composed]:
    name, on = _name(context, table), sql.Identifier(*split_name(table.table))
    return [
        sql.SQL(
            "CREATE OR REPLACE FUNCTION fig.{}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp AS {}"
        ).format(name, sql.Literal(body)),
        # It runs as its owner: nobody else may put it on a table of his own and have it say versions.
        sql.SQL("REVOKE ALL ON FUNCTION fig.{}() FROM PUBLIC").format(name),
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION fig.{}()"
        ).format(name, on, name),
        # ALWAYS: also under session_replication_role = replica, under which somebody may write as well.
        sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(on, name),
    ]

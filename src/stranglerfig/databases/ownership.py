"""Who owns a context's writes in one database: the ownership row, its transitions, and the guards that enforce it.

The order of the transitions is the cut-over's business (``extraction.cutover``); here each is one compare-and-set.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from stranglerfig.databases.model import Ownership, Side, State, split_name
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

REFUSED_WRITE = "FIG01"
"""SQLSTATE of a write that a guard refused."""
REFUSED_DDL = "FIG02"
"""SQLSTATE of DDL that was refused while a cut-over's fence stood."""

_sql = load(__package__ or "", "transitions.sql")
TABLES = postgres.Tables(
    "ownership", __package__ or "", ("ownership.sql", "ownership_shared.sql", "ownership_traced.sql")
)


def trigger_name(context: str) -> str:
    """What the guards of a context are called."""
    return f"fig_guard_{context}"


async def migrate(conn: Connection) -> None:
    """Create or bring forward schema ``fig``'s part for ownership in the database of ``conn``."""
    await postgres.migrate(conn, *TABLES)


async def install(
    conn: Connection,
    context: str,
    *,
    side: Side,
    owner: bool,
    tables: Sequence[str],
    enforcing: bool,
    admitted: Sequence[str] = (),
    epoch: int = 0,
    timeout: float = 30,
) -> Ownership:
    """Give this database its ownership row and put a guard on each of ``tables`` (``schema.table``).

    Idempotent: a row that exists keeps its state, a guard that stands is left alone. ``admitted`` are the roles whose
    sessions may always write (default: the role of this session). ``conn`` is in autocommit mode. ``timeout`` in
    seconds is for all tables together.

    Raises:
        FigError: ``ownership_elsewhere`` when the row says that this database is the other side, ``unknown_table``,
            ``table_busy`` (with who holds it), ``missing_privilege``.
    """
    await migrate(conn)
    admitted = tuple(admitted) or (str(await postgres.value(conn, "SELECT session_user")),)
    state: State = "owner" if owner else "standby"
    async with durable(conn, context):
        found = await postgres.value(
            conn,
            _sql.install,
            {
                "context": context,
                "side": side,
                "state": state,
                "epoch": epoch,
                "enforcing": enforcing,
                "admitted": list(admitted),
            },
        )
        if found != side:
            raise FigError(
                "ownership_elsewhere",
                f"this database is the {found} of context '{context}', not its {side}",
                "Use another database for the service, or end the extraction that installed this row.",
                context=context,
                found=found,
            )
    deadline = clock.monotonic() + timeout
    for table in tables:
        await _guard(conn, context, table, admitted, deadline)
    await _guard_ddl(conn)
    ownership = await read(conn, context)
    assert ownership is not None
    return ownership


async def uninstall(conn: Connection, context: str, *, timeout: float = 30) -> None:
    """Take the guards off, one table per transaction, then forget the row. Idempotent.

    Raises:
        FigError: ``table_busy`` when a table could not be had in ``timeout`` seconds.
    """
    await migrate(conn)
    deadline = clock.monotonic() + timeout
    rows = await postgres.fetch(
        conn,
        "SELECT n.nspname || '.' || c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.tgname = ANY (%s) AND t.tgparentid = 0 ORDER BY 1",
        ([trigger_name(context), f"{trigger_name(context)}_truncate"],),
    )
    for table, name in rows:
        statement = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), _identifier(table))
        await patiently(conn, table, [statement], deadline)
    await conn.execute("DELETE FROM fig.ownership WHERE context = %s", (context,))


async def guarded(conn: Connection, context: str) -> list[str]:
    """The tables (``schema.table``) whose guard of this context stands and fires always."""
    rows = await postgres.fetch(conn, _sql.guards, {"trigger": trigger_name(context)})
    return sorted({str(row[0]) for row in rows})


async def read(conn: Connection, context: str, *, shared: bool = False) -> Ownership | None:
    """What this side is, or None when nothing is installed for ``context``.

    ``shared`` keeps the row from changing until the transaction of ``conn`` ends.
    """
    try:
        row = await postgres.one(conn, _sql.read_shared if shared else _sql.read, {"context": context})
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return None if row is None else Ownership(*row)


async def enforce(
    conn: Connection,
    context: str,
    enforcing: bool,
    *,
    shared: bool = False,
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Let the guards refuse (True), or only record who would have been refused (False).

    What an earlier version installed is brought forward first: its guards know of no shared side.

    Args:
        conn: a session in autocommit mode.
        shared: whether writers go on writing this side's tables whoever owns them; its guards then refuse nobody.
        made_with: what the cut-over that follows is made with, when it makes this side the owner.
    """
    await migrate(conn)
    async with durable(conn, context):
        kept = None if made_with is None else Jsonb(dict(made_with))
        await conn.execute(
            _sql.enforce, {"context": context, "enforcing": enforcing, "shared": shared, "made_with": kept}
        )


async def made_with(conn: Connection, context: str) -> dict[str, Any]:
    """What the cut-over was made with by which this side owns; empty when it does not, or nothing was kept."""
    try:
        found = await postgres.value(conn, _sql.made_with, {"context": context})
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        return {}  # not installed, or by an earlier version
    return dict(found or {})


async def intend(conn: Connection, context: str, *, epoch: int, lock_timeout: float = 2.0) -> Ownership:
    """L: ``owner → intent(epoch)``; ``epoch`` is above every one used before."""
    return await _transition(conn, context, _sql.intend, {"epoch": epoch}, lock_timeout)


async def fence(conn: Connection, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:
    """L: wait until every transaction that has written has ended, then ``intent(epoch) → fenced(epoch, nonce)``.

    While it waits, new direct writers are refused and open ones finish. ``lock_timeout`` in seconds is all it waits.

    Raises:
        FigError: ``fence_not_drained`` when transactions were still open after ``lock_timeout`` (nothing has
            happened then), ``ownership_changed``, ``ownership_unknown``.
    """
    try:
        async with durable(conn, context, lock_timeout=lock_timeout):
            await conn.execute(_sql.drain, {"context": context})
            row = await postgres.one(conn, _sql.fence, {"context": context, "epoch": epoch, "nonce": nonce})
            return await _changed(conn, context, row)
    except FigError as error:
        if error.code != "ownership_busy":
            raise
        raise FigError(
            "fence_not_drained",
            f"transactions that had written tables of '{context}' were still open after {lock_timeout * 1000:.0f} ms",
            "Find them with fig status, let them end or end them, and try again.",
            context=context,
        ) from error


async def cede(conn: Connection, context: str, *, epoch: int, nonce: str, lock_timeout: float = 2.0) -> Ownership:
    """L: ``fenced(epoch, nonce) → ceded(epoch)``, the one point of no return.

    Raises:
        FigError: ``ownership_changed``; ``ownership_unknown`` when the commit's outcome is not known: read first.
    """
    return await _transition(conn, context, _sql.cede, {"epoch": epoch, "nonce": nonce}, lock_timeout)


async def activate(
    conn: Connection,
    context: str,
    *,
    epoch: int,
    nonce: str,
    direction: str,
    lock_timeout: float = 2.0,
) -> Ownership:
    """W: become ``owner(epoch)``, and say so in the change stream, in one transaction.

    Only who has read ``ceded(epoch)`` in L may call it. ``direction`` is that of the stream whose marker ``nonce``
    must be applied here (``forward`` when W is the service).
    """
    async with durable(conn, context, lock_timeout=lock_timeout):
        parameters = {"context": context, "epoch": epoch, "nonce": nonce, "direction": direction}
        ownership = await _changed(conn, context, await postgres.one(conn, _sql.activate, parameters))
        await conn.execute(_sql.announce, parameters)
        return ownership


async def abort(conn: Connection, context: str, *, epoch: int, lock_timeout: float = 2.0) -> Ownership:
    """L: ``intent(epoch)`` or ``fenced(epoch) → owner``. Only after it succeeded may held requests go to L."""
    return await _transition(conn, context, _sql.abort, {"epoch": epoch}, lock_timeout)


async def _transition(
    conn: Connection, context: str, statement: LiteralString, parameters: dict[str, Any], lock_timeout: float
) -> Ownership:
    async with durable(conn, context, lock_timeout=lock_timeout):
        return await _changed(conn, context, await postgres.one(conn, statement, {"context": context} | parameters))


async def _changed(conn: Connection, context: str, row: TupleRow | None) -> Ownership:
    """The row after a compare-and-set; an error with what was found when it compared unequal."""
    if row is not None:
        return Ownership(*row)
    found = await read(conn, context)
    where = f"{found.side}: {found.state}, epoch {found.epoch}" if found else "no row"
    raise FigError(
        "ownership_changed",
        f"the ownership of '{context}' is not what this step expected ({where})",
        "Another participant acted, or a proof is missing; the next fig advance reads the rows and goes on from there.",
        context=context,
        found=found.as_dict() if found else None,
    )


@asynccontextmanager
async def durable(conn: Connection, context: str, *, lock_timeout: float = 2.0) -> AsyncIterator[None]:
    """A transaction whose commit is on disk when it returns, or whose outcome is said to be unknown."""
    try:
        async with conn.transaction():
            await conn.execute(
                "SELECT set_config('synchronous_commit', 'on', true), set_config('lock_timeout', %s, true)",
                (f"{max(1, round(lock_timeout * 1000))}ms",),
            )
            yield
    except psycopg.errors.LockNotAvailable as error:
        raise FigError(
            "ownership_busy",
            f"the ownership of '{context}' was locked for {lock_timeout * 1000:.0f} ms; nothing was changed",
            "Another participant is at work on it; try again.",
            context=context,
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise FigError(
            "ownership_unknown",
            f"the database went away during a change of the ownership of '{context}': its outcome is unknown",
            "Nothing is lost: once the database is back, fig advance reads the row and goes on from there.",
            context=context,
        ) from error


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*split_name(table))


async def _guard(conn: Connection, context: str, table: str, admitted: Sequence[str], deadline: float) -> None:
    row = await postgres.one(conn, _sql.kind, {"table": table})
    if row is None:
        raise FigError(
            "unknown_table",
            f"there is no table {table} in this database",
            "Correct its name in extraction.yaml (schema.table), or create it first.",
            table=table,
        )
    kind, schema, name, leaves = row
    exact = f"{schema}.{name}"
    standing = {
        str(table): bytes(arguments)
        for table, arguments in await postgres.fetch(conn, _sql.guards, {"trigger": trigger_name(context)})
    }
    arguments = b"".join(part.encode() + b"\0" for part in (context, *admitted))
    wanted = [exact, *leaves] if kind == "p" else [exact]
    if all(standing.get(table) == arguments for table in wanted):
        return
    call = sql.SQL("fig.guard({})").format(sql.SQL(", ").join(map(sql.Literal, (context, *admitted))))
    statements: list[sql.Composed] = []
    guard, truncate = trigger_name(context), f"{trigger_name(context)}_truncate"
    if kind == "p":
        # A statement trigger on the root does not see writes that name a leaf; a row trigger is copied to the leaves.
        statements += _create(exact, guard, "INSERT OR UPDATE OR DELETE", "ROW", call)
        for each in wanted:
            statements += _create(each, truncate, "TRUNCATE", "STATEMENT", call)
    else:
        statements += _create(exact, guard, "INSERT OR UPDATE OR DELETE OR TRUNCATE", "STATEMENT", call)
    await patiently(conn, exact, statements, deadline)


def _create(
    table: str, name: str, events: LiteralString, level: LiteralString, call: sql.Composed
) -> list[sql.Composed]:
    trigger, target = sql.Identifier(name), _identifier(table)
    return [
        sql.SQL("CREATE OR REPLACE TRIGGER {} BEFORE {} ON {} FOR EACH {} EXECUTE FUNCTION {}").format(
            trigger, sql.SQL(events), target, sql.SQL(level), call
        ),
        # ALWAYS: also under session_replication_role = replica, which skips ordinary triggers.
        sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(target, trigger),
    ]


async def patiently(conn: Connection, table: str, statements: Sequence[sql.Composed], deadline: float) -> None:
    """Run DDL on one table in one transaction; give up its place in the lock queue after 100 ms, so that nobody stalls
    behind it, and try again until ``deadline``."""
    may_set = await postgres.value(conn, "SELECT current_setting('is_superuser') = 'on'")
    while True:
        try:
            async with conn.transaction():
                await conn.execute("SET LOCAL lock_timeout = '100ms'")
                if may_set:
                    await conn.execute("SET LOCAL deadlock_timeout = '10ms'")
                for statement in statements:
                    await conn.execute(statement)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if clock.monotonic() >= deadline:
                rows = await postgres.fetch(conn, _sql.blockers, {"table": table})
                raise FigError(
                    "table_busy",
                    f"the triggers of {table} could not be changed: other transactions hold the table",
                    "Let the transactions named here end, or end them, and try again.",
                    table=table,
                    blockers=[{"application": a, "pid": pid, "statement": text} for a, pid, text in rows],
                ) from error
            await asyncio.sleep(0.05)
        except psycopg.errors.InsufficientPrivilege as error:
            raise FigError(
                "missing_privilege",
                f"this role may not put a trigger on {table}: {str(error).splitlines()[0]}",
                "Grant the role that owns the table to ours (fig plan lists the statements).",
                table=table,
            ) from error


async def _guard_ddl(conn: Connection) -> bool:
    """Attach the event triggers when we may; says whether they stand."""
    if await ddl_guarded(conn):
        return True
    if await postgres.value(conn, "SELECT current_setting('is_superuser')") != "on":
        return False
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('fig.migration', 0))")
        if not await ddl_guarded(conn):
            await conn.execute("CREATE EVENT TRIGGER fig_guard_ddl ON ddl_command_end EXECUTE FUNCTION fig.guard_ddl()")
            await conn.execute("CREATE EVENT TRIGGER fig_guard_drop ON sql_drop EXECUTE FUNCTION fig.guard_drop()")
            await conn.execute("ALTER EVENT TRIGGER fig_guard_ddl ENABLE ALWAYS")
            await conn.execute("ALTER EVENT TRIGGER fig_guard_drop ENABLE ALWAYS")
    return True


async def ddl_guarded(conn: Connection) -> bool:
    """Whether DDL on the context's tables is refused while a fence stands (attaching that takes a superuser)."""
    count = await postgres.value(
        conn, "SELECT count(*) FROM pg_event_trigger WHERE evtname IN ('fig_guard_ddl', 'fig_guard_drop')"
    )
    return bool(count == 2)

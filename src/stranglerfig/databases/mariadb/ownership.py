"""Who owns a context's writes, in a MariaDB: its row, the transitions up to the point of no return, and the guards.

What the row means, and in which order it changes, is the same as in PostgreSQL (``databases.ownership``). What differs:
a writer that meets a fence about to stand waits for it instead of being refused at once; and TRUNCATE fires no trigger.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, LiteralString

from stranglerfig.databases.mariadb import messages
from stranglerfig.databases.model import Ownership, Side, State
from stranglerfig.foundation import clock, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection, Row, quote, quote_table
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "ownership.sql")
_DEADLOCK: Final = 1213
_LOCKED: Final = (1205, _DEADLOCK)
_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")
_PAUSE: Final = 0.005
"""Seconds before a table, or the row of who owns, is asked for again."""
Step = LiteralString | Callable[[Connection], Awaitable[None]]
"""Of a change: a statement, or something that must hold before the next one."""
REFUSED: Final = 1644
"""Number of the error that a guard refuses with."""


def trigger_names(context: str, table: str) -> tuple[str, str, str]:
    """The guard's triggers on a table (``database.table``): names of at most 64 characters, unique in the database."""
    marked = f"{zlib.crc32(table.encode()):08x}"
    insert, update, delete = (f"{_prefix(context)}{marked}_{event[0].lower()}" for event in _EVENTS)
    return insert, update, delete


def _prefix(context: str) -> str:
    return f"fig_guard_{context}_"


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
    """Give this database its ownership row and put a guard on each of ``tables``. Idempotent: one that stands stays.

    ``admitted`` are the users whose sessions may always write (default: the user of this session). ``timeout`` in
    seconds is for all tables together.

    Raises:
        FigError: ``ownership_elsewhere``, ``unknown_table``, ``table_busy``, ``missing_privilege``.
    """
    await messages.prepare(conn)
    await conn.execute(_sql.table)
    await conn.execute(_sql.guarded)
    if await conn.value(_sql.guard_there) is None:
        await conn.execute(_sql.guard)  # it would be in the binary log again
    state: State = "owner" if owner else "standby"
    asked = {"context": context, "side": side, "state": state, "epoch": epoch, "enforcing": enforcing}
    await conn.execute(_sql.install, asked)
    await conn.execute(_sql.install_guarded, asked)
    found = await read(conn, context)
    assert found is not None
    if found.side != side:
        raise FigError(
            "ownership_elsewhere",
            f"this database is the {found.side} of context '{context}', not its {side}",
            "Use another database for the service, or end the extraction that installed this row.",
            context=context,
            found=found.side,
        )
    users = ",".join(admitted) or str(await conn.value("SELECT substring_index(user(), '@', 1)"))
    standing = {(str(schema), str(name)): str(action) for schema, name, _, action in await _standing(conn, context)}
    deadline = clock.monotonic() + timeout
    for table in tables:
        call = f"CALL fig.guard({', '.join(map(mysql.literal, (context, table, users)))})"
        database = table.partition(".")[0]
        for event, name in zip(_EVENTS, trigger_names(context, table), strict=True):
            if standing.get((database, name)) != call:
                made = f"{quote(database)}.{quote(name)} BEFORE {event} ON {quote_table(table)} FOR EACH ROW {call}"
                await patiently(conn, table, f"CREATE OR REPLACE TRIGGER {made}", deadline)
    return found


async def patiently(conn: Connection, table: str, statement: str, deadline: float) -> None:
    """Run DDL on a table in a moment in which nobody else holds it; try again until ``deadline``.

    It never queues for the table: behind DDL that waits, a transaction that has read the table and now writes it is
    what MariaDB's metadata locks end as a deadlock, and it is never the DDL.

    Raises:
        FigError: ``table_busy``, ``unknown_table``.
    """
    # Not SET STATEMENT … FOR: that would be in the binary log with it, where not everybody can read it.
    await conn.execute("SET SESSION lock_wait_timeout = 0")
    try:
        while not await _had(conn, table, statement):
            if clock.monotonic() >= deadline:
                raise FigError(
                    "table_busy",
                    f"{table} could not be changed: other transactions hold the table",
                    "Let the transactions in information_schema.innodb_trx end, or end them, and try again.",
                    table=table,
                )
            await asyncio.sleep(_PAUSE)
    finally:
        if not conn.lost:
            await conn.execute("SET SESSION lock_wait_timeout = DEFAULT")


async def _had(conn: Connection, table: str, statement: str) -> bool:
    """Whether the table could be had at once."""
    try:
        await conn.execute(statement)
    except FigError as error:
        if mysql.refused(error, *mysql.NOWHERE):
            raise FigError(
                "unknown_table",
                f"there is no table {table} in this database",
                "Correct its name in extraction.yaml (database.table), or create it first.",
                table=table,
            ) from error
        if mysql.refused(error, *_LOCKED):
            return False
        raise
    return True


async def _standing(conn: Connection, context: str) -> list[Row]:
    return await conn.fetch(_sql.guards, {"pattern": _prefix(context).replace("_", "\\_") + "%"})


async def guarded(conn: Connection, context: str) -> list[str]:
    """The tables whose guard of this context stands whole."""
    rows = await _standing(conn, context)
    counts: dict[str, int] = {}
    for _, _, table, _ in rows:
        counts[str(table)] = counts.get(str(table), 0) + 1
    return [table for table, count in counts.items() if count == len(_EVENTS)]


async def uninstall(conn: Connection, context: str, *, timeout: float = 30) -> None:
    """Take the guards off, then forget the row. Idempotent.

    Raises:
        FigError: ``table_busy`` when a table could not be had in ``timeout`` seconds.
    """
    deadline = clock.monotonic() + timeout
    for schema, name, table, _ in await _standing(conn, context):
        statement = f"DROP TRIGGER IF EXISTS {quote(str(schema))}.{quote(str(name))}"
        await patiently(conn, str(table), statement, deadline)
    if await read(conn, context) is not None:
        await conn.execute(_sql.forget, {"context": context})
        await conn.execute(_sql.forget_guarded, {"context": context})


async def read(conn: Connection, context: str) -> Ownership | None:
    """What this side is, or None when nothing is installed for ``context``."""
    try:
        row = await conn.one(_sql.read, {"context": context})
    except FigError as error:
        if mysql.refused(error, *mysql.NOWHERE):
            return None
        raise
    if row is None:
        return None
    name, side, state, epoch, nonce, enforcing = row
    return Ownership(
        str(name),
        side,  # type: ignore[arg-type]  # the table's checks
        state,  # type: ignore[arg-type]
        int(epoch or 0),
        None if nonce is None else str(nonce),
        enforcing == "1",
    )


async def enforce(conn: Connection, context: str, enforcing: bool) -> None:
    """Let the guards refuse (True), or let everybody write (False). Nobody is waited for where that changes nothing."""
    found = await read(conn, context)
    if found is None or found.enforcing is enforcing:
        return
    closes = () if found.state in ("owner", "intent") else ((_sql.close,) if enforcing else (_sql.open,))
    await _change(conn, context, (*closes, _sql.enforce), {"enforcing": enforcing}, 2)


async def intend(conn: Connection, context: str, *, epoch: int, lock_timeout: int = 2) -> Ownership:
    """L: ``owner → intent(epoch)``; ``epoch`` is above every one used before. Times are in whole seconds here."""
    return await _transition(conn, context, (_sql.intend,), {"epoch": epoch}, lock_timeout)


async def fence(conn: Connection, context: str, *, epoch: int, nonce: str, lock_timeout: int) -> Ownership:
    """L: wait until every transaction that has written has ended, then ``intent(epoch) → fenced(epoch, nonce)``.

    While it waits, new direct writers wait behind it. ``lock_timeout``, whole seconds from 1 on, is all it waits. XA
    transactions that are prepared by then must end as well, on whichever tables.

    Raises:
        FigError: ``fence_not_drained`` when transactions were still open then (nothing has happened),
            ``ownership_changed``, ``ownership_unknown``.
    """
    deadline = clock.monotonic() + lock_timeout

    async def none_prepared(conn: Connection) -> None:
        await _until_ended(conn, context, await prepared(conn), deadline)

    try:
        steps = (_sql.close, none_prepared, _sql.fence)
        return await _transition(conn, context, steps, {"epoch": epoch, "nonce": nonce}, lock_timeout)
    except FigError as error:
        if error.code != "ownership_busy":
            raise
        raise FigError(
            "fence_not_drained",
            f"transactions that had written tables of '{context}' were still open after {lock_timeout} s",
            "Find them in information_schema.innodb_trx, let them end or end them, and try again.",
            context=context,
        ) from error


async def prepared(conn: Connection) -> set[str]:
    """XA transactions that are prepared, as XA COMMIT names them; which tables they changed nobody says.

    They keep the rows that they changed, and no longer the guards' lock.
    """
    return {str(row[-1]) for row in await conn.fetch("XA RECOVER FORMAT='SQL'")}


async def _until_ended(conn: Connection, context: str, those: set[str], deadline: float) -> None:
    """Wait for ``those`` that are prepared.

    Raises:
        FigError: ``fence_not_drained``.
    """
    while those := those & await prepared(conn):
        if clock.monotonic() >= deadline:
            raise FigError(
                "fence_not_drained",
                f"prepared XA transactions may have written tables of '{context}': {', '.join(sorted(those))}",
                "XA RECOVER lists them; commit them or roll them back, and try again.",
                context=context,
                prepared=sorted(those),
            )
        await asyncio.sleep(_PAUSE)


async def cede(conn: Connection, context: str, *, epoch: int, nonce: str, lock_timeout: int = 2) -> Ownership:
    """L: ``fenced(epoch, nonce) → ceded(epoch)``, the one point of no return."""
    return await _transition(conn, context, (_sql.cede,), {"epoch": epoch, "nonce": nonce}, lock_timeout)


async def activate(
    conn: Connection, context: str, *, epoch: int, nonce: str, direction: str, lock_timeout: int = 2
) -> Ownership:
    """W: become ``owner(epoch)``, and say so in the change stream, in one transaction; what commits before is not its.

    Only who has read ``ceded(epoch)`` in L may call it. ``direction`` is that of the stream whose marker ``nonce``
    must be applied here.
    """
    params = {"epoch": epoch, "nonce": nonce, "direction": direction}
    try:
        async with conn.transaction():
            # The rows change first: guards let writers in only once this has committed, message and all.
            row = await _transition(conn, context, (_sql.open, _sql.activate), params, lock_timeout)
            body = {"context": context, "epoch": epoch, "nonce": nonce}
            await messages.emit(conn, "fig.activated", json.dumps(body))
    except FigError as error:
        if error.code == "database_unreachable":
            raise _unknown(context) from error
        raise
    return row


async def abort(conn: Connection, context: str, *, epoch: int, lock_timeout: int = 2) -> Ownership:
    """L: ``intent(epoch)`` or ``fenced(epoch) → owner``. No writer is waited for where no fence stands."""
    try:
        return await _transition(conn, context, (_sql.abort,), {"epoch": epoch, "state": "intent"}, lock_timeout)
    except FigError as error:
        found = (error.context.get("found") or {}) if error.code == "ownership_changed" else {}
        if (found.get("state"), found.get("epoch")) != ("fenced", epoch):
            raise
    steps = (_sql.open, _sql.abort)
    return await _transition(conn, context, steps, {"epoch": epoch, "state": "fenced"}, lock_timeout)


async def emit_fence_marker(conn: Connection, context: str, direction: str, *, epoch: int, nonce: str) -> None:
    """Write the marker of a fence, in a transaction that checks that the fence of this epoch and nonce stands.

    Raises:
        FigError: ``ownership_changed`` when it does not.
    """
    async with conn.transaction():
        await conn.execute("SELECT 1 FROM fig.ownership WHERE context = %s LOCK IN SHARE MODE", (context,))
        found = await read(conn, context)
        if found is None or (found.state, found.epoch, found.nonce) != ("fenced", epoch, nonce):
            raise _unequal(context, found)
        await messages.emit_marker(conn, context, direction, nonce=nonce, epoch=epoch)


async def _transition(
    conn: Connection, context: str, steps: Sequence[Step], params: dict[str, Any], lock_timeout: int
) -> Ownership:
    changed = await _change(conn, context, steps, params, lock_timeout)
    found = await read(conn, context)
    if not changed or found is None:
        raise _unequal(context, found)
    return found


class _Unchanged(Exception):
    """The compare-and-set met something else."""


async def _change(
    conn: Connection, context: str, steps: Sequence[Step], params: dict[str, Any], lock_timeout: int
) -> int:
    """A compare-and-set, the last of ``steps``; how many rows it changed, and where none, nothing is changed.

    Outside a transaction it is one by itself, durable when it returns (on a server that flushes at commit).
    """
    deadline = clock.monotonic() + lock_timeout
    while True:
        try:
            left = max(1, round(deadline - clock.monotonic()))
            await conn.execute(f"SET SESSION innodb_lock_wait_timeout = {left}")
            return await _together(conn, steps, {"context": context} | params)
        except FigError as error:
            # Writers waited behind us for the row, and others for rows of theirs: InnoDB ends who has changed the
            # least, which is us. A transaction of more than these steps is over then.
            if not mysql.refused(error, _DEADLOCK) or conn.in_transaction or clock.monotonic() >= deadline:
                if (said := _said(error, context, lock_timeout)) is None:
                    raise
                raise said from error
        await asyncio.sleep(_PAUSE)


async def _together(conn: Connection, steps: Sequence[Step], asked: dict[str, Any]) -> int:
    if conn.in_transaction:
        return await _taken(conn, steps, asked)
    changed = 0
    with suppress(_Unchanged):
        async with conn.transaction():
            changed = await _taken(conn, steps, asked)
            if not changed:
                raise _Unchanged
    return changed


async def _taken(conn: Connection, steps: Sequence[Step], asked: dict[str, Any]) -> int:
    changed = 0
    for step in steps:
        if isinstance(step, str):
            changed = await conn.execute(step, asked)
        else:
            await step(conn)
    return changed


def _said(error: FigError, context: str, lock_timeout: int) -> FigError | None:
    """What a change says that failed for one of its own reasons."""
    if mysql.refused(error, *_LOCKED):
        return FigError(
            "ownership_busy",
            f"the ownership of '{context}' was locked for {lock_timeout} s; nothing was changed",
            "Transactions that wrote its tables are open, or another participant is at work on it; try again.",
            context=context,
        )
    return _unknown(context) if error.code == "database_unreachable" else None


def _unknown(context: str) -> FigError:
    return FigError(
        "ownership_unknown",
        f"the database went away during a change of the ownership of '{context}': its outcome is unknown",
        "Nothing is lost: once the database is back, fig advance reads the row and goes on from there.",
        context=context,
    )


def _unequal(context: str, found: Ownership | None) -> FigError:
    where = f"{found.side}: {found.state}, epoch {found.epoch}" if found else "no row"
    return FigError(
        "ownership_changed",
        f"the ownership of '{context}' is not what this step expected ({where})",
        "Another participant acted, or a proof is missing; the next fig advance reads the rows and goes on from there.",
        context=context,
        found=found.as_dict() if found else None,
    )

"""libpq's COPY, taken as it arrives: the walsender's two-way stream and bulk ``COPY … TO STDOUT``.

The driver's own copy objects cost a coroutine per row; here everything that has arrived is drained in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import generators, pq

from stranglerfig.foundation import postgres


async def walsender(dsn: str, *, what: str, options: str = "") -> postgres.Connection:
    """A replication session in the DSN's database; its texts are UTF-8, their forms those of all our sessions."""
    return await postgres.connect(dsn, what=what, replication="database", client_encoding="utf8", options=options)


async def command(conn: postgres.Connection, text: str) -> list[tuple[str | None, ...]]:
    """Run one command of the replication protocol, which knows no parameters; returns its rows as text.

    Raises:
        psycopg.Error: what the server said, by its SQLSTATE.
    """
    conn.pgconn.send_query(text.encode())
    [*_, result] = await conn.wait(generators.execute(conn.pgconn))
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise error_of(conn, result)
    return [
        tuple(None if (v := result.get_value(row, column)) is None else v.decode() for column in range(result.nfields))
        for row in range(result.ntuples)
    ]


async def begin_copy(conn: postgres.Connection, text: str) -> None:
    """Run a command that answers with a COPY.

    Raises:
        psycopg.Error: what the server said instead.
    """
    conn.pgconn.send_query(text.encode())
    [*_, result] = await conn.wait(generators.execute(conn.pgconn))
    if result.status not in (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH):
        raise error_of(conn, result)


def error_of(conn: postgres.Connection, result: Any) -> psycopg.Error:
    """The server's error as the driver's exception."""
    return psycopg.errors.error_from_result(result, encoding=conn.info.encoding)


async def wait_readable(conn: postgres.Connection, seconds: float) -> bool:
    """Wait until the socket has something, and take it in; False when nothing came."""
    pgconn = conn.pgconn
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    socket = pgconn.socket
    loop.add_reader(socket, arrived.set)
    try:
        async with asyncio.timeout(seconds):
            await arrived.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(socket)
    pgconn.consume_input()
    return True


def drain(conn: postgres.Connection, messages: list[bytes], *, most_bytes: int) -> tuple[int, bool]:
    """Append what has arrived to ``messages``, up to ``most_bytes``.

    Returns:
        How many bytes it was, and whether the COPY has ended.
    """
    get, take_in = conn.pgconn.get_copy_data, conn.pgconn.consume_input
    size = 0
    looked = False
    while size < most_bytes:
        count, data = get(1)
        if count > 0:
            messages.append(bytes(data))
            size += count
            looked = False
        elif count < 0:
            return size, True
        elif looked:
            break
        else:
            # libpq takes in a few kilobytes at a time: what the socket still has belongs to this wake-up.
            take_in()
            looked = True
    return size, False


async def end_of_copy(conn: postgres.Connection) -> None:
    """After the COPY ended: take its result.

    Raises:
        psycopg.Error: why it ended, when it was not by itself.
    """
    for result in await conn.wait(generators.fetch_many(conn.pgconn)):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_of(conn, result)


async def rows(conn: postgres.Connection, text: str, *, most_bytes: int) -> AsyncIterator[list[bytes]]:
    """The lines of a ``COPY … TO STDOUT``, in lists of about ``most_bytes``."""
    await begin_copy(conn, text)
    lines: list[bytes] = []
    size = 0
    while True:
        got, ended = drain(conn, lines, most_bytes=most_bytes - size)
        size += got
        if ended:
            break
        if size >= most_bytes:
            yield lines
            lines, size = [], 0
        else:
            await wait_readable(conn, 60.0)
    await end_of_copy(conn)
    if lines:
        yield lines


async def hang_up(conn: postgres.Connection) -> None:
    """Close a session in whatever state it is, without waiting for the server."""
    with contextlib.suppress(psycopg.Error):
        await conn.close()

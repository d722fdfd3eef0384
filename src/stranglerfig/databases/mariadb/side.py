"""A session into a monolith on MariaDB, in the cut-over's words (``databases.side``)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stranglerfig.databases import markers
from stranglerfig.databases.mariadb import catalogue, messages, ownership
from stranglerfig.databases.model import Ownership, Side, Table
from stranglerfig.databases.model import Sequence as Counter
from stranglerfig.databases.side import Given, Writer
from stranglerfig.foundation import clock, mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "side.sql")
_DENIED: Final = (1044, 1142, 1227)
_TAKEN: Final = (1205,)
_LOOK: Final = 0.02
"""Seconds between two looks at who holds the ownership row."""
_DDL_SECONDS: Final = 2.0


class MariaDBSide:
    """A :class:`~stranglerfig.databases.side.SideSession` into a MariaDB."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @property
    def lost(self) -> bool:
        """See ``SideSession``, also for the others."""
        return self._conn.lost

    async def close(self) -> None:  # noqa: D102
        await self._conn.close()

    async def _lock(self) -> str:
        # Locks have names of at most 64 characters, and belong to the server, not to a database.
        return f"fig.cutover.{zlib.crc32(str(await self._conn.value('SELECT database()')).encode()):08x}"

    async def claim(self) -> bool:  # noqa: D102
        return await self._conn.value(_sql.claim, (await self._lock(),)) == "1"

    async def take_over(self, seconds: float) -> bool:  # noqa: D102
        holder = await self._conn.value(_sql.stopped_holder, (await self._lock(), seconds))
        if holder is None:
            return False
        await self._conn.execute(f"KILL {int(holder)}")
        return True

    async def show_life(self) -> None:  # noqa: D102
        await self._conn.execute("SELECT 1")

    async def bring_forward(self) -> None:
        """Nothing: what is ours in a MariaDB has had one shape so far."""

    async def install(  # noqa: D102
        self, context: str, *, side: Side, owner: bool, tables: Sequence[str], enforcing: bool
    ) -> Ownership:
        return await ownership.install(self._conn, context, side=side, owner=owner, tables=tables, enforcing=enforcing)

    async def uninstall(self, context: str) -> None:  # noqa: D102
        await ownership.uninstall(self._conn, context)

    async def read(self, context: str) -> Ownership | None:  # noqa: D102
        return await ownership.read(self._conn, context)

    async def tables(self, names: Sequence[str]) -> dict[str, Table]:  # noqa: D102
        return await catalogue.tables(self._conn, names)

    async def sequences(self, names: Sequence[str]) -> list[Counter]:  # noqa: D102
        return catalogue.counters(list((await catalogue.describe(self._conn, names)).values()))

    async def unguarded(self, context: str, tables: Sequence[str]) -> set[str]:  # noqa: D102
        return set(tables) - set(await ownership.guarded(self._conn, context))

    async def enforce(  # noqa: D102
        self, context: str, enforcing: bool, *, shared: bool = False, made_with: Mapping[str, Any] | None = None
    ) -> None:
        assert not shared and not made_with, "both are a service's, or of remaining_writers: bidirectional"
        await ownership.enforce(self._conn, context, enforcing)

    async def made_with(self, context: str) -> dict[str, Any]:  # noqa: D102
        return {}

    async def old_writers(self, context: str, tables: Sequence[str], seconds: float) -> list[Writer]:
        """Who writes holds the ownership row: whoever can have it for a moment knows that nobody does, but for XA.

        Only where nobody could for ``seconds`` are open transactions looked at, which takes the right ``PROCESS``;
        without it the fence itself will say that it was not drained.
        """
        deadline = clock.monotonic() + seconds
        prepared = await ownership.prepared(self._conn)

        async def free() -> bool:
            try:
                async with self._conn.transaction():
                    await self._conn.execute(_sql.try_row, (context,))
            except FigError as error:
                if not mysql.refused(error, *_TAKEN):
                    raise
                return clock.monotonic() >= deadline
            return True

        await clock.until(free, timeout=seconds + 5, what="the ownership row", every=_LOOK, at_most=_LOOK)
        freed = clock.monotonic() < deadline
        if prepared:
            await asyncio.sleep(max(0.0, deadline - clock.monotonic()))
        if stays := prepared & await ownership.prepared(self._conn):
            return [Writer(0, f"XA RECOVER ({xid})", seconds) for xid in sorted(stays)]
        if freed:
            return []
        try:
            rows = await self._conn.fetch(_sql.old_writers, (seconds,))
        except FigError as error:
            if mysql.refused(error, *_DENIED):
                return []
            raise
        return [Writer(int(pid or 0), str(user), float(open_for or 0)) for pid, user, open_for in rows]

    async def intend(self, context: str, *, epoch: int, lock_timeout: float) -> Ownership:  # noqa: D102
        return await ownership.intend(self._conn, context, epoch=epoch, lock_timeout=_whole(lock_timeout))

    async def fence(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:  # noqa: D102
        wait = _whole(lock_timeout)
        return await ownership.fence(self._conn, context, epoch=epoch, nonce=nonce, lock_timeout=wait)

    async def cede(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:  # noqa: D102
        wait = _whole(lock_timeout)
        return await ownership.cede(self._conn, context, epoch=epoch, nonce=nonce, lock_timeout=wait)

    async def activate(self, context: str, *, epoch: int, nonce: str, direction: str) -> Ownership:  # noqa: D102
        return await ownership.activate(self._conn, context, epoch=epoch, nonce=nonce, direction=direction)

    async def abort(self, context: str, *, epoch: int, lock_timeout: float = 2.0) -> Ownership:  # noqa: D102
        return await ownership.abort(self._conn, context, epoch=epoch, lock_timeout=_whole(lock_timeout))

    async def emit_marker(self, context: str, direction: str, *, canary: bool = False) -> str:  # noqa: D102
        return await messages.emit_marker(self._conn, context, direction, canary=canary)

    async def emit_fence_marker(self, context: str, direction: str, *, epoch: int, nonce: str) -> None:  # noqa: D102
        await ownership.emit_fence_marker(self._conn, context, direction, epoch=epoch, nonce=nonce)

    async def await_marker(self, context: str, direction: str, nonce: str, *, timeout: float) -> float:  # noqa: D102
        async def applied() -> bool:
            return await messages.marker_applied(self._conn, context, direction, nonce)

        return await markers.until_applied(applied, context, direction, timeout=timeout)

    async def last_given(self, name: str) -> Given:
        """Of an AUTO_INCREMENT column, ``database.table.column``: what was reserved for a statement counts as given."""
        counter = await self._conn.value(_sql.counter, name.split(".")[:2])
        if counter is None:
            said = f"{name} does not count up by itself"
            raise FigError("unknown_sequence", said, "Make it AUTO_INCREMENT, and try again.", sequence=name)
        return Given(int(counter) - 1)

    async def advance(self, name: str, start: int) -> None:  # noqa: D102
        database, table, _ = name.split(".")
        if (await self.last_given(name)).last < start:
            qualified = f"{database}.{table}"
            statement = f"ALTER TABLE {mysql.quote_table(qualified)} AUTO_INCREMENT = {start + 1}"
            await ownership.patiently(self._conn, qualified, statement, clock.monotonic() + _DDL_SECONDS)


def _whole(seconds: float) -> int:
    """What a server that waits in whole seconds is told."""
    return max(1, round(seconds))

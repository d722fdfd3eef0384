"""A session into one side of a context, in the cut-over's words: who owns, guards, markers, values given out.

What each does is the same in every kind of database; how, is its own: PostgreSQL's is here, MariaDB's in ``mariadb``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from stranglerfig.databases import catalogue, markers, ownership, versions
from stranglerfig.databases.model import Ownership, Side, Table
from stranglerfig.databases.model import Sequence as Counter
from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "cutover.sql")


class Given(NamedTuple):
    """What a sequence has given out.

    Attributes:
        last: the last value.
        cache: how many a session takes at once.
        increment: the step.
        sessions: how many sessions there may be.
    """

    last: int
    cache: int = 1
    increment: int = 1
    sessions: int = 1


class Writer(NamedTuple):
    """A transaction that has written a context's tables and is still open."""

    pid: int
    application: str
    seconds: float


class SideSession(Protocol):
    """One side's session, in autocommit. Every method may raise ``FigError`` as ``databases.ownership`` says."""

    @property
    def lost(self) -> bool:
        """Whether it is over."""
        ...

    async def close(self) -> None:
        """End it; never fails."""
        ...

    async def claim(self) -> bool:
        """Be the only cut-over in this database, until the session ends; whether it is."""
        ...

    async def take_over(self, seconds: float) -> bool:
        """End the session that has the claim and shows no life for ``seconds``; whether there was one."""
        ...

    async def show_life(self) -> None:
        """Let others see that this session's process lives."""
        ...

    async def bring_forward(self) -> None:
        """Bring what is installed here of an earlier version forward; nothing is made where nothing is."""
        ...

    async def install(
        self, context: str, *, side: Side, owner: bool, tables: Sequence[str], enforcing: bool
    ) -> Ownership:
        """Give this database its ownership row, and each of the tables a guard that lets our user pass. Idempotent."""
        ...

    async def uninstall(self, context: str) -> None:
        """Take the guards off, and forget the row. Idempotent."""
        ...

    async def read(self, context: str) -> Ownership | None:
        """What this side is."""
        ...

    async def tables(self, names: Sequence[str]) -> dict[str, Table]:
        """Those of the tables ``names`` that exist, as a mapping is compiled against them."""
        ...

    async def sequences(self, names: Sequence[str]) -> list[Counter]:
        """What counts up columns of the tables."""
        ...

    async def unguarded(self, context: str, tables: Sequence[str]) -> set[str]:
        """Those of ``tables`` that have no whole guard, or do not exist."""
        ...

    async def enforce(
        self, context: str, enforcing: bool, *, shared: bool = False, made_with: Mapping[str, Any] | None = None
    ) -> None:
        """Let the guards refuse; ``made_with`` is kept where the cut-over that follows makes this side the owner."""
        ...

    async def made_with(self, context: str) -> dict[str, Any]:
        """What the cut-over was made with by which this side owns; empty when it does not."""
        ...

    async def old_writers(self, context: str, tables: Sequence[str], seconds: float) -> list[Writer]:
        """Transactions that have written the tables and have been open for ``seconds``; not ours."""
        ...

    async def intend(self, context: str, *, epoch: int, lock_timeout: float) -> Ownership:
        """L: ``owner → intent(epoch)``."""
        ...

    async def fence(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:
        """L: ``intent(epoch) → fenced(epoch, nonce)`` once all who have written have ended."""
        ...

    async def cede(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:
        """L: ``fenced(epoch, nonce) → ceded(epoch)``."""
        ...

    async def activate(self, context: str, *, epoch: int, nonce: str, direction: str) -> Ownership:
        """W: become ``owner(epoch)``, and say so in the change stream."""
        ...

    async def abort(self, context: str, *, epoch: int, lock_timeout: float = 2.0) -> Ownership:
        """L: ``owner`` again."""
        ...

    async def emit_marker(self, context: str, direction: str, *, canary: bool = False) -> str:
        """Write a marker into the change stream; its nonce."""
        ...

    async def emit_fence_marker(self, context: str, direction: str, *, epoch: int, nonce: str) -> None:
        """Write the marker of the fence that stands."""
        ...

    async def await_marker(self, context: str, direction: str, nonce: str, *, timeout: float) -> float:
        """Wait until a marker is applied here; the seconds waited."""
        ...

    async def last_given(self, name: str) -> Given:
        """What a sequence has given out; of one that was never used, the value before its first."""
        ...

    async def advance(self, name: str, start: int) -> None:
        """Let a sequence go on after ``start``, unless it is beyond already."""
        ...


class PostgresSide:
    """A :class:`SideSession` into a PostgreSQL."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @property
    def lost(self) -> bool:
        """See ``SideSession``, also for the others."""
        return self._conn.closed or self._conn.broken

    async def close(self) -> None:  # noqa: D102
        await self._conn.close()

    async def claim(self) -> bool:  # noqa: D102
        return bool(await postgres.value(self._conn, _sql.lock))

    async def take_over(self, seconds: float) -> bool:  # noqa: D102
        return bool(await postgres.value(self._conn, _sql.take_over, {"seconds": seconds}))

    async def show_life(self) -> None:  # noqa: D102
        await self._conn.execute("SELECT 1")

    async def bring_forward(self) -> None:  # noqa: D102
        await postgres.bring_forward(self._conn, (ownership.TABLES, versions.TABLES))

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
        return list(await catalogue.sequences(self._conn, names))

    async def unguarded(self, context: str, tables: Sequence[str]) -> set[str]:  # noqa: D102
        found = await catalogue.tables(self._conn, tables)
        wanted = {name for table in found.values() for name in (table.qualified, *table.leaves)}
        guarded = set(await ownership.guarded(self._conn, context))
        return (wanted - guarded) | {name for name in tables if name not in found}

    async def enforce(  # noqa: D102
        self, context: str, enforcing: bool, *, shared: bool = False, made_with: Mapping[str, Any] | None = None
    ) -> None:
        await ownership.enforce(self._conn, context, enforcing, shared=shared, made_with=made_with)

    async def made_with(self, context: str) -> dict[str, Any]:  # noqa: D102
        return await ownership.made_with(self._conn, context)

    async def old_writers(self, context: str, tables: Sequence[str], seconds: float) -> list[Writer]:  # noqa: D102
        asked = {"seconds": seconds, "tables": list(tables), "context": context}
        return [Writer(*row) for row in await postgres.fetch(self._conn, _sql.old_writers, asked)]

    async def intend(self, context: str, *, epoch: int, lock_timeout: float) -> Ownership:  # noqa: D102
        return await ownership.intend(self._conn, context, epoch=epoch, lock_timeout=lock_timeout)

    async def fence(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:  # noqa: D102
        return await ownership.fence(self._conn, context, epoch=epoch, nonce=nonce, lock_timeout=lock_timeout)

    async def cede(self, context: str, *, epoch: int, nonce: str, lock_timeout: float) -> Ownership:  # noqa: D102
        return await ownership.cede(self._conn, context, epoch=epoch, nonce=nonce, lock_timeout=lock_timeout)

    async def activate(self, context: str, *, epoch: int, nonce: str, direction: str) -> Ownership:  # noqa: D102
        return await ownership.activate(self._conn, context, epoch=epoch, nonce=nonce, direction=direction)

    async def abort(self, context: str, *, epoch: int, lock_timeout: float = 2.0) -> Ownership:  # noqa: D102
        return await ownership.abort(self._conn, context, epoch=epoch, lock_timeout=lock_timeout)

    async def emit_marker(self, context: str, direction: str, *, canary: bool = False) -> str:  # noqa: D102
        return await markers.emit_marker(self._conn, context, direction, canary=canary)

    async def emit_fence_marker(self, context: str, direction: str, *, epoch: int, nonce: str) -> None:  # noqa: D102
        await markers.emit_fence_marker(self._conn, context, direction, epoch=epoch, nonce=nonce)

    async def await_marker(self, context: str, direction: str, nonce: str, *, timeout: float) -> float:  # noqa: D102
        return await markers.await_marker(self._conn, context, direction, nonce, timeout=timeout)

    async def last_given(self, name: str) -> Given:  # noqa: D102
        return Given(*await catalogue.last_given(self._conn, name))

    async def advance(self, name: str, start: int) -> None:  # noqa: D102
        await catalogue.advance_sequence(self._conn, name, start)

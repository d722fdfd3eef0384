"""Places in MariaDB's binary log: as the server names them, and as numbers that grow in commit order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stranglerfig.foundation.mysql import Connection

_OFFSET_BITS = 32
"""Of an offset in a file: the format's own limit (MariaDB's manual, "Binlog event header", end_log_pos)."""


class Place(NamedTuple):
    """A place between two transactions.

    Attributes:
        server: who says so (``server_uid``).
        file, offset: of the binary log.
        gtid: the newest transaction of each domain before it, ``0-1-42,1-1-7``.
    """

    server: str
    file: str
    offset: int
    gtid: str

    @property
    def number(self) -> int:
        """The place as a number."""
        return number(self.file, self.offset)


def number(file: str, offset: int) -> int:
    """A place as a number that grows with it on one server: the file's number, then the offset.

    >>> number("binlog.000003", 4)
    12884901892
    """
    return int(file.rpartition(".")[2]) << _OFFSET_BITS | offset


def behind(files: Sequence[tuple[str, int]], found: int) -> int | None:
    """Bytes of the log from the place ``found`` on, given its files with their sizes; None when it is gone."""
    named = {number(file, 0) >> _OFFSET_BITS: size for file, size in files}
    own, offset = found >> _OFFSET_BITS, found & ((1 << _OFFSET_BITS) - 1)
    if own not in named:
        return None
    return sum(size for at, size in named.items() if at >= own) - offset


def includes(here: str, there: str) -> bool:
    """Whether a place (a GTID for each domain) has all that another has.

    >>> includes("0-1-42,1-1-7", "0-2-41"), includes("0-1-42", "0-1-43"), includes("", "0-1-1")
    (True, False, False)
    """
    newest = {domain: sequence(gtid) for domain, gtid in domains(here).items()}
    return all(newest.get(domain, -1) >= sequence(gtid) for domain, gtid in domains(there).items())


def domains(gtids: str) -> dict[str, str]:
    """The GTID of each domain.

    >>> domains("0-1-42,1-1-7")
    {'0': '0-1-42', '1': '1-1-7'}
    """
    return {domain_of(gtid): gtid for gtid in gtids.split(",") if gtid}


def domain_of(gtid: str) -> str:
    """The domain of a GTID, its first number."""
    return gtid.partition("-")[0]


def sequence(gtid: str) -> int:
    """The number of a GTID's transaction in its domain, its last one."""
    return int(gtid.rpartition("-")[2])


async def where(conn: Connection) -> Place:
    """Where the server's log ends now. (It must have one.)"""
    row = await conn.one("SHOW MASTER STATUS")
    said = await conn.one("SELECT @@server_uid, @@gtid_binlog_pos")
    assert row is not None and said is not None
    return Place(str(said[0]), str(row[0]), int(row[1] or 0), str(said[1] or ""))


async def begin_snapshot(conn: Connection) -> Place:
    """Begin a transaction that reads what the log has before a place, without a lock; that place.

    MariaDB's manual, "START TRANSACTION WITH CONSISTENT SNAPSHOT": with a binary log the two agree.
    """
    await conn.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    server = str(await conn.value("SELECT @@server_uid"))
    await conn.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    said = {name: value for name, value in await conn.fetch("SHOW STATUS LIKE 'binlog_snapshot_%'")}
    file, offset = str(said["Binlog_snapshot_file"]), int(said["Binlog_snapshot_position"] or 0)
    gtid = await conn.value("SELECT binlog_gtid_pos(%s, %s)", (file, offset))
    return Place(server, file, offset, str(gtid or ""))


async def files(conn: Connection) -> list[tuple[str, int]]:
    """The log's files that the server still has, with their sizes in bytes."""
    return [(str(row[0]), int(row[1] or 0)) for row in await conn.fetch("SHOW BINARY LOGS")]

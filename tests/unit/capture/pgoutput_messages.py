"""pgoutput messages, written by hand: what a walsender would send."""

from __future__ import annotations

import struct

from stranglerfig.capture.decode import EPOCH_2000

Sent = str | None | bool
"""A value as it is sent: text, null, or False for an unchanged one."""

TYPES = {(23, -1): "integer", (25, -1): "text", (1700, 655366): "numeric(10,2)"}


def begin(lsn: int, xid: int = 7, at: int = 1_000) -> bytes:
    return struct.pack("!cqqi", b"B", lsn, at - EPOCH_2000, xid)


def commit(lsn: int, end: int | None = None) -> bytes:
    return struct.pack("!cbqqq", b"C", 0, lsn, lsn + 48 if end is None else end, 0)


def origin(name: str) -> bytes:
    return b"O" + struct.pack("!q", 0) + name.encode() + b"\0"


def relation(oid: int, name: str, *columns: tuple[str, int, int, bool], schema: str = "public") -> bytes:
    head = b"R" + struct.pack("!I", oid) + schema.encode() + b"\0" + name.encode() + b"\0d"
    packed = b"".join(
        struct.pack("!b", key) + n.encode() + b"\0" + struct.pack("!Ii", t, m) for n, t, m, key in columns
    )
    return head + struct.pack("!H", len(columns)) + packed


def row(*values: Sent) -> bytes:
    packed = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            packed.append(b"n")
        elif isinstance(value, bool):
            packed.append(b"u")
        else:
            data = value.encode()
            packed.append(b"t" + struct.pack("!i", len(data)) + data)
    return b"".join(packed)


def insert(oid: int, *values: Sent) -> bytes:
    return b"I" + struct.pack("!I", oid) + b"N" + row(*values)


def update(oid: int, new: tuple[Sent, ...], *, key: tuple[Sent, ...] = (), old: tuple[Sent, ...] = ()) -> bytes:
    before = b"K" + row(*key) if key else b"O" + row(*old) if old else b""
    return b"U" + struct.pack("!I", oid) + before + b"N" + row(*new)


def delete(oid: int, *, key: tuple[Sent, ...] = (), old: tuple[Sent, ...] = ()) -> bytes:
    return b"D" + struct.pack("!I", oid) + (b"K" + row(*key) if key else b"O" + row(*old))


def truncate(*oids: int) -> bytes:
    return b"T" + struct.pack(f"!Ib{len(oids)}I", len(oids), 0, *oids)


def message(prefix: str, content: str, *, transactional: bool = True, lsn: int = 5) -> bytes:
    data = content.encode()
    return b"M" + struct.pack("!bq", transactional, lsn) + prefix.encode() + b"\0" + struct.pack("!i", len(data)) + data

"""Records what a real PostgreSQL sends: ``python -m tests.fuzz.record`` writes ``corpus/pgoutput.json``.

One stream a line of the file: the messages of a few transactions of each kind, hexadecimal, and the types' names.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import psycopg

from stranglerfig.capture import wire
from stranglerfig.capture.decode import types_in
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests.conftest import passable

CORPUS = Path(__file__).with_name("corpus")
TABLES = """
CREATE TABLE item (id int PRIMARY KEY, sku text NOT NULL, note text, price numeric(10,2), tags text[], at timestamptz);
CREATE TABLE whole (id bigint, data jsonb, raw bytea);
ALTER TABLE whole REPLICA IDENTITY FULL;
ALTER TABLE item ALTER COLUMN note SET STORAGE EXTERNAL;
CREATE TABLE "Odd name" ("a b" uuid PRIMARY KEY DEFAULT '6f1c0c1e-0000-4000-8000-000000000001', "ü" interval, c boolean);
CREATE TABLE outbox (id uuid PRIMARY KEY, topic text, type text, key text, data jsonb, traceparent text);
CREATE PUBLICATION p FOR ALL TABLES;
"""
TRANSACTIONS = [
    ["INSERT INTO item VALUES (1, 'A-1', NULL, 2.50, '{a,\"b c\"}', '2026-02-03 04:05:06+00')"],
    ["INSERT INTO item SELECT n, 'S-' || n, repeat('é', n), n / 3.0, NULL, NULL FROM generate_series(2, 9) n"],
    ["UPDATE item SET note = repeat('x', 3000) WHERE id = 1", "UPDATE item SET sku = 'B' WHERE id = 1"],
    ["UPDATE item SET id = 100 WHERE id = 2", "DELETE FROM item WHERE id = 3"],
    ["INSERT INTO whole VALUES (1, '{\"a\": [1, null]}', '\\xdeadbeef')", "UPDATE whole SET data = '{}'", "DELETE FROM whole"],
    ["INSERT INTO \"Odd name\" (\"ü\", c) VALUES ('1 day', true)", "TRUNCATE \"Odd name\", whole"],
    ["SELECT pg_logical_emit_message(true, 'fig.marker', '{\"n\": 1}')", "INSERT INTO item VALUES (10, 'C')"],
    ["SELECT pg_logical_emit_message(false, 'fig.refused', '{}')"],
    ["SELECT pg_logical_emit_message(true, 'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')",
     "INSERT INTO outbox VALUES ('6f1c0c1e-0000-4000-8000-000000000002', 'shop', 'x.Y', 'k', '{\"a\": 1}', NULL)",
     "UPDATE item SET price = 9 WHERE id = 4"],
    ["ALTER TABLE item ADD COLUMN more int", "INSERT INTO item (id, sku, more) VALUES (11, 'D', 1)"],
    ["SELECT pg_replication_origin_session_setup('fig_x_reverse')", "UPDATE item SET note = NULL WHERE id = 5",
     "SELECT pg_replication_origin_session_reset()"],
]  # fmt: skip


async def _stream(dsn: str) -> list[bytes]:
    conn = await wire.walsender(dsn, what="the recording")
    raw: list[bytes] = []
    await wire.begin_copy(
        conn, "START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p', messages 'true')"
    )
    while await wire.wait_readable(conn, 2.0):
        wire.drain(conn, raw, most_bytes=1 << 24)
    await wire.hang_up(conn)
    return [data[25:] for data in raw if data[:1] == b"w"]


def record(dsn: str) -> dict[str, object]:
    """What the walsender sends for :data:`TRANSACTIONS`."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TABLES.encode())
        conn.execute("SELECT pg_replication_origin_create('fig_x_reverse')")
        conn.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        for statements in TRANSACTIONS:
            with conn.transaction():
                for statement in statements:
                    conn.execute(statement.encode())
        messages = asyncio.run(_stream(dsn))
        types = sorted({pair for message in messages if message[:1] == b"R" for pair in types_in(message)})
        named = [
            [oid, modifier, conn.execute("SELECT format_type(%s, %s)", (oid, modifier)).fetchone()[0]]  # type: ignore[index]
            for oid, modifier in types
        ]
    return {"types": named, "messages": [message.hex() for message in messages]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(passable(Path(folder)) / "data")
        server.start()
        try:
            found = record(server.create_database("recorded"))
        finally:
            server.stop()
    CORPUS.joinpath("pgoutput.json").write_text(json.dumps(found, indent=0) + "\n")

"""What one moment of an estate is kept as: its three databases as SQL, and what the ``fig`` of then said of itself.

A moment's folder has ``control.sql.gz``, ``monolith.sql.gz``, ``service.sql.gz`` (``pg_dump``'s, without what differs
from run to run; read them with ``zcat``) and ``said.json``. Addresses are placeholders. What ``pg_dump`` leaves out but
a flow goes by is in ``said.json`` as well and is given back by :func:`thaw`: the server's system identifier, where its
WAL stood, its replication slots, and the object ids of publications.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from stranglerfig.runtime.embedded import EmbeddedPostgres, binaries

SEGMENT = 16 * 1024 * 1024
"""Bytes of a WAL segment."""
_KEY = "frozen"


def dump(dsn: str, addresses: Mapping[str, str], *options: str) -> str:
    """One database as SQL, with ``{{name}}`` for each of ``addresses`` (name → text)."""
    command = [
        str(binaries() / "pg_dump"),
        "--restrict-key",
        _KEY,
        "--quote-all-identifiers",
        "--no-comments",
        *options,
    ]
    done = subprocess.run([*command, dsn], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return veiled(re.sub(r"^(--.*|)\n", "", done.stdout, flags=re.MULTILINE), addresses)


def veiled(text: str, addresses: Mapping[str, str]) -> str:
    """``text`` with placeholders for what differs from machine to machine."""
    for name, address in addresses.items():
        text = text.replace(address, "{{" + name + "}}")
    return text


def restore(text: str, dsn: str, addresses: Mapping[str, str]) -> None:
    """Fill an empty database with what :func:`dump` made of another."""
    for name, address in addresses.items():
        text = text.replace("{{" + name + "}}", address)
    done = subprocess.run(
        [str(binaries() / "psql"), "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--output", os.devnull, dsn],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def facts(dsn: str) -> dict[str, Any]:
    """What ``pg_dump`` does not say of a source of changes."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(
            "SELECT system_identifier::text, (pg_current_wal_lsn() - '0/0')::bigint FROM pg_control_system()"
        ).fetchone()
        assert row is not None
        slots = conn.execute(
            "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY 1"
        ).fetchall()
        publications = conn.execute("SELECT pubname::text, oid::bigint FROM pg_publication ORDER BY 1").fetchall()
    return {
        "system": row[0],
        "lsn": row[1],
        "slots": [name for (name,) in slots],
        "publications": dict(publications),
    }


def advance_wal(dsn: str, lsn: int) -> None:
    """Let a server's WAL go beyond ``lsn`` (bytes)."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        while (found := conn.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint").fetchone()) and found[0] <= lsn:
            conn.execute("SELECT pg_logical_emit_message(true, 'test', ''), pg_switch_wal()")


def impersonate(server: EmbeddedPostgres, system: str) -> None:
    """Make a server that runs the one with this system identifier, as its capture knows its source."""
    server.stop()
    control = server.directory / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    content[:8] = struct.pack("<Q", int(system))
    control.write_bytes(content)
    # It computes the checksum anew, and begins the WAL anew, whose pages carry the identifier as well.
    subprocess.run(
        [str(binaries() / "pg_resetwal"), "--force", "-D", str(server.directory)],
        user=control.owner() if os.geteuid() == 0 else None,
        cwd="/",
        capture_output=True,
        check=True,
    )
    server.start()


def thaw(server: EmbeddedPostgres, name: str, text: str, was: Mapping[str, Any], addresses: Mapping[str, str]) -> None:
    """Replace the database ``name`` of ``server`` by a frozen one, as its capture left it.

    The roles must be there. A slot is made before the server's WAL is where the frozen server's stood: so it stands
    before what capture acknowledged last, and every later change stands behind.
    """
    impersonate(server, was["system"])
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        owner = conn.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (name,)).fetchone()
        assert owner is not None
        grants = conn.execute("SELECT datacl::text[] FROM pg_database WHERE datname = %s", (name,)).fetchone()
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        conn.execute(f"CREATE DATABASE {name} OWNER {owner[0]} STRATEGY file_copy".encode())
        for grant in (grants and grants[0]) or []:
            role, _, rights = grant.partition("=")
            if role == "fig" and "C" in rights:
                conn.execute(f"GRANT CREATE ON DATABASE {name} TO fig".encode())
    restore(text, server.dsn(name), addresses)
    with psycopg.connect(server.dsn(name), autocommit=True) as conn:
        conn.execute("SET allow_system_table_mods = on")
        for publication, oid in was["publications"].items():
            for statement in (
                "UPDATE pg_publication_rel SET prpubid = %(oid)s"
                " WHERE prpubid = (SELECT oid FROM pg_publication WHERE pubname = %(name)s)",
                "UPDATE pg_publication SET oid = %(oid)s WHERE pubname = %(name)s",
            ):
                conn.execute(statement.encode(), {"oid": oid, "name": publication})
        for slot in was["slots"]:
            conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, false, true)", (slot,))
        now = conn.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint").fetchone()
        assert now is not None and (not was["slots"] or now[0] < was["lsn"]), f"frozen too early: {now}, {was}"
    advance_wal(server.dsn(name), was["lsn"])


def write(folder: Path, texts: Mapping[str, str], said: Mapping[str, Any]) -> None:
    """Keep one moment."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.sql.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (folder / "said.json").write_text(json.dumps(said, indent=1, sort_keys=True, default=str) + "\n")


def moments() -> list[Moment]:
    """All that are kept, below ``upgrade_states/COMMIT``."""
    return [Moment(each.parent) for each in sorted((Path(__file__).parent / "upgrade_states").glob("*/*/said.json"))]


class Moment:
    """One that was kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"{folder.parent.name}/{folder.name}"
        self.said: dict[str, Any] = json.loads((folder / "said.json").read_text())

    def sql(self, database: str) -> str:
        """The dump of ``control``, ``monolith`` or ``service``."""
        return gzip.decompress((self.folder / f"{database}.sql.gz").read_bytes()).decode()

    def steps(self, database: str) -> dict[str, int]:
        """The last step of each room in a database, by its dump."""
        found = re.search(
            r'^COPY "fig"."migration" .*?\n(.*?)^\\\.$', self.sql(database), flags=re.MULTILINE | re.DOTALL
        )
        rows = [line.split("\t") for line in found[1].splitlines()] if found else []
        return {room: max(int(row[1]) for row in rows if row[0] == room) for room in sorted({row[0] for row in rows})}

    @property
    def whole(self) -> bool:
        """Whether the two sides' databases were kept as well."""
        return (self.folder / "monolith.sql.gz").exists()

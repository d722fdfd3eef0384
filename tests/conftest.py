"""Real servers for the tests: started once per run, a fresh database per test, ended by their own process ids."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import psycopg
import pymysql
import pymysql.cursors
import pytest

from examples.servers.fetch import Missing
from examples.servers.mariadb import MariaDB
from stranglerfig.runtime.embedded import EmbeddedPostgres


def passable(folder: Path) -> Path:
    """``folder``, open to the account that runs PostgreSQL where root lends it one."""
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)
    return folder


def required(why: str) -> NoReturn:
    """A server that a test needs is missing: that fails in CI and skips on a laptop."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Server:
    """A PostgreSQL server shared by the tests; each asks it for databases of its own."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded

    def database(self, *, owner: str = "postgres") -> str:
        """A new, empty database; returns its DSN (the test's sessions are closed and it is dropped with the server)."""
        return self.embedded.create_database(f"t_{uuid.uuid4().hex[:12]}", owner=owner)

    def role(self, name: str, options: str = "LOGIN") -> str:
        """A role that exists; returns its name."""
        with psycopg.connect(self.embedded.dsn(), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                conn.execute(f"CREATE ROLE {name} {options}")  # type: ignore[arg-type]
        return name


def _serve(tmp_path_factory: pytest.TempPathFactory, name: str, major: int) -> Iterator[Server]:
    root = passable(tmp_path_factory.mktemp(name))
    # The tests' servers trade durability for speed, except where a test is about durability and starts its own.
    # Origins live longer than their databases, and each test's flow has some; a test that fails leaves its slots.
    settings = {"fsync": "off", "max_replication_slots": "500", "max_wal_senders": "100"}
    if major >= 18:
        settings["max_active_replication_origins"] = "500"
    server = EmbeddedPostgres(root / "data", major=major, settings=settings)
    server.start()
    yield Server(server)
    server.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL 18: the monolith's side where a test has two."""
    yield from _serve(tmp_path_factory, "pg18a", 18)


@pytest.fixture(scope="session")
def postgres_b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second PostgreSQL 18: the service's side."""
    yield from _serve(tmp_path_factory, "pg18b", 18)


@pytest.fixture(scope="session")
def postgres_16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL 16."""
    yield from _serve(tmp_path_factory, "pg16", 16)


@pytest.fixture(scope="session")
def begin() -> Callable[[Callable[[], None]], None]:
    """Starts what wants a fetched server: where that cannot be had, CI fails and a laptop skips with the reason."""

    def started(start: Callable[[], None]) -> None:
        try:
            start()
        except Missing as missing:
            if "CI" in os.environ:
                raise
            pytest.skip(str(missing))

    return started


class MonolithOnMariaDB:
    """A MariaDB shared by the tests; each asks it for databases of its own."""

    def __init__(self, server: MariaDB) -> None:
        self.server = server

    def session(self, database: str = "mysql") -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A session of a test, in autocommit."""
        return pymysql.connect(
            host="127.0.0.1", port=self.server.port, user="fig", password="fig", database=database, autocommit=True,
            charset="utf8mb4", init_command="SET time_zone = '+00:00'",
        )  # fmt: skip

    def database(self) -> str:
        """A new, empty database; returns its name."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        conn = self.session()
        with conn.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        conn.close()
        return name


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonolithOnMariaDB]:
    """A MariaDB: the monolith's side."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"), sync_binlog="0", innodb_flush_log_at_trx_commit="2")
    try:
        server.start()
    except Missing as missing:
        required(str(missing))
    yield MonolithOnMariaDB(server)
    server.stop()

"""The servers that the contract of the log is held against, each real where the project can run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.servers.kafka import Kafka
from stranglerfig.eventlog import open_log
from stranglerfig.runtime.embedded import EmbeddedPostgres


@dataclass(frozen=True)
class Backend:
    """A server of a log that tests may use.

    Attributes:
        url: as ``fig.yaml`` names it.
        state: the database of the groups of a log that keeps none.
        short_retention: whether events can be made to expire within seconds.
        kill, start: kill -9 of the server, and its start with what it had; None where it keeps nothing.
    """

    name: str
    url: str
    state: str
    short_retention: bool = True
    kill: Callable[[], None] | None = None
    start: Callable[[], None] | None = None

    def open(self, **options: Any) -> Any:
        """A new client."""
        return open_log(self.url, state=self.state)


Pgs = Callable[[], str]
"""Gives a new database."""


@contextmanager
def _memory(_: Path, database: Pgs) -> Iterator[Backend]:
    yield Backend("memory", "memory://", database())


@contextmanager
def _postgres(directory: Path, database: Pgs) -> Iterator[Backend]:
    for folder in (directory, *directory.parents[:2]):  # root lends postgres an account that must pass through here
        folder.chmod(0o755)
    server = EmbeddedPostgres(directory / "data")
    server.start()
    try:
        yield Backend("postgres", server.create_database("log"), database(), kill=server.kill, start=server.start)
    finally:
        server.stop()


@contextmanager
def _kafka(directory: Path, database: Pgs) -> Iterator[Backend]:
    server = Kafka(directory, group_min_session_timeout_ms="300")
    server.start()
    try:
        yield Backend("kafka", server.url, database(), kill=server.kill, start=server.start)
    finally:
        server.stop()


BACKENDS = {"memory": _memory, "postgres": _postgres, "kafka": _kafka}
KILLABLE = ("postgres", "kafka")

"""A log's server by its name, for the demonstration: ``--log kafka`` instead of an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from examples.servers.kafka import Kafka
from examples.servers.rabbitmq import RabbitMQ


class LogServer(Protocol):
    """A server that holds an event log."""

    @property
    def url(self) -> str:
        """As ``fig.yaml`` names it."""
        ...

    def start(self) -> None:
        """Start it, and return when it answers."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


def _server(name: str, directory: Path) -> LogServer:
    return {"kafka": Kafka, "rabbitmq": RabbitMQ}[name](directory)


NAMES = ("kafka", "rabbitmq")


@contextmanager
def served(log: str, directory: Path) -> Iterator[str]:
    """The address of ``log``: of a server that is started for as long, when it is one of :data:`NAMES`."""
    if log not in NAMES:
        yield log
        return
    server = _server(log, directory / log)
    print(f"Starting {log}", flush=True)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()

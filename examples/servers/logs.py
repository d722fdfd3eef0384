"""Servers that the demonstration asks for by name: ``--log kafka`` instead of an address, ``--capture debezium``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from examples.servers.kafka import Connect, Kafka
from examples.servers.kinesis import Kinesis
from examples.servers.pubsub import PubSub
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


_SERVERS: dict[str, Callable[[Path], LogServer]] = {
    "kafka": Kafka,
    "rabbitmq": RabbitMQ,
    "kinesis": Kinesis,
    "pubsub": PubSub,
}
NAMES = tuple(_SERVERS)


@contextmanager
def served(log: str, directory: Path) -> Iterator[str]:
    """The address of ``log``: of a server that is started for as long, when it is one of :data:`NAMES`."""
    if log not in NAMES:
        yield log
        return
    server = _SERVERS[log](directory / log)
    print(f"Starting {log}", flush=True)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


class Cluster(NamedTuple):
    """Kafka Connect's REST interface, and the brokers (``bootstrap.servers``) it works with."""

    url: str
    kafka: str


@contextmanager
def connected(capture: str, log: str, directory: Path) -> Iterator[Cluster | None]:
    """A Kafka Connect with Debezium for ``capture`` debezium, on the log's Kafka or on one of its own; else None."""
    if capture != "debezium":
        yield None
        return
    with ExitStack() as stack:
        url = log if log.startswith("kafka://") else stack.enter_context(served("kafka", directory / "connect"))
        servers = url.removeprefix("kafka://").partition("?")[0]
        print("Starting Kafka Connect", flush=True)
        worker = Connect(directory / "connect" / "worker", servers)
        worker.start()
        stack.callback(worker.stop)
        yield Cluster(worker.url, servers)

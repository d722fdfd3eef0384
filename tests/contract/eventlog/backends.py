"""The servers that the contract of the log is held against, each real where the project can run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from examples.servers.kafka import Kafka
from examples.servers.kinesis import Kinesis
from examples.servers.pubsub import PubSub
from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.eventlog import open_log
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests.conftest import passable


@dataclass(frozen=True)
class Backend:
    """A server of a log that tests may use.

    Attributes:
        url: as ``fig.yaml`` names it.
        state: the database of the groups of a log that keeps none.
        short_retention: whether events can be made to expire within seconds.
        expires_on_append: whether they do so only when later ones begin a new segment.
        kill, start: kill -9 of the server, and its start with what it had; None where it keeps nothing.
        reshape: steps that change a topic's partitions in the backend's own way, by which a key keeps its order; empty
            where they are added through the port.
        lists_dearly: whether a list of topics asks the server for each: a thousand of them get one of their own.
    """

    name: str
    url: str
    state: str
    short_retention: bool = True
    expires_on_append: bool = False
    kill: Callable[[], None] | None = None
    start: Callable[[], None] | None = None
    reshape: tuple[Callable[[str], None], ...] = ()
    lists_dearly: bool = False

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
    server = EmbeddedPostgres(passable(directory) / "data")
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
        url = f"{server.url}?topic.metadata.refresh.interval.ms=500"  # new partitions are met at once
        yield Backend("kafka", url, database(), kill=server.kill, start=server.start)
    finally:
        server.stop()


@contextmanager
def _rabbitmq(directory: Path, database: Pgs) -> Iterator[Backend]:
    server = RabbitMQ(directory)
    server.start()
    try:
        yield Backend(
            "rabbitmq",
            f"{server.url}?segment_bytes=1000000",
            database(),
            expires_on_append=True,
            kill=server.kill,
            start=server.start,
        )
    finally:
        server.stop()


def reshapes(endpoint: str) -> tuple[Callable[[str], None], ...]:
    """Shards 0 and 1 become 2, 3 and 1; then 3 and 1 become 4; then 4 becomes 5 and 6."""
    client = boto3.client(
        "kinesis", region_name="us-east-1", endpoint_url=endpoint, aws_access_key_id="t", aws_secret_access_key="t"
    )

    def split(number: int, at: int) -> Callable[[str], None]:
        def step(topic: str) -> None:
            client.split_shard(StreamName=topic, ShardToSplit=f"shardId-{number:012d}", NewStartingHashKey=str(at))

        return step

    def merge(topic: str) -> None:
        client.merge_shards(
            StreamName=topic, ShardToMerge="shardId-000000000003", AdjacentShardToMerge="shardId-000000000001"
        )

    return split(0, 2**126), merge, split(4, 2**127 + 2**125)


@contextmanager
def _kinesis(directory: Path, database: Pgs) -> Iterator[Backend]:
    server = Kinesis(directory)
    server.start()
    try:
        # Kinesis keeps events for a day at least; expiry is seen in tests/integration/eventlog.
        yield Backend(
            "kinesis", f"{server.url}&poll=0.05", database(), short_retention=False,
            reshape=reshapes(server.endpoint), lists_dearly=True,
        )  # fmt: skip
    finally:
        server.stop()


@contextmanager
def _pubsub(directory: Path, database: Pgs) -> Iterator[Backend]:
    server = PubSub(directory)
    server.start()
    try:
        # Pub/Sub keeps events for ten minutes at least; expiry is seen in tests/integration/eventlog.
        yield Backend("pubsub", server.url, database(), short_retention=False)
    finally:
        server.stop()


BACKENDS = {
    "memory": _memory,
    "postgres": _postgres,
    "kafka": _kafka,
    "rabbitmq": _rabbitmq,
    "kinesis": _kinesis,
    "pubsub": _pubsub,
}
KILLABLE = ("postgres", "kafka", "rabbitmq")

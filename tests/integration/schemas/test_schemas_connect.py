"""Debezium on Kafka Connect with Confluent's own AvroConverter, unmodified, against our registry.

The converter is not on Maven Central under its own name; Snowflake's connector, which is there, carries its classes as
they are (io.confluent.connect.avro.AvroConverter of Confluent Platform 7.2, not renamed).
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from psycopg import conninfo

from examples.servers import fetch
from examples.servers.kafka import Connect, Kafka
from stranglerfig.foundation import clock

if TYPE_CHECKING:
    from stranglerfig.schemas.server import RegistryServer
    from stranglerfig.schemas.store import SchemaStore
    from tests.conftest import Server

pytestmark = pytest.mark.timeout(600)
CONVERTER = "io.confluent.connect.avro.AvroConverter"
CARRIER = "com.snowflake:snowflake-kafka-connector:2.2.2!"
TOPIC = "shop.public.orders"


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, Connect]]:
    root = tmp_path_factory.mktemp("connect")
    converters = fetch.maven("confluent-avro", [CARRIER])
    kafka = Kafka(root / "kafka", memory="384m")
    kafka.start()
    # The converter does not announce itself as plugins do.
    plugins = f"{fetch.ROOT / 'plugins'},{converters}"
    worker = Connect(root / "connect", kafka.servers, plugin_path=plugins, plugin_discovery="hybrid_warn")
    try:
        worker.start()
        yield kafka, worker
    finally:
        worker.stop()
        kafka.stop()


def ask(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def connector(dsn: str, registry: str) -> dict[str, Any]:
    at = conninfo.conninfo_to_dict(dsn)
    converters = {
        f"{part}.{key}": value
        for part in ("key.converter", "value.converter")
        for key, value in (("schema.registry.url", registry), ("schemas.enable", "true"))
    }
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": at["host"],
        "database.port": str(at["port"]),
        "database.user": at["user"],
        "database.password": "",
        "database.dbname": at["dbname"],
        "topic.prefix": "shop",
        "table.include.list": "public.orders",
        "plugin.name": "pgoutput",
        "slot.name": "converter",
        "publication.name": "converter",
        "publication.autocreate.mode": "filtered",
        "slot.drop.on.stop": "true",
        "poll.interval.ms": "20",
        "topic.creation.default.partitions": "1",
        "topic.creation.default.replication.factor": "1",
        "key.converter": CONVERTER,
        "value.converter": CONVERTER,
        **converters,
    }


class Reader:
    """What the topic holds, read by Kafka's client with its own deserializer."""

    def __init__(self, broker: Kafka, client: SchemaRegistryClient) -> None:
        settings = {"bootstrap.servers": broker.servers, "group.id": "reader", "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**settings, "allow.auto.create.topics": "false"})
        self._consumer.subscribe([TOPIC])
        self._deserialize = AvroDeserializer(client)

    def next(self) -> Any:
        deadline = clock.monotonic() + 60
        while clock.monotonic() < deadline:
            message = self._consumer.poll(0.5)
            if message is not None and message.error() is None and message.value() is not None:
                return self._deserialize(message.value(), SerializationContext(TOPIC, MessageField.VALUE))
        raise AssertionError("nothing more arrived")

    def close(self) -> None:
        self._consumer.close()


def failed(worker: Connect) -> str:
    """What the task failed with, once it has."""
    deadline = clock.monotonic() + 60
    while clock.monotonic() < deadline:
        with suppress(urllib.error.HTTPError):
            for task in ask("GET", f"{worker.url}/connectors/orders/status")["tasks"]:
                if task["state"] == "FAILED":
                    return str(task["trace"])
        clock.block(0.2)
    raise AssertionError("the task has not failed")


async def test_debezium_writes_avro_with_confluents_converter(
    server: RegistryServer, store: SchemaStore, connect: tuple[Kafka, Connect], postgres: Server
) -> None:
    kafka, worker = connect
    dsn, registry = postgres.database(), f"http://127.0.0.1:{server.port}"

    def work(reader: Reader) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text NOT NULL)")
            conn.execute("INSERT INTO orders VALUES (1, 'snapshot')")
            ask("PUT", f"{worker.url}/connectors/orders/config", connector(dsn, registry))
            first = reader.next()
            assert (first["op"], first["after"]) == ("r", {"id": 1, "note": "snapshot"})
            conn.execute("INSERT INTO orders VALUES (2, 'für Ada')")
            second = reader.next()
            assert (second["op"], second["after"]) == ("c", {"id": 2, "note": "für Ada"})
            conn.execute("ALTER TABLE orders ADD COLUMN paid boolean")
            conn.execute("INSERT INTO orders VALUES (3, 'paid', true)")
            assert reader.next()["after"] == {"id": 3, "note": "paid", "paid": True}
            # What would part its readers from it is not written: the registry refuses, the task stops, nothing is lost.
            conn.execute("ALTER TABLE orders ALTER COLUMN note TYPE bigint USING 7")
            conn.execute("INSERT INTO orders VALUES (4, 8, true)")
            said = failed(worker)
            assert "409" in said and "note" in said, said
            ask("DELETE", f"{worker.url}/connectors/orders")

    with SchemaRegistryClient({"url": registry}) as client:
        reader = Reader(kafka, client)
        try:
            await asyncio.to_thread(work, reader)
        finally:
            reader.close()
    assert await store.subjects() == [f"{TOPIC}-key", f"{TOPIC}-value"]
    versions = await store.versions(f"{TOPIC}-value")
    assert [each.version for each in versions] == [1, 2] and "paid" in versions[1].schema.text

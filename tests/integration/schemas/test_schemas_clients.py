"""Kafka's own clients, unmodified, against our registry and a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from examples.servers.kafka import Kafka
from stranglerfig.foundation import clock
from stranglerfig.schemas import payloads
from tests.integration.schemas.conftest import record

if TYPE_CHECKING:
    from stranglerfig.schemas.server import RegistryServer
    from stranglerfig.schemas.store import SchemaStore

ORDER = record(("id", "long"), ("note", "string"))
JSON_ORDER = json.dumps(
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["id"],
    }
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    kafka = Kafka(tmp_path_factory.mktemp("kafka"), memory="384m")
    kafka.start()
    yield kafka
    kafka.stop()


def proto() -> Any:
    """The class of a message as protoc would make it."""
    file = FileDescriptorProto(name="shop/order.proto", package="shop", syntax="proto3")
    message = file.message_type.add(name="Order")
    for number, (name, kind) in enumerate((("id", "INT64"), ("note", "STRING")), start=1):
        message.field.add(
            name=name,
            number=number,
            type=FieldDescriptorProto.Type.Value(f"TYPE_{kind}"),
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def sent_and_received(broker: Kafka, topic: str, data: bytes) -> bytes:
    """Through the broker and back."""
    admin = AdminClient({"bootstrap.servers": broker.servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": broker.servers, "acks": "all"})
    producer.produce(topic, data)
    assert producer.flush(20) == 0
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    deadline = clock.monotonic() + 30
    try:
        while clock.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                value = message.value()
                assert isinstance(value, bytes)
                return value
    finally:
        consumer.close()
    raise AssertionError("nothing arrived")


def by_avro(client: SchemaRegistryClient) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    return AvroSerializer(client, ORDER), AvroDeserializer(client), {"id": 7, "note": "für Ada"}


def by_json(client: SchemaRegistryClient) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    return JSONSerializer(JSON_ORDER, client), JSONDeserializer(JSON_ORDER), {"id": 7, "note": "für Ada"}


def by_protobuf(client: SchemaRegistryClient) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    kind = proto()
    settings = {"use.deprecated.format": False}
    return (
        ProtobufSerializer(kind, client, settings),
        ProtobufDeserializer(kind, settings, client),
        kind(id=7, note="für Ada"),
    )


@pytest.mark.parametrize("make", [by_avro, by_json, by_protobuf])
async def test_serializers_and_deserializers_work_through_kafka(
    server: RegistryServer, store: SchemaStore, broker: Kafka, make: Callable[..., Any]
) -> None:
    topic = f"orders-{make.__name__.replace('_', '-')}"

    def work() -> bytes:
        # Two clients with caches of their own: what one writes the other must find at the registry.
        url = {"url": f"http://127.0.0.1:{server.port}"}
        with SchemaRegistryClient(url) as writing, SchemaRegistryClient(url) as reading:
            serialize, _, value = make(writing)
            _, deserialize, _ = make(reading)
            context = SerializationContext(topic, MessageField.VALUE)
            received = sent_and_received(broker, topic, serialize(value, context))
            assert str(deserialize(received, context)) == str(value)
            return received

    received = await asyncio.to_thread(work)
    registered = (await store.versions(f"{topic}-value"))[0]
    assert payloads.framed_id(received) == registered.id
    # And our own check, which stands before the log, agrees with their serializers.
    check = payloads.check(await store.text(registered.schema))
    assert check(received[payloads.HEADER :]) is None
    assert check(received[payloads.HEADER : -3]) is not None


async def test_the_client_finds_its_way(server: RegistryServer) -> None:
    def work(client: SchemaRegistryClient) -> None:
        money = Schema(record(("cents", "long"), name="shop.Money"), "AVRO")
        id = client.register_schema("money", money)
        to = SchemaReference("shop.Money", "money", 1)
        order = Schema(record(("total", "shop.Money")), "AVRO", [to])
        whole = client.register_schema_full_response("a/b 100%", order)
        assert whole.schema_id == id + 1
        assert client.get_schema(whole.schema_id).references == [to]
        assert client.get_subjects() == ["a/b 100%", "money"]
        assert client.get_versions("a/b 100%") == [1]
        assert client.get_latest_version("a/b 100%").schema_id == whole.schema_id
        assert client.get_version("money", 1).schema_id == id
        assert client.lookup_schema("money", money).version == 1
        assert client.get_subjects_by_schema_id(id) == ["money"]
        assert client.get_referenced_by("money", 1) == [whole.schema_id]
        assert client.get_schema_types() == ["JSON", "AVRO", "PROTOBUF"]
        broken = Schema(record(("cents", "string"), name="shop.Money"), "AVRO")
        assert client.test_compatibility("money", broken) is False
        assert client.test_compatibility_all_versions("money", money) is True
        with pytest.raises(SchemaRegistryError) as refused:
            client.register_schema("money", broken)
        assert refused.value.http_status_code == 409
        client.set_compatibility("money", "FULL")
        assert client.get_compatibility("money") == "FULL"
        assert client.get_config("money").compatibility_level.value == "FULL"
        assert client.get_global_mode() == "READWRITE"
        with pytest.raises(SchemaRegistryError) as held:
            client.delete_subject("money")
        assert held.value.error_code == 42206
        assert client.delete_subject("a/b 100%") == [1]
        assert client.delete_subject("a/b 100%", permanent=True) == [1]
        assert client.delete_version("money", 1) == 1

    with SchemaRegistryClient({"url": f"http://127.0.0.1:{server.port}"}) as client:
        await asyncio.to_thread(work, client)

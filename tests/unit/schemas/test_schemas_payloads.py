"""The five-byte header, and data of each format against its schema."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import payloads
from stranglerfig.schemas.formats import Format, Reference, Text
from stranglerfig.schemas.protobuf.messages import serialized

SOURCE = """\
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "shop/money.proto";
enum Kind { option allow_alias = true; NONE = 0; OTHER = 0; GIFT = 1; }
message Order {
  message Line { string item = 1; optional int32 count = 2; }
  map<string, Line> by_shelf_name = 1;
  message Note { string text = 1; }
  int64 id = 2 [json_name = "orderId"];
  repeated Line lines = 3;
  oneof payment { Money paid = 4; string voucher = 5; }
  google.protobuf.Timestamp at = 6;
  Kind kind = 7;
  map<int32, Kind> kinds = 8;
}
message Other { bytes raw = 1; }
"""
MONEY = 'syntax = "proto3"; package shop; message Money { int64 cents = 1; }'
ORDERS = Text(Format.PROTOBUF, SOURCE, (Reference("shop/money.proto", MONEY),))


def varints(*numbers: int) -> bytes:
    """As the header writes them: zigzag, the count first."""
    return bytes(2 * number for number in (len(numbers), *numbers))


def test_the_header_is_five_bytes() -> None:
    assert payloads.framed(258, b"x") == b"\0\0\0\1\2x"
    assert payloads.framed_id(payloads.framed(258, b"x")) == 258
    assert payloads.framed_id(b"{}") is None and payloads.framed_id(b"\0\0\0\1") is None


def test_indexes_are_read() -> None:
    assert payloads.indexes(b"\0rest") == ((0,), 1)
    assert payloads.indexes(varints(1) + b"rest") == ((1,), 2)
    assert payloads.indexes(varints(0, 2)) == ((0, 2), 3)
    assert payloads.indexes(b"\x02\x80\x02") == ((128,), 3)
    for data, error in ((b"", IndexError), (b"\x02", IndexError), (b"\x01", ValueError), (b"\x80" * 12, ValueError)):
        with pytest.raises(error):
            payloads.indexes(data)


def message(path: str, **values: Any) -> bytes:
    """A message's bytes, made by Protobuf itself from the descriptor that we give away."""
    pool = descriptor_pool.DescriptorPool()
    for name in ("google/protobuf/timestamp.proto",):
        found = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(found)
        pool.Add(found)
    for text in (Text(Format.PROTOBUF, MONEY), ORDERS):
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(serialized(text)))
        if text is not ORDERS:
            file.name = "shop/money.proto"
        pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(path))
    built: bytes = kind(**values).SerializeToString()
    return built


def test_a_protobuf_message_is_judged_from_source_text() -> None:
    from google.protobuf import timestamp_pb2

    assert timestamp_pb2.DESCRIPTOR.name == "google/protobuf/timestamp.proto"
    check = payloads.check(ORDERS)
    line = {"item": "a", "count": 0}
    good = message(
        "shop.Order", id=7, lines=[line], paid={"cents": 5}, at={"seconds": 9}, by_shelf_name={"x": line}, kinds={1: 1}
    )
    assert check(b"\0" + good) is None
    assert check(varints(0, 0) + message("shop.Order.Line", item="a", count=3)) is None
    assert check(varints(0, 2) + message("shop.Order.Note", text="a")) is None, "1 is the entry of the map before it"
    assert check(varints(1) + message("shop.Other", raw=b"x")) is None
    for data, words in (
        (b"\0" + good[:-1], "cannot be read as shop.Order"),
        (b"\0\x7a\x01x", "fields that shop.Order does not have: [15]"),
        (b"\0\x2a\x02\xff\xfe", "cannot be read as shop.Order"),
        (varints(2), "names no message"),
        (varints(0, 9), "names no message"),
        (b"\x02\x01", "names no message"),
        (b"", "names no message"),
    ):
        found = check(data)
        assert found is not None and words in found[1], (data, found)


def test_proto2_has_required_fields_groups_and_extensions() -> None:
    source = """\
syntax = "proto2";
message Order { required int64 id = 1; optional group Note = 2 { optional string text = 1; } extensions 100 to 199; }
"""
    check = payloads.check(Text(Format.PROTOBUF, source))
    assert check(b"\0\x08\x07\x13\x0a\x01a\x14") is None
    assert check(b"\0\x08\x07\xa0\x06\x01") is None, "an extension of somebody's"
    found = check(b"\0")
    assert found is not None and "id" in found[1]


def test_a_registered_descriptor_is_used_as_it_is() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="o.proto", syntax="proto3")
    file.message_type.add(name="Order").field.add(name="id", number=1, type="TYPE_INT64", label="LABEL_OPTIONAL")
    text = Text(Format.PROTOBUF, base64.b64encode(file.SerializeToString()).decode())
    assert payloads.check(text)(b"\0\x08\x07") is None
    again = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(serialized(text)))
    assert again.message_type == file.message_type


def test_a_type_of_a_clients_own_library_is_taken_as_it_comes() -> None:
    source = 'syntax = "proto3"; import "google/type/date.proto"; message Order { google.type.Date on = 1; }'
    check = payloads.check(Text(Format.PROTOBUF, source))
    assert check(b"\0\x0a\x02\x08\x01") is None and check(b"\0\x10\x01") is not None


def test_json_and_avro_with_references() -> None:
    order = json.dumps({"type": "object", "properties": {"total": {"$ref": "money"}}})
    money = Reference("money", json.dumps({"type": "object", "properties": {"cents": {"type": "integer"}}}))
    check = payloads.check(Text(Format.JSON, order, (money,)))
    assert check(b'{"total": {"cents": 1}}') is None
    found = check(b'{"total": {"cents": "1"}}')
    assert found is not None and found[0] == "$.total.cents"
    assert payloads.check(Text(Format.JSON, "true"))(b"1") is None
    fields = [{"name": "total", "type": "shop.Money"}]
    avro = json.dumps({"type": "record", "name": "Order", "fields": fields})
    cents = {"type": "record", "name": "shop.Money", "fields": [{"name": "cents", "type": "long"}]}
    read = payloads.check(Text(Format.AVRO, avro, (Reference("shop.Money", json.dumps(cents)),)))
    assert read(b"\x02") is None and read(b"") is not None and read(b"\x02\x02") is not None


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(FigError):
        payloads.check(Text(Format.PROTOBUF, "message {"))

"""The registry's REST dialect on a real database: forms, numbers of errors, flags."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from stranglerfig.foundation import postgres as sessions
from stranglerfig.schemas import http
from tests.integration.schemas.conftest import record

if TYPE_CHECKING:
    from stranglerfig.schemas.store import SchemaStore
    from tests.integration.schemas.conftest import Client

Texts = tuple[str, str, str]
BROKEN = record(("id", "string"))


async def test_what_is_registered_is_found_in_every_way(ask: Client, texts: Texts) -> None:
    assert await ask("GET", "/") == (200, {})
    assert await ask("GET", "/subjects") == (200, [])
    first = await ask.register("orders-value", texts[0])
    assert await ask.register("orders-value", json.dumps(json.loads(texts[0]), indent=3)) == first
    second = await ask.register("orders-value", texts[1])
    assert await ask.register("audit-value", texts[0]) == first and second == first + 1
    assert await ask("GET", "/subjects") == (200, ["audit-value", "orders-value"])
    assert await ask("GET", "/subjects?subjectPrefix=ord") == (200, ["orders-value"])
    assert await ask("GET", "/subjects?offset=1&limit=1") == (200, ["orders-value"])
    assert await ask("GET", "/subjects/orders-value/versions") == (200, [1, 2])
    whole = {"subject": "orders-value", "version": 2, "id": second, "schema": texts[1]}
    for version in ("2", "latest", "-1"):
        assert await ask("GET", f"/subjects/orders-value/versions/{version}") == (200, whole)
    assert await ask("GET", "/subjects/orders-value/versions/2/schema") == (200, json.loads(texts[1]))
    assert await ask("GET", f"/schemas/ids/{first}") == (200, {"schema": texts[0]})
    assert await ask("GET", f"/schemas/ids/{first}?fetchMaxId=true") == (200, {"schema": texts[0], "maxId": second})
    assert await ask("GET", f"/schemas/ids/{first}/schema") == (200, json.loads(texts[0]))
    assert await ask("GET", f"/schemas/ids/{first}/subjects") == (200, ["audit-value", "orders-value"])
    places = [{"subject": "audit-value", "version": 1}, {"subject": "orders-value", "version": 1}]
    assert await ask("GET", f"/schemas/ids/{first}/versions") == (200, places)
    assert await ask("POST", "/subjects/orders-value", {"schema": texts[1]}) == (200, whole)
    status, listed = await ask("GET", "/schemas?latestOnly=true&subjectPrefix=orders")
    assert status == 200 and listed == [whole]
    assert [each["version"] for each in (await ask("GET", "/schemas"))[1]] == [1, 1, 2]
    assert await ask("GET", "/schemas/types") == (200, ["JSON", "AVRO", "PROTOBUF"])
    assert await ask("GET", "/contexts") == (200, ["."])
    assert (await ask("GET", "/v1/metadata/id"))[1]["scope"]["clusters"]["schema-registry-cluster"]
    assert "stranglerfig" in (await ask("GET", "/v1/metadata/version"))[1]["version"]
    assert await ask("GET", "/health") == (200, {"status": "ok", "maxId": second})


@pytest.mark.parametrize("subject", ["a b", "a/b", "50%", "a%2Fb", "größe:é", ":.:plain", "a?b#c"])
async def test_subjects_are_encoded_in_paths(ask: Client, texts: Texts, subject: str) -> None:
    from urllib.parse import quote

    await ask.register(subject, texts[0])
    name = subject.removeprefix(":.:")
    assert await ask("GET", "/subjects") == (200, [name])
    assert await ask("GET", f"/subjects/{quote(subject, safe='')}/versions") == (200, [1])
    assert (await ask("GET", f"/subjects/{quote(subject, safe='')}/versions/1"))[1]["subject"] == name


async def number(ask: Client, method: str, path: str, body: Any = None, raw: bytes | None = None) -> tuple[int, int]:
    status, found = await ask(method, path, body, raw=raw)
    assert set(found) == {"error_code", "message"} and found["message"]
    return status, found["error_code"]


async def test_errors_have_the_numbers_that_clients_know(ask: Client, texts: Texts) -> None:
    await ask.register("s", texts[0])
    one = {"schema": texts[0]}
    for method, path, body, expected in (
        ("GET", "/subjects/none/versions", None, 40401),
        ("GET", "/subjects/none/versions/latest", None, 40401),
        ("GET", "/subjects/s/versions/9", None, 40402),
        ("GET", "/subjects/s/versions/0", None, 42202),
        ("GET", "/subjects/s/versions/first", None, 42202),
        ("GET", "/schemas/ids/999", None, 40403),
        ("GET", "/schemas/ids/x/subjects", None, 40403),
        ("POST", "/subjects/none", one, 40401),
        ("POST", "/subjects/s", {"schema": texts[1]}, 40403),
        ("POST", "/subjects/s/versions", {"schema": BROKEN}, 409),
        ("POST", "/subjects/s/versions", {"schema": "{"}, 42201),
        ("POST", "/subjects/s/versions", {"schema": ""}, 42201),
        ("POST", "/subjects/s/versions", {}, 42201),
        ("POST", "/subjects/s/versions", {"schema": texts[0] + "\0"}, 42201),
        ("POST", "/subjects/s/versions", one | {"schemaType": "XML"}, 42201),
        ("POST", "/subjects/s/versions", one | {"ruleSet": {"domainRules": []}}, 422),
        ("POST", "/subjects/s/versions", one | {"references": "x"}, 422),
        ("POST", "/subjects/s/versions", one | {"references": ["x"]}, 422),
        ("POST", "/subjects/s/versions", one | {"references": [{"name": "x", "subject": "y"}]}, 422),
        ("POST", "/subjects/s/versions", {"schema": texts[1], "id": "seven"}, 422),
        ("POST", "/subjects/s/versions", {"schema": texts[1], "id": 7}, 42205),
        ("POST", "/subjects/s/versions", {"schema": texts[1], "version": 7}, 42201),
        ("POST", "/subjects/__GLOBAL/versions", one, 42208),
        ("POST", "/subjects/:.other:s/versions", one, 42208),
        ("POST", "/subjects/a%0Ab/versions", one, 42208),
        ("GET", "/config/s", None, 40408),
        ("GET", "/mode/s", None, 40409),
        ("DELETE", "/config/s", None, 40408),
        ("DELETE", "/mode/s", None, 40409),
        ("PUT", "/config", {"compatibility": "SIDEWAYS"}, 42203),
        ("PUT", "/config", {"compatibilityGroup": "x"}, 422),
        ("PUT", "/mode", {"mode": "ASLEEP"}, 42204),
        ("PUT", "/mode", {"mode": "IMPORT"}, 42205),
        ("GET", "/subjects?limit=many", None, 422),
        ("POST", "/compatibility/subjects/s/versions/9", one, 40402),
        ("POST", "/compatibility/subjects/none/versions/latest", one, 40401),
        ("POST", "/compatibility/subjects/s/versions", {"schema": "{"}, 42201),
        ("GET", "/nowhere", None, 404),
        ("PATCH", "/subjects", None, 405),
    ):
        assert await number(ask, method, path, body) == (int(str(expected)[:3]), expected), (method, path, body)
    for raw, expected in ((b"{", 400), (b"\xff", 400), (b"[]", 422), (b" " * (http.LARGEST_BODY + 1), 413)):
        assert await number(ask, "POST", "/subjects/s/versions", raw=raw) == (expected, expected)
    assert await ask("GET", "/subjects/s/versions") == (200, [1])


async def test_why_a_schema_cannot_follow_is_said(ask: Client, texts: Texts) -> None:
    await ask.register("s", texts[0])
    check = "/compatibility/subjects/s/versions"
    assert await ask("POST", check, {"schema": texts[1]}) == (200, {"is_compatible": True})
    assert await ask("POST", f"{check}/1?verbose=true", {"schema": texts[1]}) == (
        200,
        {"is_compatible": True, "messages": []},
    )
    for path in (check, f"{check}/latest"):
        status, found = await ask("POST", f"{path}?verbose=true", {"schema": BROKEN})
        assert status == 200 and found["is_compatible"] is False and "id" in found["messages"][0]
    assert await ask("POST", "/compatibility/subjects/new/versions", {"schema": BROKEN}) == (
        200,
        {"is_compatible": True},
    )
    status, refused = await ask("POST", "/subjects/s/versions", {"schema": BROKEN})
    assert status == 409 and "(BACKWARD)" in refused["message"] and "id" in refused["message"]


async def test_levels_are_set_for_a_subject_or_for_all(ask: Client, texts: Texts) -> None:
    assert await ask("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})
    assert await ask("PUT", "/config", {"compatibility": "FULL"}) == (200, {"compatibility": "FULL"})
    assert await ask("GET", "/config/s?defaultToGlobal=true") == (200, {"compatibilityLevel": "FULL"})
    assert await ask("PUT", "/config/s", {"compatibility": "none", "normalize": True}) == (
        200,
        {"compatibility": "NONE", "normalize": True},
    )
    await ask.register("s", texts[0])
    assert await ask("GET", "/config/s") == (200, {"compatibilityLevel": "NONE", "normalize": True})
    await ask.register("s", BROKEN)
    assert await ask("DELETE", "/config/s") == (200, {"compatibilityLevel": "NONE"})
    assert await number(ask, "GET", "/config/s") == (404, 40408)
    assert await ask("DELETE", "/config") == (200, {"compatibilityLevel": "FULL"})
    assert await ask("GET", "/config") == (200, {"compatibilityLevel": "BACKWARD"})


async def test_normalised_schemas_are_one(ask: Client) -> None:
    text = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}})
    turned = json.dumps({"properties": {"a": {"type": "integer"}}, "type": "object"})
    await ask("PUT", "/config", {"compatibility": "NONE"})
    plain = await ask.register("plain", text, "JSON")
    assert await ask.register("plain", turned, "JSON") != plain
    status, found = await ask("POST", "/subjects/s/versions?normalize=true", {"schema": text, "schemaType": "JSON"})
    again = await ask("POST", "/subjects/s/versions?normalize=true", {"schema": turned, "schemaType": "JSON"})
    assert (status, found) == again
    status, looked = await ask("POST", "/subjects/s?normalize=true", {"schema": turned, "schemaType": "JSON"})
    assert status == 200 and looked["id"] == found["id"] and looked["schemaType"] == "JSON"


async def test_modes_say_what_may_be_done(ask: Client, texts: Texts) -> None:
    assert await ask("GET", "/mode") == (200, {"mode": "READWRITE"})
    assert await ask("PUT", "/mode/s", {"mode": "IMPORT"}) == (200, {"mode": "IMPORT"})
    assert await number(ask, "POST", "/subjects/s/versions", {"schema": texts[0]}) == (422, 42205)
    assert await ask.register("s", texts[1], id=700, version=3) == 700
    assert await ask.register("s", BROKEN, id=701, version=5) == 701, "nothing is compared while importing"
    assert await number(ask, "POST", "/subjects/s/versions", {"schema": texts[2], "id": 700}) == (422, 42207)
    assert await number(ask, "POST", "/subjects/s/versions", {"schema": texts[1], "id": 702}) == (422, 42207)
    another = {"schema": texts[2], "id": 702, "version": 3}
    assert await number(ask, "POST", "/subjects/s/versions", another) == (422, 42207)
    assert await ask("GET", "/subjects/s/versions") == (200, [3, 5])
    assert await ask("DELETE", "/mode/s") == (200, {"mode": "IMPORT"})
    await ask("PUT", "/config/s", {"compatibility": "NONE"})
    assert await ask.register("s", texts[0]) == 702, "ids go on behind the imported ones"
    assert await ask("GET", "/subjects/s/versions") == (200, [3, 5, 6])
    assert await number(ask, "PUT", "/mode/s", {"mode": "IMPORT"}) == (422, 42205)
    assert await ask("PUT", "/mode/s?force=true", {"mode": "IMPORT"}) == (200, {"mode": "IMPORT"})
    assert await ask("PUT", "/mode", {"mode": "READONLY"}) == (200, {"mode": "READONLY"})
    assert await ask("GET", "/mode/other?defaultToGlobal=true") == (200, {"mode": "READONLY"})
    assert await number(ask, "POST", "/subjects/new/versions", {"schema": texts[0]}) == (422, 42205)
    assert await number(ask, "DELETE", "/subjects/s") == (422, 42205)
    assert await ask("GET", "/subjects") == (200, ["s"])


async def test_a_protobuf_file_is_given_as_its_descriptor_to_who_asks(ask: Client) -> None:
    source = 'syntax = "proto3"; package shop; message Order { int64 id = 1; }'
    id = await ask.register("orders-value", source, "PROTOBUF")
    assert (await ask("GET", f"/schemas/ids/{id}"))[1] == {"schemaType": "PROTOBUF", "schema": source}
    status, found = await ask("GET", f"/schemas/ids/{id}?format=serialized")
    file = FileDescriptorProto.FromString(base64.b64decode(found["schema"]))
    assert status == 200 and (file.package, file.message_type[0].name) == ("shop", "Order")


async def test_what_the_database_refuses_is_the_stores_failure(ask: Client, store: SchemaStore) -> None:
    async with sessions.session(store._dsn, what="test") as conn:
        await conn.execute("DROP TABLE fig.schema_reference")
    assert await number(ask, "GET", "/subjects/s/versions") == (500, 50001)


async def test_deleting_is_soft_first(ask: Client, texts: Texts) -> None:
    ids = [await ask.register("s", text) for text in texts]
    assert await number(ask, "DELETE", "/subjects/s?permanent=true") == (404, 40405)
    assert await number(ask, "DELETE", "/subjects/s/versions/2?permanent=true") == (404, 40407)
    assert await ask("DELETE", "/subjects/s/versions/2") == (200, 2)
    assert await number(ask, "DELETE", "/subjects/s/versions/2") == (404, 40406)
    assert await number(ask, "DELETE", "/subjects/s/versions/9") == (404, 40402)
    assert await number(ask, "DELETE", "/subjects/none") == (404, 40401)
    assert await number(ask, "DELETE", "/subjects/none/versions/1") == (404, 40401)
    assert await ask("GET", "/subjects/s/versions") == (200, [1, 3])
    assert await ask("GET", "/subjects/s/versions?deleted=true") == (200, [1, 2, 3])
    assert await ask("GET", "/subjects/s/versions?deletedOnly=true") == (200, [2])
    assert await number(ask, "GET", "/subjects/s/versions/2") == (404, 40402)
    status, found = await ask("GET", "/subjects/s/versions/2?deleted=true")
    assert status == 200 and found["deleted"] is True
    assert (await ask("GET", f"/schemas/ids/{ids[1]}"))[0] == 200, "what was written under it is still read"
    assert await ask("GET", f"/schemas/ids/{ids[1]}/subjects") == (200, [])
    assert await ask("GET", f"/schemas/ids/{ids[1]}/subjects?deleted=true") == (200, ["s"])
    assert await number(ask, "POST", "/subjects/s", {"schema": texts[1]}) == (404, 40403)
    assert (await ask("POST", "/subjects/s?deleted=true", {"schema": texts[1]}))[1]["version"] == 2
    assert await ask("DELETE", "/subjects/s/versions/2?permanent=true") == (200, 2)
    assert await number(ask, "GET", "/subjects/s/versions/2?deleted=true") == (404, 40402)
    assert await number(ask, "GET", f"/schemas/ids/{ids[1]}") == (404, 40403)
    assert await ask("DELETE", "/subjects/s/versions/latest") == (200, 3)
    assert await ask("DELETE", "/subjects/s") == (200, [1])
    assert await number(ask, "DELETE", "/subjects/s") == (404, 40404)
    assert await ask("GET", "/subjects") == (200, [])
    assert await ask("GET", "/subjects?deleted=true") == (200, ["s"])
    assert await ask("GET", "/subjects?deletedOnly=true") == (200, ["s"])
    assert await number(ask, "GET", "/subjects/s/versions/latest") == (404, 40401)
    assert await ask.register("s", texts[1]) == ids[1], "the same content has the id that it had"
    assert await ask("GET", "/subjects/s/versions") == (200, [4]), "a number never comes to mean another schema"
    assert await ask("DELETE", "/subjects/s") == (200, [4])
    assert await ask("DELETE", "/subjects/s?permanent=true") == (200, [1, 3, 4])
    assert await ask("GET", "/subjects?deleted=true") == (200, [])


async def test_references_hold_what_they_refer_to(ask: Client) -> None:
    money = json.dumps({"type": "record", "name": "shop.Money", "fields": [{"name": "cents", "type": "long"}]})
    order = record(("total", "shop.Money"))
    to = {"name": "shop.Money", "subject": "money", "version": 1}
    missing = await number(ask, "POST", "/subjects/o/versions", {"schema": order, "references": [to]})
    assert missing == (422, 42201)
    assert await number(ask, "POST", "/subjects/o/versions", {"schema": order}) == (422, 42201)
    await ask.register("money", money)
    id = await ask.register("o", order, references=[{**to, "version": -1}])
    status, found = await ask("GET", "/subjects/o/versions/1")
    assert status == 200 and found["references"] == [to]
    assert (await ask("GET", f"/schemas/ids/{id}"))[1]["references"] == [to]
    assert await ask("GET", "/subjects/money/versions/1/referencedby") == (200, [id])
    assert await number(ask, "DELETE", "/subjects/money") == (422, 42206)
    assert await number(ask, "DELETE", "/subjects/money/versions/1") == (422, 42206)
    assert await ask("DELETE", "/subjects/o") == (200, [1])
    assert await ask("GET", "/subjects/money/versions/1/referencedby") == (200, [])
    assert await ask("GET", "/subjects/money/versions/1/referencedby?deleted=true") == (200, [id])
    assert await ask("DELETE", "/subjects/money") == (200, [1])
    assert await number(ask, "DELETE", "/subjects/money?permanent=true") == (422, 42206), "o is softly deleted only"
    refused = await number(ask, "POST", "/subjects/o/versions", {"schema": order, "references": [to]})
    assert refused == (422, 42201), "what is deleted is not referred to anew"
    assert await ask("DELETE", "/subjects/o?permanent=true") == (200, [1])
    assert await ask("DELETE", "/subjects/money?permanent=true") == (200, [1])

"""Schemas in three formats: what is valid, what is the same, what changed, and the words for it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.formats import Format, Level, Reference, Text, canonical, differences, problems, validate
from stranglerfig.schemas.terms import Way

PROTOC = yaml.safe_load((Path(__file__).parent / "protoc.yaml").read_text())


def avro(schema: Any, **references: Any) -> Text:
    return _text(Format.AVRO, schema, references)


def jsons(schema: Any, **references: Any) -> Text:
    return _text(Format.JSON, schema, references)


def _text(form: Format, schema: Any, references: dict[str, Any]) -> Text:
    return Text(form, json.dumps(schema), tuple(Reference(n, json.dumps(part)) for n, part in references.items()))


def proto(text: str, **references: str) -> Text:
    head = 'syntax = "proto3";\n'
    known = tuple(Reference(f"{name}.proto", head + part) for name, part in references.items())
    return Text(Format.PROTOBUF, text if "syntax" in text else head + text, known)


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Order", "fields": list(fields), **more}


def test_levels() -> None:
    assert Level.NONE.ways == () and not Level.NONE.transitive
    assert Level.FULL.ways == (Way.BACKWARD, Way.FORWARD) and not Level.FULL.transitive
    assert Level.FORWARD_TRANSITIVE.ways == (Way.FORWARD,) and Level.FORWARD_TRANSITIVE.transitive


# --- what is valid


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ("Missing", "$", "'Missing' is not known"),
        (7, "$", "a schema is a name"),
        ({}, "$", "'type' is missing"),
        ({"type": "Missing"}, "$.type", "not known"),
        ({"type": "array"}, "$", "'items' is missing"),
        ({"type": "map"}, "$", "'values' is missing"),
        (["int", ["null"]], "$[1]", "not directly within"),
        (["int", "int"], "$[1]", "twice"),
        ({"type": "record"}, "$", "'name' is missing"),
        ({"type": "record", "name": "9a", "fields": []}, "$.name", "is not a name"),
        ({"type": "record", "name": "a..b", "fields": []}, "$.name", "is not a name"),
        ({"type": "record", "name": "A"}, "$.fields", "list of fields"),
        (record(7), "$.fields[0]", "object with a name"),
        (record({"name": "a"}), "$.fields[0]", "'type' is missing"),
        (record({"name": "a-b", "type": "int"}), "$.fields[0].name", "is not a name"),
        (record({"name": "a", "type": "int"}, {"name": "a", "type": "int"}), "$.fields[1].name", "twice"),
        (record({"name": "a", "type": "int", "aliases": "b"}), "$.fields[0].aliases", "list of names"),
        (
            record({"name": "a", "type": "int", "default": "x"}),
            "$.fields[0].default",
            '"x" is not of the field\'s type',
        ),
        (record({"name": "a", "type": "int", "default": 2**31}), "$.fields[0].default", "int"),
        (record({"name": "a", "type": ["null", "int"], "default": "x"}), "$.fields[0].default", "one of null, int"),
        (
            record({"name": "a", "type": record({"name": "b", "type": "int"}) | {"name": "B"}, "default": {}}),
            "$.fields[0].default",
            "record B",
        ),
        (record(aliases="b"), "$.aliases", "list of names"),
        ([record(), record()], "$[1].name", "defined twice"),
        ({"type": "enum", "name": "E"}, "$.symbols", "list of symbols"),
        ({"type": "enum", "name": "E", "symbols": ["a-b"]}, "$.symbols", "is not a name"),
        ({"type": "enum", "name": "E", "symbols": ["a", "a"]}, "$.symbols", "twice"),
        ({"type": "enum", "name": "E", "symbols": ["a"], "default": "b"}, "$.default", "none of the symbols"),
        ({"type": "fixed", "name": "F", "size": -1}, "$.size", "size in bytes"),
        ({"type": "fixed", "name": "F", "size": True}, "$.size", "size in bytes"),
    ],
)
def test_avro_mistakes_are_placed(schema: Any, path: str, why: str) -> None:
    with pytest.raises(FigError) as refused:
        validate(avro(schema))
    assert refused.value.code == "schema_invalid"
    assert refused.value.context == {"format": "AVRO", "path": path} and why in refused.value.message


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("null", None),
        ("double", "NaN"),
        ("float", 1),
        ("boolean", False),
        ("bytes", "\u00ff"),
        (["null", "int"], 3),
        ({"type": "array", "items": "int"}, [1, 2]),
        ({"type": "map", "values": "int"}, {"a": 1}),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A"),
        ({"type": "fixed", "name": "F", "size": 2}, "ab"),
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int", "default": 0}]}, {}),
        ({"type": {"type": "string", "avro.java.string": "String"}, "connect.name": "n"}, "x"),
        (["null", "Order"], None),
    ],
)
def test_avro_defaults(kind: Any, default: Any) -> None:
    validate(avro(record({"name": "a", "type": kind, "default": default})))


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ([], "$", "an object, or true or false"),
        ({"type": "text"}, "$.type", "one or several of null"),
        ({"properties": []}, "$.properties", "schemas by name"),
        ({"anyOf": {}}, "$.anyOf", "a list of schemas"),
        ({"properties": {"a": {"minimum": "1"}}}, "$.properties.a.minimum", "a number"),
        ({"items": {"maxLength": -1}}, "$.items.maxLength", "a whole number"),
        ({"pattern": "("}, "$.pattern", "a regular expression"),
        ({"patternProperties": {"(": {}}}, "$.patternProperties.(", "a regular expression"),
        ({"pattern": 1}, "$.pattern", "a regular expression"),
        ({"required": "a"}, "$.required", "a list of names"),
        ({"$ref": "#/$defs/missing"}, "$.$ref", "neither in it nor among its references"),
        ({"$ref": "other.json"}, "$.$ref", "neither in it"),
        ({"$ref": "#missing"}, "$.$ref", "neither in it"),
        ({"$ref": "#/allOf/7", "allOf": [{}]}, "$.$ref", "neither in it"),
        ({"uniqueItems": 1}, "$.uniqueItems", "true or false"),
        ({"oneOf": []}, "$.oneOf", "non-empty"),
        ({"properties": {"a": {"required": ["x", "x"]}}}, "$.properties.a.required", "non-unique"),
    ],
)
def test_json_mistakes_are_placed(schema: Any, path: str, why: str) -> None:
    with pytest.raises(FigError) as refused:
        validate(jsons(schema))
    assert refused.value.context["path"] == path and why in refused.value.message


@pytest.mark.parametrize("form", [Format.AVRO, Format.JSON])
def test_what_is_no_json_is_refused(form: Format) -> None:
    for text in ("{", "[" * 100_000):
        with pytest.raises(FigError, match="schema_invalid"):
            validate(Text(form, text))


def test_a_mistake_in_a_reference_names_it() -> None:
    with pytest.raises(FigError, match=r"reference part: \$"):
        validate(avro("int", part={"type": "fixed", "name": "part"}))
    with pytest.raises(FigError, match=r"reference part: \$\.type"):
        validate(jsons({"$ref": "part"}, part={"type": "x"}))
    with pytest.raises(FigError, match=r"reference part: \$\.oneOf"):
        validate(jsons({"$ref": "part"}, part={"oneOf": []}))
    with pytest.raises(FigError, match=r"part\.proto: line 2"):
        validate(proto('import "part.proto"; message A { }', part="message"))


@pytest.mark.parametrize("name", PROTOC["refused"])
def test_what_protoc_refuses_is_refused(name: str) -> None:
    with pytest.raises(FigError) as refused:
        validate(Text(Format.PROTOBUF, PROTOC["refused"][name]))
    assert refused.value.code == "schema_invalid" and refused.value.context["path"]


@pytest.mark.parametrize("text", ["", "  \n", 'syntax = "proto3"; message A { option x = ; }', "aGVsbG8="])
def test_what_is_no_protobuf_is_refused(text: str) -> None:
    with pytest.raises(FigError, match="schema_invalid"):
        validate(Text(Format.PROTOBUF, text))


def test_well_known_and_brought_along_imports() -> None:
    validate(proto('import "google/protobuf/struct.proto"; message A { google.protobuf.Struct s = 1; }'))
    validate(proto('import "google/protobuf/api.proto"; message A { google.protobuf.Api s = 1; }'))
    validate(
        proto('import "google/type/money.proto"; message A { google.type.Money m = 1; .google.type.Money n = 2; }')
    )
    with pytest.raises(FigError, match=r"google\.type\.Money"):
        validate(proto("message A { google.type.Money m = 1; }"))


# --- what is the same


@pytest.mark.parametrize("name", PROTOC["accepted"])
def test_text_and_protocs_descriptor_are_the_same(name: str) -> None:
    case = PROTOC["accepted"][name]
    validate(Text(Format.PROTOBUF, case["text"]))
    assert canonical(Text(Format.PROTOBUF, case["text"])) == canonical(Text(Format.PROTOBUF, case["descriptor"]))


def test_options_that_nobody_knows_still_tell_schemas_apart() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", syntax="proto3")
    file.message_type.add(name="A")
    plain = base64.b64encode(file.SerializeToString()).decode()
    # Field 50001 of the options, as an extension without a descriptor arrives.
    file.message_type[0].options.MergeFromString(bytes([0x8A, 0xB5, 0x18, 1, 0x78]))
    marked = base64.b64encode(file.SerializeToString()).decode()
    assert canonical(Text(Format.PROTOBUF, plain)) != canonical(Text(Format.PROTOBUF, marked))


def test_protobuf_options_are_kept_and_ordered() -> None:
    one = proto("message A { string s = 1 [(b) = {x: 1, y: [1, 2]}, (a.c).d = -1]; }")
    other = proto("message A {\n  string s = 1 [ (.a.c).d = -1, (b) = { x : 1, y : [1,2] } ]; // words\n}")
    assert canonical(one) == canonical(other) != canonical(proto("message A { string s = 1; }"))


def test_avro_normal_form() -> None:
    short = avro(
        record({"name": "a", "type": {"type": "int"}}, {"name": "b", "type": ["null", "Order"]}, namespace="shop")
    )
    full = avro(
        {
            "fields": [{"type": "int", "name": "a"}, {"type": ["null", "shop.Order"], "name": "b"}],
            "name": "shop.Order",
            "type": "record",
        }
    )
    assert canonical(short) == canonical(full)
    for more in ({"default": 1}, {"aliases": ["z"]}, {"doc": "x"}, {"type": {"type": "int", "logicalType": "date"}}):
        changed = avro(record({"name": "a", "type": "int", **more}))
        assert canonical(changed) != canonical(avro(record({"name": "a", "type": "int"})))
    connect = {"type": {"type": "string", "connect.parameters": {"v": 1}}, "connect.name": "n"}
    assert "connect.name" in canonical(avro(connect)) and "connect.parameters" in canonical(avro(connect))
    enum = {"type": "enum", "name": "E", "symbols": ["A"], "default": "A", "aliases": ["D"]}
    assert '"default":"A","aliases":["D"]' in canonical(avro(enum))
    assert canonical(avro({"type": "map", "values": {"type": "fixed", "name": "F", "size": 2}})).startswith(
        '{"type":"map"'
    )


def test_json_normal_form() -> None:
    assert canonical(jsons({"b": 1, "a": 2, "x-fig-generated": "z"})) == '{"a":2,"b":1}'
    assert canonical(jsons(True)) == "true"


def test_references_are_part_of_the_normal_form() -> None:
    order = record({"name": "line", "type": "shop.Line"})
    line = {"type": "record", "name": "shop.Line", "fields": []}
    assert canonical(avro(order, **{"shop.Line": line})) == canonical(
        avro(order, **{"shop.Line": dict(reversed(line.items()))})
    )
    assert canonical(avro(order, **{"shop.Line": line})) != canonical(avro(order, **{"shop.Line": line | {"doc": "x"}}))
    with pytest.raises(FigError, match=r"shop\.Line"):
        canonical(avro(order))


def test_json_references_by_name_address_and_place() -> None:
    zip_code = {"$id": "https://shop.example/zip.json", "$defs": {"de": {"type": "string", "pattern": "^[0-9]{5}$"}}}
    address = {"properties": {"zip": {"$ref": "https://shop.example/zip.json#/$defs/de"}}}
    order = {
        "$id": "https://shop.example/order.json",
        "properties": {"to": {"$ref": "address.json"}, "old": {"$ref": "zip.json"}},
    }
    known = {"zip": zip_code, "https://shop.example/address.json": address}
    stricter = {**known, "zip": zip_code | {"$defs": {"de": {"type": "string", "pattern": "^1"}}}}
    validate(jsons(order, **known))
    found = problems(jsons(order, **stricter), [jsons(order, **known)], Level.BACKWARD)
    assert [(problem.path, problem.kind) for problem in found] == [("$.to.zip", "PATTERN_CHANGED")]


@pytest.mark.parametrize("form", [Format.AVRO, Format.JSON, Format.PROTOBUF])
def test_a_chain_too_long_to_follow_is_a_problem_not_a_crash(form: Format) -> None:
    def chain(last: str) -> Text:
        if form is Format.JSON:
            links = {f"d{n}": {"properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(600)}
            return jsons({"$ref": "#/$defs/d0", "$defs": {**links, "d600": {"type": last}}})
        if form is Format.AVRO:
            made: Any = "int" if last == "integer" else last
            texts = {"R0": record({"name": "x", "type": made}, name="R0")}
            for n in range(1, 600):
                texts[f"R{n}"] = record({"name": "x", "type": f"R{n - 1}"}, name=f"R{n}")
            return avro("R599", **texts)
        body = [f"message M{n} {{ M{n + 1} x = 1; }}" for n in range(600)]
        return proto(" ".join([*body, f"message M600 {{ {'int32' if last == 'integer' else last} x = 1; }}"]))

    found = problems(chain("string"), [chain("integer")], Level.BACKWARD)
    assert [problem.kind for problem in found] == ["NOT_UNDERSTOOD"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", [Format.AVRO, Format.JSON, Format.PROTOBUF])
@pytest.mark.parametrize(("last", "fits"), [("integer", True), ("string", False)])
def test_types_that_all_name_each_other_are_compared_once(form: Format, last: str, fits: bool) -> None:
    size = 5

    def web(leaf: str, more: bool) -> Text:
        if form is Format.JSON:
            any_of = {"oneOf": [{"$ref": f"#/$defs/t{n}"} for n in range(size)]}
            extra = {"extra": {"type": "string"}} if more else {}
            types = {
                f"t{n}": {
                    "type": "object",
                    "properties": {"kind": {"const": n}, "a": any_of, "b": any_of, "leaf": {"type": leaf}, **extra},
                    "required": ["kind"],
                }
                for n in range(size)
            }
            return jsons({**any_of, "$defs": types})
        if form is Format.PROTOBUF:
            names = " ".join(f"T{n} f{n} = {n + 1};" for n in range(size))
            kind = "int32" if leaf == "integer" else leaf
            tail = "string extra = 30;" if more else ""
            return proto(" ".join(f"message T{n} {{ {names} {kind} leaf = 20; {tail} }}" for n in range(size)))
        made: list[Any] = []
        for n in range(size):
            known = [f"T{k}" for k in range(n)]
            inner = {"name": "next", "type": made.pop()} if made else {"name": "next", "type": "null"}
            fields = [inner, {"name": "any", "type": [*known, f"T{n}"]}, {"name": "two", "type": [*known, f"T{n}"]}]
            fields.append({"name": "leaf", "type": "int" if leaf == "integer" else leaf})
            fields += [{"name": "extra", "type": "string", "default": ""}] if more else []
            made.append({"type": "record", "name": f"T{n}", "fields": fields})
        return avro(made[0])

    assert (problems(web(last, True), [web("integer", False)], Level.FULL) == []) is fits


def test_a_deeply_nested_protobuf_file_is_refused() -> None:
    with pytest.raises(FigError, match="nested too deeply"):
        validate(proto("message A {" * 2000 + "}" * 2000))


# --- words


def test_words_for_a_person() -> None:
    old, new = (
        avro(record({"name": "id", "type": "int"})),
        avro(record({"name": "id", "type": "int"}, {"name": "sku", "type": "string"})),
    )
    assert [p.words for p in problems(new, [old], Level.FULL)] == [
        "the field 'sku' of Order is new and has no default: events written before could not be read"
    ]
    assert [p.words for p in problems(old, [new], Level.FORWARD)] == [
        "the field 'sku' of Order is gone and had no default: readers of the earlier schema could not read new events"
    ]


def test_an_older_schema_is_told_from_the_last() -> None:
    first, second = jsons({"type": "string"}), jsons({"type": "object", "properties": {}})
    (found,) = problems(jsons({"type": "object", "properties": {}}), [first, second], Level.BACKWARD_TRANSITIVE)
    assert found.words.endswith("(from 2 versions ago)")


def test_the_same_problem_is_said_once() -> None:
    olds = [jsons({"type": "string"}), jsons({"type": "string"})]
    (found,) = problems(jsons({"type": "integer"}), olds, Level.BACKWARD_TRANSITIVE)
    assert "ago" not in found.words


def test_a_change_of_format() -> None:
    (found,) = problems(avro("int"), [jsons({})], Level.BACKWARD)
    assert found.kind == "FORMAT_CHANGED" and "from JSON to AVRO" in found.words
    assert differences(jsons({}), avro("int"))[0].words == "the format changes from JSON to AVRO"
    assert problems(avro("int"), [jsons({})], Level.NONE) == [] == problems(avro("int"), [], Level.FULL)


def test_a_field_with_two_sources_is_no_guess() -> None:
    old = avro(record({"name": "a", "type": "int"}, {"name": "b", "type": "int"}))
    (found,) = problems(avro(record({"name": "b", "type": "int", "aliases": ["a"]})), [old], Level.BACKWARD)
    assert found.kind == "SEVERAL_WRITER_FIELDS" and "'b' and 'a'" in found.words


def test_a_branch_that_was_meant_explains_itself() -> None:
    line = {"type": "record", "name": "Line", "fields": [{"name": "n", "type": "int"}]}
    more = line | {"fields": [*line["fields"], {"name": "m", "type": "int"}]}
    (found,) = problems(avro(["null", more]), [avro(["null", line])], Level.BACKWARD)
    assert found.kind == "READER_FIELD_MISSING_DEFAULT_VALUE" and found.path == "union.m"


def test_too_many_combinations_are_not_passed() -> None:
    pairs = {"allOf": [{"anyOf": [{"minLength": n}, {"maxLength": n}]} for n in range(8)]}
    (found,) = problems(jsons({"type": "string"}), [jsons(pairs)], Level.BACKWARD)
    assert found.kind == "NOT_UNDERSTOOD" and "combinations" in found.words


# --- what changed


def said(old: Text, new: Text) -> dict[str, str]:
    return {difference.path: difference.words for difference in differences(old, new)}


def test_avro_differences() -> None:
    line = {
        "type": "record",
        "name": "Line",
        "fields": [{"name": "n", "type": "int"}, {"name": "next", "type": ["null", "Line"]}],
    }
    old = record(
        {"name": "id", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "size", "type": {"type": "enum", "name": "Size", "symbols": ["S", "M"]}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 4}},
        {"name": "total", "type": "double"},
        {"name": "gone", "type": "boolean"},
        {"name": "lines", "type": {"type": "array", "items": line}},
        {"name": "tags", "type": {"type": "map", "values": "int"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
    )
    new = record(
        {"name": "number", "type": "long", "aliases": ["id"], "doc": "x"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "note", "type": ["string", "int"], "default": "none"},
        {"name": "size", "type": {"type": "enum", "name": "Size", "symbols": ["M", "L"], "default": "M"}},
        {"name": "key", "type": {"type": "fixed", "name": "Key", "size": 8}},
        {"name": "sum", "type": "double"},
        {"name": "added", "type": "string", "default": ""},
        {"name": "lines", "type": {"type": "array", "items": line | {"doc": "a line"}}},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 3}},
        name="Purchase",
    )
    found = [(d.path, d.words) for d in differences(avro(old), avro(new))]
    assert ("Purchase", "record Order becomes Purchase") in found
    assert ("Purchase.number", "the field 'id' is renamed to 'number' (by its alias)") in found
    assert ("Purchase.number", "its type changes from int to long") in found
    assert ("Purchase.number", "its documentation changes") in found
    assert ("Purchase.at", "its unit or meaning changes from timestamp-millis to timestamp-micros") in found
    assert ("Purchase.note", 'its default changes from null to "none"') in found
    assert ("Purchase.note", "null is no longer allowed") in found and ("Purchase.note", "int becomes allowed") in found
    assert ("Purchase.size", "the symbol S is removed") in found and ("Purchase.size", "the symbol L is added") in found
    assert ("Purchase.size", "the symbol read for an unknown one changes from None to M") in found
    assert ("Purchase.key", "its size changes from 4 to 8 bytes") in found
    assert ("Purchase.sum", "the field 'total' seems renamed to 'sum': without an alias that is a new field") in found
    assert ("Purchase.added", "the field 'added' is added (string, \"\" as default)") in found
    assert ("Purchase.gone", "the field 'gone' is removed") in found
    assert ("Purchase.lines[]", "its documentation changes") in found
    assert ("Purchase.tags{}", "its type changes from int to string") in found
    assert any("2 behind the point to decimal of 8 digits, 3" in words for _, words in found)
    assert differences(avro(old), avro(old)) == []


def test_protobuf_differences() -> None:
    old = proto(
        "package a; message Item { string sku = 1; int32 qty = 2; string gone = 3; string kept = 4; string moved = 5;"
        " int32 many = 6; string free = 7; enum Kind { NO = 0; YES = 1; LOST = 2; } message Old { } }"
        " service Shop { } enum Sort { Z = 0; }"
    )
    new = proto(
        "package b; message Item { string ean = 1; int64 qty = 2; reserved 4; string moved = 9;"
        " repeated int32 many = 6;"
        " oneof x { string free = 7 [deprecated = true]; } bool added = 8;"
        " enum Kind { NO = 0; SURE = 1; MAYBE = 3; } message New { } }"
    )
    found = [(d.path, d.words) for d in differences(old, new)]
    assert ("package", "the package changes from 'a' to 'b'") in found
    assert ("Item.ean", "the field 'sku' is renamed to 'ean' (same number; another name in JSON)") in found
    assert ("Item.qty", "its type changes from int32 to int64") in found
    assert ("Item.gone", "the field 'gone' is removed, and its number not reserved") in found
    assert ("Item.kept", "the field 'kept' is removed, and its number reserved") in found
    assert ("Item.moved", "the number of 'moved' changes from 5 to 9: a new field") in found
    assert ("Item.many", "its type changes from int32 to repeated int32") in found
    assert ("Item.free", "its oneof changes from none to x") in found
    assert ("Item.free", "its option deprecated changes from none to true") in found
    assert ("Item.added", "the field 'added' is added (bool, number 8)") in found
    assert ("Item.Old", "the message Item.Old is removed") in found and (
        "Item.New",
        "the message Item.New is added",
    ) in found
    assert ("Item.Kind.YES", "the value YES (1) is renamed to SURE") in found
    assert ("Item.Kind.LOST", "the value LOST (2) is removed") in found
    assert ("Item.Kind.MAYBE", "the value MAYBE (3) is added") in found
    assert ("Shop", "the service Shop is removed") in found and ("Sort", "the enum Sort is removed") in found
    label = differences(
        proto("message A { int32 a = 1; map<string, int32> m = 2; }"),
        proto("message A { optional int32 a = 1; map<int32, int32> m = 2; }"),
    )
    assert [d.words for d in label] == [
        "its label changes from none to optional",
        "its type changes from map<string, int32> to map<int32, int32>",
    ]
    assert said(Text(Format.PROTOBUF, 'syntax = "proto2"; message A { }'), proto("message A { }")) == {
        "syntax": "the syntax changes from proto2 to proto3"
    }


def test_json_differences() -> None:
    old = {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "weight": {"type": "number", "x-unit": "g"},
            "kind": {"enum": ["a", "b"]},
            "free": {"enum": ["a"]},
            "total": {"type": "string", "pattern": "^[0-9]+$"},
            "note": {"type": "string"},
            "gone": {"type": "boolean"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": False},
            "tree": {"$ref": "#"},
            "loose": True,
        },
        "required": ["id", "gone"],
        "$defs": {"line": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    }
    new = json.loads(json.dumps(old))
    parts = new["properties"]
    parts["id"] = {"type": ["integer", "null"]}
    parts["weight"]["x-unit"] = "kg"
    parts["kind"]["enum"] = ["b", "c"]
    parts["free"] = {}
    parts["sum"] = parts.pop("total")
    parts["note"] |= {"maxLength": 3, "format": "uuid"}
    del parts["gone"]
    parts["pair"]["prefixItems"][0]["type"] = "number"
    parts["pair"]["items"] = True
    parts["loose"] = False
    parts["added"] = {"type": "null"}
    new["required"] = ["id", "note"]
    new["$defs"]["line"]["properties"]["n"]["minimum"] = 1
    found = [(d.path, d.words) for d in differences(jsons(old), jsons(new))]
    assert ("$.id", "its type changes from integer to integer or null") in found
    assert ("$.weight", 'its unit or meaning (\'x-unit\') changes from "g" to "kg"') in found
    assert ("$.kind", "values are removed: 'a'") in found and ("$.kind", "values are added: 'c'") in found
    assert ("$.free", "the list of its values goes away") in found
    assert ("$.sum", "the field 'total' seems renamed to 'sum'; a new name is a new field") in found
    assert ("$.note", "it becomes required") in found and ("$.note", "'maxLength' becomes 3") in found
    assert ("$.note", "its unit or meaning ('format') becomes \"uuid\"") in found
    assert ("$.gone", "the required field 'gone' is removed") in found
    assert ("$.added", "the optional field 'added' is added") in found
    assert ("$.lines[].n", "'minimum' becomes 1") in found
    assert ("$.pair[0]", "its type changes from string to number") in found
    assert ("$.pair[]", "it changes from nothing to anything") in found and (
        "$.loose",
        "it changes from anything to nothing",
    ) in found
    back = [(d.path, d.words) for d in differences(jsons(new), jsons(old))]
    assert ("$.note", "'maxLength' goes away (it was 3)") in back and (
        "$.free",
        "the list of its values is new",
    ) in back
    assert ("$.note", "it becomes optional") in back


# --- the documentation


def test_the_words_in_the_documentation_are_printed() -> None:
    page = (Path(__file__).parents[3] / "docs/explanation/compatibility.md").read_text()
    blocks = page.split("```text\n")[1:]
    lines = [line for block in blocks for line in block.split("```")[0].splitlines()]
    printed = {f"{problem.path}: {problem.words}" for problem in _documented()}
    assert len(lines) == 19 and [line for line in lines if line not in printed] == []


def _documented() -> list[Any]:
    def placed(*fields: Any) -> Text:
        return avro(record(*fields) | {"name": "OrderPlaced"})

    def described(properties: Any, *required: str) -> Text:
        return jsons({"type": "object", "properties": properties, "required": required})

    number, sku = {"name": "id", "type": "int"}, {"name": "sku", "type": "string"}
    millis, micros = (
        {"name": "at", "type": {"type": "long", "logicalType": f"timestamp-{u}"}} for u in ("millis", "micros")
    )
    status, fewer = (
        {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": symbols}}
        for symbols in (["OPEN", "LOST"], ["OPEN"])
    )
    note, bare = ({"name": "note", "type": kind} for kind in (["null", "string"], "string"))
    item, whole = {"id": {"type": "integer"}}, {"number": {"type": "integer"}}
    pairs = [
        (placed(number), placed(number, sku)),
        (placed(number, sku), placed(number)),
        (placed(number | {"type": "long"}), placed(number)),
        (placed(status), placed(fewer)),
        (placed(note), placed(bare)),
        (placed(millis), placed(micros)),
        (proto("message Item { string sku = 1; }"), proto("message Item { int32 sku = 1; }")),
        (proto("message Item { } message Order { }"), proto("message Item { }")),
        (
            proto("message Item { string sku = 1; string ean = 2; }"),
            proto("message Item { oneof code { string sku = 1; string ean = 2; } }"),
        ),
        (
            proto("message Item { oneof code { string sku = 1; string ean = 2; } }"),
            proto("message Item { oneof code { string sku = 1; } }"),
        ),
        (
            proto('syntax = "proto2"; message Item { }'),
            proto('syntax = "proto2"; message Item { required string ean = 1; }'),
        ),
        (proto("message Item { reserved 2; }"), proto("message Item { int32 plu = 2; }")),
        (described(item, "id"), described(item | {"sku": {"type": "string"}}, "id", "sku")),
        (described(item, "id"), described(whole, "number")),
        (described(item, "id"), described(item)),
        (described({"reason": {"enum": ["count", "loss"]}}), described({"reason": {"enum": ["count", "theft"]}})),
        (
            described({"note": {"type": "string", "maxLength": 20}}),
            described({"note": {"type": "string", "maxLength": 10}}),
        ),
        (described({"note": {"type": "string"}}), described({"note": {"type": "string", "dialect": "x"}})),
    ]
    return [problem for old, new in pairs for problem in problems(new, [old], Level.FULL)]


def test_two_limits_of_one_field_are_two_problems() -> None:
    old, new = jsons({"type": "string"}), jsons({"type": "string", "minLength": 1, "maxLength": 9})
    assert [problem.kind for problem in problems(new, [old], Level.BACKWARD)] == ["RANGE_NARROWED"] * 2


def test_what_hurts_both_ways_alike_is_said_once() -> None:
    old = avro({"type": "long", "logicalType": "timestamp-millis"})
    assert len(problems(avro({"type": "long", "logicalType": "timestamp-micros"}), [old], Level.FULL)) == 1

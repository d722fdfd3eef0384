"""What the rules let through is held against readers that are not ours: fastavro's, protobuf's, jsonschema's."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import fastavro
import jsonschema
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from stranglerfig.schemas.avro.model import parsing_form
from stranglerfig.schemas.formats import Format, Level, Text, problems

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# --- Avro: a schema, a change of it, data written by the one and read by the other

PLAIN = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**53), 2**53),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.text(max_size=3).map(lambda s: s.encode()),
    "string": st.text(max_size=3),
}
DEFAULTS = {"boolean": True, "int": 1, "long": 2, "float": 0.5, "double": 1.5, "bytes": "b", "string": "s"}


@st.composite
def avro(draw: st.DrawFn, depth: int = 2) -> Any:
    kinds = ["plain", "enum", "fixed", *(["array", "map", "record"] if depth else []), "union"]
    kind = draw(st.sampled_from(kinds))
    if kind == "plain":
        return draw(st.sampled_from(PLAIN))
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from("ABC"), min_size=1, unique=True))
        default = {"default": symbols[0]} if draw(st.booleans()) else {}
        return {"type": "enum", "name": "E", "symbols": symbols, **default}
    if kind == "fixed":
        return {"type": "fixed", "name": "F", "size": draw(st.integers(1, 2))}
    if kind == "array":
        return {"type": "array", "items": draw(avro(depth - 1))}
    if kind == "map":
        return {"type": "map", "values": draw(avro(depth - 1))}
    if kind == "union":
        return draw(st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4, unique=True))
    return draw(record(depth))


@st.composite
def record(draw: st.DrawFn, depth: int) -> Any:
    fields = []
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        kind = draw(avro(depth - 1))
        field: dict[str, Any] = {"name": name, "type": kind}
        if isinstance(kind, str) and kind in DEFAULTS and draw(st.booleans()):
            field["default"] = DEFAULTS[kind]
        if draw(st.integers(0, 3)) == 0:
            field["aliases"] = [draw(st.sampled_from("abcd"))]
        fields.append(field)
    return {"type": "record", "name": f"R{depth}", "fields": fields}


@st.composite
def changed(draw: st.DrawFn, schema: Any, depth: int = 2) -> Any:
    """The schema with some of its parts changed, in ways that people change schemas."""
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(avro(depth))
    if isinstance(schema, str):
        wider = {"int": "long", "long": "double", "float": "double", "string": "bytes", "bytes": "string"}
        return wider.get(schema, schema) if how < 4 else (["null", schema] if how == 4 and schema != "null" else schema)
    if isinstance(schema, list):
        return draw(st.permutations(schema)) if how < 5 else [*schema, *({"string", "double"} - set(schema))]
    if schema["type"] == "array":
        return schema | {"items": draw(changed(schema["items"], depth - 1))}
    if schema["type"] == "map":
        return schema | {"values": draw(changed(schema["values"], depth - 1))}
    if schema["type"] == "enum":
        symbols = draw(st.lists(st.sampled_from("ABCD"), min_size=1, unique=True))
        default = {"default": symbols[0]} if draw(st.booleans()) else {}
        return {"type": "enum", "name": "E", "symbols": symbols, **default}
    if schema["type"] == "record":
        fields = [
            f | {"type": draw(changed(f["type"], depth - 1))} for f in schema["fields"] if draw(st.integers(0, 4))
        ]
        for field in fields:
            if "default" in field:
                del field["default"]
                if isinstance(field["type"], str) and field["type"] in DEFAULTS:
                    field["default"] = DEFAULTS[field["type"]]
        if draw(st.booleans()):
            fields.append({"name": "e", "type": "int", **({"default": 3} if draw(st.booleans()) else {})})
        return schema | {"fields": draw(st.permutations(fields))}
    return schema


def written(schema: Any) -> st.SearchStrategy[Any]:
    if isinstance(schema, str):
        return VALUES[schema]
    if isinstance(schema, list):
        # fastavro picks the branch by the value: (name, value) says which is meant.
        return st.one_of([VALUES[part].map(lambda value, part=part: (part, value)) for part in schema])
    if schema["type"] == "array":
        return st.lists(written(schema["items"]), max_size=2)
    if schema["type"] == "map":
        return st.dictionaries(st.sampled_from("xy"), written(schema["values"]), max_size=2)
    if schema["type"] == "enum":
        return st.sampled_from(schema["symbols"])
    if schema["type"] == "fixed":
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    return st.fixed_dictionaries({field["name"]: written(field["type"]) for field in schema["fields"]})


def parsed(schema: Any) -> Any:
    """fastavro's own parse; None where it refuses (a name twice)."""
    try:
        return fastavro.parse_schema(json.loads(json.dumps(schema)), named_schemas={})
    except fastavro.schema.SchemaParseException:
        return None


@QUICK
@given(st.data())
def test_what_avro_lets_through_can_be_read(data: st.DataObject) -> None:
    old = data.draw(st.integers(0, 2).flatmap(avro))
    new = data.draw(changed(old))
    writer, reader = parsed(old), parsed(new)
    assume(writer is not None and reader is not None)
    texts = [Text(Format.AVRO, json.dumps(schema)) for schema in (old, new)]
    found = problems(texts[1], texts[:1], Level.BACKWARD)
    event("compatible" if not found else "not")
    if not found:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, writer, data.draw(written(old)), disable_tuple_notation=False)
        stream.seek(0)
        fastavro.schemaless_reader(stream, writer, reader)


@QUICK
@given(avro())
def test_the_parsing_form_is_fastavros(schema: Any) -> None:
    assume(parsed(schema) is not None)
    theirs = fastavro.schema.to_parsing_canonical_form(json.loads(json.dumps(schema)))
    assert parsing_form(Text(Format.AVRO, json.dumps(schema))) == theirs


# --- JSON Schema: data of a closed writer, validated by a tolerant reader

NAMES = ("a", "b", "c")


@st.composite
def schemas(draw: st.DrawFn, depth: int) -> Any:
    kinds = ["text", "whole", "number", "flag", "nothing", "listed", "several"]
    kind = draw(
        st.sampled_from(
            kinds + (["object", "object", "array", "tuple", "any", "one", "all", "other", "linked"] if depth else [])
        )
    )
    low = draw(st.integers(0, 3))
    if kind == "text":
        return draw(st.sampled_from([{}, {"minLength": low}, {"maxLength": low}, {"pattern": "^x"}])) | {
            "type": "string"
        }
    if kind in ("whole", "number"):
        limits = [{}, {"minimum": low}, {"maximum": low}, {"exclusiveMinimum": low}, {"multipleOf": low + 1}]
        return draw(st.sampled_from(limits)) | {"type": "integer" if kind == "whole" else "number"}
    if kind == "listed":
        return {"enum": draw(st.lists(st.sampled_from(["x", "y", 1, 2.5, None, True]), min_size=1, unique_by=repr))}
    if kind == "several":
        return {
            "type": draw(st.lists(st.sampled_from(["string", "integer", "null", "boolean"]), min_size=1, unique=True))
        }
    if kind == "array":
        return draw(st.sampled_from([{}, {"minItems": low}, {"maxItems": low}])) | {
            "type": "array",
            "items": draw(schemas(depth - 1)),
        }
    if kind == "tuple":
        rest = draw(st.sampled_from([{}, {"items": False}, {"items": {"type": "integer"}}]))
        prefix = draw(st.lists(schemas(depth - 1), min_size=1, max_size=2))
        return {"type": "array", "prefixItems": prefix, **rest, "uniqueItems": draw(st.booleans())}
    if kind == "other":
        return {"type": ["string", "integer"], "not": draw(schemas(0))}
    if kind == "linked":
        return draw(objects(depth)) | {"dependentRequired": {"a": ["b"]}}
    if kind == "object":
        return draw(objects(depth))
    if kind in ("any", "one", "all"):
        parts = draw(st.lists(schemas(depth - 1), min_size=1, max_size=3))
        return {f"{kind}Of": parts}
    return {"type": "boolean" if kind == "flag" else "null"}


@st.composite
def objects(draw: st.DrawFn, depth: int) -> Any:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    required = [name for name in names if draw(st.booleans())]
    made: dict[str, Any] = {"type": "object", "properties": {name: draw(schemas(depth - 1)) for name in names}}
    made["required"] = required
    if draw(st.booleans()):
        made["additionalProperties"] = draw(st.sampled_from([False, {"type": "string"}, {"type": "integer"}]))
    if draw(st.integers(0, 3)) == 0:
        made["patternProperties"] = {draw(st.sampled_from(["^d", "^[ab]", "c"])): draw(schemas(0))}
    return made


@st.composite
def other(draw: st.DrawFn, schema: Any) -> Any:
    """A schema near to ``schema``."""
    if draw(st.integers(0, 4)) == 0:
        return draw(schemas(1))
    made = dict(schema)
    for key in list(made):
        if key == "properties":
            made[key] = {name: draw(other(part)) for name, part in made[key].items() if draw(st.integers(0, 5))}
        elif key == "items" and isinstance(made[key], dict):
            made[key] = draw(other(made[key]))
        elif key in ("anyOf", "oneOf", "allOf"):
            made[key] = [draw(other(part)) for part in made[key]]
        elif key in ("minLength", "minItems", "minimum", "exclusiveMinimum"):
            made[key] = draw(st.integers(0, 3))
        elif key == "required":
            made[key] = [name for name in made[key] if draw(st.integers(0, 3))]
        elif key == "not":
            made[key] = draw(other(made[key]))
        elif key in ("prefixItems",) and draw(st.booleans()):
            made[key] = [draw(other(part)) for part in made[key]]
        elif key in ("maxLength", "additionalProperties", "pattern", "uniqueItems") and draw(st.booleans()):
            del made[key]
    return made


SAMPLES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.sampled_from([0.5, 2.5, "", "x", "xy", "xyz", "abcd", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "d"]), inner, max_size=3),
    max_leaves=5,
)


def wrote(schema: Any) -> st.SearchStrategy[Any]:
    """Values that are likely to be valid, and nothing that the schema does not name."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return st.one_of([wrote(part) for part in schema[key]])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_wrote_kind(schema, kind) for kind in kinds])


def _wrote_kind(schema: Any, kind: str) -> st.SearchStrategy[Any]:
    if kind == "object":
        parts = {name: wrote(part) for name, part in schema["properties"].items()}
        must = {name: part for name, part in parts.items() if name in schema["required"]}
        known = st.fixed_dictionaries(must, optional={name: part for name, part in parts.items() if name not in must})
        rest = schema.get("additionalProperties")
        return st.tuples(st.just({"d": "x"} if rest == {"type": "string"} else {}), known).map(lambda p: p[0] | p[1])
    if kind == "array":
        items = schema.get("items", True)
        rest = st.lists(wrote(items) if isinstance(items, dict) else st.integers(0, 2), max_size=2 if items else 0)
        return st.tuples(st.tuples(*map(wrote, schema.get("prefixItems", []))), rest).map(lambda p: [*p[0], *p[1]])
    plain = {"null": st.none(), "boolean": st.booleans(), "string": st.sampled_from(["", "x", "xy", "xyz", "abcd"])}
    return plain.get(kind, st.integers(-1, 5) if kind == "integer" else st.sampled_from([0, 1, 2.0, 2.5, 3, 4]))


def closed(schema: Any, value: Any) -> bool:
    """Whether a closed writer would write what is valid: each property is named, or the schema has a map for it."""
    return bool(jsonschema.Draft202012Validator(_closing(schema)).is_valid(value))


def _closing(schema: Any, *, outer: bool = True) -> Any:
    """``unevaluatedProperties: false`` at every place where properties are named is what 'closed' means.

    Alternatives at one place are closed together, at the outermost schema of the place.
    """
    if isinstance(schema, bool):
        return schema
    made = {key: _closing_part(key, value) for key, value in schema.items()}
    speaks = any(f'"{key}"' in json.dumps(schema) for key in ("properties", "patternProperties"))
    return made | {"unevaluatedProperties": False} if outer and speaks else made


def _closing_part(key: str, value: Any) -> Any:
    if key in ("properties", "patternProperties"):
        return {name: _closing(part) for name, part in value.items()}
    if key in ("anyOf", "oneOf", "allOf"):
        return [_closing(part, outer=False) for part in value]
    if key == "prefixItems":
        return [_closing(part) for part in value]
    return _closing(value) if key in ("items", "additionalProperties") else value


def _tolerant(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: _tolerant(part)
            for key, part in schema.items()
            if not (key == "additionalProperties" and part is False)
        }
    return [_tolerant(part) for part in schema] if isinstance(schema, list) else schema


@QUICK
@given(st.data())
def test_what_json_lets_through_is_accepted(data: st.DataObject) -> None:
    old = data.draw(st.integers(0, 2).flatmap(schemas))
    new = data.draw(other(old))
    texts = [Text(Format.JSON, json.dumps(schema)) for schema in (old, new)]
    if problems(texts[1], texts[:1], Level.BACKWARD):
        event("not compatible")
        return
    reader = jsonschema.Draft202012Validator(_tolerant(new))
    for value in data.draw(st.lists(wrote(old) | SAMPLES, min_size=5, max_size=10)):
        if closed(old, value):
            event("checked")
            assert reader.is_valid(value), (old, new, value)


# --- Protobuf: a message of the older descriptor, read by the newer

KINDS = {
    **{f"{kind}{bits}": 0 for kind in ("int", "uint", "sint", "fixed", "sfixed") for bits in (32, 64)},
    **dict.fromkeys(("bool", "float", "double", "string", "bytes"), 0),
}
KINDS = {name: getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name.upper()}") for name in KINDS}
Shape = dict[int, tuple[str, bool, bool]]
"""Field number -> (type, repeated, in the oneof)."""


def shapes() -> st.SearchStrategy[Shape]:
    parts = st.tuples(st.sampled_from(sorted(KINDS)), st.booleans(), st.booleans())
    return st.dictionaries(
        st.integers(1, 5), parts.map(lambda p: (p[0], p[1] and not p[2], p[2])), min_size=1, max_size=2
    )


@st.composite
def near(draw: st.DrawFn, shape: Shape) -> Shape:
    made: Shape = {}
    for number, (kind, many, inside) in shape.items():
        change = draw(st.integers(0, 6))
        if change in (1, 5, 6):
            kind = draw(st.sampled_from(sorted(KINDS)))
        if change == 2 and not inside:
            many = not many
        if change == 3 and not many:
            inside = not inside
        if change != 4:
            made[number] = (kind, many, inside)
    return made | draw(st.dictionaries(st.integers(6, 7), st.just(("string", False, False)), max_size=1))


def described(shape: Shape) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="item.proto", syntax="proto3", package="shop")
    message = file.message_type.add(name="Item")
    if any(inside for _, _, inside in shape.values()):
        message.oneof_decl.add(name="choice")
    for number, (kind, many, inside) in sorted(shape.items()):
        field = message.field.add(name=f"f{number}", number=number, type=KINDS[kind], label=3 if many else 1)
        if inside:
            field.oneof_index = 0
    return file


def values_for(shape: Shape) -> st.SearchStrategy[dict[int, Any]]:
    def value(kind: str) -> st.SearchStrategy[Any]:
        if kind in ("string", "bytes"):
            return st.text("ab", min_size=1, max_size=2).map(lambda s: s if kind == "string" else s.encode())
        return st.just(True) if kind == "bool" else st.integers(1, 1) if kind in ("float", "double") else st.just(1)

    parts = {
        n: st.lists(value(kind), min_size=1, max_size=3) if many else value(kind)
        for n, (kind, many, _) in shape.items()
    }
    return st.fixed_dictionaries({}, optional=parts)


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


@QUICK
@given(st.data())
def test_what_protobuf_lets_through_keeps_its_values(data: st.DataObject) -> None:
    old = data.draw(shapes())
    new = data.draw(near(old))
    files = [described(shape) for shape in (old, new)]
    texts = [Text(Format.PROTOBUF, base64.b64encode(file.SerializeToString()).decode()) for file in files]
    if problems(texts[1], texts[:1], Level.BACKWARD):
        event("not compatible")
        return
    writer, reader = (message_factory.GetMessageClass(_pool(file).FindMessageTypeByName("shop.Item")) for file in files)
    sent = writer()
    values = data.draw(values_for(old))
    for number, value in values.items():
        if old[number][1]:
            getattr(sent, f"f{number}").extend(value)
        else:
            setattr(sent, f"f{number}", value)
    found = reader.FromString(sent.SerializeToString())
    for number in values.keys() & new.keys():
        if old[number][2] and not sent.HasField(f"f{number}"):
            continue  # another of its oneof was set after it
        event("read")
        wrote_value, read_value = getattr(sent, f"f{number}"), getattr(found, f"f{number}")
        if old[number][1] and not new[number][1]:
            assert plain(wrote_value[-1]) == plain(read_value)  # of many texts the last is read
        elif new[number][1]:
            expected = list(wrote_value) if old[number][1] else [wrote_value]
            assert list(map(plain, expected)) == list(map(plain, read_value))
        else:
            assert plain(wrote_value) == plain(read_value)


def _pool(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool

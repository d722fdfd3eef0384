"""A Protobuf schema in Protobuf's own runtime: what judges a message's bytes, and the descriptor that clients ask for.

Source text is turned into a descriptor without protoc; of its options only those are kept that decide how bytes are
read. A type that an import of a client's own library brings (``google/type/…``) is taken as opaque bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as AnyMessage
from google.protobuf.unknown_fields import UnknownFieldSet

from stranglerfig.schemas.protobuf import descriptor, linking
from stranglerfig.schemas.protobuf.model import SCALARS, EnumType, Field, File, Message
from stranglerfig.schemas.protobuf.text import unquoted
from stranglerfig.schemas.terms import Format, Text

_Field = descriptor_pb2.FieldDescriptorProto
_OWN = "fig/schema.proto"
"""The path of a schema that has none: only its references are imported by name."""


class Messages:
    """The messages of one schema.

    Raises:
        FigError: ``schema_invalid``.
    """

    def __init__(self, schema: Text) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        known: set[str] = set()
        for index, reference in enumerate(schema.references):
            inner = Text(Format.PROTOBUF, reference.text, schema.references[:index])
            self._add(_file(inner, reference.name), known)
        own = _file(schema, _OWN)
        self._add(own, known)
        self._file: Any = self._pool.FindFileByName(own.name)

    def _add(self, file: descriptor_pb2.FileDescriptorProto, known: set[str]) -> None:
        for path in list(file.dependency):
            if path in descriptor.WELL_KNOWN:
                self._add_well_known(path, known)
        present = [path for path in file.dependency if path in known]
        del file.dependency[:], file.public_dependency[:], file.weak_dependency[:]
        file.dependency.extend(present)
        # Imports are taken as public: what one of them brings is there, whoever names it.
        file.public_dependency.extend(range(len(present)))
        self._pool.Add(file)
        known.add(file.name)

    def _add_well_known(self, path: str, known: set[str]) -> None:
        if path not in known:
            self._add(descriptor.well_known_descriptor(path), known)

    def at(self, place: tuple[int, ...]) -> type[AnyMessage]:
        """The message at a place: its number in the file, then in the message around it.

        Raises:
            IndexError: there is none.
        """
        found: Descriptor = _nth(self._file.message_types_by_name.values(), place[0])
        for number in place[1:]:
            found = _nth(found.nested_types, number)
        return message_factory.GetMessageClass(found)

    @staticmethod
    def problem(kind: type[AnyMessage], data: bytes) -> tuple[str, str] | None:
        """None when ``data`` is a message of this kind, else (path, what is wrong)."""
        message: Any = kind()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            return "$", f"it cannot be read as {kind.DESCRIPTOR.full_name}: {error}"
        if not message.IsInitialized():
            return "$", f"it lacks {', '.join(message.FindInitializationErrors())}"
        strange = sorted(set(_strange(message)))
        if strange:
            return "$", f"it has fields that {kind.DESCRIPTOR.full_name} does not have: {strange}"
        return None


def serialized(schema: Text) -> str:
    """The file's descriptor in base64, as clients without a parser ask for it.

    Raises:
        FigError: ``schema_invalid``.
    """
    return base64.b64encode(_file(schema, _OWN).SerializeToString()).decode()


def _nth(found: Iterable[Descriptor], number: int) -> Descriptor:
    if number < 0:
        raise IndexError("a negative index")
    return list(found)[number]


def _strange(message: Any) -> Iterator[int]:
    """Numbers of fields in the bytes that the schema does not have, extensions aside."""
    ranges = message.DESCRIPTOR.extension_ranges
    unknown: Any = UnknownFieldSet(message)
    for field in unknown:
        if not any(start <= field.field_number < end for start, end in ranges):
            yield field.field_number


def _file(schema: Text, path: str) -> descriptor_pb2.FileDescriptorProto:
    """The descriptor: as it was registered where it was one, else made from the source text."""
    model = linking.load(schema)
    raw = descriptor.decoded(schema.text)
    opaque = any(
        part.kind == "message" and part.type not in model.types for message in model.messages for part in message.fields
    )
    if raw is not None and not opaque:
        raw.name = path
        return raw
    return _Writer(model).file(path)


class _Writer:
    """One file as a descriptor."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._proto3 = file.syntax == "proto3"

    def file(self, path: str) -> descriptor_pb2.FileDescriptorProto:
        own = self._file
        # An edition reads the bytes of both; proto2 asks less of them.
        found = descriptor_pb2.FileDescriptorProto(
            name=path, package=own.package, syntax="proto3" if self._proto3 else "proto2"
        )
        found.dependency.extend(import_ for import_, _ in own.imports)
        for message in own.messages:
            self._message(message, found.message_type.add())
        for enum in own.enums:
            self._enum(enum, found.enum_type.add())
        return found

    def _message(self, message: Message, found: descriptor_pb2.DescriptorProto) -> None:
        found.name = message.name
        for name in message.oneofs:
            found.oneof_decl.add(name=name)
        for part in message.fields:
            self._field(part, message, found)
        # A place counts the entries of maps as well, all in the order of the text: so protoc makes them.
        maps = [part for part in message.fields if part.kind == "map"]
        nested: list[Message | Field] = [*message.messages, *maps]
        for inner in sorted(nested, key=lambda each: each.line):
            if isinstance(inner, Message):
                self._message(inner, found.nested_type.add())
            else:
                self._entry(inner, found.nested_type.add())
        for enum in message.enums:
            self._enum(enum, found.enum_type.add())
        for first, last in message.extensions:
            found.extension_range.add(start=first, end=last + 1)

    def _field(self, part: Field, message: Message, found: descriptor_pb2.DescriptorProto) -> None:
        field = found.field.add(name=part.name, number=part.number)
        labels = {"repeated": _Field.LABEL_REPEATED, "required": _Field.LABEL_REQUIRED}
        field.label = labels.get(part.label, _Field.LABEL_OPTIONAL)
        if (name := part.options.get("json_name")) is not None:
            field.json_name = unquoted([name])
        if part.kind == "map":
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{message.full}.{_entry_name(part.name)}"
        else:
            self._type(part.type, part.kind, field)
        if part.oneof:
            field.oneof_index = list(message.oneofs).index(part.oneof)
        elif self._proto3 and part.label == "optional":
            # Presence in proto3 is a oneof of one, behind the written ones (descriptor.proto, "proto3_optional").
            field.proto3_optional = True
            field.oneof_index = len(found.oneof_decl)
            found.oneof_decl.add(name=f"_{part.name}")

    def _type(self, name: str, kind: str, field: descriptor_pb2.FieldDescriptorProto) -> None:
        known = self._file.types.get(name)
        if kind == "group":
            field.type, field.type_name = _Field.TYPE_GROUP, f".{name}"
        elif isinstance(known, EnumType):
            field.type, field.type_name = _Field.TYPE_ENUM, f".{name}"
        elif known is not None:
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{name}"
        else:
            opaque = kind == "message"
            field.type = _Field.TYPE_BYTES if opaque else _Field.Type.Value(f"TYPE_{name.upper()}")

    def _entry(self, part: Field, found: descriptor_pb2.DescriptorProto) -> None:
        found.name = _entry_name(part.name)
        found.options.map_entry = True
        key = found.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL)
        value = found.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL)
        self._type(part.key, "scalar", key)
        self._type(part.type, "scalar" if part.type in SCALARS else "message", value)

    def _enum(self, enum: EnumType, found: descriptor_pb2.EnumDescriptorProto) -> None:
        found.name = enum.name
        if enum.options.get("allow_alias") == "true":
            found.options.allow_alias = True
        for name, number in enum.values:
            found.value.add(name=name, number=number)


def _entry_name(field: str) -> str:
    """``item_counts`` → ``ItemCountsEntry``: as protoc names the message behind a map."""
    return "".join(word[:1].upper() + word[1:] for word in field.split("_")) + "Entry"

"""Reads a ``FileDescriptorProto``, which Python's Kafka client registers in base64 in place of source text."""

from __future__ import annotations

import base64
import binascii
import importlib
import re
from typing import Any

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as AnyMessage

from stranglerfig.schemas.protobuf.model import EnumType, Field, File, Message, Method, Service
from stranglerfig.schemas.protobuf.text import quoted

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_TYPES = descriptor_pb2.FieldDescriptorProto
_WELL_KNOWN = (
    *("any", "api", "descriptor", "duration", "empty", "field_mask"),
    *("source_context", "struct", "timestamp", "type", "wrappers"),
)
WELL_KNOWN = {f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2" for name in _WELL_KNOWN}
"""Imports that come with Protobuf itself, and the module that has their descriptor."""


def read(text: str) -> File | None:
    """The file that a base64 descriptor says; None when ``text`` is not one."""
    found = decoded(text)
    return None if found is None else convert(found)


def decoded(text: str) -> descriptor_pb2.FileDescriptorProto | None:
    """The descriptor itself; None when ``text`` is not one in base64."""
    if not _BASE64.fullmatch(text):
        return None
    try:
        found = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=False))
    except (binascii.Error, DecodeError):
        return None
    # Many a text is base64 by chance, and some bytes parse by chance; a descriptor has a name.
    return found if found.name else None


def well_known(path: str) -> File:
    """One of ``WELL_KNOWN``."""
    return convert(well_known_descriptor(path))


def well_known_descriptor(path: str) -> descriptor_pb2.FileDescriptorProto:
    """The same as Protobuf has it."""
    found = descriptor_pb2.FileDescriptorProto()
    importlib.import_module(WELL_KNOWN[path]).DESCRIPTOR.CopyToProto(found)
    return found


def convert(found: descriptor_pb2.FileDescriptorProto) -> File:
    """The descriptor as our model."""
    syntax = found.syntax or "proto2"
    if syntax == "editions":
        syntax = descriptor_pb2.Edition.Name(found.edition).removeprefix("EDITION_")
    public, weak = set(found.public_dependency), set(found.weak_dependency)
    file = File(syntax, found.package)
    for index, path in enumerate(found.dependency):
        file.imports.append((path, "public" if index in public else "weak" if index in weak else ""))
    file.messages = [_message(part, found.package, syntax) for part in found.message_type]
    file.enums = [_enum(part, found.package) for part in found.enum_type]
    file.extends = [(part.extendee.lstrip("."), _field(part, syntax, [])) for part in found.extension]
    file.options = _options(found.options)
    for service in found.service:
        methods = [
            Method(
                m.name,
                m.input_type.lstrip("."),
                m.output_type.lstrip("."),
                m.client_streaming,
                m.server_streaming,
                _options(m.options),
            )
            for m in service.method
        ]
        file.services.append(Service(service.name, methods, _options(service.options)))
    return file


def _message(found: descriptor_pb2.DescriptorProto, outer: str, syntax: str) -> Message:
    message = Message(found.name, f"{outer}.{found.name}" if outer else found.name)
    entries = {f".{message.full}.{part.name}": part for part in found.nested_type if part.options.map_entry}
    made_up = {part.oneof_index for part in found.field if part.proto3_optional}
    oneofs = ["" if index in made_up else part.name for index, part in enumerate(found.oneof_decl)]
    message.oneofs = {p.name: _options(p.options) for i, p in enumerate(found.oneof_decl) if i not in made_up}
    for part in found.field:
        entry = entries.get(part.type_name)
        message.fields.append(_field(part, syntax, oneofs) if entry is None else _map(part, entry, syntax))
    message.messages = [_message(p, message.full, syntax) for p in found.nested_type if not p.options.map_entry]
    message.enums = [_enum(part, message.full) for part in found.enum_type]
    message.extends = [(part.extendee.lstrip("."), _field(part, syntax, [])) for part in found.extension]
    # A message's ranges end before `end`, an enum's include it (descriptor.proto).
    message.reserved = [(part.start, part.end - 1) for part in found.reserved_range]
    message.extensions = [(part.start, part.end - 1) for part in found.extension_range]
    message.reserved_names = list(found.reserved_name)
    message.options = _options(found.options)
    return message


def _enum(found: descriptor_pb2.EnumDescriptorProto, outer: str) -> EnumType:
    enum = EnumType(found.name, f"{outer}.{found.name}" if outer else found.name)
    enum.values = [(value.name, value.number) for value in found.value]
    enum.details = {value.name: details for value in found.value if (details := _options(value.options))}
    enum.reserved = [(part.start, part.end) for part in found.reserved_range]
    enum.reserved_names = list(found.reserved_name)
    enum.options = _options(found.options)
    return enum


def _field(found: descriptor_pb2.FieldDescriptorProto, syntax: str, oneofs: list[str]) -> Field:
    oneof = oneofs[found.oneof_index] if found.HasField("oneof_index") and oneofs else ""
    label = {_TYPES.LABEL_REPEATED: "repeated", _TYPES.LABEL_REQUIRED: "required"}.get(found.label, "")
    if not label and not oneof and (syntax == "proto2" or found.proto3_optional):
        label = "optional"
    part = Field(found.name, found.number, _type(found), label, oneof=oneof, options=_options(found.options))
    if found.type == _TYPES.TYPE_GROUP:
        part.kind = "group"
    if found.HasField("json_name"):
        part.options["json_name"] = quoted(found.json_name)
    if found.HasField("default_value"):
        textual = found.type in (_TYPES.TYPE_STRING, _TYPES.TYPE_BYTES)
        part.options["default"] = quoted(found.default_value) if textual else found.default_value
    return part


def _type(found: descriptor_pb2.FieldDescriptorProto) -> str:
    # A type that was not resolved has a name and no type (descriptor.proto, "type_name").
    if found.type_name:
        return found.type_name
    return _TYPES.Type.Name(found.type).removeprefix("TYPE_").lower()


def _map(found: descriptor_pb2.FieldDescriptorProto, entry: descriptor_pb2.DescriptorProto, syntax: str) -> Field:
    key, value = sorted(entry.field, key=lambda part: part.number)
    part = _field(found, syntax, [])
    part.kind, part.key, part.type = "map", _type(key), _type(value)
    return part


def _options(found: AnyMessage) -> dict[str, str]:
    options: dict[str, str] = {}
    for key, value in found.ListFields():
        name = f"({key.full_name})" if key.is_extension else key.name
        if key.is_repeated:
            options[name] = "[" + ", ".join(_value(key, part) for part in value) + "]"
        elif isinstance(value, AnyMessage):
            options |= {f"{name}.{inner}": said for inner, said in _options(value).items()}
        elif name != "map_entry":
            options[name] = _value(key, value)
    # Options of the user's own that nobody here has a descriptor for: told apart by their bytes.
    known = type(found)()
    known.CopyFrom(found)
    known.DiscardUnknownFields()
    if known.ByteSize() != found.ByteSize():
        options["(unknown)"] = quoted(base64.b64encode(found.SerializeToString(deterministic=True)).decode())
    return options


def _value(key: FieldDescriptor, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if key.enum_type is not None:
        return str(key.enum_type.values_by_number[value].name)
    if isinstance(value, AnyMessage):
        return "{ " + text_format.MessageToString(value, as_one_line=True) + " }"
    return quoted(value if isinstance(value, str) else str(value)) if isinstance(value, (str, bytes)) else str(value)

"""Joins a file with what it imports: names resolved, and everything checked that protoc would refuse."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NoReturn

from stranglerfig.schemas.protobuf import descriptor, text
from stranglerfig.schemas.protobuf.model import MAX_NUMBER, SCALARS, EnumType, Field, File, Message, enums_of, walk
from stranglerfig.schemas.terms import Format, Reference, Text, invalid

_KEYS = SCALARS - {"double", "float", "bytes"}
_OPAQUE = ("google/type/", "google/api/", "google/rpc/", "confluent/")
"""Imports that clients' libraries bring along and do not register; their types are taken by name."""


def load(schema: Text) -> File:
    """The schema as a file with its names resolved.

    Raises:
        FigError: ``schema_invalid`` with the line, or the field, of the mistake.
    """
    return _load(schema.text, schema.references)


@lru_cache(maxsize=512)
def _load(source: str, references: tuple[Reference, ...]) -> File:
    # Files by path; a link may look in all of them, in what order they were given does not matter.
    known = {reference.name: _read(reference.text, reference.name) for reference in references}
    file = _read(source, "")
    for path in _imports([file, *known.values()]):
        if path in descriptor.WELL_KNOWN:
            _with_imports(path, known)
        elif path not in known and not path.startswith(_OPAQUE):
            raise invalid(Format.PROTOBUF, f'import "{path}"', "it is not among the schema's references")
    opaque = any(path.startswith(_OPAQUE) and path not in known for path in _imports([file, *known.values()]))
    types: dict[str, Message | EnumType] = {}
    packages: dict[str, str] = {}
    for part in (*known.values(), file):
        kinds: list[Message | EnumType] = [*walk(part.messages), *enums_of(part)]
        for kind in kinds:
            types[kind.full], packages[kind.full] = kind, part.package
    for part in (*known.values(), file):
        part.types, part.packages = types, packages
        _Linker(part, opaque=opaque).link()
    _check(file)
    return file


def _read(source: str, path: str) -> File:
    if not source.strip():
        raise invalid(Format.PROTOBUF, path or "line 1", "there is nothing in it")
    try:
        return descriptor.read(source) or text.read(source, path)
    except RecursionError as error:
        raise invalid(Format.PROTOBUF, path or "line 1", "it is nested too deeply") from error


def _imports(files: Iterable[File]) -> list[str]:
    return [path for file in files for path, _ in file.imports]


def _with_imports(path: str, known: dict[str, File]) -> None:
    if path not in known:
        known[path] = descriptor.well_known(path)
        for inner, _ in known[path].imports:
            _with_imports(inner, known)


class _Linker:
    """Resolves the names of one file."""

    def __init__(self, file: File, *, opaque: bool) -> None:
        self._file = file
        self._opaque = opaque

    def link(self) -> None:
        for message in walk(self._file.messages):
            for part in message.fields:
                self._field(part, message.full)
            message.extends = [self._extension(pair, message.full) for pair in message.extends]
        package = self._file.package
        self._file.extends = [self._extension(pair, package) for pair in self._file.extends]
        for service in self._file.services:
            for method in service.methods:
                method.takes = self._resolve(method.takes, package, f"rpc {method.name}")
                method.gives = self._resolve(method.gives, package, f"rpc {method.name}")

    def _extension(self, pair: tuple[str, Field], scope: str) -> tuple[str, Field]:
        whom, part = pair
        self._field(part, scope)
        return self._resolve(whom, scope, f"extend {whom}"), part

    def _field(self, part: Field, scope: str) -> None:
        _plain_options(part)
        if part.type in SCALARS:
            part.kind = part.kind or "scalar"
            return
        where = f"line {part.line}" if part.line else f"{scope}.{part.name}"
        part.type = self._resolve(part.type, scope, where)
        if not part.kind:
            part.kind = "enum" if isinstance(self._file.types.get(part.type), EnumType) else "message"

    def _resolve(self, name: str, scope: str, where: str) -> str:
        types = self._file.types
        if name.startswith("."):
            if name[1:] in types or self._opaque:
                return name[1:]
        else:
            # Innermost first, as in C++: protobuf.dev, "Packages and Name Resolution".
            around = scope
            while around:
                if f"{around}.{name}" in types:
                    return f"{around}.{name}"
                around = around.rpartition(".")[0]
            if name in types or (self._opaque and "." in name):
                return name
        raise invalid(Format.PROTOBUF, where, f"the type '{name}' is not known here")


def _plain_options(part: Field) -> None:
    """Options that say what is so anyway go; numbers are written in one way."""
    if not part.options:
        return
    if part.options.get("json_name") == text.quoted(json_name(part.name)):
        del part.options["json_name"]
    default = part.options.get("default")
    if default is None or default.startswith('"'):
        return
    try:
        value = float(default) if "." in default or ("e" in default.lower() and "x" not in default) else int(default, 0)
    except ValueError:
        return
    part.options["default"] = repr(int(value) if value == int(value) else value)


@lru_cache(maxsize=4096)
def json_name(name: str) -> str:
    """The name in JSON where none is given: lowerCamelCase, as protoc makes it."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _check(file: File) -> None:
    _unique_names(file)
    for message in walk(file.messages):
        _unique_names(message)
        _check_message(message, file)
    for enum in enums_of(file):
        _check_enum(enum, file)


def _refuse(line: int, full: str, why: str) -> NoReturn:
    raise invalid(Format.PROTOBUF, f"line {line}" if line else full, why)


def _unique_names(scope: File | Message) -> None:
    seen: set[str] = set()
    names = [(part.name, part.line) for part in scope.messages] + [(part.name, part.line) for part in scope.enums]
    # An enum's values live beside the enum, not within it: language guide, "Enum".
    names += [(value, enum.line) for enum in scope.enums for value, _ in enum.values]
    if isinstance(scope, Message):
        names += [(part.name, part.line) for part in scope.fields] + [(name, scope.line) for name in scope.oneofs]
    for name, line in names:
        if name in seen:
            _refuse(line, name, f"'{name}' is defined twice")
        seen.add(name)


def _check_message(message: Message, file: File) -> None:
    numbers: dict[int, str] = {}
    in_json: dict[str, str] = {}
    for part in message.fields:
        where = f"{message.full}.{part.name}"
        _check_number(part, message, where)
        if part.number in numbers:
            _refuse(part.line, where, f"the number {part.number} is already that of '{numbers[part.number]}'")
        numbers[part.number] = part.name
        said = part.options.get("json_name") or text.quoted(json_name(part.name))
        if said in in_json and file.syntax != "proto2":
            _refuse(part.line, where, f"in JSON it would be {said}, as '{in_json[said]}' is")
        in_json[said] = part.name
        _check_label(part, file, where)
    for name in message.oneofs:
        if not any(part.oneof == name for part in message.fields):
            _refuse(message.line, f"{message.full}.{name}", f"the oneof '{name}' has no field")


def _check_number(part: Field, message: Message, where: str) -> None:
    number = part.number
    if not 1 <= number <= MAX_NUMBER:
        _refuse(part.line, where, f"the number {number} is not within 1 to {MAX_NUMBER}")
    if 19000 <= number <= 19999:
        _refuse(part.line, where, f"the number {number} is one of Protobuf's own (19000 to 19999)")
    if message.reserved and any(low <= number <= high for low, high in message.reserved):
        _refuse(part.line, where, f"the number {number} is reserved")
    if part.name in message.reserved_names:
        _refuse(part.line, where, f"the name '{part.name}' is reserved")
    if message.extensions and any(low <= number <= high for low, high in message.extensions):
        _refuse(part.line, where, f"the number {number} is for extensions")


def _check_label(part: Field, file: File, where: str) -> None:
    if part.key and part.key not in _KEYS:
        _refuse(part.line, where, f"{part.key} cannot be a map's key")
    if part.oneof and part.label:
        _refuse(part.line, where, "a field in a oneof has no label")
    if file.syntax == "proto2":
        if not part.label and not part.oneof:
            _refuse(part.line, where, "in proto2 a field is optional, required or repeated")
    elif part.label == "required" or part.kind == "group" or (file.syntax == "proto3" and "default" in part.options):
        _refuse(part.line, where, f"required fields, groups and defaults are not part of {file.syntax}")


def _check_enum(enum: EnumType, file: File) -> None:
    if not enum.values:
        _refuse(enum.line, enum.full, f"the enum {enum.name} has no value")
    if file.syntax == "proto3" and enum.values[0][1] != 0:
        _refuse(enum.line, enum.full, f"the first value of {enum.name} is 0 in proto3")
    seen: dict[int, str] = {}
    for name, number in enum.values:
        if number in seen and enum.options.get("allow_alias") != "true":
            _refuse(enum.line, enum.full, f"'{name}' has the number of '{seen[number]}', and allow_alias is not set")
        if any(low <= number <= high for low, high in enum.reserved) or name in enum.reserved_names:
            _refuse(enum.line, enum.full, f"'{name}' ({number}) is reserved")
        seen[number] = name

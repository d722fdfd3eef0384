"""A ``.proto`` file as objects, with names resolved, and its normal form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

SCALARS = frozenset({"double", "float", "bool", "string", "bytes"}) | {
    f"{kind}{bits}" for kind in ("int", "uint", "sint", "fixed", "sfixed") for bits in (32, 64)
}
Ranges = list[tuple[int, int]]
"""Numbers from and to, both included."""

MAX_NUMBER = 2**29 - 1
"""The greatest field number."""


@dataclass(slots=True, eq=False)
class Field:
    """A field.

    Attributes:
        type: a scalar's name, or the full name of a message or an enum.
        kind: ``scalar``, ``message``, ``enum``, ``group``, or ``map`` (``type`` is the value's, ``key`` the key's).
        label: ``optional`` where written (or proto2), ``required``, ``repeated``, else empty.
        oneof: the name of the oneof it is in; empty outside (the oneof made up for proto3's ``optional`` is none).
    """

    name: str
    number: int
    type: str
    label: str = ""
    kind: str = ""
    key: str = ""
    oneof: str = ""
    options: dict[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(slots=True, eq=False)
class EnumType:
    """An enum; values in the order of the text."""

    name: str
    full: str
    values: list[tuple[str, int]] = field(default_factory=list)
    reserved: Ranges = field(default_factory=list)
    reserved_names: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    details: dict[str, dict[str, str]] = field(default_factory=dict)
    line: int = 0


@dataclass(slots=True, eq=False)
class Message:
    """A message; ``full`` is its name with its package and the messages around it."""

    name: str
    full: str
    fields: list[Field] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    enums: list[EnumType] = field(default_factory=list)
    extends: list[tuple[str, Field]] = field(default_factory=list)
    oneofs: dict[str, dict[str, str]] = field(default_factory=dict)
    reserved: Ranges = field(default_factory=list)
    reserved_names: list[str] = field(default_factory=list)
    extensions: Ranges = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(slots=True, eq=False)
class Method:
    """A service's method."""

    name: str
    takes: str
    gives: str
    takes_stream: bool = False
    gives_stream: bool = False
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Service:
    """A service; kept for the normal form, ignored by the rules: events do not call."""

    name: str
    methods: list[Method] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class File:
    """One ``.proto`` file.

    Attributes:
        syntax: ``proto2``, ``proto3``, or the year of an edition.
        imports: (path, ``""`` or ``public`` or ``weak``).
        types: every message and enum that the file can name, its imports' included, by full name.
        packages: the package that each of ``types`` is defined in.
    """

    syntax: str = "proto2"
    package: str = ""
    imports: list[tuple[str, str]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    enums: list[EnumType] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    extends: list[tuple[str, Field]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    types: dict[str, Message | EnumType] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def relative(self, full: str) -> str:
        """A type's name without the package of the file it is defined in."""
        package = self.packages.get(full, "")
        return full[len(package) + 1 :] if package and full.startswith(f"{package}.") else full


def walk(messages: list[Message]) -> Iterator[Message]:
    """The messages and all within them, outer first."""
    for message in messages:
        yield message
        yield from walk(message.messages)


def enums_of(file: File) -> Iterator[EnumType]:
    """All enums of the file."""
    yield from file.enums
    for message in walk(file.messages):
        yield from message.enums


def canonical(file: File) -> str:
    """The file as text in its normal form: full names, sorted by number and by name, options sorted, no comments."""
    lines = [f'edition = "{file.syntax}";' if file.syntax.isdigit() else f'syntax = "{file.syntax}";']
    if file.package:
        lines.append(f"package {file.package};")
    lines += [f'import {how + " " if how else ""}"{path}";' for path, how in sorted(file.imports)]
    lines += _options(file.options, "")
    # The order of messages is part of the schema: the index of a message is in front of each event.
    for message in file.messages:
        lines += _message(message, "")
    for enum in sorted(file.enums, key=lambda e: e.name):
        lines += _enum(enum, "")
    lines += _extends(file.extends, "")
    for service in sorted(file.services, key=lambda s: s.name):
        lines += _service(service)
    return "\n".join(lines) + "\n"


def _options(options: dict[str, str], pad: str) -> list[str]:
    return [f"{pad}option {name} = {value};" for name, value in sorted(options.items())]


def _inline(options: dict[str, str]) -> str:
    return f" [{', '.join(f'{name} = {value}' for name, value in sorted(options.items()))}]" if options else ""


def _message(message: Message, pad: str) -> list[str]:
    lines = [f"{pad}message {message.name} {{", *_options(message.options, pad + "  ")]
    inner = pad + "  "
    by_number = sorted(message.fields, key=lambda f: f.number)
    lines += [_field(part, inner) for part in by_number if not part.oneof]
    for name, options in sorted(message.oneofs.items()):
        lines += [f"{inner}oneof {name} {{", *_options(options, inner + "  ")]
        lines += [_field(part, inner + "  ") for part in by_number if part.oneof == name]
        lines.append(f"{inner}}}")
    lines += _reserved(message.reserved, message.reserved_names, inner)
    if message.extensions:
        lines.append(f"{inner}extensions {_ranges(message.extensions)};")
    for part in message.messages:
        lines += _message(part, inner)
    for enum in sorted(message.enums, key=lambda e: e.name):
        lines += _enum(enum, inner)
    lines += _extends(message.extends, inner)
    return [*lines, f"{pad}}}"]


def _field(part: Field, pad: str) -> str:
    dot = "" if part.type in SCALARS else "."
    kind = f"{'group ' if part.kind == 'group' else ''}{dot}{part.type}"
    if part.key:
        kind = f"map<{part.key}, {kind}>"
    label = f"{part.label} " if part.label and not part.oneof and not part.key else ""
    return f"{pad}{label}{kind} {part.name} = {part.number}{_inline(part.options)};"


def _reserved(ranges: Ranges, names: list[str], pad: str) -> list[str]:
    lines = [f"{pad}reserved {_ranges(ranges)};"] if ranges else []
    quoted = ", ".join(f'"{name}"' for name in sorted(names))
    return lines + ([f"{pad}reserved {quoted};"] if names else [])


def _ranges(ranges: Ranges) -> str:
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in sorted(ranges))


def _enum(enum: EnumType, pad: str) -> list[str]:
    lines = [f"{pad}enum {enum.name} {{", *_options(enum.options, pad + "  ")]
    lines += [f"{pad}  {name} = {number}{_inline(enum.details.get(name, {}))};" for name, number in enum.values]
    return [*lines, *_reserved(enum.reserved, enum.reserved_names, pad + "  "), f"{pad}}}"]


def _extends(extends: list[tuple[str, Field]], pad: str) -> list[str]:
    ordered = sorted(extends, key=lambda pair: (pair[0], pair[1].number))
    return [f"{pad}extend .{whom} {{ {_field(part, '')} }}" for whom, part in ordered]


def _service(service: Service) -> list[str]:
    lines = [f"service {service.name} {{", *_options(service.options, "  ")]
    for method in sorted(service.methods, key=lambda m: m.name):
        takes = f"{'stream ' if method.takes_stream else ''}.{method.takes}"
        gives = f"{'stream ' if method.gives_stream else ''}.{method.gives}"
        body = " ".join(_options(method.options, ""))
        lines.append(f"  rpc {method.name} ({takes}) returns ({gives}) {{ {body} }}")
    return [*lines, "}"]

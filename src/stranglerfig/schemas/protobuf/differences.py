"""What changed between two Protobuf schemas, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from stranglerfig.schemas.protobuf.model import EnumType, Field, File, Message, enums_of, walk
from stranglerfig.schemas.protobuf.rules import said
from stranglerfig.schemas.terms import Difference


def differences(old: File, new: File) -> Iterator[Difference]:
    """Each change once: the file's, then message by message, then the enums."""
    if old.package != new.package:
        yield Difference("package", f"the package changes from '{old.package}' to '{new.package}'")
    if old.syntax != new.syntax:
        yield Difference("syntax", f"the syntax changes from {old.syntax} to {new.syntax}")
    before = {old.relative(message.full): message for message in walk(old.messages)}
    after = {new.relative(message.full): message for message in walk(new.messages)}
    yield from _gone_and_new("message", before.keys(), after.keys())
    for name, message in before.items():
        if name in after:
            yield from _message(message, after[name], old, new, name)
    enums = {old.relative(enum.full): enum for enum in enums_of(old)}
    enums_now = {new.relative(enum.full): enum for enum in enums_of(new)}
    yield from _gone_and_new("enum", enums.keys(), enums_now.keys())
    for name, enum in enums.items():
        if name in enums_now:
            yield from _enum(enum, enums_now[name], name)
    yield from _gone_and_new("service", [part.name for part in old.services], [part.name for part in new.services])


def _gone_and_new(what: str, old: Collection[str], new: Collection[str]) -> Iterator[Difference]:
    yield from (Difference(name, f"the {what} {name} is removed") for name in old if name not in new)
    yield from (Difference(name, f"the {what} {name} is added") for name in new if name not in old)


def _message(old: Message, new: Message, old_file: File, new_file: File, path: str) -> Iterator[Difference]:
    before = {part.number: part for part in old.fields}
    after = {part.number: part for part in new.fields}
    left = {number: part for number, part in before.items() if number not in after}
    for number, part in after.items():
        where = f"{path}.{part.name}"
        if number in before:
            yield from _field(before[number], part, old_file, new_file, where)
            continue
        same = next((other for other in left.values() if other.name == part.name), None)
        if same is not None:
            del left[same.number]
            yield Difference(where, f"the number of '{part.name}' changes from {same.number} to {number}: a new field")
        else:
            yield Difference(where, f"the field '{part.name}' is added ({said(part)}, number {number})")
    for number, part in left.items():
        kept = any(low <= number <= high for low, high in new.reserved)
        aside = "and its number reserved" if kept else "and its number not reserved"
        yield Difference(f"{path}.{part.name}", f"the field '{part.name}' is removed, {aside}")


def _field(old: Field, new: Field, old_file: File, new_file: File, path: str) -> Iterator[Difference]:
    if old.name != new.name:
        yield Difference(path, f"the field '{old.name}' is renamed to '{new.name}' (same number; another name in JSON)")
    types = old_file.relative(old.type), new_file.relative(new.type)
    if types[0] != types[1] or said(old) != said(new):
        yield Difference(path, f"its type changes from {said(old)} to {said(new)}")
    elif old.label != new.label:
        yield Difference(path, f"its label changes from {old.label or 'none'} to {new.label or 'none'}")
    if old.oneof != new.oneof:
        yield Difference(path, f"its oneof changes from {old.oneof or 'none'} to {new.oneof or 'none'}")
    for option in sorted(old.options.keys() | new.options.keys()):
        was, now = old.options.get(option, "none"), new.options.get(option, "none")
        if was != now:
            yield Difference(path, f"its option {option} changes from {was} to {now}")


def _enum(old: EnumType, new: EnumType, path: str) -> Iterator[Difference]:
    before, after = {n: name for name, n in reversed(old.values)}, {n: name for name, n in reversed(new.values)}
    for number, name in sorted(before.items()):
        if number not in after:
            yield Difference(f"{path}.{name}", f"the value {name} ({number}) is removed")
        elif after[number] != name:
            yield Difference(f"{path}.{name}", f"the value {name} ({number}) is renamed to {after[number]}")
    for number, name in sorted(after.items()):
        if number not in before:
            yield Difference(f"{path}.{name}", f"the value {name} ({number}) is added")

"""What changed between two Avro schemas, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stranglerfig.schemas.avro.model import NO_DEFAULT, Field, Schema, described, said_logical
from stranglerfig.schemas.avro.resolution import sources_of
from stranglerfig.schemas.terms import Difference


def differences(old: Schema, new: Schema, path: str, seen: set[tuple[int, int]] | None = None) -> Iterator[Difference]:
    """Each change once, in the order of the newer schema's fields."""
    seen = set() if seen is None else seen
    if (id(old), id(new)) in seen:
        return
    seen.add((id(old), id(new)))
    if old.kind != new.kind:
        yield Difference(path, f"its type changes from {described(old)} to {described(new)}")
        return
    if old.name != new.name:
        yield Difference(path, f"{old.kind} {old.name} becomes {new.name}")
    if old.logical != new.logical:
        words = f"its unit or meaning changes from {said_logical(old.logical)} to {said_logical(new.logical)}"
        yield Difference(path, words)
    if old.extra.get("doc") != new.extra.get("doc"):
        yield Difference(path, "its documentation changes")
    if old.kind == "record":
        yield from _fields(old, new, path, seen)
    elif old.kind in ("array", "map"):
        yield from differences(old.inner, new.inner, path + ("[]" if old.kind == "array" else "{}"), seen)
    elif old.kind == "union":
        yield from _branches(old, new, path, seen)
    elif old.kind == "enum":
        yield from _symbols(old, new, path)
    elif old.size != new.size:
        yield Difference(path, f"its size changes from {old.size} to {new.size} bytes")


def _fields(old: Schema, new: Schema, path: str, seen: set[tuple[int, int]]) -> Iterator[Difference]:
    before = {part.name: part for part in old.fields}
    left = dict(before)
    added: list[Field] = []
    for part in new.fields:
        source = next(iter(sources_of(part, before)), None)
        if source is None:
            added.append(part)
            continue
        left.pop(source.name, None)
        where = f"{path}.{part.name}"
        if source.name != part.name:
            yield Difference(where, f"the field '{source.name}' is renamed to '{part.name}' (by its alias)")
        if source.default != part.default:
            yield Difference(where, f"its default changes from {_default(source)} to {_default(part)}")
        if source.extra.get("doc") != part.extra.get("doc"):
            yield Difference(where, "its documentation changes")
        yield from differences(source.schema, part.schema, where, seen)
    for part in added:
        twins = [other for other in left.values() if described(other.schema) == described(part.schema)]
        if len(twins) == 1:
            del left[twins[0].name]
            words = f"the field '{twins[0].name}' seems renamed to '{part.name}': without an alias that is a new field"
        else:
            words = f"the field '{part.name}' is added ({described(part.schema)}, {_default(part)} as default)"
        yield Difference(f"{path}.{part.name}", words)
    for name in left:
        yield Difference(f"{path}.{name}", f"the field '{name}' is removed")


def _default(part: Field) -> str:
    return "none" if part.default is NO_DEFAULT else json.dumps(part.default)


def _branches(old: Schema, new: Schema, path: str, seen: set[tuple[int, int]]) -> Iterator[Difference]:
    before = {branch.name or branch.kind: branch for branch in old.branches}
    after = {branch.name or branch.kind: branch for branch in new.branches}
    for key, branch in before.items():
        if key in after:
            yield from differences(branch, after[key], path, seen)
        else:
            yield Difference(path, f"{described(branch)} is no longer allowed")
    for key, branch in after.items():
        if key not in before:
            yield Difference(path, f"{described(branch)} becomes allowed")


def _symbols(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    for symbol in old.symbols:
        if symbol not in new.symbols:
            yield Difference(path, f"the symbol {symbol} is removed")
    for symbol in new.symbols:
        if symbol not in old.symbols:
            yield Difference(path, f"the symbol {symbol} is added")
    if old.default != new.default:
        yield Difference(path, f"the symbol read for an unknown one changes from {old.default} to {new.default}")

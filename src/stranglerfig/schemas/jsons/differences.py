"""What changed between two JSON Schemas, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stranglerfig.schemas.jsons import values
from stranglerfig.schemas.jsons.documents import Document, Node, plain
from stranglerfig.schemas.jsons.shape import item_of, listed_values, prefix_of, types_of
from stranglerfig.schemas.terms import Difference

_WALKED = frozenset(
    {"type", "enum", "const", "properties", "required", "items", "prefixItems", "additionalItems", "$ref"}
)
_SILENT = frozenset({"$defs", "definitions", "$schema", "x-fig-generated"})
_UNITS = ("x-unit", "unit", "format")


def differences(old: Document, new: Document) -> Iterator[Difference]:
    """Each change once, outer before inner."""
    yield from _compare(old.node(), new.node(), "$", set())


def _followed(node: Node) -> Node:
    seen: set[int] = set()
    while isinstance(node.schema, dict) and "$ref" in node.schema and id(node.schema) not in seen:
        seen.add(id(node.schema))
        node = node.target()
    return node


def _compare(old: Node, new: Node, path: str, seen: set[tuple[int, int]]) -> Iterator[Difference]:
    old, new = _followed(old), _followed(new)
    if (id(old.schema), id(new.schema)) in seen:
        return
    seen.add((id(old.schema), id(new.schema)))
    if isinstance(old.schema, bool) or isinstance(new.schema, bool):
        if plain(old.schema) != plain(new.schema):
            yield Difference(
                path, f"it changes from {values.alternatives([old.schema])} to {values.alternatives([new.schema])}"
            )
        return
    before, after = types_of(old.schema), types_of(new.schema)
    if before != after:
        yield Difference(path, f"its type changes from {values.said(before)} to {values.said(after)}")
    yield from _listed(old.schema, new.schema, path)
    yield from _keywords(old.schema, new.schema, path)
    yield from _properties(old, new, path, seen)
    places = max(len(prefix_of(old.schema)), len(prefix_of(new.schema)))
    for index in range(places + 1):
        where = f"{path}[{index}]" if index < places else f"{path}[]"
        one, other = old.at(item_of(old.schema, index)), new.at(item_of(new.schema, index))
        yield from _compare(one, other, where, seen)


def _listed(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Difference]:
    was, now = listed_values(old), listed_values(new)
    if was is None or now is None:
        if was is not now:
            yield Difference(path, f"the list of its values {'goes away' if now is None else 'is new'}")
        return
    texts, texts_now = {plain(value) for value in was}, {plain(value) for value in now}
    gone = [repr(value) for value in was if plain(value) not in texts_now]
    added = [repr(value) for value in now if plain(value) not in texts]
    if gone:
        yield Difference(path, f"values are removed: {', '.join(gone)}")
    if added:
        yield Difference(path, f"values are added: {', '.join(added)}")


def _keywords(old: dict[str, Any], new: dict[str, Any], path: str) -> Iterator[Difference]:
    for key in sorted((old.keys() | new.keys()) - _WALKED - _SILENT):
        if plain(old.get(key)) == plain(new.get(key)) and (key in old) == (key in new):
            continue
        what = f"its unit or meaning ('{key}')" if key in _UNITS else f"'{key}'"
        if key not in old:
            words = f"{what} becomes {plain(new[key])}"
        elif key not in new:
            words = f"{what} goes away (it was {plain(old[key])})"
        else:
            words = f"{what} changes from {plain(old[key])} to {plain(new[key])}"
        yield Difference(path, words)


def _properties(old: Node, new: Node, path: str, seen: set[tuple[int, int]]) -> Iterator[Difference]:
    before, after = old.schema.get("properties", {}), new.schema.get("properties", {})
    must, must_now = set(old.schema.get("required", ())), set(new.schema.get("required", ()))
    removed = [name for name in before if name not in after]
    for name in after:
        where = f"{path}.{name}"
        if name in before:
            if (name in must) != (name in must_now):
                yield Difference(where, f"it becomes {'required' if name in must_now else 'optional'}")
            yield from _compare(old.at(before[name]), new.at(after[name]), where, seen)
            continue
        twins = [other for other in removed if plain(before[other]) == plain(after[name])]
        if len(twins) == 1:
            removed.remove(twins[0])
            yield Difference(where, f"the field '{twins[0]}' seems renamed to '{name}'; a new name is a new field")
        else:
            kind = "required" if name in must_now else "optional"
            yield Difference(where, f"the {kind} field '{name}' is added")
    for name in removed:
        kind = "required" if name in must else "optional"
        yield Difference(f"{path}.{name}", f"the {kind} field '{name}' is removed")

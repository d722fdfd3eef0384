"""What a closed writer may write: a conjunction of schemas, laid flat, and questions to it.

Closed: a writer writes the properties that its schema names, and others only where the schema says so
(``additionalProperties`` or ``patternProperties`` given, or an object of which nothing is said at all).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from stranglerfig.schemas.jsons.documents import TYPES, Node, plain

ALL = frozenset(TYPES) - {"integer"}
"""Every type; whole numbers are numbers."""

_LEADING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "not"})
"""Keywords that lead from a schema to others which hold at the same place."""

_BEGINNING = re.compile(r"\^((?:[\w -](?![*?{+]))*)(?!.*\|)")
"""The literal beginning of a pattern that has no alternatives."""


@dataclass(slots=True, eq=False)
class Shape:
    """All that holds of what is written at one place.

    Attributes:
        atoms: schemas whose own keywords all hold; ``$ref`` and ``allOf`` are followed already.
        choices: ``anyOf`` and ``oneOf`` still to be chosen from; the flag says that the others are then excluded.
        nots: schemas that are known not to hold, by their text.
        impossible: nothing can be written here.
    """

    atoms: list[Node] = field(default_factory=list)
    choices: list[tuple[list[Node], bool]] = field(default_factory=list)
    nots: dict[str, Any] = field(default_factory=dict)
    impossible: bool = False
    _written: dict[str, list[Node] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Shape:
        """The conjunction of ``nodes``."""
        shape = cls()
        for node in nodes:
            shape._add(node, set())
        return shape

    def chosen(self, branch: int) -> Shape:
        """The shape when the first choice falls on ``branch``."""
        (branches, exclusive), *rest = self.choices
        shape = replace(self, atoms=list(self.atoms), choices=list(rest), nots=dict(self.nots), _written={})
        if exclusive:
            others = [part.schema for index, part in enumerate(branches) if index != branch]
            shape.nots |= {plain(schema): schema for schema in others}
        shape._add(branches[branch], set())
        return shape

    def key(self) -> object:
        """Names the conjunction while its documents live."""
        return frozenset([id(atom.schema) for atom in self.atoms]), frozenset(self.nots)

    def _add(self, node: Node, within: set[int]) -> None:
        schema = node.schema
        if schema is False:
            self.impossible = True
        if isinstance(schema, bool) or id(schema) in within:
            return
        if _LEADING.isdisjoint(schema):
            self.atoms.append(node)
            return
        within = within | {id(schema)}
        if "$ref" in schema:
            self._add(node.target(), within)
            if node.document.draft <= 7:
                return  # beside a $ref nothing counted before 2019-09
        self.atoms.append(node)
        for part in schema.get("allOf", ()):
            self._add(node.at(part), within)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                self.choices.append(([node.at(part) for part in schema[key]], key == "oneOf"))
        self._conditions(node)
        if "not" in schema:
            self.nots[plain(schema["not"])] = schema["not"]

    def _conditions(self, node: Node) -> None:
        """Either end of a condition may hold; what either names may be written."""
        schema = node.schema
        if "if" in schema:
            self.choices.append(([node.at(schema.get("then", True)), node.at(schema.get("else", True))], False))
        for part in schemas_of_dependencies(schema).values():
            self.choices.append(([node.at(part), node.at(True)], False))

    def every(self, key: str) -> list[Any]:
        """The values of a keyword, over all atoms."""
        return [atom.schema[key] for atom in self.atoms if key in atom.schema]

    def types(self) -> frozenset[str]:
        """The types that may occur; ``number`` stands for fractions too, ``integer`` for whole numbers only."""
        if len(self.atoms) == 1 and not self.nots:
            return types_of(self.atoms[0].schema)
        found = ALL
        for atom in self.atoms:
            found = both(found, types_of(atom.schema))
        for schema in self.nots.values():
            if isinstance(schema, dict) and schema.keys() == {"type"}:
                gone = types_of(schema)
                found -= gone | ({"integer"} if "number" in gone else frozenset())
        return found

    def values(self) -> list[Any] | None:
        """The values that may occur where they are listed and plain, else None."""
        found: list[Any] | None = None
        for atom in self.atoms:
            listed = listed_values(atom.schema)
            if listed is not None:
                texts = {plain(value) for value in listed}
                found = listed if found is None else [value for value in found if plain(value) in texts]
        if found is None or any(isinstance(value, (dict, list)) for value in found):
            return None
        return [value for value in found if all(admits(atom.schema, value) for atom in self.atoms)]

    def lower(self) -> tuple[float, bool]:
        """(the greatest lower bound, whether it is itself excluded)."""
        whole = "number" not in self.types()
        return max((_tight(atom.schema, -1, whole) for atom in self.atoms), default=(-math.inf, False))

    def upper(self) -> tuple[float, bool]:
        """(the least upper bound, whether it is itself excluded)."""
        whole = "number" not in self.types()
        bounds = [_tight(atom.schema, 1, whole) for atom in self.atoms]
        return min(bounds, key=lambda bound: (bound[0], not bound[1]), default=(math.inf, False))

    def least(self, key: str) -> float:
        """The greatest of a keyword such as ``minLength``; 0 where there is none."""
        return max(self.every(key), default=0)

    def most(self, key: str) -> float:
        """The least of a keyword such as ``maxLength``; infinity where there is none."""
        return min(self.every(key), default=math.inf)

    def required(self) -> set[str]:
        """The properties that are always written."""
        return {name for names in self.every("required") for name in names}

    def named(self) -> list[str]:
        """The properties that are named and may be written, in the order of the text."""
        names = dict.fromkeys(name for part in self.every("properties") for name in part)
        return [name for name in names if self.written(name) is not None]

    def open(self) -> bool:
        """Whether properties may be written that no schema names."""
        if any(atom.schema.get("additionalProperties") is False for atom in self.atoms):
            return bool(self.every("patternProperties"))
        said = {"properties", "additionalProperties", "patternProperties"}
        telling = [atom.schema for atom in self.atoms if said & atom.schema.keys()]
        if not telling:
            return True
        return any(
            "patternProperties" in schema or schema.get("additionalProperties", False) is not False
            for schema in telling
        )

    def written(self, name: str) -> list[Node] | None:
        """All that holds of a property's value; None when the property is never written."""
        if name not in self._written:
            self._written[name] = self._find(name)
        return self._written[name]

    def _find(self, name: str) -> list[Node] | None:
        found: list[Node] = []
        known = False
        for atom in self.atoms:
            parts, named = property_of(atom, name)
            known = known or named
            found += parts
        # To require a property is to name it.
        if not known and not (self._may(name) and (self.open() or name in self.required())):
            return None
        return None if any(part.schema is False for part in found) else found

    def _may(self, name: str) -> bool:
        """Whether an open shape allows a property that nothing names."""
        return not any(
            atom.schema.get("additionalProperties") is False and not property_of(atom, name)[1] for atom in self.atoms
        )

    def unnamed(self) -> list[tuple[str | None, list[Node]]]:
        """Ways in which properties that nothing names may come about: (pattern of their names, what holds of them)."""
        if not self.open():
            return []
        key = "additionalProperties"
        rest = [atom.at(atom.schema[key]) for atom in self.atoms if key in atom.schema]
        found: list[tuple[str | None, list[Node]]] = []
        for atom in self.atoms:
            found += [(name, [atom.at(part)]) for name, part in atom.schema.get("patternProperties", {}).items()]
        return found if any(part.schema is False for part in rest) else [*found, (None, rest)]

    def prefix(self) -> int:
        """How many places of an array have schemas of their own."""
        return max((len(prefix_of(atom.schema)) for atom in self.atoms), default=0)

    def item(self, index: int) -> list[Node]:
        """All that holds of an array's element."""
        return [atom.at(item_of(atom.schema, index)) for atom in self.atoms]

    def longest(self) -> float:
        """The most elements that an array may have."""
        ends = [len(prefix_of(a.schema)) for a in self.atoms if item_of(a.schema, len(prefix_of(a.schema))) is False]
        return min([self.most("maxItems"), *ends])


def types_of(schema: dict[str, Any]) -> frozenset[str]:
    """The types that a schema's own ``type``, or else its list of values, allows."""
    said = schema.get("type")
    if said is not None:
        found = frozenset([said] if isinstance(said, str) else said)
        return found - {"integer"} if "number" in found else found
    listed = listed_values(schema)
    return ALL if listed is None else frozenset(type_of(value) for value in listed)


def takes(accepted: frozenset[str], kind: str) -> bool:
    """Whether a type is among those accepted; a whole number is a number."""
    return kind in accepted or (kind == "integer" and "number" in accepted)


def both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """The types in both; whole numbers are within numbers."""
    found = one & other
    if ("integer" in one and "number" in other) or ("integer" in other and "number" in one):
        found |= {"integer"}
    return found


def type_of(value: Any) -> str:
    """The type of a value; a number without a fraction is whole."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if value == int(value) else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def listed_values(schema: dict[str, Any]) -> list[Any] | None:
    """The values of ``const`` or ``enum``."""
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return None if found is None else list(found)


def admits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a plain value passes a schema's own keywords; what needs more than looking (``format``) is not asked."""
    kind = type_of(value)
    allowed = types_of(schema) if "type" in schema else ALL
    if not takes(allowed, kind):
        return False
    listed = listed_values(schema)
    if listed is not None and plain(value) not in {plain(part) for part in listed}:
        return False
    if kind in ("integer", "number"):
        low, high = _tight(schema, -1, False), _tight(schema, 1, False)
        inside = (value > low[0] if low[1] else value >= low[0]) and (value < high[0] if high[1] else value <= high[0])
        return inside and ("multipleOf" not in schema or divides(schema["multipleOf"], value))
    if kind == "string":
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        return fits and ("pattern" not in schema or re.search(schema["pattern"], value) is not None)
    return True


def divides(step: float, value: float) -> bool:
    """Whether ``value`` is a multiple of ``step``, as decimals."""
    return Fraction(str(value)) % Fraction(str(step)) == 0


def _tight(schema: dict[str, Any], side: int, whole: bool) -> tuple[float, bool]:
    """The bound on one side (-1 lower, 1 upper) and whether it is excluded; of whole numbers none is."""
    plain_key, strict_key = ("minimum", "exclusiveMinimum") if side < 0 else ("maximum", "exclusiveMaximum")
    bound, strict = schema.get(plain_key), schema.get(strict_key)
    found: tuple[float, bool] = (side * math.inf, False) if bound is None else (bound, strict is True)
    if strict is not None and not isinstance(strict, bool) and (bound is None or side * strict <= side * bound):
        found = (strict, True)
    value, excluded = found
    if not whole or math.isinf(value):
        return found
    if excluded:
        return (math.floor(value) + 1 if side < 0 else math.ceil(value) - 1), False
    return (math.ceil(value) if side < 0 else math.floor(value)), False


def property_of(atom: Node, name: str) -> tuple[list[Node], bool]:
    """(what one schema says of a property's value, whether it names the property)."""
    schema = atom.schema
    found = [atom.at(schema["properties"][name])] if name in schema.get("properties", ()) else []
    if found and "patternProperties" not in schema:
        return found, True
    found += [
        atom.at(part) for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, name)
    ]
    if found:
        return found, True
    rest = schema.get("additionalProperties")
    return ([atom.at(rest)], isinstance(rest, dict)) if isinstance(rest, dict) else ([], False)


def overlap(one: str | None, other: str) -> bool:
    """Whether a name can match both patterns; only different beginnings show that none can. None is any name."""
    if one is None:
        return True
    begins = [found.group(1) if (found := _BEGINNING.match(pattern)) else "" for pattern in (one, other)]
    return begins[0].startswith(begins[1]) or begins[1].startswith(begins[0])


def prefix_of(schema: dict[str, Any]) -> list[Any]:
    """The schemas of an array's first places, in the old form or the new."""
    items = schema.get("items")
    return items if isinstance(items, list) else list(schema.get("prefixItems", ()))


def item_of(schema: dict[str, Any], index: int) -> Any:
    """The schema of an array's element."""
    prefix = prefix_of(schema)
    if index < len(prefix):
        return prefix[index]
    return schema.get("additionalItems" if isinstance(schema.get("items"), list) else "items", True)


def schemas_of_dependencies(schema: dict[str, Any]) -> dict[str, Any]:
    """``dependentSchemas``, and those of the older ``dependencies``."""
    if "dependencies" not in schema:
        return dict(schema.get("dependentSchemas", ()))
    old = {name: part for name, part in schema["dependencies"].items() if not isinstance(part, list)}
    return {**old, **schema.get("dependentSchemas", {})}


def names_of_dependencies(schema: dict[str, Any]) -> dict[str, list[str]]:
    """``dependentRequired``, and those of the older ``dependencies``."""
    old = {name: part for name, part in schema.get("dependencies", {}).items() if isinstance(part, list)}
    return {**old, **schema.get("dependentRequired", {})}


def disjoint(one: Shape, other: Node, depth: int = 0) -> bool:
    """Whether nothing that ``one`` writes is valid under ``other``; False where that cannot be shown."""
    text = plain(other.schema)
    if one.impossible or (text in one.nots and "$ref" not in text):
        return True
    two = Shape.of([other])
    common = both(one.types(), two.types())
    if two.impossible or not common:
        return True
    mine, theirs = one.values(), two.values()
    if mine is not None and all(any(not admits(atom.schema, value) for atom in two.atoms) for value in mine):
        return True
    if theirs is not None and all(any(not admits(atom.schema, value) for atom in one.atoms) for value in theirs):
        return True
    if common <= {"integer", "number"}:
        return one.lower()[0] > two.upper()[0] or one.upper()[0] < two.lower()[0]
    return common == {"object"} and depth < 8 and _apart(one, two, depth)


def _apart(one: Shape, two: Shape, depth: int) -> bool:
    for name in two.required():
        if one.written(name) is None and not one.choices:
            return True
    for name in one.required():
        mine = one.written(name)
        theirs = [part for atom in two.atoms for part in property_of(atom, name)[0]]
        if mine is not None and any(disjoint(Shape.of(mine), part, depth + 1) for part in theirs):
            return True
    return False

"""What names of types and texts stand for in Java, over all files that were read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stranglerfig.seams.java.syntax import (
    FIELD,
    JOIN,
    NAME,
    TEXT,
    Declaration,
    Expression,
    File,
    Method,
    Type,
)

_DEEP = 8
"""Constants that stand for constants, and names of types for one another, are followed so far."""


@dataclass(frozen=True, slots=True)
class Known:
    """A type as far as it is known: the declaration where that was read, and the arguments."""

    name: str
    declaration: Declaration | None = field(default=None, compare=False)
    args: tuple[Known, ...] = ()


class Index:
    """All declarations, found by the names that files give them."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files
        self._all: dict[str, Declaration] = {}
        for file in files:
            for each in file.declarations:
                self._all.setdefault(each.qualified, each)
        self._below: dict[str, list[Declaration]] = defaultdict(list)
        for each in self._all.values():
            for base in each.bases:
                if found := self.find(base.name, each):
                    self._below[found.qualified].append(each)

    @property
    def declarations(self) -> Iterable[Declaration]:
        """All of them, of which each name stands for one."""
        return self._all.values()

    def find(self, name: str, at: Declaration) -> Declaration | None:
        """The declaration that a name stands for within another one, by Java's rules of scope."""
        owner: Declaration | None = at
        while owner is not None:
            if owner.name == name:
                return owner
            if found := self._all.get(f"{owner.qualified}.{name}"):
                return found
            owner = owner.owner
        return self.visible(name, at.file)

    def visible(self, name: str, file: File) -> Declaration | None:
        """The declaration that a name stands for at the top of a file."""
        first, _, rest = name.partition(".")
        rest = f".{rest}" if rest else ""
        places = [each + rest for each in file.imports if each.rpartition(".")[2] == first]
        places += [f"{file.package}.{name}" if file.package else name]
        places += [f"{each}.{name}" for each in file.stars]
        return next((self._all[each] for each in (*places, name) if each in self._all), None)

    def known(self, given: Type | None, at: Declaration, bound: Mapping[str, Known] | None = None) -> Known:
        """What a type as written in a declaration is; ``bound`` says what its parameters stand for."""
        if given is None:
            return Known("")
        if bound and given.name in bound:
            return bound[given.name]
        args = tuple(self.known(each, at, bound) for each in given.args)
        return Known(given.simple, self.find(given.name, at) if given.name else None, args)

    def lineage(self, found: Declaration) -> Iterator[Declaration]:
        """A declaration and all that it is made from, nearest first, as far as they were read."""
        waiting, seen = [found], {found.qualified}
        while waiting:
            each = waiting.pop(0)
            yield each
            for base in each.bases:
                above = self.find(base.name, each)
                if above is not None and above.qualified not in seen:
                    seen.add(above.qualified)
                    waiting.append(above)

    def strangers(self, found: Declaration) -> Iterator[Known]:
        """The types that a declaration is made from and that were not read, with what their arguments stand for."""
        waiting: list[tuple[Declaration, dict[str, Known]]] = [(found, {})]
        seen = {found.qualified}
        while waiting:
            each, bound = waiting.pop(0)
            for base in each.bases:
                known = self.known(base, each, bound)
                above = known.declaration
                if above is None:
                    yield known
                elif above.qualified not in seen:
                    seen.add(above.qualified)
                    waiting.append((above, dict(zip(above.parameters, known.args, strict=False))))

    def implementations(self, found: Declaration) -> Iterator[Declaration]:
        """All that is made from a declaration."""
        waiting, seen = [found], {found.qualified}
        while waiting:
            for each in self._below[waiting.pop().qualified]:
                if each.qualified not in seen:
                    seen.add(each.qualified)
                    waiting.append(each)
                    yield each

    def methods(self, found: Declaration, name: str, arguments: int) -> list[tuple[Declaration, Method]]:
        """The methods that a call may mean: nearest first, those that take so many arguments before others."""
        for each in self.lineage(found):
            named = [method for method in each.methods if method.name == name]
            if named:
                fitting = [method for method in named if method.parameters == arguments] or named
                return [(each, method) for method in fitting]
        return []

    # Texts

    def text(self, found: Expression | None, at: Declaration, deep: int = 0) -> str | None:
        """The text of an expression as far as it is known; a part that is not becomes ``{}``. None for no text."""
        if found is None or deep > _DEEP:
            return None
        match found.kind:
            case "text":
                return found.name
            case "join":
                parts = [self.text(each, at, deep + 1) for each in found.args]
                return None if all(each is None for each in parts) else "".join(each or "{}" for each in parts)
            case "name" | "field":
                where, value = self._constant(found, at)
                return self.text(value, where, deep + 1) if value is not None and value.kind in _CONSTANT else None
        return None

    def _constant(self, found: Expression, at: Declaration) -> tuple[Declaration, Expression | None]:
        if found.kind == FIELD and found.of is not None and (found.of.kind, found.of.name) != (NAME, "this"):
            owner = self.find(dotted(found.of), at)
            places = [owner] if owner is not None else []
        else:
            places = self._around(at, found.name)
        for place in places:
            for each in self.lineage(place):
                if found.name in each.fields:
                    return each, each.fields[found.name].value
        return at, None

    def _around(self, at: Declaration, name: str) -> list[Declaration]:
        """Where a bare name may be declared: here, around it, or in what is imported statically."""
        found = list[Declaration]()
        owner: Declaration | None = at
        while owner is not None:
            found.append(owner)
            owner = owner.owner
        static = [each.rpartition(".")[0] for each in at.file.imports if each.rpartition(".")[2] == name]
        return found + [self._all[each] for each in (*static, *at.file.stars) if each in self._all]


_CONSTANT = (TEXT, JOIN, NAME, FIELD)


def dotted(found: Expression | None) -> str:
    """``a.b.C`` of an expression that is names only; empty for any other."""
    names = list[str]()
    while found is not None and found.kind in (NAME, FIELD):
        names.append(found.name)
        found = found.of
    return ".".join(reversed(names)) if found is None else ""

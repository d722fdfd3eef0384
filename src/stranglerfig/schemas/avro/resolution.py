"""Avro's schema resolution: whether a reader's schema can read what a writer's schema wrote.

The rules are the specification's ("Schema Resolution", 1.12). In one point this is stricter, for events: two
*different* logical types (millis and micros) are a problem, where the specification would hand the bare number on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from stranglerfig.schemas.avro.model import NAMED, NO_DEFAULT, PRIMITIVES, Field, Schema, described, said_logical
from stranglerfig.schemas.terms import Problem, Way

PROMOTIONS: dict[str, frozenset[str]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
"""What a writer's primitive may be read as, beside itself."""


class Resolution:
    """One comparison; remembers the pairs of records it is within, so that recursive types end."""

    def __init__(self, way: Way, within: Resolution | None = None) -> None:
        self._way = way
        self._under_way: set[tuple[int, int]] = set(within._under_way) if within else set()
        self._failed: dict[tuple[int, int], tuple[str, list[Problem]]] = within._failed if within else {}

    def problems(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        """Why ``reader`` cannot read what ``writer`` wrote."""
        if reader is writer or plainly_alike(reader, writer):
            return
        if writer.kind == "union":
            yield from self._written_union(reader, writer, path)
        elif reader.kind == "union":
            yield from self._read_union(reader, writer, path)
        elif reader.kind != writer.kind:
            if reader.kind not in PROMOTIONS.get(writer.kind, ()):
                yield self._problem(path, self._changed("type", described(reader), described(writer)), "TYPE_MISMATCH")
            else:
                yield from self._logical(reader, writer, path)
        else:
            yield from self._same_kind(reader, writer, path)

    def _same_kind(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        if reader.kind in NAMED and not named_alike(reader, writer):
            yield self._problem(path, self._changed("name", reader.name, writer.name), "NAME_MISMATCH")
            return
        yield from self._logical(reader, writer, path)
        if reader.kind == "array":
            yield from self.problems(reader.inner, writer.inner, f"{path}[]")
        elif reader.kind == "map":
            yield from self.problems(reader.inner, writer.inner, f"{path}{{}}")
        elif reader.kind == "fixed" and reader.size != writer.size:
            sizes = self._changed("size", f"{reader.size} bytes", f"{writer.size} bytes")
            yield self._problem(path, sizes, "FIXED_SIZE_MISMATCH")
        elif reader.kind == "enum":
            yield from self._enum(reader, writer, path)
        elif reader.kind == "record":
            yield from self._record(reader, writer, path)

    def _written_union(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        for branch in writer.branches:
            found = list(self.problems(reader, branch, path))
            if found and reader.kind != "union":
                yield self._lacking(reader, branch, path)
            else:
                yield from found

    def _read_union(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        if any(plainly_alike(branch, writer) for branch in reader.branches):
            return
        alike: list[Problem] = []
        for branch in reader.branches:
            found = self._tried(branch, writer, path)
            if not found:
                return
            if branch.kind == writer.kind and (branch.kind not in NAMED or named_alike(branch, writer)):
                alike = found
        # The branch that was meant explains more than "no branch" does.
        yield from alike or [self._lacking(reader, writer, path)]

    def _tried(self, reader: Schema, writer: Schema, path: str) -> list[Problem]:
        """A trial: what it assumes is kept when it succeeds, its failure is remembered.

        Else records that name each other in unions would be tried along every path among them.
        """
        pair = (id(reader), id(writer))
        if pair in self._failed:
            where, found = self._failed[pair]
            return [replace(problem, path=path + problem.path[len(where) :]) for problem in found]
        trial = self if writer.kind in PRIMITIVES else Resolution(self._way, self)
        found = list(islice(trial.problems(reader, writer, path), 8))  # more would only double at each turn
        if found:
            self._failed[pair] = (path, found)
        else:
            self._under_way |= trial._under_way
        return found

    def _enum(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        lost = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
        if lost and reader.default is None:
            said = ", ".join(lost)
            if self._way is Way.BACKWARD:
                words = f"{_symbols(lost)} {said} of {reader.short} {_are(lost)} gone and the enum has no default"
            else:
                words = (
                    f"{_symbols(lost)} {said} of {reader.short} {_are(lost)} new and the earlier enum had no default"
                )
            yield self._problem(path, words, "MISSING_ENUM_SYMBOLS")

    def _record(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        pair = (id(reader), id(writer))
        if pair in self._under_way:
            return
        self._under_way.add(pair)
        written = {part.name: part for part in writer.fields}
        for part in reader.fields:
            where = f"{path}.{part.name}"
            sources = sources_of(part, written)
            if len(sources) > 1:
                names = " and ".join(f"'{source.name}'" for source in sources)
                words = f"the field '{part.name}' of {reader.short} could be read from {names} (by name and alias)"
                yield self._problem(where, words, "SEVERAL_WRITER_FIELDS")
            elif sources:
                yield from self.problems(part.schema, sources[0].schema, where)
            elif part.default is NO_DEFAULT:
                if self._way is Way.BACKWARD:
                    words = f"the field '{part.name}' of {reader.short} is new and has no default"
                else:
                    words = f"the field '{part.name}' of {reader.short} is gone and had no default"
                yield self._problem(where, words, "READER_FIELD_MISSING_DEFAULT_VALUE")

    def _logical(self, reader: Schema, writer: Schema, path: str) -> Iterator[Problem]:
        read, wrote = reader.logical, writer.logical
        if read and wrote and read != wrote:
            kind = "DECIMAL_MISMATCH" if read[0] == wrote[0] else "LOGICAL_TYPE_MISMATCH"
            words = self._changed("meaning", said_logical(read), said_logical(wrote))
            yield Problem(path, f"{words}: the same bytes would be taken for another value", kind)

    def _lacking(self, reader: Schema, writer: Schema, path: str) -> Problem:
        if self._way is Way.BACKWARD:
            words = f"{described(writer)} was allowed and is not any more (now: {described(reader)})"
        else:
            words = f"{described(writer)} becomes allowed and was not before (before: {described(reader)})"
        return self._problem(path, words, "MISSING_UNION_BRANCH")

    def _changed(self, what: str, reader: str, writer: str) -> str:
        old, new = (writer, reader) if self._way is Way.BACKWARD else (reader, writer)
        return f"its {what} changes from {old} to {new}"

    def _problem(self, path: str, words: str, kind: str) -> Problem:
        return Problem(path, f"{words}: {self._way.harm}", kind)


def plainly_alike(reader: Schema, writer: Schema) -> bool:
    """Whether both are one primitive, and the reader makes nothing else of it by a logical type."""
    return reader.kind == writer.kind and not reader.extra and reader.kind in PRIMITIVES


def named_alike(reader: Schema, writer: Schema) -> bool:
    """Whether the names match: unqualified, as resolution has it, or by an alias of the reader."""
    short = writer.name.rpartition(".")[2]
    return reader.name.rpartition(".")[2] == short or writer.name in reader.aliases


def sources_of(part: Field, written: dict[str, Field]) -> list[Field]:
    """The writer's fields that the reader's ``part`` could be read from, by its name or its aliases; more than one is
    a mistake (Java's ``SchemaCompatibility`` throws, fastavro takes the alias)."""
    return [written[name] for name in dict.fromkeys((part.name, *part.aliases)) if name in written]


def _symbols(lost: list[str]) -> str:
    return "the symbol" if len(lost) == 1 else "the symbols"


def _are(lost: list[str]) -> str:
    return "is" if len(lost) == 1 else "are"

"""What one Java file says, as far as seams need it: types, their fields and methods, and the expressions in these.

Plain data: :mod:`.reading` makes it, :mod:`.resolving` says what its names stand for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

TEXT, JOIN, NAME, FIELD, CALL, NEW, CLASS, REFERENCE, CAST, OTHER = (
    "text",
    "join",
    "name",
    "field",
    "call",
    "new",
    "class",
    "reference",
    "cast",
    "other",
)


@dataclass(frozen=True, slots=True)
class Type:
    """A type as written: its name, perhaps dotted, and its arguments (``List<Owner>``)."""

    name: str
    args: tuple[Type, ...] = ()

    @property
    def simple(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression: ``kind`` is one of the constants above.

    ``name`` is the text, the name of what is called or of the field; ``type`` that of a NEW, CLASS or CAST; ``of`` what
    stands before the dot; ``args`` what is in the brackets, the parts of a JOIN, or whatever is inside of OTHER.
    """

    kind: str
    line: int
    name: str = ""
    type: Type | None = None
    of: Expression | None = None
    args: tuple[Expression, ...] = ()

    def walk(self) -> Iterator[Expression]:
        """It and all within; a text of several parts is one, and those that are texts or names are not given."""
        waiting = [self]
        while waiting:
            each = waiting.pop()
            yield each
            waiting += [a for a in reversed(each.args) if each.kind != JOIN or a.kind not in (TEXT, JOIN, NAME, FIELD)]
            if each.of is not None:
                waiting.append(each.of)


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation by its simple name; ``values`` by key (``value`` where none is written), lists taken apart."""

    name: str
    line: int
    values: dict[str, tuple[Expression, ...]] = field(default_factory=dict)
    nested: dict[str, tuple[Annotation, ...]] = field(default_factory=dict)

    def words(self, key: str) -> frozenset[str]:
        """The last names of its constants: ``ALL`` of ``cascade = {CascadeType.ALL}``."""
        return frozenset(each.name for each in self.values.get(key, ()) if each.kind in (NAME, FIELD))


@dataclass(frozen=True, slots=True)
class Variable:
    """A field, or a local variable; ``value`` is what it begins with."""

    name: str
    type: Type
    line: int
    annotations: tuple[Annotation, ...] = ()
    value: Expression | None = None


@dataclass(slots=True)
class Method:
    """A method (a constructor is ``<init>``); ``has_body`` is false of what an interface only declares."""

    name: str
    line: int
    returns: Type | None
    annotations: tuple[Annotation, ...] = ()
    parameters: int = 0
    variables: dict[str, Variable] = field(default_factory=dict)
    body: list[Expression] = field(default_factory=list)
    has_body: bool = True


@dataclass(slots=True)
class Declaration:
    """A class, interface, record or enum; ``owner`` is the one that it is inside of."""

    kind: str
    name: str
    line: int
    file: File
    owner: Declaration | None = None
    parameters: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    bases: tuple[Type, ...] = ()
    fields: dict[str, Variable] = field(default_factory=dict)
    methods: list[Method] = field(default_factory=list)

    @property
    def qualified(self) -> str:
        """Its name with its package and owners."""
        within = self.owner.qualified if self.owner else self.file.package
        return f"{within}.{self.name}" if within else self.name

    def annotation(self, *names: str) -> Annotation | None:
        """The first annotation of one of these names."""
        return annotation(self.annotations, *names)


@dataclass(slots=True)
class File:
    """A file: ``imports`` are dotted names with their lines, ``stars`` the packages and types imported whole.

    ``mentions`` has each name of a type in it with the first line that it stands on; ``whole`` is false where it
    parses in part only.
    """

    path: str
    package: str = ""
    imports: dict[str, int] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    declarations: list[Declaration] = field(default_factory=list)
    mentions: dict[str, int] = field(default_factory=dict)
    whole: bool = True


def annotation(found: tuple[Annotation, ...], *names: str) -> Annotation | None:
    """The first of the annotations that has one of these names."""
    return next((each for each in found if each.name in names), None)

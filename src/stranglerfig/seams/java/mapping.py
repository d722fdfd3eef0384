"""Which tables Java's entities stand for: JPA's annotations (and Spring Data's), with the names that these default to.

A name that is written wins, then Spring's default (``OrderLine`` is ``order_line``), then Hibernate's own
(``OrderLine``); where the database's tables are known, the first of these that is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from stranglerfig.seams.java.names import Index, Known
from stranglerfig.seams.java.syntax import Annotation, Declaration, Variable, annotation
from stranglerfig.seams.model import Reference
from stranglerfig.seams.statements import Touched, table_name

_ASSOCIATIONS = ("ManyToOne", "OneToOne", "OneToMany", "ManyToMany", "ElementCollection")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z0-9])")
_SAVED, _REMOVED = frozenset({"ALL", "PERSIST", "MERGE"}), frozenset({"ALL", "REMOVE"})


def snake(name: str) -> str:
    """As Spring's ``CamelCaseToUnderscoresNamingStrategy`` has it: ``orderLine`` is ``order_line``."""
    return _HUMP.sub("_", name).lower()


class Names:
    """How tables are called: as the database does, where that was asked; as was said first, where it was not."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._known = {each.lower(): each for each in tables}
        self._asked = bool(self._known)
        self._ends: dict[str, list[str]] = {}
        for each in self._known.values():
            self._ends.setdefault(each.rpartition(".")[2].lower(), []).append(each)

    def choose(self, *variants: str, schema: str = "") -> str:
        """The first of the names that a table has; else the first of them."""
        for each in variants:
            if found := self._has(table_name(schema, each)):
                return found
        first = table_name(schema, variants[0])
        if not self._asked:
            self._known[first.lower()] = first
        return first

    def canonical(self, name: str) -> str:
        """A table that SQL names, in whatever case."""
        return self.choose(name)

    def of(self, found: Touched) -> Touched:
        """The same with the names of the tables as they are."""
        return Touched(frozenset(map(self.canonical, found.reads)), frozenset(map(self.canonical, found.writes)))

    def _has(self, name: str) -> str:
        """A table of that name; of one without a schema also that of the only schema that has it."""
        ends = self._ends.get(name.lower(), ()) if "." not in name else ()
        return self._known.get(name.lower()) or (ends[0] if len(ends) == 1 else "")


@dataclass(frozen=True, slots=True)
class Association:
    """A field that leads to another entity; ``between`` is the table of its own that it has, if any."""

    field: str
    kind: str
    target: Declaration | None
    between: str
    cascade: frozenset[str]
    references: tuple[Reference, ...]


@dataclass(slots=True)
class Entity:
    """An entity: ``tables`` are all that its rows are in; ``name`` is what queries call it."""

    declaration: Declaration
    name: str
    table: str
    tables: frozenset[str]
    references: tuple[Reference, ...] = ()
    associations: dict[str, Association] = field(default_factory=dict)


class Mapping:
    """The entities of all files, each by its class's whole name."""

    def __init__(self, index: Index, names: Names) -> None:
        self._index = index
        self.names = names
        self._tables: dict[str, str] = {}
        self.entities = {each.qualified: self._entity(each) for each in index.declarations if is_entity(each)}
        for each in self.entities.values():
            each.associations = {link.field: link for link in self._associations(each)}

    @cached_property
    def by_name(self) -> dict[str, Entity]:
        """Each by what queries call it, and by its class's whole name."""
        return {each.name: each for each in self.entities.values()} | self.entities

    def of(self, found: Known | Declaration | None) -> Entity | None:
        """The entity that a type is."""
        declaration = found.declaration if isinstance(found, Known) else found
        return self.entities.get(declaration.qualified) if declaration is not None else None

    def _text(self, found: Annotation | None, key: str, at: Declaration) -> str:
        values = found.values.get(key, ()) if found is not None else ()
        text = self._index.text(values[0], at) if values else None
        return (text or "").strip('`"[]')

    def _place(self, found: Annotation | None, at: Declaration, *defaults: str, key: str = "name") -> str:
        """The table that an annotation names, or one of the defaults."""
        said = self._text(found, key, at) or (self._text(found, "value", at) if key == "name" else "")
        schema = self._text(found, "schema", at) or self._text(found, "catalog", at)
        return self.names.choose(*((said, snake(said)) if said else defaults), schema=schema)

    def _table(self, found: Declaration) -> str:
        """The table of an entity: in a single-table hierarchy its root's."""
        if found.qualified not in self._tables:
            self._tables[found.qualified] = ""  # for one that is made from itself, which does not compile
            parents = self._parents(found)
            single = parents and not self._strategy(parents[-1]) & {"JOINED", "TABLE_PER_CLASS"}
            name = self._text(found.annotation("Entity"), "name", found) or found.name
            self._tables[found.qualified] = (
                self._table(parents[-1]) if single else self._place(found.annotation("Table"), found, snake(name), name)
            )
        return self._tables[found.qualified]

    def _parents(self, found: Declaration) -> list[Declaration]:
        return [each for each in self._index.lineage(found) if each is not found and is_entity(each)]

    @staticmethod
    def _strategy(root: Declaration) -> frozenset[str]:
        given = root.annotation("Inheritance")
        return given.words("strategy") | given.words("value") if given else frozenset()

    def _entity(self, found: Declaration) -> Entity:
        table, parents = self._table(found), self._parents(found)
        tables, references = {table}, list[Reference]()
        if parents and "JOINED" in self._strategy(parents[-1]):
            tables |= {self._table(each) for each in parents}
            references.append(Reference(table, self._table(parents[0]), f"{found.file.path}:{found.line}"))
        whole = found.annotation("SecondaryTables")
        more = [each for each in found.annotations if each.name == "SecondaryTable"]
        for each in (*more, *(whole.nested.get("value", ()) if whole else ())):
            second = self._place(each, found, found.name)
            tables.add(second)
            references.append(Reference(second, table, f"{found.file.path}:{each.line}"))
        name = self._text(found.annotation("Entity"), "name", found) or found.name
        return Entity(found, name, table, frozenset(tables), tuple(references))

    def _fields(self, found: Declaration, deep: int = 0) -> Iterator[tuple[Variable, Declaration]]:
        """The persistent fields of an entity: its own, its bases', those of what is embedded; on getters as well."""
        for each in self._index.lineage(found) if deep < 4 else ():
            for variable in (*each.fields.values(), *_properties(each)):
                embedded = self._index.known(variable.type, each).declaration
                if embedded is not None and (
                    embedded.annotation("Embeddable") or annotation(variable.annotations, "Embedded", "EmbeddedId")
                ):
                    yield from self._fields(embedded, deep + 1)
                else:
                    yield variable, each

    def _associations(self, entity: Entity) -> Iterator[Association]:
        seen = set[str]()
        for variable, at in self._fields(entity.declaration):
            kind = annotation(variable.annotations, *_ASSOCIATIONS)
            if kind is not None and variable.name not in seen:
                seen.add(variable.name)
                yield self._association(entity, variable, kind, at)

    def _association(self, entity: Entity, variable: Variable, kind: Annotation, at: Declaration) -> Association:
        where = f"{at.file.path}:{variable.line}"
        known = self._index.known(variable.type, at)
        known = known.args[-1] if known.args else known
        given = next((each.type for each in kind.values.get("targetEntity", ()) if each.type), None)
        known = self._index.known(given, at) if given else known
        target = self.of(known)
        ours, theirs = entity.table, target.table if target else ""
        cascade = kind.words("cascade")
        if "true" in kind.words("orphanRemoval"):
            cascade |= {"REMOVE"}
        between, references = "", list[Reference]()
        table = annotation(variable.annotations, "JoinTable", "CollectionTable")
        column = annotation(variable.annotations, "JoinColumn", "JoinColumns")
        if kind.name == "ElementCollection":
            cascade = frozenset({"ALL"})
            between = self._place(table, at, f"{snake(entity.name)}_{snake(variable.name)}", f"{ours}_{variable.name}")
            references.append(Reference(between, ours, where))
        elif "mappedBy" in kind.values or not theirs:
            pass
        elif kind.name == "ManyToMany" or table is not None or (kind.name == "OneToMany" and column is None):
            between = self._place(table, at, f"{ours}_{snake(variable.name)}", f"{ours}_{theirs}")
            references += [Reference(between, ours, where), Reference(between, theirs, where)]
        elif kind.name == "OneToMany":
            references.append(Reference(theirs, ours, where))
        else:
            references.append(Reference(ours, theirs, where))
        declaration = target.declaration if target else None
        return Association(variable.name, kind.name, declaration, between, cascade, tuple(references))

    def references(self) -> Iterator[Reference]:
        """Every pointer of a table to another one."""
        for each in self.entities.values():
            yield from each.references
            for link in each.associations.values():
                yield from link.references

    def tables(self) -> set[str]:
        """All tables of entities, and those between them."""
        links = (link.between for each in self.entities.values() for link in each.associations.values())
        return {*(table for each in self.entities.values() for table in each.tables), *filter(None, links)}

    def written(self, entity: Entity, *, removed: bool = False) -> frozenset[str]:
        """The tables that saving (or removing) an entity writes: its own, and where that is passed on to."""
        found, waiting, seen = set[str](), [entity], {entity.declaration.qualified}
        while waiting:
            each = waiting.pop()
            found |= each.tables
            for link in each.associations.values():
                if link.between:
                    found.add(link.between)
                target = self.of(link.target)
                passed = link.cascade & (_REMOVED if removed else _SAVED)
                if target is not None and passed and target.declaration.qualified not in seen:
                    seen.add(target.declaration.qualified)
                    waiting.append(target)
        return frozenset(found)


def is_entity(found: Declaration) -> bool:
    """Whether a class stands for rows of a table."""
    return found.kind in ("class", "record") and found.annotation("Entity", "Table") is not None


def _properties(found: Declaration) -> Iterator[Variable]:
    """The getters that have annotations, as the fields that they stand for."""
    for each in found.methods:
        stem = re.sub(r"^(?:get|is)(?=[A-Z])", "", each.name)
        if stem != each.name and each.annotations and each.returns is not None and not each.parameters:
            yield Variable(stem[0].lower() + stem[1:], each.returns, each.line, each.annotations)

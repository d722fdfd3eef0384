"""What Java's methods touch, and what they call: entities through repositories and entity managers, queries, texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from stranglerfig.seams.java.mapping import Entity, Mapping, is_entity
from stranglerfig.seams.java.names import Index, Known
from stranglerfig.seams.java.queries import Queries
from stranglerfig.seams.java.syntax import (
    CALL,
    CLASS,
    FIELD,
    JOIN,
    NAME,
    NEW,
    REFERENCE,
    TEXT,
    Annotation,
    Declaration,
    Expression,
    Method,
)
from stranglerfig.seams.statements import Touched

_DEEP = 8
"""How many calls are followed from a route's method, and how many names of an expression's type."""
_REPOSITORIES = frozenset(
    {
        "Repository",
        "CrudRepository",
        "ListCrudRepository",
        "PagingAndSortingRepository",
        "ListPagingAndSortingRepository",
        "JpaRepository",
        "JpaRepositoryImplementation",
        "SimpleJpaRepository",
        "ReactiveCrudRepository",
        "ReactiveSortingRepository",
        "R2dbcRepository",
        "BasicRepository",
        "DataRepository",
        "PanacheRepository",
        "PanacheRepositoryBase",
    }
)
_MANAGERS = frozenset({"EntityManager", "Session", "StatelessSession", "HibernateTemplate", "JdbcAggregateTemplate"})
_SAVES = re.compile(r"(?:save|persist|merge|insert|update|saveOrUpdate|upsert|lock)(?:$|[A-Z])")
_REMOVES = re.compile(r"(?:delete|remove)(?:$|[A-Z])")
_FINDS = re.compile(r"(?:find|get|read|query|search|stream|count|exists|list|load|refresh)(?:$|[A-Z])")
_QUERIED = frozenset({"from", "createQuery", "createNativeQuery", "createSelectionQuery", "selectFrom", "byId"})
_UNWRAPS = frozenset({"get", "orElse", "orElseThrow", "orElseGet", "next", "getFirst", "getLast", "getSingleResult"})
_QUERIES = (
    "Query",
    "NativeQuery",
    "NamedQuery",
    "NamedNativeQuery",
    "Select",
    "Insert",
    "Update",
    "Delete",
    "SqlQuery",
)
_NAMED = ("NamedQuery", "NamedQueries", "NamedNativeQuery", "NamedNativeQueries")
Found = tuple[Touched, int, str]
"""What is touched, the line, and the query where it is one."""
Place = tuple[Declaration, Method]


class Toucher:
    """What methods touch, over all files."""

    def __init__(self, index: Index, mapping: Mapping, queries: Queries) -> None:
        self._index = index
        self._mapping = mapping
        self._queries = queries
        self._own: dict[int, list[Found]] = {}
        self._domains: dict[str, Entity | None] = {}

    # Types of expressions

    def known(self, found: Expression | None, place: Place, deep: int = 0) -> Known:
        """The type of an expression, as far as it is known."""
        if found is None or deep > _DEEP:
            return Known("")
        match found.kind:
            case "name":
                return self._named(found.name, place, deep)
            case "field":
                return self._field(found, place, deep)
            case "new" | "cast":
                return self._index.known(found.type, place[0])
            case "call":
                return self._returned(found, place, deep)
        return Known("")

    def _named(self, name: str, place: Place, deep: int) -> Known:
        at, method = place
        if name in ("this", "super"):
            return Known(at.name, at)
        variable = method.variables.get(name)
        if variable is not None:
            if variable.type.name == "var":
                return self.known(variable.value, place, deep + 1)
            return self._index.known(variable.type, at)
        owner: Declaration | None = at
        while owner is not None:
            for each in self._index.lineage(owner):
                if name in each.fields:
                    return self._index.known(each.fields[name].type, each)
            owner = owner.owner
        return Known(name, self._index.find(name, at)) if name[:1].isupper() else Known("")

    def _field(self, found: Expression, place: Place, deep: int) -> Known:
        of = self.known(found.of, place, deep + 1).declaration
        for each in self._index.lineage(of) if of is not None else ():
            if found.name in each.fields:
                return self._index.known(each.fields[found.name].type, each)
        return Known(found.name, self._index.find(found.name, of)) if of is not None else Known("")

    def _returned(self, found: Expression, place: Place, deep: int) -> Known:
        of = self.known(found.of, place, deep + 1) if found.of is not None else Known(place[0].name, place[0])
        if of.declaration is None:
            if found.name in ("find", "getReference") and of.name in _MANAGERS:
                return self._index.known(found.args[0].type if found.args else None, place[0])
            return of.args[-1] if of.args and found.name in _UNWRAPS else of if of.args else Known("")
        for at, method in self._index.methods(of.declaration, found.name, len(found.args)):
            return self._index.known(method.returns, at)
        if entity := self.domain(of.declaration):
            one = Known(entity.declaration.name, entity.declaration)
            return one if _SAVES.match(found.name) or found.name.startswith("get") else Known("Optional", None, (one,))
        if found.name in of.declaration.fields:  # of a record
            return self._index.known(of.declaration.fields[found.name].type, of.declaration)
        link = self._getter(found.name, self._mapping.of(of))
        return Known(link.name, link) if link is not None else Known("")

    # What is touched

    def domain(self, found: Declaration) -> Entity | None:
        """The entity that a repository is for; None for what is no repository."""
        if found.qualified not in self._domains:
            self._domains[found.qualified] = self._domain(found)
        return self._domains[found.qualified]

    def _domain(self, found: Declaration) -> Entity | None:
        for each in self._index.strangers(found):
            if each.name in _REPOSITORIES and each.args and (entity := self._mapping.of(each.args[0])):
                return entity
        for base in self._index.lineage(found):
            given = base.annotation("RepositoryDefinition")
            for value in given.values.get("domainClass", ()) if given else ():
                return self._mapping.of(self._index.known(value.type, base))
        return None

    def own(self, place: Place) -> list[Found]:
        """What a method itself touches."""
        at, method = place
        if id(method) not in self._own:
            found = list(self._annotated(at, method))
            if not method.has_body and not found and (entity := self.domain(at)):
                found.append((self._by_name(entity, method.name), method.line, ""))
            found += [one for whole in method.body for each in whole.walk() for one in self._expression(each, place)]
            self._own[id(method)] = [each for each in found if each[0].tables]
        return self._own[id(method)]

    def _annotated(self, at: Declaration, method: Method) -> Iterator[Found]:
        entity = self.domain(at)
        for each in method.annotations:
            if each.name in _QUERIES:
                yield from self._query_of(each, at, entity.name if entity else "")

    def _query_of(self, given: Annotation, at: Declaration, entity: str = "") -> Iterator[Found]:
        parts = given.values.get("value") or given.values.get("query") or ()
        # Several texts of one annotation are one query (MyBatis); others have one.
        texts = [self._index.text(each, at) for each in parts]
        if text := " ".join(each for each in texts if each):
            yield self._queries.touched(text, entity), given.line, text

    @staticmethod
    def _read(entity: Entity) -> Touched:
        return Touched(reads=entity.tables)

    def _by_name(self, entity: Entity, name: str) -> Touched:
        """What a repository's method touches, by what it is called."""
        if _REMOVES.match(name):
            return Touched(writes=self._mapping.written(entity, removed=True))
        if _SAVES.match(name):
            return Touched(writes=self._mapping.written(entity))
        return self._read(entity)

    def _expression(self, found: Expression, place: Place) -> Iterator[Found]:
        at, _ = place
        match found.kind:
            case "text" | "join" | "name" | "field":
                if found.kind in (TEXT, JOIN) or (found.name[:1].isupper() and found.kind in (NAME, FIELD)):
                    text = self._index.text(found, at)
                    if text is not None:
                        yield self._queries.touched(text), found.line, text
            case "call":
                yield from self._call(found, place)

    def _call(self, found: Expression, place: Place) -> Iterator[Found]:
        at, _ = place
        if _FINDS.match(found.name) or found.name in _QUERIED:
            for each in found.args:
                if each.kind == CLASS and (entity := self._mapping.of(self._index.known(each.type, at))):
                    yield self._read(entity), found.line, ""
        of = Known(at.name, at) if found.of is None else self.known(found.of, place)
        if of.declaration is None:
            yield from self._foreign(found, of, place)
        elif (
            (_changes(found.name) or _FINDS.match(found.name))
            and (entity := self.domain(of.declaration))
            and not self._index.methods(of.declaration, found.name, len(found.args))
        ):
            yield self._by_name(entity, found.name), found.line, ""
        if found.of is not None and not is_entity(at) and (entity := self._mapping.of(of)):
            target = self._mapping.of(self._getter(found.name, entity))
            if target is not None:
                yield self._read(target), found.line, ""

    def _foreign(self, found: Expression, of: Known, place: Place) -> Iterator[Found]:
        """A call of what was not read: an entity manager, a named query, an insert that is put together."""
        at, _ = place
        first = found.args[0] if found.args else None
        if found.name in ("createNamedQuery", "getNamedQuery"):
            text = self.named.get(self._index.text(first, at) or "", "")
            yield self._queries.touched(text), found.line, text
        elif found.name == "withTableName" and (name := self._index.text(first, at)):
            yield Touched(writes=frozenset({self._mapping.names.canonical(name)})), found.line, ""
        elif of.name in _MANAGERS and _changes(found.name):
            known = self.known(first, place)
            entity = self._mapping.of(known) or self._mapping.of(known.args[-1] if known.args else None)
            if entity is not None:
                yield self._by_name(entity, found.name), found.line, ""

    def _getter(self, name: str, entity: Entity | None) -> Declaration | None:
        """The entity that a getter of another one leads to."""
        if entity is None:
            return None
        stem = re.sub(r"^get(?=[A-Z])", "", name)
        link = entity.associations.get(stem[:1].lower() + stem[1:])
        return link.target if link is not None else None

    @cached_property
    def named(self) -> dict[str, str]:
        """Named queries by name."""
        return {name: text for name, text, _, _ in self.named_places()}

    def named_places(self) -> Iterator[tuple[str, str, Declaration, int]]:
        """Each named query: its name, its text, the class that it is written at, the line."""
        for at in self._index.declarations:
            for each in at.annotations:
                if each.name in _NAMED:
                    for one in (each, *each.nested.get("value", ())):
                        name, text = (one.values.get(key, (None,))[0] for key in ("name", "query"))
                        said = self._index.text(name, at), self._index.text(text, at)
                        if said[0] and said[1]:
                            yield said[0], said[1], at, one.line

    # What is called

    def reached(self, place: Place) -> list[Place]:
        """A route's method and those that it leads to; before it Spring calls all that make a model's attributes."""
        starts = [place, *self._implemented(place)]
        above = (each for at, _ in starts for each in self._index.lineage(at))
        models = [(each, method) for each in above for method in each.methods if _makes_model(method)]
        edge = list({id(method): (at, method) for at, method in (*starts, *models)}.values())
        found, seen = list(edge), {id(method) for _, method in edge}
        for _ in range(_DEEP):
            following = list[Place]()
            for each in edge:
                for callee in self.callees(each):
                    if id(callee[1]) not in seen:
                        seen.add(id(callee[1]))
                        following.append(callee)
            found += following
            edge = following
        return found

    def callees(self, place: Place) -> Iterator[Place]:
        """The methods that a method calls; of an interface's also all that implement it."""
        at, method = place
        for whole in method.body:
            for each in whole.walk():
                if each.kind == NEW:
                    made = self._index.known(each.type, at).declaration
                    if made is not None:
                        yield from ((made, m) for m in made.methods if m.name == "<init>")
                elif each.kind in (CALL, REFERENCE):
                    of = self.known(each.of, place).declaration if each.of is not None else at
                    yield from self._meant(of, each, at)

    def _meant(self, of: Declaration | None, found: Expression, at: Declaration) -> Iterator[Place]:
        arguments = len(found.args) if found.kind == CALL else -1
        called = self._index.methods(of, found.name, arguments) if of is not None else []
        if not called and found.of is None and at.owner is not None:
            called = self._index.methods(at.owner, found.name, arguments)
        for each in called:
            yield each
            yield from self._implemented(each)

    def _implemented(self, place: Place) -> Iterator[Place]:
        at, method = place
        if method.has_body and at.kind != "interface":
            return
        for below in self._index.implementations(at):
            for each in below.methods:
                if each.name == method.name and each.parameters == method.parameters:
                    yield below, each


def _makes_model(method: Method) -> bool:
    return any(each.name == "ModelAttribute" for each in method.annotations)


def _changes(name: str) -> bool:
    return bool(_SAVES.match(name) or _REMOVES.match(name))

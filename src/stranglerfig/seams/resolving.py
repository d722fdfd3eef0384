"""From what sources mention to the tables they touch: models and their tables, functions and what they call, routes."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from stranglerfig.seams.executed import shown
from stranglerfig.seams.model import MODULE, ROUTE, Coverage, Evidence, Import, Reference, Table, Use
from stranglerfig.seams.sources import USER_MODEL, Class, Mention, Module, Read, Route, dotted, text_of
from stranglerfig.seams.statements import Touched, looks_like_sql, touched

_WRITES = frozenset(
    {
        "create",
        "bulk_create",
        "get_or_create",
        "update_or_create",
        "update",
        "bulk_update",
        "delete",
        "save",
        "add",
        "insert",
        "set",
        "remove",
        "clear",
        "acreate",
        "aupdate",
        "adelete",
        "asave",
    }
)
_POINTERS = frozenset({"ForeignKey", "OneToOneField", "ParentalKey"})
_DEEP = 6
"""How many calls are followed from a route's handler."""


@dataclass(frozen=True, slots=True)
class Model:
    """A class that stands for a table; ``fields`` are its own and its bases' with where they are."""

    module: Module
    found: Class
    label: str
    table: str
    abstract: bool


class Resolver:
    """Says what names stand for, over all modules that were read."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._mapped: dict[tuple[str, str], Model | None] = {}

    def definition(self, module: Module, name: str) -> tuple[Module, str]:
        """Where a dotted name of a module is defined: the module, and the rest of the name there."""
        for _ in range(8):
            first, _, rest = name.partition(".")
            if _defines(module, first):
                return module, name
            if first not in module.bound:
                star = (self._read.modules.get(each) for each in module.stars)
                return next((each for each in star if each and _defines(each, first)), module), name
            whole = module.bound[first] + (f".{rest}" if rest else "")
            owner = self.owner(whole)
            if owner is None or owner is module:
                return module, name
            module, name = owner, whole[len(owner.name) + 1 :]
            if not name:
                return module, ""
        return module, name

    def owner(self, whole: str) -> Module | None:
        """The module with the longest name that ``whole`` begins with."""
        parts = whole.split(".")
        for length in range(len(parts), 0, -1):
            if found := self._read.modules.get(".".join(parts[:length])):
                return found
        return None

    # Models

    def bases(self, module: Module, found: Class) -> Iterator[tuple[Module, Class]]:
        """A class and all that it is made from, nearest first, as far as they were read."""
        waiting, seen = [(module, found)], set[tuple[str, str]]()
        while waiting:
            where, each = waiting.pop(0)
            if (where.name, each.name) in seen:
                continue
            seen.add((where.name, each.name))
            yield where, each
            for base in each.bases:
                owner, name = self.definition(where, base)
                if name in owner.classes:
                    waiting.append((owner, owner.classes[name]))

    def model(self, module: Module, found: Class) -> Model | None:
        """The table that a class stands for, by Django's or SQLAlchemy's rules."""
        key = (module.name, found.name)
        if key not in self._mapped:
            self._mapped[key] = self._model(module, found)
        return self._mapped[key]

    def _model(self, module: Module, found: Class) -> Model | None:
        lineage = list(self.bases(module, found))
        named = next((c.values["__tablename__"] for _, c in lineage if "__tablename__" in c.values), None)
        if named is not None:
            name = text_of(named, module)
            schema = next((s for _, c in lineage if (s := _schema(c.values.get("__table_args__")))), "")
            return Model(module, found, "", f"{schema}.{name}" if schema else name, False) if name else None
        if not any(_is_django(where, each) for where, each in lineage):
            return None
        meta = found.meta
        abstract = isinstance(flag := meta.get("abstract"), ast.Constant) and flag.value is True
        label = next((t for m, c in lineage if (t := text_of(c.meta.get("app_label"), m))), "") or self._label(module)
        table = text_of(meta.get("db_table"), module) or f"{label}_{found.name.lower()}"
        return Model(module, found, label, table.replace('"', ""), abstract)

    def _label(self, module: Module) -> str:
        parts = module.name.split(".")
        parts = parts[: parts.index("models")] if "models" in parts else parts[:-1]
        package = ".".join(parts)
        return self._read.labels.get(package) or (parts[-1] if parts else module.name)

    @cached_property
    def models(self) -> dict[str, Model]:
        """Every class with a table, by table."""
        found: dict[str, Model] = {}
        for module in self._read.modules.values():
            for each in module.classes.values():
                if (model := self.model(module, each)) and not model.abstract:
                    found.setdefault(model.table, model)
        return found

    @cached_property
    def _by_name(self) -> dict[str, Model]:
        found = {f"{model.label}.{model.found.name}".lower(): model for model in self.models.values() if model.label}
        return found | {model.found.name.lower(): model for model in self.models.values() if not model.label}

    @cached_property
    def _user_model(self) -> str:
        """What a settings module says, else Django's own."""
        said = (module.constants.get(USER_MODEL) for module in self._read.modules.values())
        return next((each[0] for each in said if each and "." in each[0]), "auth.User")

    def target(self, module: Module, label: str, node: ast.expr, of: Model) -> str:
        """The table that a ForeignKey's first argument points to; empty when it is not known."""
        text = text_of(node, module)
        if text == "self":
            return of.table
        if text is not None:
            model = self._by_name.get((text if "." in text else f"{label}.{text}").lower())
            return model.table if model else text.replace(".", "_").lower() if "." in text else ""
        name = dotted(node)
        return self.table_of(module, f"model:{USER_MODEL}" if name.rpartition(".")[2] == USER_MODEL else name)

    def table_of(self, module: Module, name: str) -> str:
        """The table of the model that a dotted name stands for or begins with; empty when it is none."""
        if name.startswith("model:"):
            label = self._user_model if name == f"model:{USER_MODEL}" else name.removeprefix("model:")
            found = self._by_name.get(label.lower())
            return found.table if found else label.replace(".", "_").lower()
        where, rest = self.definition(module, name)
        first = rest.split(".")[0]
        if first in where.models:
            return self.table_of(where, f"model:{where.models[first]}")
        if first in where.classes:
            model = self.model(where, where.classes[first])
            return model.table if model and not model.abstract else ""
        return ""

    def references(self) -> Iterator[tuple[Reference, str]]:
        """Every pointer of a model to another one, and the table in between for one of many to many."""
        for model in self.models.values():
            names = set[str]()
            for where, each in self.bases(model.module, model.found):
                for name, value in each.values.items():
                    if name not in names and isinstance(value, ast.Call):
                        names.add(name)
                        yield from self._pointers(model, where, name, value)

    def _pointers(self, model: Model, where: Module, name: str, value: ast.Call) -> Iterator[tuple[Reference, str]]:
        place = f"{where.path}:{value.lineno}"
        given = {each.arg: each.value for each in value.keywords}
        kind = dotted(value.func).rpartition(".")[2]
        first = value.args[0] if value.args else given.get("to")
        if model.label and kind in _POINTERS and first is not None:
            if target := self.target(where, model.label, first, model):
                yield Reference(model.table, target, place), ""
        elif model.label and kind == "ManyToManyField" and first is not None and "through" not in given:
            if target := self.target(where, model.label, first, model):
                between = f"{model.table}_{name}"
                yield Reference(between, model.table, place), between
                yield Reference(between, target, place), between
        elif not model.label:
            for call in ast.walk(value):
                if isinstance(call, ast.Call) and dotted(call.func).rpartition(".")[2] == "ForeignKey" and call.args:
                    text = text_of(call.args[0], where)
                    if text and "." in text:
                        yield Reference(model.table, text.rpartition(".")[0], place), ""

    # What is touched

    def touches(self, module: Module, mention: Mention) -> Touched:
        """The table that a mention of a model touches: written when its chain ends in a writing call."""
        table = self.table_of(module, mention.name)
        if not table:
            return Touched()
        writes = mention.called and ("." not in mention.name or mention.name.rpartition(".")[2] in _WRITES)
        one = frozenset({table})
        return Touched(writes=one) if writes else Touched(reads=one)


def _defines(module: Module, name: str) -> bool:
    return any(name in names for names in (module.scopes, module.classes, module.constants, module.models))


def _schema(node: ast.expr | None) -> str:
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.Dict):
            for key, value in zip(each.keys, each.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "schema" and isinstance(value, ast.Constant):
                    return str(value.value)
    return ""


def _is_django(module: Module, found: Class) -> bool:
    """A base of Django's ``models.Model``, or a field of ``django.db.models``."""
    # An expression's output_field makes no table.
    values = (value for name, value in found.values.items() if name != "output_field")
    fields = [dotted(value) for value in values if isinstance(value, ast.Call)]
    return any(
        _whole(module, name) in ("django.db.models.Model", "django.contrib.gis.db.models.Model") for name in found.bases
    ) or any(
        whole.startswith(("django.db.models.", "django.contrib.gis.db.models.")) and whole.endswith(("Field", "Key"))
        for whole in (_whole(module, name) for name in fields)
    )


def _whole(module: Module, name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{module.bound.get(first, first)}.{rest}".rstrip(".")


class Toucher:
    """What functions touch, their callees included."""

    def __init__(self, read: Read, resolver: Resolver) -> None:
        self._read = read
        self._resolver = resolver
        self.unparsed: set[str] = set()
        self.parsed: set[str] = set()
        self._statements: dict[str, Touched | None] = {}
        self._own: dict[tuple[str, str], list[tuple[Touched, int, str]]] = {}

    def statement(self, text: str) -> Touched:
        """What a text of SQL touches; nothing when it does not parse, which is counted."""
        if text not in self._statements:
            self._statements[text] = touched(text)
        found = self._statements[text]
        (self.unparsed if found is None else self.parsed).add(text)
        return found or Touched()

    def own(self, module: Module, scope: str) -> list[tuple[Touched, int, str]]:
        """What a scope itself touches: each with the line, and the statement when it is one."""
        key = (module.name, scope)
        if key not in self._own:
            found = [(self.statement(text), line, text) for text, line in module.scopes[scope].strings]
            for mention in module.scopes[scope].mentions:
                where, name = self._resolver.definition(module, mention.name)
                if scope and name in where.constants and (text := where.constants[name][0]) in self._sql:
                    found.append((self.statement(text), mention.line, text))
                elif (one := self._resolver.touches(module, mention)).tables:
                    found.append((one, mention.line, ""))
            self._own[key] = found
        return self._own[key]

    @cached_property
    def _sql(self) -> frozenset[str]:
        texts = {text for module in self._read.modules.values() for text, _ in module.constants.values()}
        return frozenset(text for text in texts if looks_like_sql(text))

    def callees(self, module: Module, scope: str) -> Iterator[tuple[Module, str]]:
        """The scopes of what a scope mentions: functions, its own class's methods, other classes' methods."""
        owner = scope.partition(".")[0] if "." in scope or scope in module.classes else ""
        for mention in module.scopes[scope].mentions:
            first, _, rest = mention.name.partition(".")
            if first in ("self", "cls") and owner:
                yield from self._method(module, owner, rest.split(".")[0])
                continue
            where, name = self._resolver.definition(module, mention.name)
            if name in where.scopes and name:
                yield where, name

    def _method(self, module: Module, owner: str, name: str) -> Iterator[tuple[Module, str]]:
        if owner in module.classes:
            for where, each in self._resolver.bases(module, module.classes[owner]):
                if f"{each.name}.{name}" in where.scopes:
                    yield where, f"{each.name}.{name}"
                    return

    def reached(self, module: Module, handler: str) -> list[tuple[Module, str]]:
        """A handler's scope and those that it leads to; of a class all its methods."""
        starts = [(module, handler)] if handler in module.scopes else []
        if handler in module.classes:
            starts += [(module, name) for name in module.scopes if name.startswith(f"{handler}.")]
        seen = {(where.name, name) for where, name in starts}
        found, edge = list(starts), starts
        for _ in range(_DEEP):
            following = []
            for where, name in edge:
                for callee in self.callees(where, name):
                    if (callee[0].name, callee[1]) not in seen:
                        seen.add((callee[0].name, callee[1]))
                        following.append(callee)
            found += following
            edge = following
        return found


def evidence(read: Read) -> Evidence:
    """All that the sources say."""
    resolver = Resolver(read)
    toucher = Toucher(read, resolver)
    references = list(resolver.references())
    names = sorted({*resolver.models, *(between for _, between in references if between)})
    uses = [
        *(use for module in read.modules.values() for use in _module(module, toucher)),
        *(
            use
            for module in read.modules.values()
            for route in module.routes
            if (use := _route(module, route, toucher, resolver))
        ),
        *_statements(read, toucher),
    ]
    reached = sum(use.kind == ROUTE for use in uses)
    coverage = Coverage(
        "python",
        "partly" if read.broken or toucher.unparsed else "read",
        f"{len(read.modules)} modules, {len(resolver.models)} models, {len(toucher.parsed)} SQL statements, "
        f"{sum(len(module.routes) for module in read.modules.values())} routes, {reached} of which reach tables"
        + (f"; {len(read.broken)} files do not parse: {', '.join(read.broken[:3])}" if read.broken else "")
        + (f"; {len(toucher.unparsed)} strings that look like SQL do not parse" if toucher.unparsed else ""),
    )
    return Evidence(
        tuple(Table(name) for name in names),
        tuple(reference for reference, _ in references),
        tuple(uses),
        tuple(_imports(read, resolver)),
        (),
        (coverage,),
    )


def _module(module: Module, toucher: Toucher) -> Iterator[Use]:
    counts, reads, writes = Counter[str](), set[str](), set[str]()
    places: dict[str, str] = {}
    for scope in module.scopes:
        for found, line, _ in toucher.own(module, scope):
            reads |= found.reads
            writes |= found.writes
            counts.update(found.tables)
            for table in found.tables:
                if table not in places or table in found.writes:
                    places[table] = f"{module.path}:{line}"
    if counts:
        yield Use(
            MODULE, module.path, module.path, frozenset(reads - writes), frozenset(writes), dict(counts), places=places
        )


def _route(module: Module, route: Route, toucher: Toucher, resolver: Resolver) -> Use | None:
    name = route.handler
    if name.startswith("self.") and route.owner:
        where, scope = module, f"{route.owner}.{name.removeprefix('self.')}"
    else:
        where, scope = resolver.definition(module, name)
    whole, counts = Touched(), Counter[str]()
    for at, each in toucher.reached(where, scope):
        for found, _, _ in toucher.own(at, each):
            whole |= found
            counts.update(found.tables)
    if not counts:
        return None
    begins = f"{module.path}:{route.line}"
    return Use.of_route(route.methods, route.path, begins, where.path, whole.reads, whole.writes, counts)


def _statements(read: Read, toucher: Toucher) -> Iterator[Use]:
    """Each SQL text in the sources once, with all places where it stands or is used."""
    places: dict[str, list[str]] = defaultdict(list)
    found: dict[str, Touched] = {}
    for module in read.modules.values():
        for scope in module.scopes:
            for one, line, text in toucher.own(module, scope):
                if text and len(one.tables) > 1:
                    found[text] = one
                    places[text].append(f"{module.path}:{line}")
    for text, one in found.items():
        said = shown(text)
        yield Use("statement", said[:60], places[text][0], one.reads - one.writes, one.writes, excerpt=said)


def _imports(read: Read, resolver: Resolver) -> Iterator[Import]:
    for module in read.modules.values():
        seen = set[str]()
        for whole, line in module.imports:
            target = resolver.owner(whole)
            if target is not None and target is not module and target.path not in seen:
                seen.add(target.path)
                yield Import(module.path, target.path, f"{module.path}:{line}")

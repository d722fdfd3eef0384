"""All that Java sources say: pointers between tables, and the files, routes and queries that touch them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from stranglerfig.seams.executed import shown
from stranglerfig.seams.java.mapping import Mapping, Names
from stranglerfig.seams.java.names import Index
from stranglerfig.seams.java.queries import Queries
from stranglerfig.seams.java.reading import Read
from stranglerfig.seams.java.routes import Route, routes
from stranglerfig.seams.java.syntax import File
from stranglerfig.seams.java.touching import Found, Toucher
from stranglerfig.seams.model import MODULE, Coverage, Evidence, Import, Table, Use
from stranglerfig.seams.statements import Touched

SOURCE = "java"


def evidence(read: Read, tables: Collection[str] = (), dialect: str = "postgres") -> Evidence:
    """The evidence of Java sources; ``tables`` are the database's, and settle how entities' tables are called."""
    index, names = Index(read.files), Names(tables)
    mapping = Mapping(index, names)
    queries = Queries(mapping, names, dialect)
    toucher = Toucher(index, mapping, queries)
    declared = routes(index)
    reached = [use for route in declared if (use := _route(route, toucher))]
    uses = [
        *(use for file in read.files if (use := _module(file, toucher))),
        *reached,
        *_queries(index, toucher, queries),
    ]
    said = (
        f"{len(read.files)} files, {len(mapping.entities)} entities, {len(queries.parsed)} queries, "
        f"{len(declared)} routes, {len(reached)} of which reach tables"
    )
    if read.broken:
        said += f"; {len(read.broken)} files do not parse, or in part only: {', '.join(read.broken[:3])}"
    if queries.unparsed:
        said += f"; {len(queries.unparsed)} strings that look like SQL do not parse"
    return Evidence(
        tuple(Table(name) for name in sorted(mapping.tables())),
        tuple(mapping.references()),
        tuple(uses),
        tuple(_imports(index)),
        (),
        (Coverage(SOURCE, "partly" if read.broken or queries.unparsed else "read", said),),
    )


def _added(found: Found, counts: Counter[str], places: dict[str, str], path: str) -> Touched:
    one, line, _ = found
    counts.update(one.tables)
    for table in one.tables:
        if table not in places or table in one.writes:
            places[table] = f"{path}:{line}"
    return one


def _module(file: File, toucher: Toucher) -> Use | None:
    counts, whole, places = Counter[str](), Touched(), dict[str, str]()
    for each in file.declarations:
        for method in each.methods:
            for found in toucher.own((each, method)):
                whole |= _added(found, counts, places, file.path)
    if not counts:
        return None
    reads = whole.reads - whole.writes
    return Use(MODULE, file.path, file.path, reads, whole.writes, dict(counts), places=places)


def _route(route: Route, toucher: Toucher) -> Use | None:
    counts, whole, places = Counter[str](), Touched(), dict[str, str]()
    for at, method in toucher.reached((route.declaration, route.method)):
        for found in toucher.own((at, method)):
            whole |= _added(found, counts, places, at.file.path)
    if not counts:
        return None
    path = route.declaration.file.path
    where = f"{path}:{route.line}"
    return Use.of_route(route.methods, route.path, where, path, whole.reads, whole.writes, counts, places)


def _queries(index: Index, toucher: Toucher, queries: Queries) -> Iterator[Use]:
    """Each query over several tables once, with the first place where it stands or is used."""
    places: dict[str, list[str]] = defaultdict(list)
    found: dict[str, Touched] = {}
    for _, text, at, line in toucher.named_places():
        found[text] = queries.touched(text)
        places[text].append(f"{at.file.path}:{line}")
    for each in index.declarations:
        for method in each.methods:
            for one, line, text in toucher.own((each, method)):
                if text:
                    found[text] = one
                    places[text].append(f"{each.file.path}:{line}")
    for text, one in found.items():
        if len(one.tables) > 1:
            said = shown(text)
            yield Use("statement", said[:60], places[text][0], one.reads - one.writes, one.writes, excerpt=said)


def _imports(index: Index) -> Iterator[Import]:
    """Which file depends on which: Java names a type of the same package without importing it."""
    for file in index.files:
        seen = {file.path}
        lines = {name.rpartition(".")[2]: line for name, line in file.imports.items()}
        for name, line in file.mentions.items():
            found = next((each for at in file.declarations[:1] if (each := index.find(name, at))), None)
            if found is not None and found.file.path not in seen:
                seen.add(found.file.path)
                yield Import(file.path, found.file.path, f"{file.path}:{lines.get(name, line)}")

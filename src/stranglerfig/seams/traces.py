"""Which tables a request touched, from two logs that name the same trace: the façade's and PostgreSQL's of statements.

A monolith that is traced can say so in a comment of each statement (sqlcommenter's ``/*traceparent='00-…'*/``, which
OpenTelemetry's instrumentations of many drivers write). A statement without one belongs to no request: what ran at the
same time is no evidence.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile
from pathlib import Path

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import traffic
from stranglerfig.seams.model import ROUTE, Coverage, Evidence, Use
from stranglerfig.seams.statements import Touched, looks_like_sql, touched

SOURCE = "traces"
# log_statement, and log_min_duration_statement with how long it took; parse and bind lines repeat what is executed.
_STATEMENT = re.compile(r"(?:duration: [\d.]+ ms  )?(?:statement|execute [^:]*): (.*)", re.DOTALL)
_SAID = re.compile(r"\bLOG:  (.*)", re.DOTALL)
_CSV = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]* [\w+-]+,")
_CSV_MESSAGE = 13
"""The column of the message (PostgreSQL's manual, "Using CSV-Format Log Output")."""
# A comment, unless it stands in a text or a name.
_COMMENT = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|(/\*.*?\*/)""", re.DOTALL)
_TRACE = re.compile(r"\btraceparent='?(?:[0-9a-f]{2})-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b")
# A number, a UUID, or what else is no word of a path that a person wrote.
_VALUE = re.compile(r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9a-fA-F]{24,}")


@dataclass(slots=True)
class Logged:
    """What logs of statements have: those of each trace, each text once with where it stands; how many there are."""

    by_trace: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    total: int = 0
    traced: int = 0


@dataclass(slots=True)
class _Seen:
    """What requests to a route touched, each table with a place where it was, of a written one where that was."""

    touched: Touched = field(default_factory=Touched)
    places: dict[str, str] = field(default_factory=dict)


def joined(evidence: Evidence, statement_logs: Sequence[Path], access_logs: Sequence[Path]) -> Evidence:
    """The evidence with what requests touched: of its routes, and of new ones where a request fits none.

    A trace that has requests to several routes is left out, as it does not say which of them ran a statement.

    Raises:
        FigError: ``statement_log_unreadable``, ``access_log_unreadable``.
    """
    logged = read(statement_logs)
    if not logged.traced:
        said = f"none of {logged.total} statements in the log carries a trace; by time alone they are not joined"
        return _with(evidence, Coverage(SOURCE, "absent", said))
    asked = _asked(access_logs, logged.by_trace.keys())
    if not asked:
        said = f"{logged.traced} of {logged.total} statements carry a trace that no request in an access log has"
        return _with(evidence, Coverage(SOURCE, "absent", said))
    routes, seen = traffic.Routes(evidence), defaultdict[tuple[str, str, str], _Seen](_Seen)
    parser = _Parser(table.name for table in evidence.tables)
    several, known, new = 0, dict[tuple[str, str, str], Use](), dict[tuple[str, str, str], Use]()
    for trace, requests in asked.items():
        meant = {_key(use): use for each in requests for use in (routes.meant(*each) or _new(*each),)}
        if len(meant) > 1:
            several += 1
            continue
        ((key, use),) = meant.items()
        (new if not use.where else known)[key] = use
        for text, where in logged.by_trace[trace].items():
            _add(seen[key], parser.touched(text), where)
    uses = [_more(use, seen[_key(use)]) if _key(use) in known else use for use in evidence.uses]
    uses += [_more(use, seen[key]) for key, use in new.items() if seen[key].touched.tables]
    others = sum(bool(seen[key].touched.tables) for key in new)
    said = (
        f"{logged.traced} of {logged.total} statements carry a trace; {len(asked)} traces are of requests in the access"
        f" log, to {len(known)} routes of the sources and {others} others"
    )
    said += f"; {several} traces with several routes left out" if several else ""
    said += f"; {len(parser.unparsed)} statements do not parse" if parser.unparsed else ""
    coverage = Coverage(SOURCE, "partly" if several or parser.unparsed else "read", said)
    return _with(replace(evidence, uses=tuple(uses)), coverage)


def _with(evidence: Evidence, coverage: Coverage) -> Evidence:
    return replace(evidence, coverage=(*evidence.coverage, coverage))


def _key(use: Use) -> tuple[str, str, str]:
    return use.kind, use.name, use.where


def _new(method: str, path: str) -> Use:
    """A route as its requests show it: what looks like a value is a part that may be anything."""
    parts = ["{id}" if _VALUE.fullmatch(part) else part for part in path.split("/")]
    return Use(ROUTE, f"{method} {'/'.join(parts)}", "", methods=frozenset({method}))


def _add(seen: _Seen, found: Touched, where: str) -> None:
    for table in found.tables:
        if table not in seen.places or (table in found.writes and table not in seen.touched.writes):
            seen.places[table] = where
    seen.touched |= found


def _more(use: Use, seen: _Seen) -> Use:
    """A route with what was seen of it beside what its sources say; each table that was seen counts once more."""
    writes = use.writes | seen.touched.writes
    counts = Counter(use.counts)
    counts.update(seen.touched.tables)
    where = use.where or next(iter(seen.places.values()), "")
    reads = (use.reads | seen.touched.reads) - writes
    return replace(
        use, where=where, reads=reads, writes=writes, counts=dict(counts), places={**seen.places, **use.places}
    )


class _Parser:
    """Parses each statement once; tables are called as the evidence does, as PostgreSQL folds the case of names."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._names: Mapping[str, str] = {table.lower(): table for table in tables}
        self._found: dict[str, Touched] = {}
        self.unparsed: set[str] = set()

    def touched(self, text: str) -> Touched:
        if text not in self._found:
            found = touched(text)
            if found is None:
                self.unparsed.add(text)
                found = Touched()
            self._found[text] = Touched(self._called(found.reads), self._called(found.writes))
        return self._found[text]

    def _called(self, names: frozenset[str]) -> frozenset[str]:
        return frozenset(self._names.get(name.lower(), name) for name in names)


def read(files: Iterable[Path]) -> Logged:
    """The statements of PostgreSQL's logs, in whichever of its formats.

    Raises:
        FigError: ``statement_log_unreadable``.
    """
    logged, texts = Logged(), dict[str, str]()
    for file in files:
        try:
            for number, message in _messages(file):
                if match := _STATEMENT.match(message):
                    text, trace = taken_apart(match[1])
                    is_sql = looks_like_sql(f"{text} ")
                    logged.total += is_sql
                    if trace and is_sql:
                        logged.traced += 1
                        logged.by_trace[trace].setdefault(texts.setdefault(text, text), f"{file.name}:{number}")
        except OSError as error:
            raise FigError(
                "statement_log_unreadable",
                f"the statement log {file} cannot be read: {error.strerror or error}",
                "Name PostgreSQL's log, or a copy of it that this account may read.",
                file=str(file),
            ) from error
    return logged


def taken_apart(statement: str) -> tuple[str, str]:
    """A statement without its comments, and the trace's id that one of them names; empty for none."""
    found = ""
    for each in _COMMENT.finditer(statement):
        if each[1] and (match := _TRACE.search(each[1].replace("%27", "'"))):
            found = match[1]
    return _COMMENT.sub(lambda each: "" if each[1] else each[0], statement).strip(), found


def _messages(file: Path) -> Iterator[tuple[int, str]]:
    """The messages of a log with the line that each begins or ends on (counted from where reading began)."""
    with file.open("rb") as log:
        first = log.readline()
    if first.startswith(b"{"):
        return _json(file)
    return _csv(file) if _CSV.match(first) else _plain(file)


def _json(file: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(traffic.lines(file), 1):
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the last line may be in the making
        message = found.get("message") if isinstance(found, dict) else None
        if isinstance(message, str):
            yield number, message


def _csv(file: Path) -> Iterator[tuple[int, str]]:
    whole = dropwhile(lambda line: not _CSV.match(line), traffic.lines(file))  # a long one begins in between
    rows = csv.reader(line.decode(errors="replace") for line in whole)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            continue
        if len(row) > _CSV_MESSAGE:
            yield rows.line_num, row[_CSV_MESSAGE]


def _plain(file: Path) -> Iterator[tuple[int, str]]:
    """The format for people: what belongs to the line before begins with a tab."""
    said, began = "", 0
    for number, line in enumerate(traffic.lines(file), 1):
        text = line.decode(errors="replace")
        if text.startswith("\t"):
            said += text[1:]
            continue
        if match := _SAID.search(said):
            yield began, match[1].rstrip("\n")
        said, began = text, number
    if match := _SAID.search(said):
        yield began, match[1].rstrip("\n")


def _asked(files: Iterable[Path], traces: Iterable[str]) -> dict[str, set[traffic.Request]]:
    """The requests of each of these traces, in access logs of JSON lines, which alone have traces."""
    wanted, found = frozenset(traces), dict[str, set[traffic.Request]]()
    for line, request in traffic.requests(files):
        if request is not None and line.startswith(b"{") and b"traceparent" in line:
            given = json.loads(line).get("traceparent")
            match = _TRACE.search(f"traceparent={given}")
            if match and match[1] in wanted:
                found.setdefault(match[1], set()).add(request)
    return found

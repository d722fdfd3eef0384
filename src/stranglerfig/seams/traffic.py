"""How often each route is called, from an access log: the façade's own, or any server's in the common format.

A line is a JSON object with ``method`` and ``path``, as the façade's Envoy writes it, or has the request in quotation
marks (``"GET /items/7 HTTP/1.1"``), as in the common and combined formats. What the query says is left away.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.model import ROUTE, Coverage, Evidence, Use

SOURCE = "traffic"
MOST_BYTES = 256 << 20
"""Of a log, from its end: what is older is left out."""
_REQUEST = re.compile(rb'"([A-Z]+) ([^\s"]+)(?: HTTP/[\d.]+)?"')
# A part of a path that may be anything: {id}, {id:int}, <id>, <int:id>; of some it may have slashes as well.
_HOLE = re.compile(r"\{\w+(?::(\w+))?\}|<(?:(\w+)(?:\([^)]*\))?:)?\w+>")
Request = tuple[str, str]


def read(files: Iterable[Path]) -> tuple[Counter[Request], int]:
    """How often each method and path was asked for, and how many lines are none that can be read.

    Raises:
        FigError: ``access_log_unreadable``.
    """
    asked, bad = Counter[Request](), 0
    for _, request in requests(files):
        if request is None:
            bad += 1
        else:
            asked[request] += 1
    return asked, bad


def requests(files: Iterable[Path]) -> Iterator[tuple[bytes, Request | None]]:
    """Each line with the request that it is of, or None where it is of none.

    Raises:
        FigError: ``access_log_unreadable``.
    """
    for file in files:
        try:
            for line in lines(file):
                yield line, parse(line)
        except OSError as error:
            raise FigError(
                "access_log_unreadable",
                f"the access log {file} cannot be read: {error.strerror or error}",
                "Name a file that this account may read, or leave --access-log out.",
                file=str(file),
            ) from error


def lines(file: Path) -> Iterator[bytes]:
    """The lines of a log, of a long one those at its end."""
    with file.open("rb") as log:
        if file.stat().st_size > MOST_BYTES:
            log.seek(-MOST_BYTES, 2)
            log.readline()
        yield from log


def parse(line: bytes) -> Request | None:
    """The method and the path of one line, or None when it has none."""
    if line.startswith(b"{"):
        try:
            found = json.loads(line)
        except ValueError:
            return None
        method, path = found.get("method"), found.get("path")
        if not isinstance(method, str) or not isinstance(path, str):
            return None
    else:
        match = _REQUEST.search(line)
        if match is None:
            return None
        method, path = match[1].decode(), match[2].decode(errors="replace")
    return method, path.partition("?")[0]


def joined(evidence: Evidence, asked: Counter[Request], bad: int = 0) -> Evidence:
    """The evidence with how often each route was called (``times``), and how many requests that were in all."""
    routes = Routes(evidence)
    strangers = Counter[Request]()
    by_route = Counter[tuple[str, str, str]]()
    for (method, path), times in asked.items():
        meant = routes.meant(method, path)
        if meant is None:
            strangers[method, path] += times
        else:
            by_route[meant.kind, meant.name, meant.where] += times
    whole, known = sum(asked.values()), sum(by_route.values())
    uses = tuple(
        replace(use, times=by_route[use.kind, use.name, use.where]) if use.kind == ROUTE else use
        for use in evidence.uses
    )
    said = f"{whole} requests, {known} of them to {len(by_route)} of the {len(routes)} routes that touch tables"
    if strangers:
        (method, path), times = strangers.most_common(1)[0]
        said += f"; of the others most ({times}) are {method} {path}"
    if bad:
        said += f"; {bad} lines cannot be read"
    state = "read" if known and not bad else "partly"
    return replace(evidence, uses=uses, requests=known, coverage=(*evidence.coverage, Coverage(SOURCE, state, said)))


class Routes:
    """The routes of some evidence, found by what is asked for."""

    def __init__(self, evidence: Evidence) -> None:
        routes = [(use, _pattern(use)) for use in evidence.of(ROUTE)]
        # A route with more of its path spelt out is the one that is meant.
        self._routes = sorted(routes, key=lambda each: (-len(_HOLE.sub("", _path(each[0]))), each[0].name))

    def __len__(self) -> int:
        return len(self._routes)

    def meant(self, method: str, path: str) -> Use | None:
        """The route that a request belongs to, if any."""
        return next((use for use, of in self._routes if method in use.methods and of.fullmatch(path)), None)


def _path(use: Use) -> str:
    return use.name.partition(" ")[2]


def _pattern(use: Use) -> re.Pattern[str]:
    """What the paths of a route look like; a slash at the end may be there or not."""
    path, at, parts = _path(use).strip("/"), 0, []
    for hole in _HOLE.finditer(path):
        parts += [re.escape(path[at : hole.start()]), ".+" if "path" in (hole[1], hole[2]) else "[^/]+"]
        at = hole.end()
    return re.compile("/?" + "".join(parts) + re.escape(path[at:]) + "/?")

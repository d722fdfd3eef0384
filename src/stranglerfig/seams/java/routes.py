"""The routes that Java's sources declare: Spring's mappings, JAX-RS's paths, servlets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stranglerfig.seams.java.names import Index
from stranglerfig.seams.java.syntax import Annotation, Declaration, Method, annotation

_SPRING = {f"{verb.title()}Mapping": verb for verb in ("GET", "POST", "PUT", "PATCH", "DELETE")}
_JAX = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_CLIENTS = ("FeignClient", "HttpExchange", "RegisterRestClient")
_SERVLET = re.compile(r"do(Get|Post|Put|Delete)")
# {id:[0-9]+} of Spring and JAX-RS; what may have slashes is {name:path} to whoever matches requests.
_VARIABLE = re.compile(r"\{\s*(\*?)(\w[\w.-]*)\s*(?::((?:[^{}]|\{[^{}]*\})*))?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A route as declared; ``methods`` is empty where any will do."""

    path: str
    methods: frozenset[str]
    declaration: Declaration
    method: Method
    line: int


def routes(index: Index) -> list[Route]:
    """All routes of all files."""
    prefixes = {
        text
        for each in index.declarations
        if (given := each.annotation("ApplicationPath")) and (text := _texts(index, given, each, "value")[0])
    }
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    return [route for each in index.declarations for route in _of(index, each, prefix)]


def _of(index: Index, found: Declaration, prefix: str) -> Iterator[Route]:
    if found.annotation(*_CLIENTS):
        return
    lineage = list(index.lineage(found))
    whole = next((given for each in lineage if (given := each.annotation("RequestMapping"))), None)
    path = next((given for each in lineage if (given := each.annotation("Path"))), None)
    servlet = found.annotation("WebServlet")
    for method in found.methods:
        for given in method.annotations:
            if given.name in _SPRING or given.name == "RequestMapping":
                methods = frozenset({_SPRING[given.name]}) if given.name in _SPRING else given.words("method")
                methods = methods or (whole.words("method") if whole else frozenset())
                for base in _texts(index, whole, found, "value", "path"):
                    for each in _texts(index, given, found, "value", "path"):
                        yield Route(_joined(base, each), methods, found, method, given.line)
            elif given.name in _JAX and (path is not None or annotation(method.annotations, "Path")):
                below = annotation(method.annotations, "Path")
                base, each = (_texts(index, one, found, "value")[0] for one in (path, below))
                yield Route(_joined(prefix, base, each), frozenset({given.name}), found, method, given.line)
        if servlet is not None and (verb := _SERVLET.fullmatch(method.name)):
            for each in _texts(index, servlet, found, "value", "urlPatterns"):
                if each:
                    yield Route(_joined(each), frozenset({verb[1].upper()}), found, method, method.line)


def _texts(index: Index, given: Annotation | None, at: Declaration, *keys: str) -> list[str]:
    """The texts of an annotation's values; one that is empty where there is none."""
    values = [each for key in keys for each in given.values.get(key, ())] if given is not None else []
    return [text for each in values if (text := index.text(each, at)) is not None] or [""]


def _joined(*parts: str) -> str:
    path = "/" + "/".join(part.strip("/") for part in parts if part.strip("/"))
    path = _VARIABLE.sub(_variable, path)
    return path.replace("**", "{rest:path}").replace("*", "{any}")


def _variable(found: re.Match[str]) -> str:
    anything = found[1] or (found[3] or "").strip() in (".*", ".+")
    return "{" + re.sub(r"\W", "_", found[2]) + (":path}" if anything else "}")

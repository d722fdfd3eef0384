"""A trace as Jaeger or Zipkin gives it back, and as a tree: which span came of which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stranglerfig.telemetry.model import LINK

# What says how a span travelled, not what happened.
_NOISE = frozenset({"internal.span.format", "otel.scope.name", "otel.scope.version", "span.kind", "otel.status_code"})


@dataclass(frozen=True)
class Told:
    """A span that was read back.

    Attributes:
        parent: the id of the span that it came of; None where it has none.
        began: seconds since 1970.
        seconds: how long it took.
        links: the (trace, span) that it is linked with.
        error: the kind of what went wrong; None when nothing did.
    """

    trace: str
    id: str
    parent: str | None
    service: str
    name: str
    kind: str
    began: float
    seconds: float
    links: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def from_jaeger(found: Mapping[str, Any]) -> list[Told]:
    """The spans of an answer of Jaeger's ``/api/traces/{id}``."""
    return [_of_jaeger(span, trace["processes"]) for trace in found.get("data") or () for span in trace["spans"]]


def _of_jaeger(span: Mapping[str, Any], processes: Mapping[str, Any]) -> Told:
    trace = _whole(span["traceID"])
    parent, links = None, []
    for each in span.get("references") or ():
        if each["refType"] == "CHILD_OF" and _whole(each["traceID"]) == trace and parent is None:
            parent = each["spanID"]
        else:
            links.append((_whole(each["traceID"]), each["spanID"]))
    tags = {each["key"]: str(each["value"]) for each in span.get("tags") or ()}
    return Told(
        trace, span["spanID"], parent, processes[span["processID"]]["serviceName"], span["operationName"],
        tags.get("span.kind", "internal"), span["startTime"] / 1e6, span["duration"] / 1e6, tuple(links),
        _error(tags), _shown(tags),
    )  # fmt: skip


def from_zipkin(found: Sequence[Mapping[str, Any]]) -> list[Told]:
    """The spans of an answer of Zipkin's ``/api/v2/trace/{id}``."""
    return [
        Told(
            _whole(span["traceId"]), span["id"], span.get("parentId"),
            (span.get("localEndpoint") or {}).get("serviceName", ""), span.get("name", ""),
            span.get("kind", "internal").lower(), span.get("timestamp", 0) / 1e6, span.get("duration", 0) / 1e6,
            tuple(_link(value) for name, value in span.get("tags", {}).items() if name.startswith(LINK)),
            _error(span.get("tags", {})), _shown(span.get("tags", {})),
        )
        for span in found
    ]  # fmt: skip


def _whole(trace: str) -> str:
    """Both may leave out the zeros at the front of a trace's id."""
    return trace.rjust(32, "0")


def _link(text: str) -> tuple[str, str]:
    trace, _, span = text.partition("-")
    return trace, span


def _error(tags: Mapping[str, str]) -> str | None:
    if "error.type" in tags:
        return tags["error.type"]
    if tags.get("error", "false").lower() != "false":
        return tags["error"]
    return None


def _shown(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(tags.items())
        if name not in _NOISE and not name.startswith(LINK) and value not in ("", "-")
    }


def tree(spans: Sequence[Told]) -> Iterator[tuple[int, Told]]:
    """The spans in the order of a tree, each with its depth: what came of a span is below it, by when it began.

    A span whose parent was not recorded (by who called, or not yet) is at the top.
    """
    known = {span.id for span in spans}
    below: dict[str | None, list[Told]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: (each.began, each.id)):
        below[span.parent if span.parent in known and span.parent != span.id else None].append(span)
    seen: set[str] = set()

    def walk(parent: str | None) -> Iterator[tuple[int, Told]]:
        waiting = [(0, each) for each in reversed(below[parent])]
        while waiting:
            depth, span = waiting.pop()
            if span.id in seen:
                continue
            seen.add(span.id)
            yield depth, span
            waiting += [(depth + 1, each) for each in reversed(below[span.id])]

    yield from walk(None)
    # Spans that are each other's parents, which nobody should have written, are shown all the same.
    yield from ((0, span) for span in spans if span.id not in seen)

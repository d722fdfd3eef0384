"""``fig trace``: one request and all that came of it, as a tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from stranglerfig.cli.main import Fig
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.telemetry.tree import Told

_TRACE = re.compile(r"^(?:[0-9a-f]{2}-)?([0-9a-f]{32}|[0-9a-f]{16})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$")


@click.command()
@click.argument("trace_id", metavar="ID")
@click.option("--attributes", is_flag=True, help="Print what each span says of itself as well.")
@click.pass_obj
def trace(fig: Fig, trace_id: str, attributes: bool) -> None:
    """Print a trace as a tree: a request, the events it caused, its changes and when they were applied.

    ID is the trace's, or a whole traceparent. It is asked of Jaeger or Zipkin, as telemetry.query in fig.yaml names it.

    Example: fig trace 0af7651916cd43dd8448eb211c80319c
    """
    from stranglerfig.telemetry.reading import read

    match = _TRACE.match(trace_id.strip().lower())
    if match is None:
        raise click.BadParameter("a trace's id has 32 hexadecimal digits", param_hint="ID")
    settings = fig.project.estate.telemetry
    url = settings.query or settings.zipkin
    if url is None:
        raise FigError(
            "no_trace_query",
            "fig.yaml does not say where traces are read",
            "Write telemetry: {query: http://127.0.0.1:16686}, the address of Jaeger's or Zipkin's query interface.",
        )
    id = match[1].rjust(32, "0")
    spans = fig.run(read(url, id))
    fig.print(told(id, spans), "\n".join(lines(spans, attributes=attributes)))


def told(id: str, spans: Sequence[Told]) -> dict[str, Any]:
    """A trace as JSON has it: its spans in the order of the tree; offsets from the first one's begin."""
    from stranglerfig.telemetry.tree import tree

    first = min(span.began for span in spans)
    return {
        "trace": id,
        "began": first,
        "duration_ms": _ms(max(span.began + span.seconds for span in spans) - first),
        "services": sorted({span.service for span in spans}),
        "spans": [
            {
                "depth": depth, "id": span.id, "parent": span.parent, "service": span.service, "name": span.name,
                "kind": span.kind, "offset_ms": _ms(span.began - first), "duration_ms": _ms(span.seconds),
                "error": span.error, "links": [{"trace": t, "span": s} for t, s in span.links],
                "attributes": dict(span.attributes),
            }
            for depth, span in tree(spans)
        ],
    }  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def lines(spans: Sequence[Told], *, attributes: bool = False) -> list[str]:
    """A trace as the terminal shows it: when each span began after the first, how long it took, whose it is."""
    from stranglerfig.telemetry.tree import tree

    first = min(span.began for span in spans)
    width = max(len(span.service) for span in spans)
    found = [f"{'begins':>12} {'takes':>12}  {'service':<{width}}  span"]
    for depth, span in tree(spans):
        error = f"  ERROR {span.error}" if span.error is not None else ""
        times = f"{_ms(span.began - first):>+9.1f} ms {_ms(span.seconds):>9.1f} ms"
        found.append(f"{times}  {span.service:<{width}}  {'  ' * depth}{span.name}{error}")
        under = f"{'':>27}{'':<{width}}{'  ' * depth}"
        for linked, at in span.links:
            found.append(f"{under}linked with {linked} (span {at})")
        if attributes:
            found += [f"{under}{name} = {value}" for name, value in span.attributes.items()]
    return found

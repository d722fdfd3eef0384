"""``fig flow``: choreographed flows, as drawn and as they went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stranglerfig.cli.main import Fig
from stranglerfig.cli.saga import form_option, output_option, put, service_option
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.sagas.flows import Course, Drawing

STATES = ("done", "running", "stopped", "surprising")


@click.group()
def flow() -> None:
    """Look at choreographed flows: where they stopped, who did not react, and how they are drawn.

    Example: fig flow list --state stopped
    """


def _told(id: str, flow: str, course: Course) -> dict[str, Any]:
    """A course as JSON has it."""

    def reactions(some: Any) -> list[dict[str, Any]]:
        return [{"service": r.service, "event": e.type, "id": e.id, "emits": [*r.emits]} for r, e in some]

    return {
        "id": id, "flow": flow, "state": course.state, "ends": course.ends,
        "path": [{**event._asdict(), "hops": hops} for event, hops in course.path],
        "missed": reactions(course.missed), "waiting": reactions(course.waiting),
        "early": [{"event": e.type, "id": e.id} for e in course.early], "surprises": course.surprises,
    }  # fmt: skip


async def _courses(
    fig: Fig,
    service: str | None,
    *,
    name: str | None = None,
    id: str | None = None,
    state: str | None = None,
    last: int = 50,
) -> list[dict[str, Any]]:
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import operating

    rows = []
    async for _, conn in each(fig.project, service, operating.has_sagas):
        for drawing in (await operating.flow_drawings(conn)).values():
            if name in (None, drawing.name):
                found = await operating.courses(conn, drawing, correlation=id, state=state, last=last)
                rows += [_told(of, drawing.name, course) for of, course in found.items()]
    return rows


@flow.command("list")
@service_option
@click.option("--name", help="Of this flow alone.")
@click.option("--state", type=click.Choice(STATES), help="Only those that are so.")
@click.option(
    "--last", type=click.IntRange(1), default=50, show_default=True, help="How many of each, the newest first."
)
@click.pass_obj
def list_(fig: Fig, service: str | None, name: str | None, state: str | None, last: int) -> None:
    """List the newest flows: done, running, stopped (somebody did not react), or not as drawn.

    Example: fig flow list --name refund --state stopped
    """
    rows = fig.run(_courses(fig, service, name=name, state=state, last=last))
    fig.print(rows, "\n".join(line for row in rows for line in _lines(row)) or "There are no flows.")


def _lines(row: dict[str, Any]) -> list[str]:
    last = row["path"][-1]["type"] if row["path"] else "nothing"
    missed = [f"  {each['service']} did not react to {each['event']} ({each['id']})" for each in row["missed"]]
    return [f"{row['id']}  {row['flow']}  {row['state']}, last {last}", *missed, *(f"  {s}" for s in row["surprises"])]


@flow.command()
@click.argument("flow_id", metavar="ID")
@service_option
@click.pass_obj
def show(fig: Fig, flow_id: str, service: str | None) -> None:
    """Print one flow by its correlation id: its path, and what is missing.

    Example: fig flow show 018f3c2f-0b7c-7d57-a2f6-5a3b8f6f8a11
    """
    rows = fig.run(_courses(fig, service, id=flow_id))
    if not rows:
        raise FigError("unknown_flow", f"no flow has the correlation id {flow_id}", "See fig flow list.", id=flow_id)
    lines = []
    for row in rows:
        lines += _lines(row)
        lines += [f"  {'  ' * max(at['hops'], 0)}{at['type']} from {at['source']} ({at['id']})" for at in row["path"]]
        lines += [f"  waits for {each['service']} to react to {each['event']}" for each in row["waiting"]]
        lines += [f"  waits for what caused {each['event']} ({each['id']})" for each in row["early"]]
    fig.print(rows, "\n".join(lines))


@flow.command()
@click.argument("name", required=False)
@service_option
@form_option
@output_option
@click.pass_obj
def graph(fig: Fig, name: str | None, service: str | None, form: str, output: Path | None) -> None:
    """Draw a flow as its service declares it, with how often each way was gone.

    Example: fig flow graph refund --format svg --output refund.svg
    """
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import flow_drawing, flows, operating

    async def work() -> dict[str, tuple[Drawing, dict[tuple[str, str], int]]]:
        found = {}
        async for _, conn in each(fig.project, service, operating.has_sagas):
            for drawing in (await operating.flow_drawings(conn)).values():
                found[drawing.name] = (drawing, await operating.ways(conn, drawing.name))
        return found

    known = fig.run(work())
    if name is None and len(known) == 1:
        (name,) = known
    if name not in known:
        raise FigError(
            "unknown_flow",
            f"no service records a flow '{name}'" if name else "say which flow",
            f"Known are: {', '.join(sorted(known)) or 'none'}.",
            known=sorted(known),
        )
    drawing, ways = known[name]
    text = flow_drawing.svg(drawing, ways) if form == "svg" else flow_drawing.mermaid(drawing, ways)
    put(fig, f"the flow {drawing.name}", {"drawing": flows.as_data(drawing), form: text}, text, output)

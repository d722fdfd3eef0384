"""``fig events choose``: measure the logs that could be taken, with the team's own size and rate of events."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stranglerfig.cli.main import Fig, dumps
from stranglerfig.cli.render import number
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rich.table import Table

    from stranglerfig.runtime.settings import Project

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Duration(click.ParamType[float]):
    """``20s``, ``2m``, ``500ms``: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; a number alone is seconds."""
        if isinstance(value, float):
            return value
        read = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|)", str(value))
        seconds = float(read[1]) * _UNITS[read[2] or "s"] if read else 0.0
        if not 2 <= seconds <= 3600:
            self.fail(f"'{value}' is no time from 2s to 60m.", param, ctx)
        return seconds


@click.command()
@click.option("--size", type=click.IntRange(2, 1_000_000), default=500, show_default=True, help="Bytes per event.")
@click.option("--rate", type=click.FloatRange(1, 1_000_000), default=1000, show_default=True, help="Events per second.")
@click.option("--duration", type=Duration(), default="20s", show_default=True, help="How long each is measured: 20s.")
@click.option("--candidate", multiple=True, metavar="URL", help="kafka://host:9092, or embedded; may be repeated.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("choose.html"),
    show_default=True,
    help="The page; the figures go beside it as .json. What is there is replaced.",
)
@click.pass_obj
def choose(fig: Fig, size: int, rate: float, duration: float, candidate: tuple[str, ...], output: Path) -> None:
    """Measure the logs that could be taken, and say which is best for what.

    Without --candidate: the log of fig.yaml, what answers at the usual places on this machine, and the embedded
    PostgreSQL. What is written is named fig-choose-… and removed at the end.

    Example: fig events choose --size 500 --rate 5000 --duration 20s
    """
    from rich.console import Console

    from stranglerfig.eventlog.choosing import model
    from stranglerfig.report.choice import choice_page
    from stranglerfig.runtime import choosing

    ask = model.Ask(size, rate, duration)

    def say(words: str) -> None:
        click.echo(words, err=True)

    async def work() -> dict[str, Any]:
        looked: list[model.Looked] = []
        if candidate:
            candidates = choosing.asked_for(candidate)
        else:
            candidates, looked = await choosing.look_around(_project(fig))
            for one in looked:
                say(f"{'found' if one.found else 'not found'}: {one.what} at {one.where} ({one.says})")
        results = await choosing.choose(ask, candidates, say)
        return model.document(clock.now(), choosing.machine(), ask, looked, results)

    choice = fig.run(_cancelled_by_sigterm(work()))
    files = [output, output.with_suffix(".json")]
    for file, content in zip(files, (choice_page(choice), dumps(choice) + "\n"), strict=True):
        with written_whole(file, replace=True) as draft:
            draft.write_text(content, encoding="utf-8")
    if fig.json:
        click.echo(dumps(choice | {"files": [str(file) for file in files]}))
    else:
        Console().print(side_by_side(choice))
        for advice in choice["advice"]:
            click.echo(f"{advice['need']}: {' or '.join(advice['choice']) or 'none of them'}")
            click.echo(f"  {advice['because']}")
        click.echo(f"\n{files[0]}, {files[1]}")
    if not any(result["measured"] for result in choice["results"]):
        raise FigError(
            "nothing_measured",
            "none of the candidates could be measured: " + "; ".join(str(r["problem"]) for r in choice["results"]),
            "Start one of them, or correct its address.",
        )


def _project(fig: Fig) -> Project | None:
    """The project, where there is one: a log may be chosen before there is any."""
    try:
        return fig.project
    except FigError as error:
        if error.code != "no_configuration":
            raise
        return None


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """SIGTERM ends it as Ctrl-C does: what was made is removed."""
    task = tasks.spawn(work, name="choose")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise click.Abort from None


def side_by_side(choice: dict[str, Any]) -> Table:
    """The main facts as a table for a terminal; the page has all of them."""
    from rich.table import Table

    table = Table("", *(result["name"] for result in choice["results"]), show_lines=False)
    for name, cells in _rows(choice["results"]):
        table.add_row(name, *cells)
    return table


def _rows(results: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    def of(result: dict[str, Any]) -> dict[str, str]:
        found = result["measured"]
        durability = f"{result['durability']['outcome']}: {result['durability']['says']}"
        if found is None:
            return {"problem": str(result["problem"]), "further servers": number(result["further"])}
        latency = found["latency"]
        memory = result["footprint"]
        return {
            "one by one": f"{found['throughput'][0]['per_second']:,.0f}/s",
            "batches of 1,000": f"{found['throughput'][1]['per_second']:,.0f}/s",
            "at the asked rate": f"{latency['rate']:,.0f}/s, {'kept' if latency['kept'] else 'not kept'}",
            "p50/p90/p99/max": " / ".join(number(latency[key]) for key in ("p50", "p90", "p99", "max")) + " ms",
            "killed": durability,
            "order per key": found["ordering"]["outcome"],
            "replay": f"position {found['replay_position']['outcome']}, time {found['replay_time']['outcome']}",
            "largest event": f"{found['max_event_bytes']:,} B, {found['largest']['outcome']}",
            "further servers": number(result["further"]),
            "seen here": f"{memory['processes']} processes, {memory['memory_bytes'] / 1e6:,.0f} MB" if memory else "-",
        }

    shown = [of(result) for result in results]
    names = dict.fromkeys(name for one in shown for name in one)
    return [(name, [one.get(name, "-") for one in shown]) for name in names]

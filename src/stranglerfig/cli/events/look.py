"""``fig events topics``, ``tail``, ``show``: what is in the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import orjson

from stranglerfig.cli.events.lines import text
from stranglerfig.cli.events.opened import asked, filter_options, found, opened, window_of, window_options
from stranglerfig.cli.main import Fig, dumps_line
from stranglerfig.eventlog.model import shown
from stranglerfig.foundation.errors import FigError


@click.command()
@click.pass_obj
def topics(fig: Fig) -> None:
    """List the topics: partitions, events, how long they are kept.

    Example: fig events topics
    """

    async def work() -> list[dict[str, Any]]:
        async with opened(fig) as log:
            return [
                {
                    "topic": topic.name,
                    "partitions": topic.partitions,
                    "next_positions": list(map(shown, topic.next_positions)),
                    "retention_seconds": topic.retention_seconds,
                }
                for topic in await log.topics()
            ]

    rows = fig.run(work())
    width = max((len(row["topic"]) for row in rows), default=0)
    fig.print(
        rows,
        "\n".join(f"{row['topic']:<{width}}  {row['partitions']} partition(s), next: {_ends(row)}" for row in rows)
        or "The log has no topics yet.",
    )


@click.command()
@click.argument("topic")
@click.option(
    "--last", default=10, show_default=True, help="How many records to look at first, per partition; without --since."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C or --until.")
@window_options
@filter_options
@click.pass_obj
def tail(
    fig: Fig, /, topic: str, last: int, follow: bool, since: datetime | None, until: datetime | None, **given: Any
) -> None:
    """Print the newest events of a topic, or those since a time; of these, those that are asked for.

    Example: fig events tail events.inventory --follow --type 'inventory.*' --where item_id=7
    """
    from stranglerfig.changes.reading import lines
    from stranglerfig.eventlog.windows import tailed

    wanted = asked(**given)

    async def work() -> None:
        async with opened(fig) as log:
            known = await found(log, topic)
            async for record in tailed(log, known, window_of(None, since, until), last=last, follow=follow):
                for line in lines(record, wanted):
                    click.echo(dumps_line(line) if fig.json else text(line))

    fig.run(work())


@click.command()
@click.argument("topic")
@click.argument("position", type=click.IntRange(min=0))
@click.option("--partition", default=0, show_default=True, help="The topic's partition.")
@click.pass_obj
def show(fig: Fig, topic: str, position: int, partition: int) -> None:
    """Print the event at one log position, whole.

    Example: fig events show events.inventory 41
    """
    from stranglerfig.changes.reading import lines

    async def work() -> list[dict[str, Any]]:
        async with opened(fig) as log:
            await found(log, topic)
            records = await log.read(topic, partition, position, max_records=1)
            if not records or records[0].position != position:
                raise FigError(
                    "unknown_position",
                    f"the topic '{topic}' has nothing at position {position} of partition {partition}",
                    "fig events topics shows how far each topic goes.",
                )
            return list(lines(records[0]))

    rows = fig.run(work())
    click.echo("\n".join(orjson.dumps(row, default=str, option=orjson.OPT_INDENT_2).decode() for row in rows))


def _ends(row: dict[str, Any]) -> str:
    return ", ".join(map(str, row["next_positions"]))

"""``fig events``: look into the log, hand it out as JSON Lines, have a consumer read again."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click
import orjson

from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig, dumps_line
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Record, Topic
    from stranglerfig.eventlog.ports import EventLog

Times = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"])
PAGE = 1000


@click.group()
def events() -> None:
    """Look into the event log.

    Example: fig events tail inventory.stock --follow
    """


@asynccontextmanager
async def opened(fig: Fig) -> AsyncIterator[EventLog]:
    """The project's log, for the length of a command."""
    from stranglerfig.runtime.wiring import open_log

    _ = fig.control  # says that nothing runs, where that is so
    log = open_log(fig.project)
    try:
        yield log
    finally:
        await log.close()


async def found(log: EventLog, name: str) -> Topic:
    """A topic that exists.

    Raises:
        FigError: ``unknown_topic``.
    """
    topic = await log.topic(name)
    if topic is None:
        raise FigError("unknown_topic", f"the log has no topic '{name}'", "fig events topics lists them.", topic=name)
    return topic


def lines(record: Record) -> Iterator[dict[str, Any]]:
    """A record as objects: an event as one; a frame of changes as one per change, in Debezium's form."""
    from stranglerfig.changes import frames

    event = record.event
    place = {"topic": record.topic, "partition": record.partition, "position": record.position}
    if event.datacontenttype in frames.KINDS:
        from stranglerfig.changes import envelope

        items = frames.decode(event.datacontenttype, event.data)
        read_at = int(event.time.timestamp() * 1000)
        for change in envelope.expand(items, name=event.source.strip("/"), db=event.source, read_at=read_at):
            yield {**place, "change": change}
        return
    shown = {
        key: getattr(event, key)
        for key in ("id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "partitionkey")
    } | {key: getattr(event, key) for key in ("traceparent", "correlationid", "causationid")}
    known = {key: value for key, value in shown.items() if value is not None}
    yield {**place, **known, "specversion": "1.0", "data": _data(event.data, event.datacontenttype)}


def _data(data: bytes, kind: str) -> Any:
    if kind.endswith("json"):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return data.decode("utf-8", errors="replace")


def text(line: dict[str, Any]) -> str:
    """One object as one line for a reader."""
    at = f"{line['partition']}/{line['position']}"
    if "change" in line:
        return f"{at}  {dumps_line(line['change'])}"
    time = f"{line['time']:%Y-%m-%dT%H:%M:%S.%fZ}"
    return "  ".join((at, time, line["type"], line.get("subject", ""), dumps_line(line["data"])))


@events.command()
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
                    "next_positions": list(topic.next_positions),
                    "retention_seconds": topic.retention_seconds,
                }
                for topic in await log.topics()
            ]

    rows = fig.run(work())
    width = max((len(row["topic"]) for row in rows), default=0)
    fig.print(
        rows,
        "\n".join(
            f"{row['topic']:<{width}}  {row['partitions']} partition(s)  {sum(row['next_positions']):,} record(s)"
            for row in rows
        )
        or "The log has no topics yet.",
    )


@events.command()
@click.argument("topic")
@click.option("--last", default=10, show_default=True, help="How many records to begin with, per partition.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.pass_obj
def tail(fig: Fig, topic: str, last: int, follow: bool) -> None:
    """Print the newest events of a topic.

    Example: fig events tail inventory.stock --follow
    """

    async def work() -> None:
        async with opened(fig) as log:
            known = await found(log, topic)
            at = [max(0, position - last) for position in known.next_positions]
            first = True
            while first or follow:
                for partition, position in enumerate(at):
                    # Only one partition waits; with several they are looked at in turn.
                    wait = (1.0 if len(at) == 1 else 0.2) if not first else 0.0
                    for record in await log.read(topic, partition, position, max_records=PAGE, wait=wait):
                        at[partition] = record.position + 1
                        _echo(fig, record)
                first = False

    fig.run(work())


def _echo(fig: Fig, record: Record) -> None:
    for line in lines(record):
        click.echo(dumps_line(line) if fig.json else text(line))


@events.command()
@click.argument("topic")
@click.argument("position", type=click.IntRange(min=0))
@click.option("--partition", default=0, show_default=True, help="The topic's partition.")
@click.pass_obj
def show(fig: Fig, topic: str, position: int, partition: int) -> None:
    """Print the event at one log position, whole.

    Example: fig events show inventory.stock 41
    """

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


@events.command()
@click.argument("topic")
@click.option("--group", required=True, help="The consumer group that reads again.")
@click.option("--position", type=click.IntRange(min=0), help="From this log position on (0: everything).")
@click.option("--since", type=Times, help="From this time on (UTC unless it says otherwise).")
@dry_run_option
@click.pass_obj
def replay(fig: Fig, topic: str, group: str, position: int | None, since: datetime | None, dry_run: bool) -> None:
    """Have a consumer group read a topic again, from a position or a time.

    Example: fig events replay inventory.stock --group low-stock --position 0
    """
    if (position is None) == (since is None):
        raise FigError("usage", "give --position or --since, one of them", "Such as --position 0 for everything.")
    at = _utc(since)

    async def work() -> dict[str, Any]:
        async with opened(fig) as log:
            await found(log, topic)
            before = await log.committed(topic, group)
            if not dry_run:
                await log.seek(topic, group, position=position, time=at)
            after = before if dry_run else await log.committed(topic, group)
            return {"topic": topic, "group": group, "before": list(before), "after": list(after), "dry_run": dry_run}

    result = fig.run(work())
    verb = "would read" if dry_run else "reads"
    where = f"position {position}" if position is not None else f"{at}"
    fig.print(result, f"{group} {verb} {topic} again from {where} (it stood at {result['before']}).")


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


@events.command()
@click.argument("topic")
@click.option("--output", type=click.File("w", lazy=True), default="-", help="File; standard output by default.")
@click.option("--position", type=click.IntRange(min=0), default=0, show_default=True, help="From this log position on.")
@click.option("--since", type=Times, help="From this time on (UTC unless it says otherwise).")
@click.pass_obj
def export(fig: Fig, topic: str, output: IO[str], position: int, since: datetime | None) -> None:
    """Write a topic as JSON Lines, up to what it holds now.

    Example: fig events export inventory.stock --output stock.jsonl
    """
    at = _utc(since)

    async def work() -> int:
        count = 0
        async with opened(fig) as log:
            known = await found(log, topic)
            for partition, end in enumerate(known.next_positions):
                here = position if at is None else await log.position_at(topic, partition, at)
                while here < end:
                    records = await log.read(topic, partition, here, max_records=PAGE)
                    if not records:
                        break
                    for record in records:
                        if record.position >= end:
                            break
                        for line in lines(record):
                            output.write(dumps_line(line) + "\n")
                            count += 1
                    here = records[-1].position + 1
        return count

    count = fig.run(work())
    output.flush()
    if output is not sys.stdout and output.name not in ("-", "<stdout>"):
        fig.print({"lines": count, "file": output.name}, f"{count:,} line(s) in {output.name}")

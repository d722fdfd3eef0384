"""``fig events export``: a topic, or a part of it, as JSON Lines or Parquet."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from stranglerfig.cli.events.lines import rows
from stranglerfig.cli.events.opened import asked, filter_options, found, opened, window_of, window_options
from stranglerfig.cli.main import Fig, dumps_line
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Topic
    from stranglerfig.eventlog.parquet import Row
    from stranglerfig.eventlog.ports import EventLog
    from stranglerfig.eventlog.windows import Filter, Window

FORMATS = ("jsonl", "parquet")


@click.command()
@click.argument("topic")
@click.option("--output", default="-", metavar="FILE", help="File; standard output by default.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="By the file's name when it is not given.")
@click.option("--position", type=click.IntRange(min=0), help="From this log position on; from the first by default.")
@window_options
@filter_options
@click.option("--flatten", is_flag=True, help="Parquet: the data's top-level fields as columns, too; reads twice.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def export(
    fig: Fig,
    /,
    topic: str,
    output: str,
    form: str | None,
    position: int | None,
    since: datetime | None,
    until: datetime | None,
    flatten: bool,
    force: bool,
    **given: Any,
) -> None:
    """Write a topic as JSON Lines or Parquet, up to what it holds now; the file is there whole or not at all.

    Example: fig events export events.inventory --since 2026-03-01 --output stock.parquet --flatten
    """
    wanted, window = asked(**given), window_of(position, since, until)
    form = form or form_of(output)
    if flatten and form != "parquet":
        raise FigError("usage", "--flatten makes columns, and JSON Lines have none", "Use --format parquet.")
    if output == "-" and form == "parquet":
        raise FigError("usage", "Parquet is written to a file", "Name it: --output stock.parquet.")

    async def work() -> int:
        async with opened(fig) as log:
            known = await found(log, topic)
            if output == "-":
                return await _write_lines(log, known, window, wanted, sys.stdout)
            return await to_file(log, known, window, wanted, Path(output), form=form, flatten=flatten, force=force)

    count = fig.run(work())
    sys.stdout.flush()
    if output != "-":
        # `lines` is what it was called when there was one format.
        fig.print({"lines": count, "file": output, "format": form}, f"{count:,} line(s) in {output}")


def form_of(name: str) -> str:
    """The format that a file's name asks for."""
    return "parquet" if Path(name).suffix in (".parquet", ".pq") else "jsonl"


async def to_file(
    log: EventLog,
    topic: Topic,
    window: Window,
    wanted: Filter,
    path: Path,
    *,
    form: str,
    flatten: bool = False,
    force: bool = False,
) -> int:
    """Write what is wanted of a window into a file; returns how many lines or rows.

    Raises:
        FigError: ``file_exists`` without ``force``, ``file_unwritable``, ``format_not_installed``, ``too_many_fields``.
    """
    with written_whole(path, replace=force) as draft:
        if form == "jsonl":
            with draft.open("w", encoding="utf-8") as file:
                return await _write_lines(log, topic, window, wanted, file)
        from stranglerfig.eventlog.parquet import Fields, parquet_file

        fields = Fields()
        if flatten:
            async for row in _rows(log, topic, window, wanted):
                fields.see(row.document)
        wide = any(position >= 2**63 for position in topic.next_positions)
        with parquet_file(draft, fields.kinds, wide=wide) as table:
            async for row in _rows(log, topic, window, wanted):
                table.write(row)
        return table.count


async def _rows(log: EventLog, topic: Topic, window: Window, wanted: Filter) -> AsyncIterator[Row]:
    async for page in window.pages(log, topic):
        for record in page:
            for row in rows(record, wanted):
                yield row


async def _write_lines(log: EventLog, topic: Topic, window: Window, wanted: Filter, file: IO[str]) -> int:
    from stranglerfig.changes.reading import lines

    count = 0
    async for page in window.pages(log, topic):
        for record in page:
            for line in lines(record, wanted):
                file.write(dumps_line(line) + "\n")
                count += 1
    return count

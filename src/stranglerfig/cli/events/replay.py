"""``fig events replay``: a part of a topic once more, for a consumer group, into a file or into another topic."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stranglerfig.cli.acting import acting
from stranglerfig.cli.events.export import form_of, to_file
from stranglerfig.cli.events.opened import asked, filter_options, found, opened, window_of, window_options
from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Topic
    from stranglerfig.eventlog.ports import EventLog
    from stranglerfig.eventlog.windows import Filter, Window


@click.command()
@click.argument("topic")
@click.option("--group", help="The consumer group that reads again; no filters, no --until.")
@click.option("--again", is_flag=True, help="The service of this subscription handles anew what it has handled.")
@click.option("--to-file", metavar="FILE", help="Into a file instead: JSON Lines, or Parquet by its name.")
@click.option("--to-topic", metavar="TOPIC", help="Into another topic instead, made when there is none; ids are kept.")
@click.option("--position", type=click.IntRange(min=0), help="From this log position on (0: everything).")
@window_options
@filter_options
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@dry_run_option
@click.pass_obj
def replay(
    fig: Fig,
    /,
    topic: str,
    group: str | None,
    to_file: str | None,
    to_topic: str | None,
    again: bool,
    position: int | None,
    since: datetime | None,
    until: datetime | None,
    force: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Have a consumer group read a topic again, or copy a part of it to a file or another topic.

    A service of the kit handles each event once, also when it reads it again: --again has it handle them anew.

    Example: fig events replay events.inventory --group low-stock --position 0
    """
    if sum(one is not None for one in (group, to_file, to_topic)) != 1:
        raise FigError("usage", "give --group, --to-file or --to-topic, one of them", "Such as --group low-stock.")
    wanted, window = asked(**given), window_of(position, since, until)
    if group is not None:
        if position is None and since is None:
            raise FigError("usage", "give --position or --since, one of them", "Such as --position 0 for everything.")
        if until is not None or any(given.values()):
            raise FigError(
                "usage",
                "a group reads on from where it is moved to: it takes no --until and no filters",
                "Copy what you want with --to-topic, and have the group read that.",
            )
        fig.print(
            *fig.run(_permitted(fig, topic, group, dry_run, _to_group(fig, topic, group, window, again, dry_run)))
        )
    elif again:
        raise FigError("usage", "--again is for a group", "Give --group, or leave --again out.")
    elif to_topic == topic:
        raise FigError("usage", "a topic is not copied into itself", "Name another topic.")
    else:
        copied = _copied(fig, topic, window, wanted, to_file, to_topic, force=force, dry_run=dry_run)
        # A copy into a file changes nothing of anybody's.
        fig.print(*fig.run(_permitted(fig, topic, to_topic, dry_run or to_topic is None, copied)))


async def _permitted(
    fig: Fig, topic: str, to: str | None, harmless: bool, work: Coroutine[Any, Any, tuple[dict[str, Any], str]]
) -> tuple[dict[str, Any], str]:
    try:
        async with acting(fig, "events-replay", {"topic": topic, "to": to}, harmless=harmless):
            return await work
    finally:
        work.close()  # where it was refused, it was never begun


async def _to_group(
    fig: Fig, topic: str, group: str, window: Window, again: bool, dry_run: bool
) -> tuple[dict[str, Any], str]:
    async with opened(fig) as log:
        known = await found(log, topic)
        before = await log.committed(topic, group)
        forgotten = await _forgotten(fig, log, known, group, window, dry_run) if again else None
        if not dry_run:
            await log.seek(topic, group, position=window.position, time=window.since)
        after = before if dry_run else await log.committed(topic, group)
    result = {"topic": topic, "group": group, "before": list(before), "after": list(after), "dry_run": dry_run}
    verb = "would read" if dry_run else "reads"
    where = f"position {window.position}" if window.position is not None else f"{window.since}"
    said = f"{group} {verb} {topic} again from {where} (it stood at {result['before']})."
    if forgotten is not None:
        result["handled_again"] = forgotten
        said += f" {forgotten:,} that it has handled {'would be' if dry_run else 'are'} handled anew."
    return result, said


async def _forgotten(fig: Fig, log: EventLog, topic: Topic, group: str, window: Window, dry_run: bool) -> int:
    """Have the service whose subscription it is forget that it handled these; how many they are.

    Raises:
        FigError: ``unknown_subscription``.
    """
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    seen = []
    async for _, conn in each(fig.project, None, operating.is_kept_here):
        names = await operating.subscriptions(conn)
        seen += names
        if group in names:
            count = 0
            async for page in window.pages(log, topic):
                count += await operating.forget(conn, group, [record.event for record in page], dry_run=dry_run)
            return count
    raise FigError(
        "unknown_subscription",
        f"no service of the kit has the subscription '{group}'; there are: {', '.join(seen) or 'none'}",
        "Leave --again out for a group of somebody else's; name the service's database under services in fig.yaml.",
        subscription=group,
        known=seen,
    )


async def _copied(
    fig: Fig,
    /,
    topic: str,
    window: Window,
    wanted: Filter,
    file: str | None,
    other: str | None,
    *,
    force: bool,
    dry_run: bool,
) -> tuple[dict[str, Any], str]:
    async with opened(fig) as log:
        known = await found(log, topic)
        if dry_run:
            count = await to_topic(log, known, window, wanted, None)
        elif file is not None:
            count = await to_file(log, known, window, wanted, Path(file), form=form_of(file), force=force)
        else:
            count = await _appended(fig, log, known, window, wanted, other)
    where = file or other
    result = {"topic": topic, "to": where, "copied": count, "dry_run": dry_run}
    return result, f"{count:,} of {topic} {'would be' if dry_run else 'are'} copied to {where}."


async def _appended(fig: Fig, log: EventLog, known: Topic, window: Window, wanted: Filter, other: str | None) -> int:
    """A copy is an append like any other: where a schema governs the topic, it is held against it."""
    from stranglerfig.runtime.wiring import checked, is_governed, open_registry

    if other is None or not is_governed(other):
        return await to_topic(log, known, window, wanted, other)
    registry = open_registry(fig.project)
    try:
        return await to_topic(checked(log, registry), known, window, wanted, other)
    finally:
        await registry.close()


async def to_topic(log: EventLog, topic: Topic, window: Window, wanted: Filter, other: str | None) -> int:
    """Append what is wanted of a window to the topic ``other``, which is made like ``topic`` when there is none.

    A record is copied whole when anything in it is wanted. Events keep their partition where both topics have as many,
    else their key decides. Returns how many records; with None for ``other`` they are only counted.
    """
    from stranglerfig.changes.reading import lines

    same = True
    if other is not None:
        target = await log.topic(other)
        if target is None:
            await log.create_topic(other, partitions=topic.partitions, retention_seconds=topic.retention_seconds)
        else:
            same = target.partitions == topic.partitions
    count = 0
    async for page in window.pages(log, topic):
        events = [record.event for record in page if any(True for _ in lines(record, wanted))]
        if events and other is not None:
            await log.append(other, events, partition=page[0].partition if same else None)
        count += len(events)
    return count

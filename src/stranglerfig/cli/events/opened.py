"""What the commands on the log share: the log itself, a topic that exists, and which part of it is meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stranglerfig.cli.main import Fig
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.eventlog.model import Topic
    from stranglerfig.eventlog.ports import EventLog
    from stranglerfig.eventlog.windows import Filter, Window

Command = TypeVar("Command", bound=Callable[..., Any])
Times = click.DateTime(
    ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"]
)


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


def filter_options(command: Command) -> Command:
    """``--type``, ``--key``, ``--subject``, ``--source``, ``--where``: to be read by :func:`asked`."""
    for option in (
        click.option(
            "--where", multiple=True, metavar="PATH=VALUE", help="Where the data has it: item_id=7; all hold."
        ),
        click.option("--source", multiple=True, help="Of this source; * stands for anything."),
        click.option("--subject", multiple=True, help="About this subject; * stands for anything."),
        click.option("--key", multiple=True, help="With this partition key; * stands for anything."),
        click.option("--type", "kind", multiple=True, help="Of this type: inventory.*; repeated, of any of them."),
    ):
        command = option(command)
    return command


def window_options(command: Command) -> Command:
    """``--since``, ``--until``: aware times, or None."""
    for name, words in (("--until", "Up to this time, itself outside"), ("--since", "From this time on")):
        text = f"{words} (UTC unless it says otherwise)."
        command = click.option(name, type=Times, callback=_in_utc, help=text)(command)
    return command


def _in_utc(_: click.Context, __: click.Parameter, time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def asked(
    kind: tuple[str, ...],
    key: tuple[str, ...],
    subject: tuple[str, ...],
    source: tuple[str, ...],
    where: tuple[str, ...],
) -> Filter:
    """What :func:`filter_options` gave.

    Raises:
        FigError: ``usage`` for a condition that cannot be read.
    """
    from stranglerfig.eventlog import windows

    return windows.Filter(kind, key, subject, source, tuple(map(windows.where, where)))


def window_of(position: int | None, since: datetime | None, until: datetime | None) -> Window:
    """From a position or a time, one of them.

    Raises:
        FigError: ``usage``.
    """
    from stranglerfig.eventlog.windows import Window

    if position is not None and since is not None:
        raise FigError("usage", "give --position or --since, not both", "Such as --position 0 for everything.")
    return Window(position, since, until)

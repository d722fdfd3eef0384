"""``fig events``: the group of its commands."""

from __future__ import annotations

import click

from stranglerfig.cli.events.choose import choose
from stranglerfig.cli.events.export import export
from stranglerfig.cli.events.look import show, tail, topics
from stranglerfig.cli.events.parked import discard, inspect, parked, retry
from stranglerfig.cli.events.replay import replay


@click.group()
def events() -> None:
    """Look into the event log.

    Example: fig events tail events.inventory --follow
    """


for _command in (topics, tail, show, replay, export, parked, inspect, retry, discard, choose):
    events.add_command(_command)

"""``fig decommission``: a context leaves the monolith in steps that can be taken back, until the last."""

from __future__ import annotations

import click

from stranglerfig.cli.extraction import ask, dry_run_option
from stranglerfig.cli.main import Fig


@click.group()
def decommission() -> None:
    """Take a context's tables and routes out of the monolith, step by step; only the drop cannot be undone.

    Example: fig decommission watch inventory
    """


@decommission.command()
@click.argument("context")
@click.option("--seconds", type=float, default=None, help="How long; extraction.yaml says it otherwise.")
@dry_run_option
@click.pass_obj
def watch(fig: Fig, context: str, seconds: float | None, dry_run: bool) -> None:
    """See who still calls the old routes, reads or writes the old tables, and what depends on them.

    Example: fig decommission watch inventory --seconds 60
    """
    ask(fig, context, "decommission-watch", {"seconds": seconds, "dry_run": dry_run})


@decommission.command()
@click.argument("context")
@click.option("--seconds", type=float, default=None, help="How long; extraction.yaml says it otherwise.")
@dry_run_option
@click.pass_obj
def brownout(fig: Fig, context: str, seconds: float | None, dry_run: bool) -> None:
    """Take old routes and tables away for a short while, to see who misses them; they come back by themselves.

    Example: fig decommission brownout inventory --seconds 10
    """
    ask(fig, context, "decommission-brownout", {"seconds": seconds, "dry_run": dry_run})


@decommission.command()
@click.argument("context")
@dry_run_option
@click.pass_obj
def retire(fig: Fig, context: str, dry_run: bool) -> None:
    """Move the old tables into the holding schema and remove the forward pipeline; reverse sync goes on.

    Example: fig decommission retire inventory
    """
    ask(fig, context, "decommission-retire", {"dry_run": dry_run})


@decommission.command()
@click.argument("context")
@dry_run_option
@click.pass_obj
def restore(fig: Fig, context: str, dry_run: bool) -> None:
    """Take decommissioning back as a whole, to writes: tables, routes and the forward pipeline as they were.

    Example: fig decommission restore inventory
    """
    ask(fig, context, "decommission-restore", {"dry_run": dry_run})


@decommission.command()
@click.argument("context")
@dry_run_option
@click.pass_obj
def report(fig: Fig, context: str, dry_run: bool) -> None:
    """Measure what the monolith lost: code, routes, tables, bytes, load.

    Example: fig decommission report inventory
    """
    ask(fig, context, "decommission-report", {"dry_run": dry_run})


@decommission.command()
@click.argument("context")
@click.option("--confirm", metavar="NAME", help="The context's name, once more.")
@dry_run_option
@click.pass_obj
def drop(fig: Fig, context: str, confirm: str | None, dry_run: bool) -> None:
    """Archive the retired tables, prove and end the reverse direction, and drop them. The one step without a way back.

    Example: fig decommission drop inventory --confirm inventory
    """
    from stranglerfig.extraction.commands import confirmed

    confirmed(context, confirm, dry_run)
    ask(fig, context, "decommission-drop", {"confirm": confirm, "dry_run": dry_run})

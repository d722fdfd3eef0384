"""``fig plan``, ``advance``, ``rollback``, ``verify``, ``abort``, ``status``, ``watch``, ``report``.

Each command is a row that the controller takes up; what is printed is what the controller says of it.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from stranglerfig.cli import render
from stranglerfig.cli.main import Fig, dumps_line
from stranglerfig.foundation.errors import FigError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def asker() -> str:
    """Who asks, for the audit trail: ``user@host``."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def origin() -> str:
    """From where: ``user@host, pid 4711``."""
    return f"{asker()}, pid {os.getpid()}"


def ask(fig: Fig, context: str, verb: str, args: dict[str, Any]) -> None:
    """Ask the controller, and show what it says until it is done. What concerns no context alone has none: "".

    Raises:
        FigError: what the controller refused or failed with.
    """
    if context:
        fig.project.folder(context)  # a wrong name is told without the controller
    fig.run(_ask(fig, context, verb, args))


async def _ask(fig: Fig, context: str, verb: str, args: dict[str, Any]) -> None:
    from stranglerfig.extraction import commands

    control = fig.control
    number = await commands.submit(control, context, verb, args, asker(), asked_from=origin(), token=fig.token)
    with render.progress(fig.json) as show:
        async for event in commands.follow(control, number):
            if event.kind == "failed":
                raise FigError(
                    str(event.data.get("code", "failed")),
                    str(event.data.get("message", event.text)),
                    str(event.data.get("remedy", "")),
                    **dict(event.data.get("context") or {}),
                )
            show(event.kind, event.text, event.data, event.at)


def dry_run_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--dry-run``: the same path, effects recorded instead of done."""
    return click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")(command)


@click.command()
@click.argument("context")
@click.option("--dry-run", is_flag=True, help="Accepted everywhere; a plan never changes anything.")
@click.pass_obj
def plan(fig: Fig, context: str, dry_run: bool) -> None:
    """Check the databases before anything is touched, and list what must change.

    Databases' settings and rights (with the exact grants), tables, foreign keys across the boundary, remaining writers,
    write routes without idempotency keys. (A mapping between two PostgreSQL is checked when sync begins.)

    Example: fig plan inventory
    """
    ask(fig, context, "plan", {"dry_run": dry_run})


@click.command()
@click.argument("context")
@dry_run_option
@click.option("--override", metavar="REASON", help="Pass a gate that does not pass; the reason stands in the report.")
@click.option("--override-window", metavar="REASON", help="Go on outside the change window; the reason is recorded.")
@click.option("--wait", type=float, default=None, metavar="SECONDS", help="Wait this long for the gate to pass.")
@click.option("--reason", help="Why; read by those who must approve the step.")
@click.pass_obj
def advance(
    fig: Fig,
    context: str,
    dry_run: bool,
    override: str | None,
    override_window: str | None,
    wait: float | None,
    reason: str | None,
) -> None:
    """Go on to the next stage or step, when the gate passes, within the change window and with the approvals wanted.

    Example: fig advance inventory --dry-run
    """
    for option, why in (("--override", override), ("--override-window", override_window)):
        if why is not None and not why.strip():
            raise FigError("usage", f"{option} wants a reason", "Say why: it stands in the report.")
    args = {
        "dry_run": dry_run,
        "override": override,
        "override_window": override_window,
        "wait": wait,
        "reason": reason,
    }
    ask(fig, context, "advance", args)


@click.command()
@click.argument("context")
@dry_run_option
@click.option("--reason", help="Why; stands in the report.")
@click.pass_obj
def rollback(fig: Fig, context: str, dry_run: bool, reason: str | None) -> None:
    """Go back: reads to the monolith by one switch, writes by a cut-over, a stage by undoing what entering it did.

    Example: fig rollback inventory
    """
    ask(fig, context, "rollback", {"dry_run": dry_run, "reason": reason})


@click.command()
@click.argument("context")
@dry_run_option
@click.option("--repair", is_flag=True, help="Write differing rows again, through sync.")
@click.pass_obj
def verify(fig: Fig, context: str, dry_run: bool, repair: bool) -> None:
    """Compare all rows of both sides at a marker, under traffic, and name each difference.

    Example: fig verify inventory --repair
    """
    ask(fig, context, "verify", {"dry_run": dry_run, "repair": repair})


@click.command()
@click.argument("context")
@dry_run_option
@click.option("--confirm", metavar="NAME", help="The context's name, once more.")
@click.pass_obj
def abort(fig: Fig, context: str, dry_run: bool, confirm: str | None) -> None:
    """End an extraction: everything back at the monolith, flows, slots, guards and routes removed.

    Example: fig abort inventory --confirm inventory
    """
    from stranglerfig.extraction.commands import confirmed

    confirmed(context, confirm, dry_run)
    ask(fig, context, "abort", {"dry_run": dry_run})


@click.command()
@click.argument("context", required=False)
@click.pass_obj
def status(fig: Fig, context: str | None) -> None:
    """Where the extractions stand: stage, owner, traffic, lag, evidence of the gate, warnings.

    Example: fig status inventory --json
    """
    found = fig.run(_status(fig, context))
    if fig.json:
        fig.print(found, "")
    else:
        Console().print(render.status(found))


async def _status(fig: Fig, context: str | None) -> dict[str, Any]:
    from stranglerfig.extraction import commands

    if context is not None:
        fig.project.folder(context)
    from stranglerfig.runtime.datadir import DataDirectory
    from stranglerfig.runtime.places import registry_url

    registry = registry_url(fig.project, DataDirectory(fig.project.data_directory).ports())
    return {**await commands.status(fig.control, context), "schema_registry": registry}


@click.command()
@click.argument("context", required=False)
@click.option("--every", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--count", type=int, default=None, help="End after so many looks.")
@click.pass_obj
def watch(fig: Fig, context: str | None, every: float, count: int | None) -> None:
    """Follow the extractions until Ctrl-C: a live view on a terminal, a line per look elsewhere (--json: JSON Lines).

    Example: fig watch inventory
    """
    fig.run(_watch(fig, context, every, count))


async def _watch(fig: Fig, context: str | None, every: float, count: int | None) -> None:
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not fig.json else None
    looks = 0
    if live is not None:
        live.start()
    try:
        while True:
            found = await _status(fig, context)
            if live is not None:
                live.update(render.status(found), refresh=True)
            else:
                lines = [dumps_line(found)] if fig.json else render.status_lines(found)
                for line in lines:
                    click.echo(line)
            looks += 1
            if count is not None and looks >= count:
                return
            await asyncio.sleep(every)
    finally:
        if live is not None:
            live.stop()


@click.command()
@click.argument("context")
@click.option(
    "--output", type=click.Path(file_okay=False), default="report", show_default=True, help="Folder of the files."
)
@click.option(
    "--facts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON object with what only others know: outcome, mode, duration_seconds, ledger, …",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written.")
@click.pass_obj
def report(fig: Fig, context: str, output: str, facts: Path | None, dry_run: bool) -> None:
    """Write report.json and report.html: what a decision can rest on.

    Example: fig report inventory --output out
    """
    from stranglerfig.runtime import reporting

    fig.project.folder(context)
    folder = Path(output).resolve()
    files = [str(folder / name) for name in ("report.json", "report.html")]
    if not dry_run:
        given = reporting.read_facts(facts) if facts is not None else {}
        fig.run(reporting.write(fig.control, context, folder, given))
    fig.print({"files": files, "dry_run": dry_run}, "\n".join(files))

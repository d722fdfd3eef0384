"""``fig up``, ``down``, ``ps`` and ``run``: the processes of a project."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from stranglerfig.cli.main import Fig
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError


@click.command()
@click.option("--detach", is_flag=True, help="Run in the background; returns when everything is ready.")
@click.option("--no-check", is_flag=True, help="Start even though the monolith's database does not answer.")
@click.pass_obj
def up(fig: Fig, detach: bool, no_check: bool) -> None:
    """Start everything a project needs, and keep it running: control PostgreSQL, Envoy, capture, sync, controller.

    Stays in the foreground until Ctrl-C, which ends all of it. Prints the addresses of what it started.

    Example: fig up --detach
    """
    from stranglerfig.runtime import logs
    from stranglerfig.runtime.datadir import DataDirectory
    from stranglerfig.runtime.supervise import Supervisor

    project = fig.project
    _ = project.extractions  # a mistake in an extraction.yaml is better told now than by six processes
    data = DataDirectory(project.data_directory)
    data.prepare()
    if detach:
        _detach(fig, data, no_check)
        return

    async def serve() -> None:
        stop = asyncio.Event()
        tasks.on_signals(stop.set)
        await Supervisor(project, data).run(
            stop=stop, ready=lambda seconds: _ready(fig, data.state(), seconds), check=not no_check
        )

    with data.lock():
        # Standard error is for refusals; whoever reads JSON or nothing at all finds the rest in the file.
        logs.install(
            project.environment, level=30, file=data.rotate("up"), terminal=not fig.json and sys.stderr.isatty()
        )
        fig.run(serve())


def _ready(fig: Fig, state: dict[str, Any], seconds: float) -> None:
    link = console_link(fig, state)
    if fig.json:
        click.echo(
            _line(
                {
                    "ready": True,
                    "seconds": round(seconds, 3),
                    "pid": state["pid"],
                    "addresses": state["addresses"],
                    "console_link": link,
                }
            )
        )
    else:
        table = Table(title=f"{fig.project.estate.name}: ready after {seconds:.1f} s", title_justify="left", box=None)
        table.add_column("what")
        table.add_column("where", overflow="fold")
        for what, where in state["addresses"].items():
            table.add_row(what, link if what == "console" and link is not None else where)
        Console(soft_wrap=True).print(table)
        click.echo("Ctrl-C ends all of it." if sys.stdin.isatty() else "fig down ends all of it.")
    sys.stdout.flush()


def console_link(fig: Fig, state: dict[str, Any]) -> str | None:
    """A link that opens the console once, or where people log in; None where none runs."""
    address: str | None = state.get("addresses", {}).get("console")
    if address is None or fig.project.estate.access is not None:
        return address
    from stranglerfig.cli.extraction import asker
    from stranglerfig.console.entry import Entry

    return f"{address}#{Entry(fig.project.data_directory / 'console').link_token(asker())}"


def _line(value: Any) -> str:
    from stranglerfig.cli.main import dumps_line

    return dumps_line(value)


def _detach(fig: Fig, data: Any, no_check: bool) -> None:
    with data.lock():
        pass  # refuses here, with the holder's number, rather than in the background
    begun = clock.monotonic()
    said = data.run / "up.stderr"
    with said.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "stranglerfig.cli.main"),
                *(("--json",) if fig.json else ()),
                *("--project", str(fig.project.directory), "up"),
                *(("--no-check",) if no_check else ()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            start_new_session=True,
        )
    while True:
        if (status := process.poll()) is not None:
            click.echo(said.read_text(errors="replace").rstrip(), err=True)
            sys.exit(status or 1)
        state = data.state()
        if state.get("pid") == process.pid and state.get("ready"):
            _ready(fig, state, clock.monotonic() - begun)
            return
        clock.block(0.02)


@click.command()
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for the end.")
@click.pass_obj
def down(fig: Fig, timeout: float) -> None:
    """End what `fig up` started on this project.

    Example: fig down
    """
    from stranglerfig.runtime import processes
    from stranglerfig.runtime.datadir import DataDirectory

    data = DataDirectory(fig.project.data_directory)
    pid = data.holder()
    if pid is None:
        fig.print({"running": False, "ended": None}, "Nothing runs on this project.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = clock.monotonic() + timeout
    while processes.alive(pid):
        if clock.monotonic() > deadline:
            raise FigError(
                "timed_out",
                f"process {pid} has not ended within {timeout:g} s",
                f"Look at {data.logs}; kill -9 {pid} ends it, and its children with it.",
                pid=pid,
            )
        clock.block(0.02)
    fig.print({"running": False, "ended": pid}, f"Ended process {pid} and all that it had started.")


@click.command()
@click.pass_obj
def ps(fig: Fig) -> None:
    """Show the processes of this project, and why a changed extraction.yaml is not in force.

    Example: fig ps --json
    """
    from stranglerfig.runtime.datadir import DataDirectory

    data = DataDirectory(fig.project.data_directory)
    pid = data.holder()
    state = data.state()
    if pid is None:
        fig.print({"running": False, "pid": None, "roles": []}, "Nothing runs on this project (fig up starts it).")
        return
    if fig.json:
        fig.print({"running": True, **state, "pid": pid, "console_link": console_link(fig, state)}, "")
        return
    table = Table(title=f"fig up is process {pid}", title_justify="left", box=None)
    for column in ("role", "pid", "restarts", "state", "for"):
        table.add_column(column, justify="right" if column in ("pid", "restarts", "for") else "left")
    for row in state["roles"]:
        table.add_row(
            row["role"],
            str(row["pid"] or "-"),
            str(row["restarts"]),
            row["state"],
            f"{max(clock.epoch() - row['since'], 0):.0f} s",
        )
    Console(soft_wrap=True).print(table)
    if (refused := state.get("refused")) is not None:
        click.echo(f"not in force: {refused['message']}. {refused['remedy']}")
    if (link := console_link(fig, state)) is not None:
        click.echo(f"console{', to be opened once' if '#' in link else ''}: {link}")


ROLE_NAMES = (
    *("postgres", "envoy", "fence", "shadow", "router", "registry", "capture", "sync", "controller", "alerts"),
    "console",
)


@click.command(name="run")
@click.argument("role", type=click.Choice(ROLE_NAMES))
@click.pass_obj
def run(fig: Fig, role: str) -> None:
    """Be one process of a project, in the foreground; `fig up` runs one of these per role.

    Example: fig run capture
    """
    from stranglerfig.runtime import roles

    if role == "console":
        from stranglerfig.console.role import be

        roles.run(role, Path(fig.directory), be)
        return
    roles.run(role, Path(fig.directory))

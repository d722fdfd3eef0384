"""``fig``: the group of all commands, and the one place where an error becomes text and an exit status."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import orjson

import stranglerfig
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.runtime.settings import Project

T = TypeVar("T")

COMMANDS = {
    "up": "up:up",
    "down": "up:down",
    "ps": "up:ps",
    "run": "up:run",
    "plan": "extraction:plan",
    "advance": "extraction:advance",
    "rollback": "extraction:rollback",
    "status": "extraction:status",
    "watch": "extraction:watch",
    "verify": "extraction:verify",
    "abort": "extraction:abort",
    "report": "extraction:report",
    "approve": "access:approve",
    "approvals": "access:approvals",
    "audit": "access:audit",
    "token": "access:token",
    "console": "console:console",
    "decommission": "decommission:decommission",
    "retire": "retire:retire",
    "sync": "sync:sync",
    "events": "events.group:events",
    "saga": "saga:saga",
    "flow": "flow:flow",
    "projection": "projection:projection",
    "trace": "trace:trace",
    "personal": "personal:personal",
    "schema": "schema:schema",
    "seams": "seams:seams",
    "model": "model:model",
    "storm": "storm:storm",
    "new": "new:new",
    "alerts": "alerts:alerts",
    "explain": "explain:explain",
    "completion": "completion:completion",
}
USAGE = frozenset(
    {
        "bad_configuration",
        "no_configuration",
        "bad_address",
        "secret_missing",
        "unknown_log",
        "usage",
    }
)
STATUS_OTHER, STATUS_USAGE, STATUS_REFUSED, STATUS_NOT_FOUND, STATUS_INTERRUPTED = 1, 2, 3, 4, 130


@dataclass
class Fig:
    """What every command is given.

    Attributes:
        json: whether to print JSON rather than text.
        debug: whether an error shows where in our code it arose.
    """

    directory: Path
    json: bool
    debug: bool
    _seen: set[str] = field(default_factory=set, repr=False)

    @cached_property
    def project(self) -> Project:
        """The project of ``--project``, read when a command needs it."""
        from stranglerfig.runtime.settings import load_project

        return load_project(self.directory)

    @property
    def control(self) -> str:
        """The control database's address, to be connected to now; its tables are as this version knows them.

        Raises:
            FigError: ``not_running`` when it is the embedded one and nothing runs; ``newer_schema``, ``older_schema``.
        """
        from stranglerfig.runtime.datadir import DataDirectory
        from stranglerfig.runtime.supervise import control_dsn
        from stranglerfig.runtime.tables import require_same

        if self.project.estate.control is None and DataDirectory(self.project.data_directory).holder() is None:
            raise FigError(
                "not_running",
                f"fig does not run on {self.project.data_directory}",
                "Start it: fig up (or fig up --detach).",
                directory=str(self.project.data_directory),
            )
        dsn = control_dsn(self.project)
        if dsn not in self._seen:
            require_same(dsn)
            self._seen.add(dsn)
        return dsn

    @property
    def token(self) -> str | None:
        """Who asks, where access is configured: the token in ``FIG_TOKEN``."""
        return self.project.environment.get("FIG_TOKEN") or None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Enter the event loop, once per command."""
        return asyncio.run(work)

    def print(self, value: Any, text: str) -> None:
        """One result: JSON or text."""
        click.echo(dumps(value) if self.json else text)


def dumps(value: Any) -> str:
    """JSON as ``--json`` prints it."""
    return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()


def dumps_line(value: Any) -> str:
    """JSON on one line, for streams."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Commands(click.Group):
    """Loads a command's file when it is asked for: ``fig run`` starts six processes and none needs them all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of work, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command ``name``."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"stranglerfig.cli.{module}"), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--project",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    envvar="FIG_PROJECT",
    metavar="DIR",
    help="Folder of fig.yaml (or FIG_PROJECT); the current one by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, errors included.")
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
@click.version_option(stranglerfig.__version__, prog_name="fig")
@click.pass_context
def fig(ctx: click.Context, directory: Path, as_json: bool, debug: bool) -> None:
    """Move a running monolith to a decoupled, event-driven architecture, one bounded context at a time.

    Example: fig --project /srv/shop up
    """
    ctx.obj = Fig(directory, as_json, debug)


def status_of(code: str) -> int:
    """The exit status of an error: 2 usage or configuration, 3 refused, 4 not found, 1 anything else."""
    if code in USAGE:
        return STATUS_USAGE
    from stranglerfig.cli import codes

    return {"usage": STATUS_USAGE, "refused": STATUS_REFUSED, "not_found": STATUS_NOT_FOUND}.get(
        codes.kind_of(code), STATUS_OTHER
    )


def show(error: FigError, *, as_json: bool) -> None:
    """Say what happened, what to do, and the code, on standard error."""
    if as_json:
        click.echo(dumps({"error": error.as_dict()}), err=True)
        return
    click.echo(f"fig: {error.message}", err=True)
    if error.remedy:
        click.echo(f"     {error.remedy}", err=True)
    click.echo(f"     [{error.code}]  more: fig explain {error.code}", err=True)


def main() -> NoReturn:
    """The installed command."""
    arguments = sys.argv[1:]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    # Flags of the group may stand anywhere: people write them last.
    for flag in ("--json", "--debug"):
        if flag in arguments:
            arguments = [flag, *(argument for argument in arguments if argument != flag)]
    sys.exit(invoke(arguments, as_json=as_json, debug=debug))


def invoke(arguments: list[str], *, as_json: bool = False, debug: bool = False) -> int:
    """Run one command line; returns the exit status."""
    try:
        result = fig.main(arguments, prog_name="fig", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except FigError as error:
        if debug:
            raise
        show(error, as_json=as_json)
        return status_of(error.code)
    except click.ClickException as error:
        if as_json:
            show(FigError("usage", error.format_message(), "See fig --help."), as_json=True)
        else:
            error.show()
        return STATUS_USAGE
    except (click.Abort, KeyboardInterrupt):
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        # Whoever read us (head, less) has seen enough.
        sys.stderr.close()
        return 0
    except Exception as error:
        if debug:
            raise
        show(
            FigError(
                "unexpected",
                f"{type(error).__name__}: {error}",
                "This is a mistake of the program: run it again with --debug and report what it says.",
            ),
            as_json=as_json,
        )
        return STATUS_OTHER


if __name__ == "__main__":
    main()

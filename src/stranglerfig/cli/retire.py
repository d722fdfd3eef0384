"""``fig retire``: what still passes to the monolith, and its end at the façade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from stranglerfig.cli import render
from stranglerfig.cli.extraction import ask, dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stranglerfig.extraction.retirement import Look, Passed


@click.command()
@click.option("--confirm", metavar="NAME", help="Take the last routes over; NAME is the estate's, as in fig.yaml.")
@click.option("--override", metavar="REASON", help="Although something still passes; the reason is recorded.")
@click.option("--restore", is_flag=True, help="Let all that no service answers pass to the monolith again.")
@dry_run_option
@click.pass_obj
def retire(fig: Fig, confirm: str | None, override: str | None, restore: bool, dry_run: bool) -> None:
    """Show what still passes to the monolith; with --confirm, end that: what no service answers is then 410 Gone.

    All contexts must have left it, and nothing may have passed for as long as facade.quiet in fig.yaml says.

    Example: fig retire --confirm shop
    """
    if override is not None and not override.strip():
        raise FigError("usage", "--override wants a reason", "Say why: it is recorded.")
    if restore and confirm is not None:
        raise FigError("usage", "--confirm and --restore are two ways", "Say one of them.")
    if restore:
        ask(fig, "", "retire-restore", {"dry_run": dry_run})
    elif confirm is not None or dry_run:
        ask(fig, "", "retire", {"confirm": confirm, "override": override, "dry_run": dry_run})
    else:
        _show(fig)


def _show(fig: Fig) -> None:
    from stranglerfig.extraction.retirement import look
    from stranglerfig.runtime.datadir import DataDirectory
    from stranglerfig.runtime.wiring import envoy_control

    control = fig.control  # first: says that nothing runs, or is of another version

    async def seen() -> Look:
        envoy = envoy_control(fig.project, DataDirectory(fig.project.data_directory).ports())
        try:
            return await look(control, [*fig.project.extractions], fig.project.estate.facade.quiet, envoy)
        finally:
            await envoy.close()

    found = fig.run(seen())
    reasons = [] if found.retired else found.reasons(clock.now())
    if fig.json:
        fig.print({**found.as_dict(), "reasons": [each.as_dict() for each in reasons]}, "")
        return
    console = Console()
    for name, place in found.contexts.items():
        console.print(f"{name}: {place}", highlight=False)
    if found.retired:
        console.print(
            f"The monolith is retired since {found.retired['at']:%Y-%m-%d %H:%M:%S} UTC, by {found.retired['by']}.",
            highlight=False,
        )
        _table(console, "asked for since, and answered by the façade", found.refused)
        return
    window = render.duration(found.quiet)
    console.print(f"{render.number(found.requests)} requests through the façade within {window}.", highlight=False)
    _table(console, "passed to the monolith", found.passing)
    for reason in reasons:
        console.print(f"not yet: {reason.message}", highlight=False)
    if not reasons:
        console.print(
            f"Nothing passes to the monolith: fig retire --confirm {fig.project.estate.name}", highlight=False
        )


def _table(console: Console, title: str, rows: Sequence[Passed]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None)
    for column in ("route", "request", "times", "last"):
        table.add_column(column, justify="right" if column == "times" else "left")
    for row in rows[:20]:
        table.add_row(
            row.route, f"{row.method} {row.path}", render.number(row.requests), f"{row.last_at:%m-%d %H:%M:%S}"
        )
    console.print(table)
    if len(rows) > 20:
        console.print(f"and {len(rows) - 20} kinds more: --json", highlight=False)

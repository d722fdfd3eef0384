"""``fig sync``: changes that could not be applied, conflicts, and taking a new snapshot."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Literal

import click

from stranglerfig.changes.model import Direction
from stranglerfig.cli.acting import acting
from stranglerfig.cli.codes import catalogue
from stranglerfig.cli.extraction import ask, dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.cli.render import details

direction_option = click.option(
    "--direction",
    type=click.Choice([direction.value for direction in Direction]),
    default=Direction.FORWARD.value,
    show_default=True,
    help="forward: monolith to service; reverse: service to monolith.",
)


@click.group()
def sync() -> None:
    """Look at changes that could not be applied, and decide what becomes of them.

    Example: fig sync parked inventory
    """


def _leads_out(error: str | None) -> str | None:
    """What to do about a parked change, by the code at the end of what was said about it."""
    found = re.search(r"\[(\w+)\]$", error or "")
    entry = catalogue().get(found[1]) if found else None
    return entry["do"] if entry else None


@sync.command()
@click.argument("context")
@click.pass_obj
def parked(fig: Fig, context: str) -> None:
    """List the changes that wait for a decision: the row, the error, the statement, and what leads out.

    Example: fig sync parked inventory --json
    """
    from stranglerfig.runtime import parked as store

    rows = fig.run(store.listed(fig.project, context))
    lines: list[str] = []
    for row in rows:
        row["do"] = _leads_out(row["error"])
        lines.append(f"{row['direction']} {row['id']}: {row['reason']}")
        lines += details({key: value for key, value in row.items() if key not in ("id", "direction", "reason")})
    fig.print(rows, "\n".join(lines) or "Nothing is parked.")


@sync.command()
@click.argument("context")
@click.option("--last", type=click.IntRange(1), default=100, show_default=True, help="How many of each direction.")
@click.pass_obj
def conflicts(fig: Fig, context: str, last: int) -> None:
    """List rows that both sides changed: what came, what was there, and which of them stands.

    Example: fig sync conflicts inventory --json
    """
    from stranglerfig.runtime import parked as store

    rows = fig.run(store.conflicts(fig.project, context, last=last))
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['direction']} {row['id']}: {row['table']} {', '.join(row['key'])}: {row['outcome']}")
        lines += details({key: row[key] for key in ("rule", "theirs", "ours", "at")})
        if row["parked"] is not None:
            lines += details({"open": f"parked {row['direction']} {row['parked']}"})
    if any(row["parked"] is not None for row in rows):
        lines.append(f"Both flows stand at what is open. {catalogue()['conflict']['do']}")
    fig.print(rows, "\n".join(lines) or "No row was changed on both sides.")


def _decide(
    fig: Fig, context: str, numbers: tuple[int, ...], direction: str, how: Literal["skip", "retry"], dry_run: bool
) -> None:
    from stranglerfig.runtime import parked as store

    async def all_of_them() -> list[dict[str, Any]]:
        details = {"changes": list(numbers), "direction": direction}
        async with acting(fig, f"sync-{how}", details, context=context, harmless=dry_run):
            return list(
                await asyncio.gather(
                    *(
                        store.decide(fig.project, context, Direction(direction), number, how, dry_run=dry_run)
                        for number in numbers
                    )
                )
            )

    rows = fig.run(all_of_them())
    word = {"skip": "left out", "retry": "tried once more"}[how]
    fig.print(
        {"decided": how, "changes": rows, "dry_run": dry_run},
        "\n".join(f"{direction} {row['id']} {'would be' if dry_run else 'is'} {word}" for row in rows),
    )


@sync.command()
@click.argument("context")
@click.argument("numbers", type=int, nargs=-1, required=True, metavar="NUMBER...")
@direction_option
@dry_run_option
@click.pass_obj
def skip(fig: Fig, context: str, numbers: tuple[int, ...], direction: str, dry_run: bool) -> None:
    """Leave parked changes out, knowingly; verification names the rows that differ from then on.

    Example: fig sync skip inventory 17
    """
    _decide(fig, context, numbers, direction, "skip", dry_run)


@sync.command()
@click.argument("context")
@click.argument("numbers", type=int, nargs=-1, required=True, metavar="NUMBER...")
@direction_option
@dry_run_option
@click.pass_obj
def retry(fig: Fig, context: str, numbers: tuple[int, ...], direction: str, dry_run: bool) -> None:
    """Have sync apply parked changes once more, after their cause was mended.

    Example: fig sync retry inventory 17
    """
    _decide(fig, context, numbers, direction, "retry", dry_run)


@sync.command()
@click.argument("context")
@dry_run_option
@click.pass_obj
def resnapshot(fig: Fig, context: str, dry_run: bool) -> None:
    """Empty the copied tables and copy them anew: after a lost slot, or a column that was added or retyped.

    Example: fig sync resnapshot inventory --dry-run
    """
    ask(fig, context, "resnapshot", {"dry_run": dry_run})

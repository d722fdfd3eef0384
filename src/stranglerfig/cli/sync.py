"""``fig sync``: changes that could not be applied, and taking a new snapshot."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import click

from stranglerfig.changes.model import Direction
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


@sync.command()
@click.argument("context")
@click.pass_obj
def parked(fig: Fig, context: str) -> None:
    """List the changes that wait for a decision: the row, the error, the statement.

    Example: fig sync parked inventory --json
    """
    from stranglerfig.runtime import parked as store

    rows = fig.run(store.listed(fig.project, context))
    lines: list[str] = []
    for row in rows:
        lines.append(f"{row['direction']} {row['id']}: {row['reason']}")
        lines += details({key: value for key, value in row.items() if key not in ("id", "direction", "reason")})
    fig.print(rows, "\n".join(lines) or "Nothing is parked.")


def _decide(
    fig: Fig, context: str, numbers: tuple[int, ...], direction: str, how: Literal["skip", "retry"], dry_run: bool
) -> None:
    from stranglerfig.runtime import parked as store

    async def all_of_them() -> list[dict[str, Any]]:
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

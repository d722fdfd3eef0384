"""``fig events parked``, ``inspect``, ``retry``, ``discard``: events that a service could not handle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from stranglerfig.cli.acting import acting
from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.cli.render import details
from stranglerfig.cli.saga import service_option
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.foundation.postgres import Connection

Act = Callable[["Connection", int], Awaitable[Any]]


@click.command()
@service_option
@click.option("--subscription", help="Of this subscription alone.")
@click.option("--cause", help="Whose error contains these words.")
@click.option("--last", type=click.IntRange(1), default=100, show_default=True, help="How many, the oldest first.")
@click.pass_obj
def parked(fig: Fig, service: str | None, subscription: str | None, cause: str | None, last: int) -> None:
    """List events that could not be handled, by service; later events of their keys wait behind them.

    Example: fig events parked --cause insufficient_stock
    """
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    async def work() -> list[dict[str, Any]]:
        return [
            {"service": owner, **row}
            async for owner, conn in each(fig.project, service, operating.is_kept_here)
            for row in await operating.parked(conn, subscription=subscription, cause=cause, last=last)
        ]

    rows = fig.run(work())
    lines = [
        f"{row['service']} {row['id']}: {row['type']} of {row['key']}"
        + (f" ({row['tenant']})" if row["tenant"] else "")
        + f", {row['behind']} behind it"
        + (", to be tried again" if row["retry"] else "")
        + f"\n  {row['error']}"
        for row in rows
    ]
    fig.print(rows, "\n".join(lines) or "Nothing is parked.")


async def _on(fig: Fig, service: str | None, number: int, act: Act) -> dict[str, Any]:
    """Do something with one parked event, in the service that has it.

    Raises:
        FigError: ``unknown_letter``; ``usage`` when several services have one of that number.
    """
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    owners = []
    async for owner, conn in each(fig.project, service, operating.is_kept_here):
        try:
            owners.append((owner, await operating.inspect(conn, number)))
        except FigError as error:
            if error.code != "unknown_letter":
                raise
    if not owners:
        raise operating.unknown(number)
    if len(owners) > 1:
        names = ", ".join(owner for owner, _ in owners)
        raise FigError("usage", f"several services have a parked event {number}: {names}", "Say which: --service NAME.")
    ((owner, found),) = owners
    async for _, conn in each(fig.project, owner, operating.is_kept_here):
        await act(conn, number)
    return {"service": owner, **found}


async def _nothing(_: Connection, __: int) -> None:
    """Only look."""


@click.command()
@click.argument("number", type=int)
@service_option
@click.pass_obj
def inspect(fig: Fig, number: int, service: str | None) -> None:
    """Print one parked event whole: its attributes, its data, and why it could not be handled.

    Example: fig events inspect 17 --service inventory
    """
    row = fig.run(_on(fig, service, number, _nothing))
    fig.print(row, "\n".join([f"{row['service']} {row['id']}", *details({k: v for k, v in row.items() if k != "id"})]))


def _decide(fig: Fig, numbers: tuple[int, ...], service: str | None, act: Act, said: str, dry_run: bool) -> None:
    async def work() -> list[dict[str, Any]]:
        async with acting(
            fig, f"events-{act.__name__}", {"parked": list(numbers), "service": service}, harmless=dry_run
        ):
            return [await _on(fig, service, number, _nothing if dry_run else act) for number in numbers]

    rows = fig.run(work())
    word = "would be" if dry_run else "is"
    fig.print(
        {"events": [{key: row[key] for key in ("service", "id", "key")} for row in rows], "dry_run": dry_run},
        "\n".join(f"{row['service']} {row['id']} {word} {said}" for row in rows),
    )


@click.command()
@click.argument("numbers", type=int, nargs=-1, required=True, metavar="NUMBER...")
@service_option
@dry_run_option
@click.pass_obj
def retry(fig: Fig, numbers: tuple[int, ...], service: str | None, dry_run: bool) -> None:
    """Have parked events handled once more, and what waits behind them; a running process of the service does it.

    Example: fig events retry 17
    """
    from stranglerfig.kit import operating

    _decide(fig, numbers, service, operating.retry, "to be tried again", dry_run)


@click.command()
@click.argument("numbers", type=int, nargs=-1, required=True, metavar="NUMBER...")
@service_option
@dry_run_option
@click.pass_obj
def discard(fig: Fig, numbers: tuple[int, ...], service: str | None, dry_run: bool) -> None:
    """Leave parked events out, knowingly; later events of their keys follow.

    Example: fig events discard 17 --dry-run
    """
    from stranglerfig.kit import operating

    _decide(fig, numbers, service, operating.discard, "left out", dry_run)

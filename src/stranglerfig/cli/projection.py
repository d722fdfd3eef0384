"""``fig projection``: read models, how far their builds are, and building one anew."""

from __future__ import annotations

from typing import Any

import click

from stranglerfig.cli.acting import acting
from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.cli.saga import service_option
from stranglerfig.foundation.errors import FigError


@click.group()
def projection() -> None:
    """Look at services' read models, and have them built anew.

    Example: fig projection list
    """


@projection.command("list")
@service_option
@click.pass_obj
def list_(fig: Fig, service: str | None) -> None:
    """List the builds of every projection: which serves, and where each is in the log.

    Example: fig projection list --service inventory
    """
    rows = fig.run(_listed(fig, service))
    lines = [
        f"{row['service']} {row['name']} v{row['version']} build {row['generation']}: {row['state']}"
        + "".join(f", {at['topic']}/{at['partition']} at {at['position']}" for at in row["positions"])
        for row in rows
    ]
    fig.print(rows, "\n".join(lines) or "There are no projections.")


async def _listed(fig: Fig, service: str | None) -> list[dict[str, Any]]:
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    return [
        {"service": owner, **row}
        async for owner, conn in each(fig.project, service, operating.is_kept_here)
        for row in await operating.projections(conn)
    ]


@projection.command()
@click.argument("name")
@service_option
@dry_run_option
@click.pass_obj
def rebuild(fig: Fig, name: str, service: str | None, dry_run: bool) -> None:
    """Build a projection anew from the log, beside the build that serves; its service swaps them when it is done.

    Example: fig projection rebuild stock_by_warehouse
    """
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    async def work() -> dict[str, Any]:
        rows = [row for row in await _listed(fig, service) if row["name"] == name]
        owners = sorted({row["service"] for row in rows})
        if len(owners) != 1:
            known = f"several services have one: {', '.join(owners)}" if owners else "no service has it"
            raise FigError(
                "unknown_projection", f"'{name}': {known}", "See fig projection list; choose by --service.", name=name
            )
        async with acting(fig, "projection-rebuild", {"projection": name, "service": owners[0]}, harmless=dry_run):
            async for _, conn in each(fig.project, owners[0], operating.is_kept_here):
                return {"service": owners[0]} | await operating.rebuild(conn, name, dry_run=dry_run)
        raise AssertionError("it was there a moment ago")

    done = fig.run(work())
    said = "would be begun" if dry_run else "is begun; fig projection list shows how far it is"
    fig.print(done | {"dry_run": dry_run}, f"build {done['generation']} of {name} version {done['version']} {said}")

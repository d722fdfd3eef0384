"""``fig personal``: the keys of personal data that services of the kit keep."""

from __future__ import annotations

from typing import Any

import click

from stranglerfig.access.model import Role
from stranglerfig.cli.acting import acting
from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.cli.saga import service_option
from stranglerfig.foundation.errors import FigError


@click.group()
def personal() -> None:
    """Have what services keep of a person become unreadable.

    Example: fig personal destroy 4711 --service crm --dry-run
    """


@personal.command()
@click.argument("subject")
@service_option
@click.option("--confirm", metavar="SUBJECT", help="The subject, once more.")
@dry_run_option
@click.pass_obj
def destroy(fig: Fig, subject: str, service: str | None, confirm: str | None, dry_run: bool) -> None:
    """Destroy the key of a subject's personal data: sealed values read as None a minute later at the latest.

    Example: fig personal destroy 4711 --service crm --confirm 4711
    """
    from stranglerfig.extraction.commands import confirmed
    from stranglerfig.kit import operating
    from stranglerfig.runtime.services import each

    confirmed(subject, confirm, dry_run)

    async def work() -> dict[str, Any]:
        rows = [
            {"service": owner, **row}
            async for owner, conn in each(fig.project, service, operating.keeps_keys)
            if (row := await operating.personal_key(conn, subject)) is not None
        ]
        if len(rows) != 1:
            known = ", ".join(row["service"] for row in rows)
            raise FigError(
                "unknown_personal_key",
                f"'{subject}': " + (f"several services have a key: {known}" if rows else "no service has a key"),
                "Choose by --service: it may be somebody else in each." if rows else "Check how the service calls it.",
                subject=subject,
            )
        (row,) = rows
        if row["destroyed_at"] is None and not dry_run:
            # Whose key it was stands in no trail: it is kept for years.
            async with acting(fig, "personal-destroy", {"service": row["service"]}, role=Role.APPROVER):
                async for _, conn in each(fig.project, row["service"], operating.keeps_keys):
                    row |= await operating.destroy_key(conn, subject)
        return row

    row = fig.run(work())
    said = f"was destroyed at {row['destroyed_at']}" if row["destroyed_at"] else "would be destroyed"
    fig.print(row | {"dry_run": dry_run}, f"the key of '{subject}' in {row['service']} {said}")

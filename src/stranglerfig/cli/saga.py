"""``fig saga``: business transactions across services, where they stand, and an operator's word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from stranglerfig.cli.acting import acting
from stranglerfig.cli.extraction import asker, dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.cli.render import details
from stranglerfig.foundation.errors import FigError

STATUSES = ("waiting", "running", "compensating", "needs operator", "completed", "compensated", "refused")
service_option = click.option("--service", help="Of this service alone: a context's, or one that fig.yaml names.")
form_option = click.option(
    "--format", "form", type=click.Choice(["mermaid", "svg"]), default="mermaid", show_default=True,
    help="How it is drawn.",
)  # fmt: skip
output_option = click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
)


def put(fig: Fig, name: str, data: dict[str, Any], text: str, output: Path | None) -> None:
    """Print a drawing, or write it to a file."""
    from stranglerfig.foundation.files import written_whole

    if output is not None:
        with written_whole(output, replace=True) as file:
            file.write_text(text)
    fig.print(data, f"{name} is drawn in {output}" if output else text.rstrip("\n"))


@click.group()
def saga() -> None:
    """Look at sagas, and decide what becomes of those that need somebody.

    Example: fig saga list --status "needs operator"
    """


@saga.command("list")
@service_option
@click.option("--status", type=click.Choice(STATUSES), help="Only those that stand so.")
@click.option("--name", help="Only those of this kind: orders.Checkout.")
@click.option("--key", help="Only those about this: an order's number.")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many, the newest first.")
@click.pass_obj
def list_(fig: Fig, service: str | None, status: str | None, name: str | None, key: str | None, last: int) -> None:
    """List sagas, and how many of each kind stand where.

    Example: fig saga list --service orders --key 4711
    """
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import operating

    async def work() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        counts: dict[str, Any] = {}
        rows: list[dict[str, Any]] = []
        async for owner, conn in each(fig.project, service, operating.has_sagas):
            counts |= {kind: {"service": owner, **found} for kind, found in (await operating.counted(conn)).items()}
            found = await operating.listed(conn, status=status, name=name, key=key, last=last)
            rows += [{"service": owner, **row} for row in found]
        return counts, sorted(rows, key=lambda row: row["begun_at"], reverse=True)[:last]

    counts, rows = fig.run(work())
    lines = [
        f"{kind}: " + ", ".join(f"{count} {status}" for status, count in found.items() if status != "service")
        for kind, found in counts.items()
    ]
    lines += [
        f"{row['id']}  {row['name']} v{row['version']}  {row['key']}"
        + (f" ({row['tenant']})" if row["tenant"] else "")
        + f"  {row['status']}"
        + (f" ({row['blocked']})" if row["blocked"] else "")
        for row in rows
    ]
    fig.print({"counts": counts, "sagas": rows}, "\n".join(lines) or "There are no sagas.")


@saga.command()
@click.argument("saga_id", metavar="ID")
@service_option
@click.pass_obj
def show(fig: Fig, saga_id: str, service: str | None) -> None:
    """Print one saga: its fields, where its steps stand, and what has happened to it.

    Example: fig saga show 7f3c2f7e-0b7c-5d57-a2f6-5a3b8f6f8a11
    """
    row = fig.run(_found(fig, saga_id, service))
    steps = {name: f"{at[0]}, execution {at[1]}, attempt {at[2]}" for name, at in row["course"]["steps"].items()}
    head = {key: value for key, value in row.items() if key not in ("course", "history", "id") and value is not None}
    happened = [" ".join(map(str, each)) for each in row["history"]]
    fig.print(row, "\n".join([row["id"], *details(head | {"steps": steps, "history": happened})]))


async def _found(fig: Fig, saga_id: str, service: str | None) -> dict[str, Any]:
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import operating

    async for owner, conn in each(fig.project, service, operating.has_sagas):
        if (row := await operating.shown(conn, saga_id)) is not None:
            return {"service": owner, **row}
    raise FigError("unknown_saga", f"there is no saga {saga_id}", "See fig saga list.", saga=saga_id)


def _decide(fig: Fig, ids: tuple[str, ...], service: str | None, word: Literal["retry", "resolve"], dry: bool) -> None:
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import operating

    async def work() -> list[dict[str, Any]]:
        known = {id: await _found(fig, id, service) for id in ids}
        done: list[dict[str, Any]] = []
        async for owner, conn in each(fig.project, service, operating.has_sagas):
            for id, row in known.items():
                if row["service"] != owner:
                    continue
                if dry:
                    operating.refuse_unblocked(row)
                    done.append({key: row[key] for key in ("id", "name", "key", "blocked")})
                else:
                    done.append(await operating.ask(conn, id, word, asker()))
        return done

    async def permitted() -> list[dict[str, Any]]:
        async with acting(fig, f"saga-{word}", {"sagas": list(ids)}, harmless=dry):
            return await work()

    rows = fig.run(permitted())
    said = {"retry": "tried again", "resolve": "counted as done"}[word]
    fig.print(
        {"decided": word, "sagas": rows, "dry_run": dry},
        "\n".join(f"{row['id']}: {row['blocked']} {'would be' if dry else 'is'} {said}" for row in rows),
    )


@saga.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@service_option
@dry_run_option
@click.pass_obj
def retry(fig: Fig, ids: tuple[str, ...], service: str | None, dry_run: bool) -> None:
    """Have the steps tried again that need an operator; a running worker of the service does it.

    Example: fig saga retry 7f3c2f7e-0b7c-5d57-a2f6-5a3b8f6f8a11
    """
    _decide(fig, ids, service, "retry", dry_run)


@saga.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@service_option
@dry_run_option
@click.pass_obj
def resolve(fig: Fig, ids: tuple[str, ...], service: str | None, dry_run: bool) -> None:
    """Count the steps as done (on the way back: as undone) that need an operator, who has seen to them by hand.

    Example: fig saga resolve 7f3c2f7e-0b7c-5d57-a2f6-5a3b8f6f8a11 --dry-run
    """
    _decide(fig, ids, service, "resolve", dry_run)


@saga.command()
@click.argument("name", required=False)
@service_option
@form_option
@output_option
@click.pass_obj
def graph(fig: Fig, name: str | None, service: str | None, form: str, output: Path | None) -> None:
    """Draw a saga's newest version as its service declares it, with how many of its sagas are where.

    Example: fig saga graph orders.Checkout --format svg --output checkout.svg
    """
    from stranglerfig.runtime.services import each
    from stranglerfig.sagas import drawing, operating

    async def work() -> list[tuple[drawing.Drawing, drawing.Counts]]:
        found = []
        async for _, conn in each(fig.project, service, operating.has_sagas):
            found += await operating.drawings(conn)
        return found

    known = {found["name"]: (found, counts) for found, counts in fig.run(work())}
    if name is None and len(known) == 1:
        (name,) = known
    if name not in known:
        asked = f"no service has declared a saga '{name}'" if name else "say which saga"
        raise FigError(
            "unknown_saga",
            asked,
            f"Known are: {', '.join(sorted(known))}." if known else "Its service leaves word of it when it starts.",
            known=sorted(known),
        )
    found, counts = known[name]
    text = drawing.svg(found, counts) if form == "svg" else drawing.mermaid(found, counts)
    put(
        fig,
        f"{found['name']} version {found['version']}",
        {"drawing": found, "counts": counts, form: text},
        text,
        output,
    )

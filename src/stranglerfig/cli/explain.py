"""``fig explain``: what an error code means and what to do."""

from __future__ import annotations

import difflib

import click

from stranglerfig.cli import codes
from stranglerfig.cli.main import Fig
from stranglerfig.foundation.errors import FigError


@click.command()
@click.argument("code", required=False)
@click.pass_obj
def explain(fig: Fig, code: str | None) -> None:
    """Say what an error code means and what to do about it; without a code, list all of them.

    Example: fig explain port_in_use
    """
    catalogue = codes.catalogue()
    if code is None:
        width = max(map(len, catalogue))
        fig.print(catalogue, "\n".join(f"{name:<{width}}  {entry['title']}" for name, entry in catalogue.items()))
        return
    entry = catalogue.get(code)
    if entry is None:
        near = difflib.get_close_matches(code, catalogue, n=3)
        raise FigError(
            "unknown_code",
            f"there is no error code '{code}'",
            f"Did you mean {' or '.join(near)}?" if near else "fig explain without a code lists all of them.",
            near=near,
        )
    text = f"{code}: {entry['title']}\n\n{entry['means'].strip()}\n\nWhat to do: {entry['do'].strip()}"
    fig.print({"code": code, **entry}, text)

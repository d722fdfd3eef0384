"""``fig new``: the beginning of a service, from nothing or from a model."""

from __future__ import annotations

from pathlib import Path

import click

from stranglerfig.cli.main import Fig
from stranglerfig.cli.model import context_of, read
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import folder_written_whole
from stranglerfig.storming.lint import errors
from stranglerfig.storming.service import derive, render

_LATER = ("nobody_must_sign", "open_hotspot")
"""Errors of a model that keep a gate shut, and nobody from beginning."""


@click.group()
def new() -> None:
    """Begin something new.

    Example: fig new service billing
    """


@new.command()
@click.argument("name")
@click.option(
    "--model",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The model whose context NAME it becomes; without it, a small beginning.",
)
@click.option("--to", type=click.Path(path_type=Path), help="A folder that is new or empty; ./NAME by default.")
@click.pass_obj
def service(fig: Fig, name: str, file: Path | None, to: Path | None) -> None:
    """Write a service with its tests, Makefile, Dockerfile, health and metrics; what a model does not say is named.

    Example: fig new service inventory --model contexts/inventory/model.storm --to services/inventory
    """
    render.check_name(name)
    model = render.starter(name) if file is None else read(file)
    if file is not None and (bad := [each for each in errors(model) if each.code not in _LATER]):
        raise FigError(
            "model_has_errors",
            f"{file} has {len(bad)} error(s), the first in line {bad[0].line}: {bad[0].place}: {bad[0].reason}",
            bad[0].remedy,
            errors=[each.as_dict() for each in bad],
        )
    plan = derive.plan(model, context_of(model, name, file or Path(name)))
    texts, folder = render.project(plan), to or Path(name)
    if folder.resolve() == Path.cwd():
        raise FigError("usage", "a folder cannot be replaced by who is in it", "Name it from outside: --to FOLDER.")
    with folder_written_whole(folder) as draft:
        for path, text in texts.items():
            (draft / path).parent.mkdir(exist_ok=True)
            (draft / path).write_text(text, encoding="utf-8")
    open_ = [{"of": of, "what": what} for of, what in plan.notes]
    lines = [f"{name} is in {folder}: {len(texts)} files."]
    lines += ["Not in the model:" if file else "Yours to say:", *(f"  {of}: {what}" for of, what in plan.notes)]
    lines.append(f"Next: cd {folder} && make setup test")
    fig.print(
        {"service": name, "folder": str(folder), "files": sorted(texts), "not_in_the_model": open_}, "\n".join(lines)
    )

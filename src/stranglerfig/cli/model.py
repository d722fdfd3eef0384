"""``fig model``: the Event Storming model as text: its mistakes, its sign-off, what is generated from it."""

from __future__ import annotations

import difflib
import getpass
from importlib import resources
from pathlib import Path
from typing import IO, Any

import click

from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.git import GitFailed, git
from stranglerfig.storming import differences, text
from stranglerfig.storming import generate as generators
from stranglerfig.storming import lint as rules
from stranglerfig.storming import model as storming
from stranglerfig.storming import roadmap as plans


@click.group()
def model() -> None:
    """Check, sign and use the model of a context (contexts/NAME/model.storm).

    Example: fig model lint inventory
    """


def _file(fig: Fig, context: str) -> Path:
    """The model's file: extraction.yaml names it; before there is one, contexts/NAME/model.storm."""
    draft = fig.project.directory / "contexts" / context / "model.storm"
    if draft.is_file() and not (draft.parent / "extraction.yaml").exists():
        return draft
    folder = fig.project.folder(context)
    return folder / fig.project.load_extraction(folder / "extraction.yaml").model


def _named(fig: Fig, name: str) -> Path:
    """The file of what a person may name by its context or by its path."""
    return Path(name) if name.endswith(".storm") or Path(name).is_file() else _file(fig, name)


def _every(fig: Fig) -> list[Path]:
    """The models of all the project's contexts."""
    found = set(fig.project.directory.glob("contexts/*/model.storm"))
    found |= {fig.project.folder(context) / each.model for context, each in fig.project.extractions.items()}
    return sorted(file for file in found if file.is_file())


def read(file: Path) -> storming.Model:
    """The model in a file.

    Raises:
        FigError: ``no_model``.
    """
    return text.parse(_words(file))


def _words(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise FigError(
            "no_model", f"the model {file} cannot be read: {error.strerror}", "Write it, or name it in extraction.yaml."
        ) from error


def context_of(found: storming.Model, name: str, file: Path) -> storming.Context:
    """A context of the model that was read from ``file``.

    Raises:
        FigError: ``unknown_context``.
    """
    part = found.context(name)
    if part is None:
        names = ", ".join(c.slug for c in found.contexts) or "none"
        raise FigError(
            "unknown_context", f"{file} has no context '{name}'; it has: {names}", "Check the context's name."
        )
    return part


@model.command()
@click.argument("what", metavar="CONTEXT|FILE")
@click.pass_obj
def lint(fig: Fig, what: str) -> None:
    """Name the model's mistakes, each with its line, reason and remedy; fails when one keeps the gate shut.

    Example: fig model lint inventory
    """
    file = _named(fig, what)
    found = rules.lint(read(file))
    lines = [f"{file}:{f.line}: {f.severity}: {f.place}: {f.reason} {f.remedy} [{f.code}]" for f in found]
    fig.print([finding.as_dict() for finding in found], "\n".join(lines) or "No findings.")
    if bad := [finding for finding in found if finding.severity == "error"]:
        raise FigError(
            "model_has_errors", f"{file} has {len(bad)} error(s)", "Mend what is listed above.", errors=len(bad)
        )


@model.command()
@click.argument("name", metavar="[CONTEXT|FILE]", required=False)
@click.option("--check", is_flag=True, help="Write nothing; say what would change, and fail when something would.")
@click.pass_obj
def fmt(fig: Fig, name: str | None, check: bool) -> None:
    """Write models as they are printed: sorted, stable, one sticky a line; without a name, all of the project.

    The meaning stays, and with it every sign-off; comments and lines that are not understood stay too.

    Example: fig model fmt inventory --check
    """
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for file in _every(fig) if name is None else [_named(fig, name)]:
        before = _words(file)
        after = text.show(text.parse(before))
        changes = [
            line.rstrip("\n")
            for line in difflib.unified_diff(before.splitlines(), after.splitlines(), str(file), "as printed", n=1)
        ]
        state = "unchanged" if before == after else "differs" if check else "written"
        if state == "written":
            file.write_text(after, encoding="utf-8")
        rows.append({"file": str(file), "state": state, "diff": changes})
        lines += [f"{state:<10} {file}", *(changes if check else [])]
    fig.print(rows, "\n".join(lines) or "The project has no models.")
    if differing := [row["file"] for row in rows if row["state"] == "differs"]:
        raise FigError(
            "model_not_formatted",
            f"{len(differing)} model(s) are not written as they are printed",
            f"fig model fmt {name}" if name else "fig model fmt",
            files=differing,
        )


@model.command()
@click.argument("name", metavar="CONTEXT|FILE")
@click.argument("other", metavar="[OTHER]", required=False, type=click.Path(path_type=Path))
@click.option("--since", default="HEAD", show_default=True, metavar="REVISION", help="Without OTHER: git's version.")
@click.pass_obj
def diff(fig: Fig, name: str, other: Path | None, since: str) -> None:
    """Say what changed in meaning since git's version, or from the file OTHER, and which sign-offs that voids.

    An event in both is compared as the schema registry does: may readers and writers of the two go on together?

    Example: fig model diff inventory --since main
    """
    file = _named(fig, name)
    new = read(file)
    old = read(other) if other is not None else text.parse(fig.run(_committed(file.resolve(), since)))
    found = differences.differences(old, new)
    fig.print(found.as_dict(), "\n".join(found.lines()))


async def _committed(file: Path, revision: str) -> str:
    """The text of a file (its path absolute) in a revision of the git repository that it is in.

    Raises:
        FigError: ``no_earlier_model``.
    """
    try:
        return await git(file.parent, "show", "--end-of-options", f"{revision}:./{file.name}")
    except GitFailed as error:
        raise FigError(
            "no_earlier_model",
            f"{file} cannot be compared with {revision}: {error.args[0]}",
            "Name the other model's file: fig model diff FILE OTHER.",
            revision=revision,
        ) from error


@model.command(name="hash")
@click.argument("what", metavar="CONTEXT|FILE")
@click.pass_obj
def hash_(fig: Fig, what: str) -> None:
    """Print the hash that sign-offs are bound to, and who has signed it.

    Example: fig model hash inventory
    """
    found = read(_named(fig, what))
    missing, void = storming.missing_signatures(found), storming.void_signatures(found)
    digest = storming.semantic_hash(found)
    lines = [digest]
    lines += [f"signed by {s.name} ({s.role}, {s.on})" for s in found.signatures if s not in void]
    lines += [f"void: {s.name} ({s.role}) signed another model, {s.of}" for s in void]
    lines += [f"missing: {role}" for role in missing]
    signed = [{"name": s.name, "role": s.role, "on": s.on, "valid": s not in void} for s in found.signatures]
    fig.print({"hash": digest, "signatures": signed, "missing": list(missing)}, "\n".join(lines))


@model.command()
@click.argument("what", metavar="CONTEXT|FILE")
@click.option("--role", required=True, help="The role to sign in; one that the model asks for.")
@click.option("--name", default=getpass.getuser, show_default="the account's name", help="Who signs.")
@dry_run_option
@click.pass_obj
def sign(fig: Fig, what: str, role: str, name: str, dry_run: bool) -> None:
    """Sign the model as it is now; a later change of its meaning voids the sign-off.

    Example: fig model sign inventory --role architect --name "Ada L."
    """
    file = _named(fig, what)
    signed = storming.sign(read(file), name, role, clock.now().date())
    if not dry_run:
        file.write_text(text.show(signed), encoding="utf-8")
    digest = storming.semantic_hash(signed)
    verb = "would be" if dry_run else "is"
    fig.print(
        {"hash": digest, "name": name, "role": role, "dry_run": dry_run}, f"{digest} {verb} signed by {name} ({role})."
    )


@model.command()
@click.argument("context")
@click.option("--avro", is_flag=True, help="Avro schemas, too; later on those are kept up to date without it.")
@click.option("--merged", metavar="FILE", multiple=True, help="An edited file that you have brought up to the model.")
@click.option("--check", is_flag=True, help="Write nothing; fail when what is on disk is not what the model says.")
@dry_run_option
@click.pass_obj
def generate(fig: Fig, context: str, avro: bool, merged: tuple[str, ...], check: bool, dry_run: bool) -> None:
    """Write event schemas, topics, AsyncAPI and a first extraction.yaml; what a team edited is kept, with its diff.

    Example: fig model generate inventory --check
    """
    file = _file(fig, context)
    found = read(file)
    part = context_of(found, context, file)
    if merged and not (check or dry_run):
        _merged(found, part, file.parent, merged)
    outcomes = generators.write(found, part, file.parent, dry_run=check or dry_run, with_avro=avro)
    rows = [{"file": str(o.path), "state": o.state, "diff": list(o.diff)} for o in outcomes]
    lines: list[str] = []
    for outcome in outcomes:
        told = check or outcome.state == "drifted"
        lines += [f"{outcome.state:<10} {outcome.path}", *(f"  {line}" for line in outcome.diff if told)]
    fig.print(rows, "\n".join(lines))
    drifted = [outcome for outcome in outcomes if outcome.is_drift] if check else []
    if drifted:
        raise FigError(
            "model_drift",
            f"{len(drifted)} generated file(s) are not as the model says",
            f"fig model generate {context} writes those that nobody edited; merge the others, remove what is stale.",
            files=[str(outcome.path) for outcome in drifted],
        )


def _merged(found: storming.Model, part: storming.Context, folder: Path, names: tuple[str, ...]) -> None:
    documents = generators.documents_for(found, part, folder)
    known = {(folder / path).resolve(): each for path, each in documents.items()}
    for name in names:
        path = Path(name).resolve()
        if path not in known or not generators.merged(path, known[path]):
            raise FigError(
                "usage",
                f"{name} is no file that the model generates",
                "Name one that fig model generate lists as drifted.",
            )


@model.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file to write; printed otherwise.")
@click.pass_obj
def roadmap(fig: Fig, output: Path | None) -> None:
    """Say in which order the contexts of all models can be moved, with reasons, as Markdown.

    Example: fig model roadmap --output ROADMAP.md
    """
    found = plans.roadmap([read(file) for file in _every(fig)])
    if output is None:
        fig.print(found.as_dict(), found.markdown())
        return
    output.write_text(found.markdown() + "\n", encoding="utf-8")
    fig.print({"file": str(output), **found.as_dict()}, f"{output} is written.")


@model.command()
@click.option("--output", type=click.File("w", lazy=True), default="-", help="File; standard output by default.")
def grammar(output: IO[str]) -> None:
    """Write the TextMate grammar of model.storm, by which editors and code hosts colour it.

    Example: fig model grammar --output storm.tmLanguage.json
    """
    found = resources.files("stranglerfig.storming") / "storm.tmLanguage.json"
    output.write(found.read_text(encoding="utf-8"))
    output.flush()

"""The state of a context's model and schemas, as the gate of ``prepare`` asks for it."""

from __future__ import annotations

import json
from pathlib import Path

from stranglerfig.extraction.facts import Fact
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.formats import Format, Level
from stranglerfig.schemas.ports import Registry
from stranglerfig.schemas.subjects import Given
from stranglerfig.storming import generate
from stranglerfig.storming.lint import errors
from stranglerfig.storming.model import Model, missing_signatures, void_signatures
from stranglerfig.storming.text import parse


def read(file: Path) -> Model:
    """The model in ``file``.

    Raises:
        FigError: ``no_model`` when there is none.
    """
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FigError(
            "no_model", f"the model {file} cannot be read: {error.strerror}", "Write it: fig model --help."
        ) from error


def lint_fact(file: Path) -> Fact:
    """Whether the model has no lint errors."""
    found = errors(read(file))
    if not found:
        return True, None, f"{file.name} is clean"
    first = found[0]
    return False, None, f"{len(found)} errors; {file.name}:{first.line}: {first.reason}"


def signed_fact(file: Path) -> Fact:
    """Whether everybody who must agree has signed the model as it is now."""
    model = read(file)
    if not model.required:
        return False, None, "the model names nobody who must sign"
    missing = missing_signatures(model)
    if not missing:
        return True, None, "signed by " + ", ".join(f"{s.name} ({s.role})" for s in model.signatures)
    void = f"; {len(void_signatures(model))} signatures are of an earlier meaning" if void_signatures(model) else ""
    return False, None, f"not signed for: {', '.join(missing)}{void}"


async def register_schemas(model_file: Path, folder: Path, registry: Registry, context_name: str) -> Fact:
    """Generate what is missing, register every event's schema as the team has it, and say whether all are there."""
    model = read(model_file)
    context = next((found for found in model.contexts if found.slug == context_name), None)
    if context is None:
        return False, None, f"{model_file.name} has no context {context_name}"
    generate.write(model, context, model_file.parent)
    registered = 0
    for event in context.events():
        file = folder / f"{event.name}.v{event.version}.json"
        try:
            schema = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return False, None, f"{file} cannot be read: {error}"
        try:
            given = Given(Format.JSON, json.dumps(generate.unmarked(schema)))
            # In both directions: the monolith's side and the service's are brought forward one after the other.
            await registry.register(context.event_type(event), given, by="fig", normalize=True, level=Level.FULL)
        except FigError as error:
            return False, None, error.message
        registered += 1
    return True, None, f"{registered} schemas"

"""``fig schema``: the registry's server, and what a team asks of the registry in its own pipeline."""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import click

from stranglerfig.cli.acting import acting
from stranglerfig.cli.extraction import dry_run_option
from stranglerfig.cli.main import Fig, dumps
from stranglerfig.foundation import tasks
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.schemas.formats import Level, Problem
    from stranglerfig.schemas.ports import Registry
    from stranglerfig.schemas.subjects import Given, Version

SUFFIXES = {".json": "JSON", ".avsc": "AVRO", ".proto": "PROTOBUF"}
REGISTRY = "stranglerfig.schema.registry"
_NUMBERED = re.compile(r"^(?P<event>.+)\.v(?P<version>\d+)$")

format_option = click.option(
    "--format",
    "kind",
    type=click.Choice(list(SUFFIXES.values()), case_sensitive=False),
    help="Format of FILE; by its name unless given (.json, .avsc, .proto).",
)
reference_option = click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="NAME=SUBJECT:VERSION",
    help="What FILE calls NAME is this registered version; may be repeated.",
)


@click.group()
@click.option("--registry", metavar="URL", help="Ask this registry rather than the project's; needs no fig.yaml.")
@click.pass_context
def schema(context: click.Context, registry: str | None) -> None:
    """Register schemas of events, check changes of them, and look at their history.

    Example: fig schema check
    """
    context.meta[REGISTRY] = registry


@asynccontextmanager
async def opened(fig: Fig) -> AsyncIterator[Registry]:
    """The registry that the options or the project name, for the length of a command."""
    from stranglerfig.runtime.wiring import open_registry
    from stranglerfig.schemas.remote import RemoteRegistry

    url = click.get_current_context().meta.get(REGISTRY)
    if url is not None:
        registry: Registry = RemoteRegistry(url)
    else:
        if fig.project.estate.schemas.url is None:
            _ = fig.control  # says that nothing runs, where that is so
        registry = open_registry(fig.project)
    try:
        await registry.prepare()
        yield registry
    finally:
        await registry.close()


async def consumers(fig: Fig, subject: str) -> list[str] | None:
    """The groups that read a subject's topic; None when the project's log cannot be asked from here."""
    from stranglerfig.runtime.wiring import open_log
    from stranglerfig.schemas import estate

    try:
        _ = fig.control
        log = open_log(fig.project)
    except FigError:
        return None
    try:
        return await estate.readers(log, estate.topic_of(subject))
    except FigError:
        return None
    finally:
        await log.close()


def given(file: Path, kind: str | None, references: Sequence[str] = ()) -> Given:
    """The schema in ``file``.

    Raises:
        FigError: ``usage`` for a format or a reference that cannot be understood, ``schema_invalid`` without a text.
    """
    from stranglerfig.schemas.formats import Format
    from stranglerfig.schemas.subjects import Given

    format = kind or SUFFIXES.get(file.suffix)
    if format is None:
        raise FigError("usage", f"the format of {file.name} is not known by its name", "Give it: --format AVRO.")
    text = file.read_text(encoding="utf-8")
    if format.upper() != Format.PROTOBUF:
        text = _unmarked(text)
    return Given(Format(format.upper()), text, tuple(map(_pointer, references)))


def _unmarked(text: str) -> str:
    """Without the mark of our generator, which is about the file and not about the events."""
    from stranglerfig.storming import generate

    try:
        found = json.loads(text)
    except ValueError:
        return text  # the registry says what is wrong with it
    return json.dumps(generate.unmarked(found)) if isinstance(found, dict) and generate.MARK in found else text


def _pointer(text: str) -> Any:
    from stranglerfig.schemas.subjects import Pointer

    name, _, place = text.partition("=")
    subject, _, version = place.rpartition(":")
    if not name or not subject or not version.isdigit():
        raise FigError("usage", f"'{text}' is not a reference", "Write NAME=SUBJECT:VERSION.")
    return Pointer(name, subject, int(version))


@schema.command()
@click.option("--listen", metavar="HOST:PORT", help="Where; a free port on loopback unless given.")
@click.pass_obj
def serve(fig: Fig, listen: str | None) -> None:
    """Serve the registry to Kafka's clients, in the foreground; `fig up` does so by itself.

    Several may serve one control database. The server knows no accounts: keep it on loopback or behind a proxy.

    Example: fig schema serve --listen 127.0.0.1:8081
    """
    from stranglerfig.runtime import logs
    from stranglerfig.runtime.settings import host_and_port
    from stranglerfig.schemas.server import serve_registry

    try:
        host, port = ("127.0.0.1", 0) if listen is None else host_and_port(listen)
    except ValueError:
        raise FigError("usage", f"'{listen}' is not HOST:PORT", "Write 127.0.0.1:8081.") from None
    logs.install(fig.project.environment, level=30)

    def ready(at: int) -> None:
        fig.print({"url": f"http://{host}:{at}"}, f"The schema registry answers on http://{host}:{at}.")
        sys.stdout.flush()

    fig.run(tasks.until_signal(serve_registry(host, port, fig.control, ready=ready)))


@schema.command()
@click.argument("subject")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@format_option
@reference_option
@click.option("--normalize", is_flag=True, help="Keep the schema in its normal form.")
@click.option("--level", help="Compatibility of a subject that has none of its own: FULL, BACKWARD_TRANSITIVE, …")
@click.option("--by", default=getpass.getuser, show_default="the account's name", help="Who registers it.")
@dry_run_option
@click.pass_obj
def register(
    fig: Fig,
    subject: str,
    file: Path,
    kind: str | None,
    references: Sequence[str],
    normalize: bool,
    level: str | None,
    by: str,
    dry_run: bool,
) -> None:
    """Register the schema in FILE for SUBJECT; the same schema again is the version that it has.

    Example: fig schema register orders-value order.avsc
    """
    from stranglerfig.schemas import estate

    asked = given(file, kind, references)
    wanted = _level(level)
    elsewhere = click.get_current_context().meta.get(REGISTRY) is not None  # that registry's own to decide

    async def work() -> dict[str, Any]:
        async with opened(fig) as registry:
            if problems := await registry.problems(subject, asked):
                groups = await consumers(fig, subject)
                raise _break(estate.explained(subject, problems, groups), subject, problems, groups)
            if dry_run:
                return {"subject": subject, "dry_run": True}
            async with acting(fig, "schema-register", {"subject": subject, "by": by}, harmless=elsewhere):
                found = await registry.register(subject, asked, by=by, normalize=normalize, level=wanted)
            return {"subject": subject, "version": found.version, "id": found.id, "dry_run": False}

    result = fig.run(work())
    done = f"{file.name} is version {result.get('version')} of {subject} (id {result.get('id')})."
    fig.print(result, f"{file.name} could be registered for {subject}." if dry_run else done)


def _level(name: str | None) -> Level | None:
    from stranglerfig.schemas.formats import Level

    if name is not None and name.upper() not in Level.__members__:
        raise FigError("usage", f"there is no level '{name}'", f"Levels: {', '.join(Level)}.")
    return None if name is None else Level[name.upper()]


def _break(lines: list[str], subject: str, problems: Sequence[Problem], groups: Sequence[str] | None) -> FigError:
    return FigError(
        "schema_incompatible",
        "\n".join(lines),
        "Add optional fields instead, or give the changed fact an event type of its own.",
        subject=subject,
        problems=[_shown(problem) for problem in problems],
        consumers=groups,
    )


def _shown(problem: Problem) -> dict[str, str]:
    return {"path": problem.path, "words": problem.words, "kind": problem.kind}


class Candidate(NamedTuple):
    """A schema in a file that is to follow what is registered for a subject."""

    subject: str
    file: Path
    schema: Given


def of_project(fig: Fig) -> Iterator[Candidate]:
    """The newest schema of each event type in the project's contexts."""
    for context, settings in fig.project.extractions.items():
        newest: dict[str, tuple[int, Path]] = {}
        for file in sorted((fig.project.folder(context) / settings.schemas).glob("*.json")):
            found = _NUMBERED.match(file.stem)
            event, number = (found["event"], int(found["version"])) if found else (file.stem, 1)
            newest[event] = max(newest.get(event, (0, file)), (number, file))
        for event, (_, file) in newest.items():
            yield Candidate(f"{context}.{event}", file, given(file, "JSON"))


@schema.command()
@click.argument("subject", required=False)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@format_option
@reference_option
@dry_run_option
@click.pass_context
def check(
    context: click.Context,
    subject: str | None,
    file: Path | None,
    kind: str | None,
    references: Sequence[str],
    dry_run: bool,
) -> None:
    """Say whether FILE could be registered for SUBJECT; without them, every schema of the project's contexts.

    Exit status 0: all compatible; 1: one is not, with the reason and the consumers that it would hurt. Changes nothing.

    Example: fig schema check orders-value order.avsc
    """
    from stranglerfig.schemas import estate

    fig: Fig = context.obj
    if (subject is None) != (file is None):
        raise FigError("usage", "give a subject and a file, or neither", "fig schema check orders-value order.avsc")
    candidates = (
        list(of_project(fig))
        if subject is None or file is None
        else [Candidate(subject, file, given(file, kind, references))]
    )

    async def work() -> list[dict[str, Any]]:
        rows = []
        async with opened(fig) as registry:
            for candidate in candidates:
                problems = await registry.problems(candidate.subject, candidate.schema)
                groups = await consumers(fig, candidate.subject) if problems else []
                row = {
                    "subject": candidate.subject,
                    "file": str(candidate.file),
                    "level": (await registry.level(candidate.subject)).value,
                    "compatible": not problems,
                    "problems": [_shown(problem) for problem in problems],
                    "consumers": groups,
                }
                text = estate.explained(candidate.subject, problems, groups) if problems else []
                rows.append(row | {"text": text})
        return rows

    rows = fig.run(work())
    lines: list[str] = []
    for row in rows:
        lines += row.pop("text") or [f"{row['subject']}: {Path(row['file']).name} can be registered ({row['level']})"]
    fig.print(rows, "\n".join(lines) or "The project's contexts have no schemas yet (fig model generate CONTEXT).")
    if not all(row["compatible"] for row in rows):
        context.exit(1)


@schema.command()
@click.argument("subject", required=False)
@click.pass_obj
def history(fig: Fig, subject: str | None) -> None:
    """List the versions of SUBJECT, each with what changed in it; without it, the subjects.

    Example: fig schema history inventory.StockAdjusted
    """
    if subject is None:
        _subjects(fig)
        return

    async def work() -> list[dict[str, Any]]:
        from stranglerfig.schemas import formats

        async with opened(fig) as registry:
            rows: list[dict[str, Any]] = []
            before = None
            for version in await _versions(registry, subject):
                text = await registry.text(version.schema)
                changes = formats.differences(before or text, text)
                rows.append(
                    {
                        "version": version.version,
                        "id": version.id,
                        "format": version.schema.format.value,
                        "registered_at": version.registered_at,
                        "registered_by": version.registered_by,
                        "changes": [f"{change.path}: {change.words}" for change in changes],
                    }
                )
                before = text
            return rows

    rows = fig.run(work())
    lines: list[str] = []
    for row in rows:
        at = f"{row['registered_at']:%Y-%m-%d %H:%M}" if row["registered_at"] else ""
        lines.append(f"{row['version']:>3}  id {row['id']}  {row['format']}  {at}  {row['registered_by']}".rstrip())
        lines += [f"       {change}" for change in row["changes"]]
    fig.print(rows, "\n".join(lines))


def _subjects(fig: Fig) -> None:
    async def work() -> list[dict[str, Any]]:
        async with opened(fig) as registry:
            rows: list[dict[str, Any]] = []
            for subject in await registry.subjects():
                versions = await registry.versions(subject)
                level = await registry.level(subject)
                rows.append({"subject": subject, "versions": len(versions), "level": level.value})
            return rows

    rows = fig.run(work())
    width = max((len(row["subject"]) for row in rows), default=0)
    text = "\n".join(f"{row['subject']:<{width}}  {row['versions']} version(s)  {row['level']}" for row in rows)
    fig.print(rows, text or "Nothing is registered yet.")


async def _versions(registry: Registry, subject: str) -> Sequence[Version]:
    found = await registry.versions(subject)
    if not found:
        raise FigError(
            "unknown_subject", f"nothing is registered under '{subject}'", "fig schema history lists the subjects."
        )
    return found


@schema.command()
@click.argument("subject")
@click.argument("former", type=click.IntRange(min=1), required=False)
@click.argument("later", type=click.IntRange(min=1), required=False)
@click.pass_obj
def diff(fig: Fig, subject: str, former: int | None, later: int | None) -> None:
    """Say in words what changed between two versions of SUBJECT; the last two unless numbers are given.

    Example: fig schema diff inventory.StockAdjusted 1 3
    """

    async def work() -> dict[str, Any]:
        from stranglerfig.schemas import formats

        async with opened(fig) as registry:
            found = {version.version: version for version in await _versions(registry, subject)}
            numbers = list(found)
            after = later or numbers[-1]
            before = former or max((number for number in numbers if number < after), default=after)
            for number in (before, after):
                if number not in found:
                    known = ", ".join(map(str, numbers))
                    said = f"'{subject}' has no version {number}; it has {known}"
                    raise FigError("unknown_schema_version", said, "Give two of them.", subject=subject, version=number)
            old, new = [await registry.text(found[number].schema) for number in (before, after)]
            changes = [{"path": each.path, "words": each.words} for each in formats.differences(old, new)]
            return {"subject": subject, "from": before, "to": after, "changes": changes}

    result = fig.run(work())
    lines = [f"{change['path']}: {change['words']}" for change in result["changes"]]
    fig.print(result, "\n".join(lines) or f"Versions {result['from']} and {result['to']} say the same.")


@schema.command()
@click.option("--output", type=click.File("w", lazy=True), default="-", help="File; standard output by default.")
@click.pass_obj
def docs(fig: Fig, output: IO[str]) -> None:
    """Write the estate's topics, events and their readers as an AsyncAPI 3.0 document.

    Example: fig schema docs --output asyncapi.json
    """
    from stranglerfig.runtime.wiring import open_log
    from stranglerfig.schemas import estate

    async def work() -> dict[str, Any]:
        async with opened(fig) as registry:
            log = open_log(fig.project)
            try:
                readers = {topic.name: await estate.readers(log, topic.name) for topic in await log.topics()}
            finally:
                await log.close()
            return await estate.document(f"Events of {fig.project.estate.name}", registry, readers)

    output.write(dumps(fig.run(work())) + "\n")
    output.flush()

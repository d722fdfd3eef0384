"""``fig seams``: the bounded contexts that a monolith's own evidence suggests, and which to move first."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stranglerfig.cli import render
from stranglerfig.cli.events.choose import Duration
from stranglerfig.cli.main import Fig
from stranglerfig.foundation.files import written_whole

if TYPE_CHECKING:
    from stranglerfig.console.seams import EditsFile, SeamsServer
    from stranglerfig.seams.page import Session

EDITS = "seams-edits.json"


def _values(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for each in given:
        table, _sign, value = each.partition("=")
        try:
            found[table] = float(value)
        except ValueError:
            raise click.BadParameter(f"{each!r} is not TABLE=NUMBER", param=parameter) from None
    return found


def _moves(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        table, _sign, context = each.partition("=")
        if not table or not re.fullmatch(r"[A-Za-z]\w*", context):
            raise click.BadParameter(f"{each!r} is not TABLE=CONTEXT", param=parameter)
        found[table] = context
    return found


def _facades(fig: Fig) -> list[Path]:
    """The access log that the project's façade writes, the older file first."""
    file = fig.project.data_directory / "envoy" / "access.log"
    return [each for each in (file.with_name("access.log.1"), file) if each.is_file()]


@click.command()
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Sources in Python or Java: imports, models, SQL, routes. They are read, never run.",
)
@click.option(
    "--git",
    "history",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder in the repository of the sources: which modules change together.",
)
@click.option(
    "--sample",
    type=Duration(),
    help="Watch for so long (30s, 2m) which tables change in one transaction. Needs wal_level = logical.",
)
@click.option(
    "--access-log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Which routes are called: the façade's log by default, if there is one; else JSON lines with method and path,"
    " or the common log format. May be repeated.",
)
@click.option(
    "--statement-log",
    "statements",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="PostgreSQL's log of statements (jsonlog, csvlog or stderr): which of them a request in the access log ran,"
    " where they carry its trace in a comment (sqlcommenter). May be repeated.",
)
@click.option("--without-database", is_flag=True, help="Do not ask the monolith's database; tables are the sources'.")
@click.option(
    "--value",
    "values",
    multiple=True,
    metavar="TABLE=NUMBER",
    callback=_values,
    help="What it is worth to the business to move the context with this table; more is better. May be repeated.",
)
@click.option(
    "--move",
    "moves",
    multiple=True,
    metavar="TABLE=CONTEXT",
    callback=_moves,
    help="What if this table were in that context, or in a new one of that name: every figure before and after; --svg"
    " and --draft are of what is then. May be repeated.",
)
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the candidates into a file.")
@click.option(
    "--draft",
    nargs=2,
    metavar="CONTEXT FILE",
    help="Begin the model of a candidate (model.storm) from its tables and routes, for people to correct.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option(
    "--serve",
    is_flag=True,
    help="Open a page: look at the candidates, drag tables from one to another, see what that does to every figure.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="With --serve: the one of last time by default.")
@click.option(
    "--edits",
    "edits_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The file in which the page keeps what was moved; {EDITS} beside fig.yaml by default.",
)
@click.pass_obj
def seams(
    fig: Fig,
    source: Path | None,
    history: Path | None,
    sample: float | None,
    logs: tuple[Path, ...],
    statements: tuple[Path, ...],
    without_database: bool,
    values: dict[str, float],
    moves: dict[str, str],
    svg: Path | None,
    draft: tuple[str, str] | None,
    force: bool,
    serve: bool,
    host: str,
    port: int,
    edits_file: Path | None,
) -> None:
    """Rank candidate contexts by evidence from the monolith: its catalogue, statements, sources and history.

    Nothing is changed in the monolith; --sample has publications and a replication slot there while it lasts.

    Example: fig seams --source ../shop/monolith --git ../shop --svg seams.svg
    """
    from stranglerfig.console.seams import EditsFile, command, draft_of
    from stranglerfig.seams import collect, communities, drawing, edits, telling, transactions, whatif
    from stranglerfig.seams.page import Session

    if serve and (svg is not None or draft is not None):
        raise click.UsageError("--svg and --draft are not for --serve: the page has drafts, and is the picture")
    project = fig.project
    database = None if without_database else project.reveal(project.estate.monolith.database)
    bounds = None if sample is None else transactions.Bounds(sample)
    with render.beside(fig.json) as told:
        gathering = collect.collect(database, source, history, bounds, logs or _facades(fig), statements, told=told)
        evidence = fig.run(gathering)
        found = communities.find(evidence, told=told)
    session = Session(evidence, found, values)
    kept = EditsFile(edits_file or fig.directory / EDITS)
    if serve:
        _open(fig, session, kept, moves, host, port)
        return
    edited = session.shown(kept.read())
    ranked, what = session.ranking, None
    if moves:
        what = whatif.move(evidence, found, ranked, moves, values)
        found, ranked = what.found, what.ranking
    written: dict[Path, str] = {}
    if svg is not None:
        written[svg] = drawing.svg(evidence, ranked)
    if draft is not None:
        written[Path(draft[1])] = draft_of(evidence, ranked, draft[0])
    with ExitStack() as files:  # all of them or none
        for path, content in written.items():
            files.enter_context(written_whole(path, replace=force)).write_text(content, encoding="utf-8")
    result = telling.as_dict(evidence, found, ranked)
    said = telling.text(evidence, found, ranked)
    if what is not None:
        result["what_if"] = whatif.as_dict(what)
        said += "\n\n" + whatif.text(what)
    same = edits.as_moves(edited.division, session.proposal)
    if same and what is None:
        result["edits"] = {"file": str(kept.path), "moves": same, "command": command(_arguments(fig), same)}
        said += f"\n\nMoved on the page ({kept.path}); the same as\n  {result['edits']['command']}"
    fig.print(result, said + "".join(f"\nWritten: {path}" for path in written))


def _arguments(fig: Fig) -> list[str]:
    """What the command was given that says what to read and what it is worth; not what to make of it."""
    context = click.get_current_context()
    given = ["--project", str(fig.directory)] if fig.directory != Path() else []
    given.append("seams")
    for option, name in (("--source", "source"), ("--git", "history")):
        if (value := context.params[name]) is not None:
            given += [option, str(value)]
    if (sample := context.params["sample"]) is not None:
        given += ["--sample", f"{sample:g}s"]
    given += [part for log in context.params["logs"] for part in ("--access-log", str(log))]
    given += [part for log in context.params["statements"] for part in ("--statement-log", str(log))]
    given += ["--without-database"] if context.params["without_database"] else []
    return given + [part for each in context.params["values"].items() for part in ("--value", f"{each[0]}={each[1]:g}")]


def _open(fig: Fig, session: Session, kept: EditsFile, moves: dict[str, str], host: str, port: int) -> None:
    from stranglerfig.console import site
    from stranglerfig.console.seams import Door, SeamsServer
    from stranglerfig.seams import edits

    before = changed = kept.read()
    for table, name in sorted(moves.items()):
        changed = session.did(changed, edits.Move((table,), name))
    if changed != before:
        kept.write(changed)
    door = Door.of(fig.project.data_directory / "seams" / "page.json")
    server = SeamsServer(session, kept, door, fig.directory, _arguments(fig))
    fig.run(site.serve(server, host, port, lambda: _tell(fig, server)))


def _tell(fig: Fig, server: SeamsServer) -> None:
    lines = [
        f"The candidates of {server.folder.name}, and what if they were otherwise",
        f"  to work on them: {server.link()}",
        f"Edits are kept in {server.file.path}. End with Ctrl+C; the page then shows what it has, and edits nothing.",
    ]
    fig.print({"link": server.link(), "edits": str(server.file.path)}, "\n".join(lines))

"""``fig seams``: the bounded contexts that a monolith's own evidence suggests, and which to move first."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import click

from stranglerfig.cli.events.choose import Duration
from stranglerfig.cli.main import Fig
from stranglerfig.foundation.files import written_whole


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
) -> None:
    """Rank candidate contexts by evidence from the monolith: its catalogue, statements, sources and history.

    Nothing is changed in the monolith; --sample has publications and a replication slot there while it lasts.

    Example: fig seams --source ../shop/monolith --git ../shop --svg seams.svg
    """
    from stranglerfig.seams import collect, communities, drawing, ranking, telling, transactions, whatif
    from stranglerfig.storming import drafting
    from stranglerfig.storming import text as storm

    project = fig.project
    database = None if without_database else project.reveal(project.estate.monolith.database)
    bounds = None if sample is None else transactions.Bounds(sample)
    evidence = fig.run(collect.collect(database, source, history, bounds, logs or _facades(fig), statements))
    found = communities.find(evidence)
    ranked = ranking.rank(evidence, found, values)
    what = None
    if moves:
        what = whatif.move(evidence, found, ranked, moves, values)
        found, ranked = what.found, what.ranking
    written: dict[Path, str] = {}
    if svg is not None:
        written[svg] = drawing.svg(evidence, ranked)
    if draft is not None:
        name, file = draft
        tables, routes = ranking.contents(evidence, ranked, name)
        seeds = [drafting.Seed(t.name, tuple((c.name, c.type, c.optional) for c in t.columns), t.key) for t in tables]
        wishes = [drafting.Wish(route.method, route.path, route.tables) for route in routes]
        written[Path(file)] = storm.show(drafting.draft(name, seeds, wishes))
    with ExitStack() as files:  # all of them or none
        for path, content in written.items():
            files.enter_context(written_whole(path, replace=force)).write_text(content, encoding="utf-8")
    told = telling.as_dict(evidence, found, ranked)
    more = "".join(f"\nWritten: {path}" for path in written)
    said = telling.text(evidence, found, ranked)
    if what is not None:
        told["what_if"] = whatif.as_dict(what)
        said += "\n\n" + whatif.text(what)
    fig.print(told, said + more)

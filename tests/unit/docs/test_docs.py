"""The documentation holds: links resolve, commands and codes exist, snippets are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import unquote

import click
import pytest
from pydantic import BaseModel

from stranglerfig.changes.settings import Settings
from stranglerfig.cli import codes
from stranglerfig.cli.main import fig
from stranglerfig.databases import preflight
from stranglerfig.databases.mariadb import preflight as mariadb_preflight
from stranglerfig.extraction import on_mariadb
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.runtime import yamlfile
from stranglerfig.runtime.settings import Estate
from stranglerfig.telemetry import measures

ROOT = Path(__file__).parents[3]
PAGES = sorted({ROOT / "README.md", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
WRITTEN = [page for page in PAGES if "reference" not in page.parts]
MODELS: dict[str, type[Settings]] = {"extraction": ExtractionSettings, "fig": Estate}

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
SPAN = re.compile(r"`(?P<text>[^`\n]+)`")
WORD = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")
OTHERS = {
    "session_replication_role",
    "pg_logical_emit_message",
    "max_slot_wal_keep_size",
    "application_name",
    "binlog_snapshot_file",
    "no_data",
    "ext_proc",
    "rabbitmq_stream",
    "segment_bytes",
    "rabbitmq_prometheus",
    "collect_statistics_interval",
    "reply_to",
    "correlation_id",
    "user_id",
    "pg_stat_statements",
    "pg_read_all_stats",
    "shared_preload_libraries",
    "log_statement",
    "log_destination",
    "logging_collector",
    "log_min_duration_statement",
    "information_schema",
    "performance_schema",
    "order_line",
    "pg_replication_slots",
    "pg_stat_activity",
    "safe_wal_size",
    "wal_status",
    "runbook_url",
}
"""Words of PostgreSQL's, MariaDB's, Envoy's and RabbitMQ's, and of logs' addresses."""
EXAMPLES = ("fig_inventory_", "fig_holding_inventory", "inventory_", "reservations_", "stock_")
"""Beginnings of names in the worked scenario."""


class Block(NamedTuple):
    """A fenced code block and the words after its backticks."""

    info: list[str]
    body: str


def blocks(page: Path) -> list[Block]:
    """The fenced code blocks of a page."""
    return [Block(found["info"].split(), found["body"]) for found in FENCE.finditer(page.read_text())]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def anchor(heading: str) -> str:
    """The fragment by which a heading is linked to."""
    words = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return words.replace(" ", "-")


def name(page: Path) -> str:
    """How a page is called in a test's name."""
    return str(page.relative_to(ROOT))


def fig_lines(page: Path) -> Iterator[str]:
    """Every ``fig …`` command line: in shell blocks, and in backticks in the prose."""
    for block in blocks(page):
        if block.info[:1] in ([], ["sh"], ["console"], ["text"]):
            for line in block.body.replace("\\\n", " ").splitlines():
                if re.match(r"(\$ )?fig ", line.strip()) and "[OPTIONS]" not in line:
                    yield line.strip().removeprefix("$ ")
    for span in SPAN.finditer(prose(page)):
        if span["text"].startswith("fig "):
            yield span["text"]


def check(line: str) -> None:
    """Fail unless the command and every option of a command line exist."""
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = fig
    context = click.Context(fig, info_name="fig")
    while words:
        word = words.pop(0)
        if word == "…":
            return
        if word.startswith("-"):
            flag, _, value = word.partition("=")
            known = {o: p for p in command.params if isinstance(p, click.Option) for o in p.opts}
            known |= {o: p for p in fig.params if isinstance(p, click.Option) for o in p.opts}
            assert flag in known or flag in ("-h", "--help"), f"{line!r}: {command.name} has no option {flag}"
            option = known.get(flag)
            if option is not None and not option.is_flag and not value:
                assert len(words) >= option.nargs, f"{line!r}: {flag} wants a value"
                del words[: option.nargs]
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            assert found is not None, f"{line!r}: there is no command {word}"
            command = found
        else:
            allowed = [p for p in command.params if isinstance(p, click.Argument)]
            assert allowed, f"{line!r}: {command.name} takes no argument"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_resolves(page: Path) -> None:
    for link in LINK.finditer(prose(page)):
        target, _, fragment = link["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / unquote(target)).resolve() if target else page
        assert file.exists(), f"{name(page)}: {link['target']}"
        if fragment and file.suffix == ".md":
            anchors = {anchor(heading["text"]) for heading in HEADING.finditer(prose(file))}
            assert fragment in anchors, f"{name(page)}: {link['target']}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_line_is_one_that_fig_knows(page: Path) -> None:
    for line in fig_lines(page):
        check(line)


@pytest.mark.parametrize("line", ["fig advanse inventory", "fig advance inventory --sooner", "fig ps now"])
def test_a_command_line_that_fig_does_not_know_is_noticed(line: str) -> None:
    with pytest.raises(AssertionError):
        check(line)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_settings_snippet_is_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.info[:1] == ["yaml"] and len(block.info) == 2:
            file = tmp_path / "snippet.yaml"
            file.write_text(block.body)
            yamlfile.parse(yamlfile.read(file), MODELS[block.info[1]])


@pytest.mark.parametrize("page", [page for page in WRITTEN if "how-to" in page.parts], ids=name)
def test_settings_in_how_tos_are_marked_and_so_checked(page: Path) -> None:
    assert all(len(block.info) == 2 for block in blocks(page) if block.info[:1] == ["yaml"])


def fields(model: type[BaseModel], seen: set[str]) -> set[str]:
    """The names of all fields that a model of settings has, and those of the models in them."""
    for key, field in model.model_fields.items():
        seen.add(field.alias or key)
        for inner in models_in(field.annotation):
            fields(inner, seen)
    return seen


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


@cache
def known_words() -> frozenset[str]:
    """Words with an underscore that a page may use: codes, settings and KPIs, preflight findings, metrics."""
    settings = set().union(*(fields(model, set()) for model in MODELS.values()))
    judging = "".join(Path(room.__file__).read_text() for room in (preflight, mariadb_preflight, on_mariadb))
    findings = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', judging))
    measured = {name for measure in measures.ALL for name in (measure.name, *measures.series(measure))}
    return frozenset({*codes.catalogue(), *settings, *findings, *measured, *OTHERS})


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_every_code_setting_and_metric_exists(page: Path) -> None:
    text = prose(page)
    said = {span["text"] for span in SPAN.finditer(text) if WORD.fullmatch(span["text"])}
    said |= set(re.findall(r"fig explain ([a-z_]+)", page.read_text()))
    unknown = {word for word in said - known_words() if not word.startswith(EXAMPLES)}
    assert not unknown, f"{name(page)}: {', '.join(sorted(unknown))}"


def test_every_decision_has_its_parts_and_its_number() -> None:
    files = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        text = file.read_text()
        assert text.startswith(f"# {int(file.name[:4])}. "), file.name
        headings = [heading["text"] for heading in HEADING.finditer(text)][1:]
        assert headings == ["Context", "Choice", "Consequences"], file.name

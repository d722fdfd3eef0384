"""Contexts of django-oscar found without its names: combined evidence against foreign keys alone, and the ranking."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from statistics import mean
from subprocess import CalledProcessError, TimeoutExpired

import pytest

from stranglerfig.seams import communities, resolving, sources
from stranglerfig.seams import postgres as catalogue
from stranglerfig.seams.model import Evidence, known
from stranglerfig.seams.ranking import Ranking, rank
from tests.conftest import Server, required
from tests.integration.seams import oscar

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("oscar")
    try:
        return folder, oscar.install(folder)
    except (CalledProcessError, TimeoutExpired) as error:
        required(f"django-oscar cannot be installed from PyPI: {error}")


@pytest.fixture(scope="module")
def collected(postgres: Server, installed: tuple[Path, Path]) -> tuple[Evidence, dict[str, str]]:
    """The evidence of its 87 tables, and the truth about them."""
    folder, folder_of_sources = installed
    dsn = postgres.database()
    labels = oscar.create(folder, dsn)
    truth = {table: label for table, label in labels.items() if label not in oscar.NOT_OSCAR}
    found = asyncio.run(catalogue.collect(dsn))
    tables = tuple(table for table in found.tables if table.name in truth)
    found += resolving.evidence(sources.read(folder_of_sources))
    assert {table.name for table in tables} == set(truth)
    return known(replace(found, tables=tables)), truth


@pytest.fixture(scope="module")
def searched(collected: tuple[Evidence, dict[str, str]]) -> list[tuple[list[frozenset[str]], Ranking, dict[str, str]]]:
    """Of each numbering the parts with their names again, the ranking without, and the names."""
    return [found_in(collected[0], seed) for seed in SEEDS]


def found_in(evidence: Evidence, seed: int) -> tuple[list[frozenset[str]], Ranking, dict[str, str]]:
    hidden, names = oscar.anonymous(evidence, seed)
    found = communities.find(hidden)
    return [frozenset(names[table] for table in part.tables) for part in found.parts], rank(hidden, found), names


def test_no_label_leaks_into_the_evidence(collected: tuple[Evidence, dict[str, str]]) -> None:
    evidence, truth = collected
    hidden, names = oscar.anonymous(evidence, SEEDS[0])
    assert len(truth) == len(names) == 87
    said = {table.name for table in hidden.tables} | {use.name for use in hidden.uses}
    said |= {
        text for use in hidden.uses for text in (use.where, use.excerpt, use.module, *use.places.values(), *use.tables)
    }
    said |= {text for r in hidden.references for text in (r.table, r.target, r.where)}
    said |= {text for each in hidden.imports for text in (each.module, each.target, each.where)}
    assert all(re.fullmatch(r"[tmu]\d+|", text) for text in said)
    assert not any(table.columns or table.key for table in hidden.tables) and not hidden.coverage and not hidden.commits
    assert len(hidden.references) == len(evidence.references) and len(hidden.uses) == len(evidence.uses)


def test_combined_evidence_finds_them_better_than_foreign_keys(
    collected: tuple[Evidence, dict[str, str]], searched: list[tuple[list[frozenset[str]], Ranking, dict[str, str]]]
) -> None:
    evidence, truth = collected
    combined = [oscar.pairwise_f1(parts, truth) for parts, _, _ in searched]
    keys_only = replace(evidence, uses=(), imports=())
    by_keys = [oscar.pairwise_f1(found_in(keys_only, seed)[0], truth) for seed in SEEDS]
    print(f"pairwise F1: combined {combined}, foreign keys alone {by_keys}")
    assert min(combined) > 0.6
    assert mean(combined) > mean(by_keys) + 0.1


def test_what_is_isolated_ranks_before_the_hubs(
    collected: tuple[Evidence, dict[str, str]], searched: list[tuple[list[frozenset[str]], Ranking, dict[str, str]]]
) -> None:
    truth = collected[1]
    for _, ranked, names in searched:
        places = dict[str, int]()
        for label in set(truth.values()):
            most = max(ranked.candidates, key=lambda each: sum(truth[names[table]] == label for table in each.tables))
            places[label] = most.place
        print({label: place for label, place in sorted(places.items(), key=lambda item: item[1])})
        isolated, hubs = ("wishlists", "shipping", "payment"), ("catalogue", "order", "auth")
        assert max(places[label] for label in isolated) < min(places[label] for label in hubs)

"""The graph of evidence, the communities in it, and what git says."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from stranglerfig.seams import communities, history
from stranglerfig.seams.model import (
    MODULE,
    ROUTE,
    TABLE,
    Commit,
    Evidence,
    Import,
    Node,
    Reference,
    Table,
    Use,
    facts,
    known,
    resampled,
    ties,
)


def tables(*names: str) -> tuple[Table, ...]:
    return tuple(Table(name) for name in names)


def use(kind: str, name: str, reads: str = "", writes: str = "", **more: object) -> Use:
    return Use(kind, name, f"{name}:1", frozenset(reads.split()), frozenset(writes.split()), **more)  # type: ignore[arg-type]


def weight(found: Evidence, a: Node, b: Node) -> float:
    first, second = sorted((a, b), key=str)
    return sum(ties([(fact, 1.0) for fact in facts(found)]).get((first, second), {}).values())


def of(kind: str, *names: str) -> list[Node]:
    return [Node(kind, name) for name in names]


def test_a_table_that_many_point_to_ties_less() -> None:
    few = Evidence(references=(Reference("a", "b", ""),))
    many = Evidence(references=tuple(Reference(name, "b", "") for name in "acde"))
    a, b = of(TABLE, "a", "b")
    assert weight(few, a, b) == 1.0 and weight(many, a, b) == 0.5


def test_what_touches_much_ties_little_and_writing_ties_more() -> None:
    a, b = of(TABLE, "a", "b")
    two, four = (Evidence(uses=(use("statement", "s", writes=names),)) for names in ("a b", "a b c d"))
    read = Evidence(uses=(use("statement", "s", reads="a b"),))
    often = Evidence(uses=(use("statement", "s", writes="a b", times=1024),))
    assert (weight(two, a, b), weight(four, a, b), weight(read, a, b), weight(often, a, b)) == (1, 1 / 3, 0.5, 2)


def test_modules_and_routes_are_tied_to_their_tables_by_attention() -> None:
    found = Evidence(
        uses=(
            use("module", "m", reads="a", writes="b", counts={"a": 3, "b": 1}),
            use("module", "n", reads="a"),
            use("route", "GET /", reads="b", module="m"),
        ),
        imports=(Import("m", "n", "m:1"),),
        commits=(Commit("1", frozenset("mn")), Commit("2", frozenset("mno"))),
    )
    m, n = of(MODULE, "m", "n")
    a, b = of(TABLE, "a", "b")
    assert weight(found, m, a) == pytest.approx(2 * 3 / 4 / 2**0.5) and weight(found, m, b) == pytest.approx(0.5)
    assert weight(found, m, n) == pytest.approx(0.2 + 0.5 * (1 + 1 / 2))
    assert weight(found, Node(ROUTE, "GET /"), m) == 0.5 and weight(found, Node(ROUTE, "GET /"), b) == 1.0


def test_what_speaks_of_unknown_tables_is_left_out_and_each_key_is_once() -> None:
    found = known(
        Evidence(
            tables("a", "b"),
            (Reference("a", "b", "the catalogue's"), Reference("a", "b", "the model's"), Reference("a", "z", "")),
            (use("statement", "s", reads="a z", writes="b"), use("statement", "t", reads="z")),
        )
    )
    assert [r.where for r in found.references] == ["the catalogue's"]
    assert [(u.name, u.tables) for u in found.uses] == [("s", {"a", "b"})]


def test_evidence_adds_up_and_the_first_to_know_a_table_says_what_it_is() -> None:
    one = Evidence((Table("b", key=("id",)),), commits=(Commit("1", frozenset("ab")),))
    both = one + Evidence(tables("b", "a"), imports=(Import("m", "n", ""),))
    assert [(table.name, table.key) for table in both.tables] == [("a", ()), ("b", ("id",))]
    assert len(facts(both)) == 2


def test_a_sample_has_as_many_facts_as_there_are() -> None:
    found = facts(Evidence(references=tuple(Reference(a, b, "") for a, b in combinations("abcdef", 2))))
    drawn = resampled(found, random.Random(1))
    assert sum(times for _, times in drawn) == len(found) and len(drawn) < len(found)
    assert resampled([], random.Random(1)) == []


def two_groups(between: int) -> Evidence:
    """Two groups of four tables each, tied inside, and by some foreign keys between them."""
    inside = [pair for group in ("abcd", "wxyz") for pair in combinations(group, 2)]
    across = list(zip("abcd", "wxyz", strict=True))[:between]
    modules = (use("module", "m.py", writes="a b c d"), use("module", "n.py", writes="w x y z"))
    return Evidence(
        tables(*"abcdwxyz", "lonely"),
        tuple(Reference(a, b, "") for a, b in [*inside, *across]),
        (*modules, use("route", "GET /a", reads="a", module="m.py")),
        (Import("main.py", "m.py", ""), Import("far.py", "main.py", "")),
    )


def test_groups_are_found_with_what_belongs_to_them_and_are_stable() -> None:
    found = communities.find(two_groups(1))
    assert [set(part.tables) for part in found.parts] == [set("abcd"), set("wxyz"), {"lonely"}]
    assert {str(node) for node in found.parts[0].others} == {
        "module:m.py",
        "module:main.py",
        "module:far.py",
        "route:GET /a",
    }
    assert {str(node) for node in found.parts[1].others} == {"module:n.py"}
    assert all(part.stability > 0.75 for part in found.parts)
    assert found.together["a", "b"] > 0.5 and found.together.get(("a", "w"), 0.0) < 0.2
    assert communities.find(two_groups(1)) == found


def test_where_nothing_divides_them_they_are_less_stable() -> None:
    apart, mixed = communities.find(two_groups(0)), communities.find(two_groups(4))
    assert min(part.stability for part in mixed.parts) < min(part.stability for part in apart.parts)


def test_a_table_left_alone_goes_where_it_is_most_often_if_it_seldom_is_alone() -> None:
    parts = [frozenset("ab"), frozenset("yz"), frozenset("x"), frozenset("s")]
    together = {("a", "x"): 0.2, ("x", "y"): 0.4, ("x", "z"): 0.3}
    assert communities.joined(parts, together, ["x", "s", "a"]) == [set("xyz"), set("ab"), {"s"}]
    assert communities.joined(parts, together, []) == [set("ab"), set("yz"), {"s"}, {"x"}]
    assert communities.joined([frozenset("x")], {}, ["x"]) == [{"x"}]


def test_without_any_evidence_each_table_is_alone() -> None:
    found = communities.find(Evidence(tables("a", "b")))
    assert [set(part.tables) for part in found.parts] == [{"a"}, {"b"}] and not found.together


def test_git_counts_small_commits_of_several_modules() -> None:
    many = "\n".join(f"src/m{number}.py" for number in range(40))
    text = f"\0aa First things\n\nsrc/a.py\nsrc/b.py\ndocs/conf.py\n\0bb One file\n\nsrc/a.py\n\0cc Renamed\n\n{many}\n"
    found = history.parse(text, Path("/repo"), Path("/repo/src"))
    assert found.commits == (Commit("aa", frozenset({"a.py", "b.py"}), "First things"),)
    assert found.coverage[0].said == "3 commits, 1 of which change several modules; 1 with over 30 files left out"

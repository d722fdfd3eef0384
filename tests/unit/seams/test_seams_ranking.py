"""Candidates in order: fronts, ranks, reasons with their evidence, the first one; as text, JSON and picture."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.cli.main import dumps
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import communities, drawing, telling, traffic
from stranglerfig.seams.model import Column, Commit, Coverage, Evidence, Import, Reference, Table, Use, ties
from stranglerfig.seams.ranking import Ranking, contents, fronts, mean_ranks, rank
from stranglerfig.seams.transactions import counted


def use(kind: str, name: str, where: str, reads: str = "", writes: str = "", **more: object) -> Use:
    return Use(kind, name, where, frozenset(reads.split()), frozenset(writes.split()), **more)  # type: ignore[arg-type]


GET, POST = frozenset({"GET"}), frozenset({"POST"})
STOCK, SALES = "stock stock_log", "sales sale_lines"
SHOP = Evidence(
    (
        *(Table(name) for name in ("items", "sale_lines", "sales", "session")),
        Table("stock", (Column("id", "bigint", False), Column("n", "integer", True)), ("id",)),
        Table("stock_log"),
    ),
    (
        Reference("sale_lines", "sales", "f1: REFERENCES sales"),
        Reference("sale_lines", "items", "f2: REFERENCES items"),
        Reference("stock", "items", "f3: REFERENCES items"),
        Reference("stock_log", "stock", "f4: REFERENCES stock"),
    ),
    (
        use("module", "stock.py", "stock.py", "", STOCK),
        use(
            "module",
            "sales.py",
            "sales.py",
            "items stock_log",
            f"{SALES} stock",
            counts={"sales": 9, "sale_lines": 9},
            places={"stock": "sales.py:40"},
        ),
        use("module", "items.py", "items.py", "items"),
        use("route", "GET /items", "items.py:3", "items", methods=GET, module="items.py"),
        use("route", "POST /stock/adjust", "stock.py:3", "", STOCK, methods=POST, module="stock.py"),
        use("route", "GET /stock", "stock.py:4", "stock", methods=GET, module="stock.py"),
        use("route", "POST /sales", "sales.py:3", "", f"{SALES} stock", methods=POST, module="sales.py"),
        use("statement", "UPDATE stock", "sales.py:9", "", STOCK, excerpt="UPDATE stock SET n = n - 1"),
        use("statement", "INSERT sales", "sales.py:12", "", SALES),
        use("statement", "INSERT log", "stock.py:12", "", STOCK),
    ),
    (Import("sales.py", "stock.py", "sales.py:1"),),
    tuple(Commit(str(number), frozenset({"stock.py", "sales.py"})) for number in range(12)),
    (Coverage("catalogue", "read", "6 tables"),),
)


@pytest.fixture(scope="module")
def found() -> communities.Found:
    return communities.find(SHOP)


@pytest.fixture(scope="module")
def ranked(found: communities.Found) -> Ranking:
    return rank(SHOP, found)


def test_each_candidate_has_its_figures(ranked: Ranking) -> None:
    by_name = {each.name: each for each in ranked.candidates}
    stock = by_name["stock"]
    assert set(by_name) == {"stock", "sales", "items", "session"}
    assert stock.tables == ("stock", "stock_log") and stock.modules == ("stock.py",)
    assert [(r.table, r.target) for r in stock.keys_out] == [("stock", "items")] and not stock.keys_in
    assert [each.name for each in stock.cut] == ["POST /sales"]
    assert [each.name for each in stock.writers] == ["sales.py"] and not stock.readers
    assert (len(stock.routes), len(stock.exclusive), stock.changed) == (3, 2, 1.0)
    assert 0 < stock.cross < by_name["items"].cross < 1
    assert by_name["session"].cross == 0 and by_name["session"].changed is None


def test_each_claim_has_its_evidence(ranked: Ranking) -> None:
    stock = next(each for each in ranked.candidates if each.name == "stock")
    for_it = {claim.text: claim.evidence for claim in stock.reasons}
    against = {claim.text: claim.evidence for claim in stock.doubts}
    assert for_it["2 of the 3 routes to it touch nothing else"] == (
        "POST /stock/adjust (stock.py:3)",
        "GET /stock (stock.py:4)",
    )
    assert "no other table refers to its tables" in for_it
    assert against["its tables are written from outside by 1 module"] == (
        "sales.py:40 stock",
        "sales.py:9 UPDATE stock SET n = n - 1",
    )
    assert against["it refers to other tables by 1 foreign key, lost when it moves"] == (
        "stock → items (f3: REFERENCES items)",
    )
    assert any(text.startswith("100% of the commits") for text in against)


def test_what_nothing_touches_comes_last_and_reference_data_is_not_the_first(ranked: Ranking) -> None:
    assert ranked.candidates[-1].name == "session"
    assert ranked.first == "stock"
    assert [each.place for each in ranked.candidates] == [1, 2, 3, 4]
    items = next(each for each in ranked.candidates if each.name == "items")
    assert any("reference data" in claim.text for claim in items.doubts)


def test_that_nothing_was_found_is_said_only_where_it_was_looked_for() -> None:
    bare = Evidence(SHOP.tables, SHOP.references, coverage=SHOP.coverage)
    found = communities.find(bare)
    assert "BCP not known" in telling.text(bare, found, rank(bare, found))
    claims = [
        claim.text for each in rank(bare, communities.find(bare)).candidates for claim in (*each.reasons, *each.doubts)
    ]
    assert any("foreign key" in text for text in claims)
    assert not [text for text in claims if "writes" in text or "sources" in text or "route" in text]


def test_the_teams_value_counts(found: communities.Found, ranked: Ranking) -> None:
    valued = rank(SHOP, found, {"items": 5})
    items = next(each for each in valued.candidates if each.name == "items")
    assert items.front == 1 and items.value == 5
    assert any("values it at 5" in claim.text for claim in items.reasons)
    with pytest.raises(FigError) as refused:
        rank(SHOP, found, {"goods": 5})
    assert refused.value.code == "unknown_table"


def test_transactions_that_write_several_contexts_speak_against_it() -> None:
    sampled = counted([frozenset(STOCK.split())] * 30 + [frozenset({"sales", "sale_lines", "stock"})] * 10)
    both = SHOP + sampled
    found = communities.find(both)
    stock = next(each for each in rank(both, found).candidates if each.name == "stock")
    assert stock.tables == ("stock", "stock_log") and stock.entangled == 0.25
    assert [each.name for each in stock.cut] == ["POST /sales"]
    against = {claim.text: claim.evidence for claim in stock.doubts}
    assert against["25% of the sampled transactions that write its tables wrote others in one"] == (
        "written in one with sale_lines in 10 of 40 transactions",
        "written in one with sales in 10 of 40 transactions",
    )
    items = next(each for each in rank(both, found).candidates if each.name == "items")
    assert items.entangled is None
    alone = SHOP + counted([frozenset(STOCK.split())] * 2)
    stock = next(each for each in rank(alone, communities.find(alone)).candidates if each.name == "stock")
    said = "none of the 2 sampled transactions that write its tables wrote others as well"
    assert said in {claim.text for claim in stock.reasons}


def test_what_is_called_often_speaks_for_it() -> None:
    asked = Counter({("GET", "/stock"): 60, ("POST", "/sales"): 30, ("GET", "/items"): 10, ("GET", "/health"): 5})
    heard = traffic.joined(SHOP, asked)
    found = communities.find(heard)
    ranking = rank(heard, found)
    by_name = {each.name: each for each in ranking.candidates}
    stock, session = by_name["stock"], by_name["session"]
    assert (stock.traffic, stock.own_traffic, session.traffic) == (0.9, 0.6, 0.0)
    for_it = {claim.text: claim.evidence for claim in stock.reasons}
    assert for_it["60% of the requests go to routes that touch nothing else"] == ("GET /stock: 60 of 100 requests",)
    assert "none of the" not in "".join(claim.text for claim in (*stock.doubts, *session.doubts))
    assert " 90% " in telling.text(heard, found, ranking)
    assert rank(SHOP, found).candidates[0].traffic is None


def test_sets_that_are_written_in_one_count_by_how_often() -> None:
    sampled = counted([frozenset("ab")] * 6 + [frozenset("a")] * 2 + [frozenset()], seconds=3.2)
    assert [(use.name, use.times, use.of) for use in sampled.uses] == [("a + b", 6, 8), ("a", 2, 8)]
    (coverage,) = sampled.coverage
    assert (coverage.state, coverage.said) == ("read", "8 transactions in 3 s, 6 of them wrote several tables")
    (tie,) = ties([(use, 1.0) for use in sampled.uses]).values()
    assert tie == {"transaction": 0.5}


def test_contents_are_what_the_draft_of_a_model_is_made_of(ranked: Ranking) -> None:
    tables, routes = contents(SHOP, ranked, "Stock")
    assert [table.name for table in tables] == ["stock", "stock_log"]
    assert [(route.method, route.path, route.tables) for route in routes] == [
        ("POST", "/stock/adjust", ("stock", "stock_log"))
    ]
    with pytest.raises(FigError) as refused:
        contents(SHOP, ranked, "nobody")
    assert refused.value.code == "unknown_candidate"


points = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(points)
def test_no_point_of_a_front_beats_another_and_each_later_one_is_beaten(given: list[tuple[float, ...]]) -> None:
    layers = fronts(given)
    for point, layer in zip(given, layers, strict=True):
        better = [
            other
            for i, other in enumerate(given)
            if other != point and all(x <= y for x, y in zip(other, point, strict=True)) and layers[i] >= layer
        ]
        assert not better
        if layer > 1:
            assert any(
                before == layer - 1 and all(x <= y for x, y in zip(other, point, strict=True))
                for other, before in zip(given, layers, strict=True)
            )


@given(points)
def test_mean_ranks_sum_to_the_same_whatever_the_points(given: list[tuple[float, ...]]) -> None:
    assert sum(mean_ranks(given)) == pytest.approx(len(given) * (len(given) - 1) / 2)


def test_mean_ranks_of_nothing_and_of_a_tie() -> None:
    assert mean_ranks([]) == [] and mean_ranks([(1.0, 2.0), (1.0, 3.0)]) == [0.25, 0.75]


def test_the_text_says_first_what_was_read_and_last_where_to_begin(found: communities.Found, ranked: Ranking) -> None:
    lines = telling.text(SHOP, found, ranked).splitlines()
    assert lines[1].split() == ["catalogue", "read", "6", "tables"]
    assert lines[-1].startswith("Begin with stock.")
    assert any("ICP" in line and "NED" in line and "4 parts" in line for line in lines)


def test_json_has_all_of_it(found: communities.Found, ranked: Ranking) -> None:
    told = json.loads(dumps(telling.as_dict(SHOP, found, ranked)))
    assert told["first"] == "stock" and {"parts", "icp", "ned"} <= set(told["figures"])
    stock = next(each for each in told["candidates"] if each["name"] == "stock")
    assert (
        stock["writers"][0]["where"] == "sales.py" and stock["foreign_keys_out"][0]["where"] == "f3: REFERENCES items"
    )
    assert stock["cut"][0]["writes"] == ["sale_lines", "sales", "stock"]


def test_the_picture_has_a_box_for_each_and_lines_between_the_tied(ranked: Ranking) -> None:
    tree = ElementTree.fromstring(drawing.svg(SHOP, ranked))
    names = {"s": "http://www.w3.org/2000/svg"}
    texts = [element.text for element in tree.iterfind(".//s:text", names)]
    assert {"stock_log", "sale_lines", "session"} <= set(texts)
    assert len(tree.findall(".//s:rect[@class='box first']", names)) == 1
    ties = [element.findtext("s:title", "", names) for element in tree.iterfind(".//s:path", names)]
    assert any("items" in said and "stock" in said and "foreign keys" in said for said in ties)
    assert not any("session" in said for said in ties)


def test_the_text_leaves_out_a_long_statements_middle_and_json_nothing() -> None:
    long = f"UPDATE stock SET n = {'1 + ' * 500}1"
    evidence = replace(
        SHOP,
        uses=(*SHOP.uses, Use("statement", long[:60], "far.py:77", writes=frozenset({"stock", "sales"}), excerpt=long)),
    )
    found = communities.find(evidence)
    ranking = rank(evidence, found)
    told = telling.as_dict(evidence, found, ranking)
    doubts = [line for each in told["candidates"] for doubt in each["doubts"] for line in doubt["evidence"]]
    assert f"{long} (far.py:77)" in doubts
    lines = [line for line in telling.text(evidence, found, ranking).splitlines() if line.endswith("1 (far.py:77)")]
    assert lines and all(line.strip().startswith("UPDATE stock SET n = 1 + ") and len(line) < 380 for line in lines)

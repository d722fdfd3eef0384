"""A table in another context: what changes, and that nothing else does."""

from __future__ import annotations

import json

import pytest

from stranglerfig.cli.main import dumps
from stranglerfig.foundation.errors import FigError
from stranglerfig.seams import communities, whatif
from stranglerfig.seams.ranking import rank
from tests.unit.seams.test_seams_ranking import SHOP

FOUND = communities.find(SHOP)
RANKED = rank(SHOP, FOUND)


def test_every_figure_before_and_after() -> None:
    what = whatif.move(SHOP, FOUND, RANKED, {"stock_log": "sales"})
    by_name = {each.name: each for each in what.candidates}
    stock, sales = by_name["stock"], by_name["sales"]
    assert stock.before is not None and stock.before == next(c for c in RANKED.candidates if c.name == "stock")
    assert stock.after is not None and stock.after.tables == ("stock",)
    assert sales.after is not None and sales.after.tables == ("sale_lines", "sales", "stock_log")
    assert stock.figures["tables"] == (2, 1)
    assert stock.figures["foreign_keys_in"] == (0, 1)
    assert stock.figures["exclusive_routes"] == (2, 1)
    assert stock.figures["cut"] == (1, 4)  # both routes that write it, and two statements
    before, after = stock.figures["cross_share"]
    assert before is not None and after is not None and before < after
    before, after = stock.figures["stability"]
    assert before is not None and after is not None and before > after
    assert by_name["items"].figures["tables"] == (1, 1) and what.whole["parts"] == (4, 4)
    before, after = what.whole["modularity"]
    assert before is not None and after is not None and before > after


def test_a_context_is_made_for_a_table_and_one_that_has_none_left_goes() -> None:
    what = whatif.move(SHOP, FOUND, RANKED, {"session": "Login", "items": "stock"})
    by_name = {each.name: each for each in what.candidates}
    assert by_name["login"].before is None and by_name["session"].after is None and by_name["items"].after is None
    assert by_name["stock"].after is not None and by_name["stock"].after.tables == ("items", "stock", "stock_log")
    assert what.whole["parts"] == (4, 3)
    said = whatif.text(what)
    assert said.startswith("What if session were in login, items were in stock\n")
    assert "\n  login (new)\n" in said and "\n  items (has no table left)\n" in said
    assert "    parts             4 → 3\n" in said
    told = json.loads(dumps(whatif.as_dict(what)))
    stock = next(each for each in told["candidates"] if each["name"] == "stock")
    assert stock["figures"]["tables"] == {"before": 2, "after": 3}
    assert stock["tables"]["after"] == ["items", "stock", "stock_log"]


def test_a_move_to_where_it_is_changes_nothing() -> None:
    what = whatif.move(SHOP, FOUND, RANKED, {"stock_log": "stock"})
    assert not [each.name for each in what.candidates if each.changed]
    assert all(before == after for before, after in what.whole.values())
    assert "\n  as before: " in whatif.text(what) and "begin with: stock, as before" in whatif.text(what)


def test_a_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(FigError) as refused:
        whatif.move(SHOP, FOUND, RANKED, {"goods": "stock"})
    assert refused.value.code == "unknown_table"

"""The harness that teams write their tests with."""

from __future__ import annotations

import pytest

from stranglerfig.kit.testing import given
from tests.kit_shop import Ledger, StockAdjusted, StockLevel


def test_given_when_then() -> None:
    given(Ledger(7), StockAdjusted(7, 5, 5)).when(lambda ledger: ledger.enter(2)).then(StockAdjusted(7, 2, 7)).state(
        total=7, entries=2
    )
    given(StockLevel(7, 1)).when(lambda level: level.adjust(-2)).refused("insufficient_stock", available=1)
    given(StockLevel(7, 1)).when(lambda level: level.adjust(1)).when(lambda level: level.adjust(-2)).then(
        StockAdjusted(7, 1, 2), StockAdjusted(7, -2, 0)
    )


def test_what_is_not_so_is_said() -> None:
    level = given(StockLevel(7, 1)).when(lambda level: level.adjust(1))
    with pytest.raises(AssertionError, match="recorded: "):
        level.then(StockAdjusted(7, 1, 3))
    with pytest.raises(AssertionError, match="recorded: "):
        level.refused("insufficient_stock")
    with pytest.raises(AssertionError, match="on_hand': 2"):
        level.state(on_hand=3)
    refused = given(StockLevel(7, 1)).when(lambda level: level.adjust(-2))
    with pytest.raises(AssertionError, match="refused: insufficient_stock"):
        refused.then()
    with pytest.raises(AssertionError, match=r"insufficient_stock \{'available': 1\}"):
        refused.refused("insufficient_stock", available=2)

"""The rules, without any I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.shop.service.domain import LARGEST, ItemReserved, Refused, ReservationReleased, StockAdjusted, StockLevel


def test_an_adjustment_says_what_is_on_hand_after_it() -> None:
    assert StockLevel(1, 10, 2).adjust(-3, "broken") == StockAdjusted(1, -3, 7, 2, "broken")


def test_what_is_promised_cannot_be_taken_away() -> None:
    with pytest.raises(Refused, match="insufficient_stock"):
        StockLevel(1, 10, 8).adjust(-3, "broken")


def test_a_level_has_an_upper_end() -> None:
    with pytest.raises(Refused, match="too_many"):
        StockLevel(1, LARGEST, 0).adjust(1, "found")


def test_only_what_is_available_is_promised() -> None:
    level = StockLevel(1, 10, 8)
    assert level.reserve(2, 77) == ItemReserved(1, 2, 77, 10, 10)
    with pytest.raises(Refused, match="insufficient_stock"):
        level.reserve(3, None)


def test_a_promise_is_taken_back_once() -> None:
    level = StockLevel(1, 10, 8)
    assert level.release(5, 3, "held") == ReservationReleased(1, 5, 3, 10, 5)
    with pytest.raises(Refused, match="already_released"):
        level.release(5, 3, "released")


@given(st.lists(st.tuples(st.sampled_from(("adjust", "reserve")), st.integers(-50, 50))), st.integers(0, 100))
def test_whatever_is_decided_the_level_stays_sound(commands: list[tuple[str, int]], on_hand: int) -> None:
    level = StockLevel(1, on_hand, 0)
    for kind, number in commands:
        try:
            event = level.adjust(number, "") if kind == "adjust" else level.reserve(abs(number) + 1, None)
        except Refused:
            continue
        level = level.after(event)
        assert 0 <= level.reserved <= level.on_hand

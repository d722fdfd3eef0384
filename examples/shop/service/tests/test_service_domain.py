"""The rules, without any I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from examples.shop.service.domain import (
    LARGEST,
    ItemReserved,
    Reservation,
    ReservationReleased,
    StockAdjusted,
    StockLevel,
)
from stranglerfig.kit import Refused
from stranglerfig.kit import testing as kit


def promise(quantity: int, state: str = "held") -> Reservation:
    return Reservation(5, 1, 77, quantity, state)


def test_an_adjustment_says_what_is_on_hand_after_it() -> None:
    level = kit.given(StockLevel(1, 10, 2))
    level.when(lambda level: level.adjust(-3, "broken")).then(StockAdjusted(1, -3, 7, 2, "broken")).state(on_hand=7)


def test_what_is_promised_cannot_be_taken_away() -> None:
    kit.given(StockLevel(1, 10, 8)).when(lambda level: level.adjust(-3, "broken")).refused("insufficient_stock")


def test_a_level_has_an_upper_end() -> None:
    kit.given(StockLevel(1, LARGEST, 0)).when(lambda level: level.adjust(1, "found")).refused("too_many")


def test_only_what_is_available_is_promised() -> None:
    level = kit.given(StockLevel(1, 10, 8)).when(lambda level: level.reserve(promise(2)))
    level.then(ItemReserved(1, 2, 77, 10, 10, 5)).when(lambda level: level.reserve(promise(1))).refused(
        "insufficient_stock"
    )


def test_a_promise_is_taken_back_once() -> None:
    held = promise(3)
    level = kit.given(StockLevel(1, 10, 8)).when(lambda level: level.release(held))
    level.then(ReservationReleased(1, 5, 3, 10, 5))
    level.when(lambda level: level.release(held)).refused("already_released")


@given(st.lists(st.tuples(st.sampled_from(("adjust", "reserve")), st.integers(-50, 50))), st.integers(0, 100))
def test_whatever_is_decided_the_level_stays_sound(commands: list[tuple[str, int]], on_hand: int) -> None:
    level = StockLevel(1, on_hand, 0)
    for kind, number in commands:
        try:
            _ = level.adjust(number, "") if kind == "adjust" else level.reserve(promise(abs(number) + 1))
        except Refused:
            continue
        assert 0 <= level.reserved <= level.on_hand

"""Sagas as classes: what they declare, and what could not be kept to is refused when the class is made."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.sagas import Retry, Saga, call, step
from stranglerfig.sagas.declaring import StepDeclaration, kind_of_saga, seconds
from stranglerfig.sagas.model import Answered, Status, Step
from tests.saga_shop import (
    SOON,
    Charge,
    Charged,
    Checkout,
    Declined,
    ItemReserved,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    Release,
    Released,
    Reserve,
    SoldOut,
)

RESERVE = step(Reserve, ok=ItemReserved, fail=SoldOut, undo=Release, undone=Released)
CHARGE = step(Charge, ok=Charged, fail=Declined, pivot=True)


async def nothing(saga: Any, key: str) -> None:
    """A call."""


def declared(steps: dict[str, StepDeclaration], fields: dict[str, Any] | None = None, **kind: Any) -> type[Saga]:
    """A saga class of these steps; its fields have defaults where they are not of the order."""
    known = fields if fields is not None else {"order_id": int, "item_id": int, "quantity": int, "cents": int}
    return type("Made", (Saga,), {"__annotations__": known, "__module__": __name__, **steps},
                type="orders.Made", starts=OrderPlaced, **kind)  # fmt: skip


def test_the_steps_as_the_model_runs_them() -> None:
    definition = kind_of_saga(Checkout).definition
    assert (definition.name, definition.version, definition.within) == ("orders.Checkout", 1, 60.0)
    look, *others = definition.steps
    assert (
        look.undo_answers
        and look.when is not None
        and look.when(kind_of_saga(Checkout).of_start(OrderPlaced(10, 1, 1, 1)))
    )
    assert others == [
        Step("reserve", 1, 5.0, SOON, True, True, Retry(attempts=20)),
        Step("charge", 2, 5.0, Retry(None, 0.05, most=1), False, False, Retry(attempts=20), True),
    ]


def test_steps_side_by_side_are_one_group_and_calls_answer_for_themselves() -> None:
    cls = declared({"a": call(nothing, undo=nothing), "b": step(Charge, ok=Charged, beside="a"), "c": RESERVE})
    steps = kind_of_saga(cls).definition.steps
    assert [(each.name, each.group) for each in steps] == [("a", 0), ("b", 0), ("c", 2)]
    assert steps[0].undo and steps[0].undo_answers


def test_fields_come_from_the_first_event_and_go_into_commands_and_ends() -> None:
    kind = kind_of_saga(Checkout)
    data = kind.of_start(OrderPlaced(1, 2, 3, 400))
    assert data == {"order_id": 1, "item_id": 2, "quantity": 3, "cents": 400, "reason": ""}
    saga = kind.saga(data)
    assert saga == Checkout(1, 2, 3, 400)
    assert kind.message(Reserve, saga) == Reserve(2, 1, 3)
    assert kind.message(Reserve, saga, {"quantity": "order_id"}) == Reserve(2, 1, 1)
    assert kind.message(OrderConfirmed, saga) == OrderConfirmed(1)
    assert kind.message(SoldOut, saga) == SoldOut(2, 1, "")
    assert kind.end(Status.COMPLETED, saga) == OrderConfirmed(1)
    assert kind.end(Status.COMPENSATED, saga) == kind.end(Status.REFUSED, saga) == OrderRejected(1, "")
    assert kind.end(Status.RUNNING, saga) is None
    refused = Answered("reserve", 1, False, keep={"reason": "none left"})
    assert kind.answer("reserve", 1, SoldOut(2, 1, "none left"), undo=False) == refused
    assert kind.answer("reserve", 1, ItemReserved(2, 1, 3), undo=False) == Answered("reserve", 1, True)
    assert kind.answer("reserve", 1, Released(2, 1), undo=False) is None


def test_a_property_decides_whether_a_step_is_needed() -> None:
    class Gift(Saga, type="orders.Gift", starts=OrderPlaced):
        order_id: int
        cents: int

        @property
        def is_large(self) -> bool:
            """Whether it is worth a letter."""
            return self.cents > 1000

        charge = step(Charge, ok=Charged, when="is_large")

    (found,) = kind_of_saga(Gift).definition.steps
    assert found.when is not None
    assert found.when({"order_id": 1, "cents": 2000}) and not found.when({"order_id": 1, "cents": 10})


def test_steps_are_inherited() -> None:
    class Wide(Checkout, type="orders.Wide", starts=OrderPlaced):
        ship = call(nothing)

    assert [each.name for each in kind_of_saga(Wide).definition.steps] == ["look", "reserve", "charge", "ship"]
    with pytest.raises(FigError, match="is not a type"):
        type("Made", (Saga,), {"__annotations__": {"order_id": int}, "a": CHARGE}, type="o:x.L", starts=OrderPlaced)


@pytest.mark.parametrize(("text", "expected"), [("500ms", 0.5), ("30s", 30.0), ("1.5h", 5400.0), (7, 7), (None, None)])
def test_times_as_people_write_them(text: Any, expected: float | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("steps", "more", "said"),
    [
        ({}, {}, "has no steps"),
        ({"a": CHARGE, "b": CHARGE}, {}, "2 pivots"),
        ({"a": CHARGE, "b": RESERVE}, {}, "b has an undo behind the pivot"),
        ({"a": RESERVE, "b": step(Charge, ok=Charged, pivot=True, beside="a")}, {}, "side by side"),
        ({"a": CHARGE, "b": step(Charge, ok=Charged, beside="a")}, {}, "side by side"),
        ({"a": RESERVE, "p": CHARGE, "b": step(Charge, ok=Charged, beside="a")}, {}, "beside 'a', before it"),
        ({"a": step(Charge, ok=Charged, beside="z")}, {}, "no step before it"),
        ({"a": step(Charge, ok=Charged, when="nope")}, {}, "'nope'"),
        ({"a": step(Charge, ok=Charged, keep=["nope"])}, {}, "keeps"),
        ({"a": step(Charge, ok=[])}, {}, "no answer that says it was done"),
        ({"a": step(Charge, ok=Charged, fail=Charged)}, {}, "both done and refused"),
        ({"a": step(Reserve, ok=ItemReserved, undo=Charge)}, {}, "the undo could come first"),
        ({"a": step(Charge, ok=Charged, using={"cents": "euros"})}, {}, "'euros'"),
        ({"a": step(Charge, ok=Charged, keep=["order_id", "cents"])}, {}, "keeps"),
        ({"a": step(Reserve, ok=ItemReserved, undo=Release, undo_fail=SoldOut)}, {}, "never said to be done"),
        ({"a": CHARGE}, {"lock": "euros"}, "locks by 'euros'"),
        ({"a": CHARGE}, {"lock": "order_id", "when_held": "fail"}, "when_held is 'fail'"),
        ({"a": CHARGE}, {"when_held": "refuse"}, "holds nothing"),
        ({"a": CHARGE}, {"compensated": OrderRejected}, "its end: OrderRejected needs 'reason'"),
        ({"a": CHARGE}, {"fields": {"order_id": int, "cents": int, "euros": int}}, "'euros' has no default"),
        ({"a": CHARGE}, {"fields": {"order_id": int}}, "no field of the saga is called 'cents'"),
        ({"a": CHARGE}, {"within": "soon"}, "'soon' is not a time"),
    ],
)
def test_what_could_not_be_kept_to_is_refused(steps: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said) as caught:
        declared(steps, **more)
    assert caught.value.code == "saga_misdeclared" and caught.value.remedy

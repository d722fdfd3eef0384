"""Rehearsals: a saga in a team's own tests."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.sagas import Retry, Saga, call
from stranglerfig.sagas.model import Status
from stranglerfig.sagas.testing import Rehearsal
from tests.saga_shop import (
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


def test_a_saga_as_a_team_rehearses_it() -> None:
    run = Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900))
    assert run.said == [Reserve(7, 1, 2)]
    assert run.answer(ItemReserved(7, 1, 2)).said == [Charge(1, 900)]
    assert run.answer(Charged(1)).said == [OrderConfirmed(1)] and run.status is Status.COMPLETED


def test_refusals_and_their_reasons() -> None:
    run = Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900)).answer(ItemReserved(7, 1, 2)).answer(Declined(1, "no cover"))
    assert run.asked[2:] == [Release(7, 1)] and run.fields.reason == run.data["reason"] == "no cover"
    run.answer(Released(7, 1))
    assert run.asked[3:] == [OrderRejected(1, "no cover")] and run.status is Status.COMPENSATED
    assert Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900)).answer(SoldOut(7, 1)).asked[1:] == [
        OrderRejected(1, "sold out")
    ]


def test_time_goes_through_every_timeout() -> None:
    run = Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900))
    assert run.said == [Reserve(7, 1, 2)] and run.wait("4.9s").said == []
    assert run.wait().said == [Reserve(7, 1, 2)] and run.now == 5.0
    assert run.wait("1h").asked[2:4] == [Reserve(7, 1, 2), Release(7, 1)]
    assert run.status is Status.COMPENSATING or run.blocked == ("reserve",)
    run = Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900))
    with pytest.raises(LookupError, match="answered by Charged"):
        run.answer(Charged(1))


def test_calls() -> None:
    async def pay(saga: Any, key: str) -> None: ...

    class Paying(Saga, type="orders.Paying", starts=OrderPlaced):
        order_id: int
        receipt: str = ""

        pay_it = call(pay, undo=pay, retry=Retry(attempts=2), undo_retry=Retry(attempts=2))

    run = Rehearsal(Paying, OrderPlaced(1, 7, 2, 900))
    assert run.calls == [("pay_it", "saga:orders.Paying:rehearsal:pay_it:1")]
    assert run.returns("pay_it", receipt="r1").fields.receipt == "r1" and run.status is Status.COMPLETED
    with pytest.raises(LookupError, match="nothing that time would do"):
        run.wait()
    assert Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).refuses("pay_it").status is Status.COMPENSATED
    run = Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).refuses("pay_it", receipt="none", fee=3)
    assert run.data == {"order_id": 1, "receipt": "none"}, "a refusal may have facts that are not the saga's"
    assert Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).refuses("pay_it", receipt=object()).fields.receipt == ""
    with pytest.raises(ValueError, match="receipt"):
        Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).returns("pay_it", receipt=7)
    with pytest.raises(LookupError, match="fee"):
        Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).returns("pay_it", fee=7)
    run = Rehearsal(Paying, OrderPlaced(1, 7, 2, 900)).breaks("pay_it").wait().breaks("pay_it")
    assert run.calls[2] == ("pay_it", "saga:orders.Paying:rehearsal:pay_it:1~undo")
    run.breaks("pay_it").wait().breaks("pay_it")
    assert run.status is Status.NEEDS_OPERATOR and run.blocked == ("pay_it",)
    assert run.retry().status is Status.COMPENSATING
    assert run.breaks("pay_it").wait().breaks("pay_it").resolve().status is Status.COMPENSATED
    with pytest.raises(LookupError, match="no call of look"):
        Rehearsal(Checkout, OrderPlaced(1, 7, 2, 900)).returns("look")

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.eventlog.model import Event as LogEvent
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Aggregate, Event, Projection, Service, evolves
from stranglerfig.kit.aggregates import belong, whole_id_of
from stranglerfig.kit.aggregates import within as within_class
from stranglerfig.kit.consumer import cause_of, digest
from stranglerfig.kit.projections import Build
from stranglerfig.kit.states import _TENANTS, _tenant_value
from stranglerfig.kit.tenants import Within, tenant_of, within
from stranglerfig.sagas.instances import command_id, place_of, saga_id

NAMES = st.text("a@/%-\0ß", max_size=4)
WHOSE = st.none() | st.text("a@/%-\0ß", min_size=1, max_size=3)
AT = datetime(2026, 11, 22, tzinfo=UTC)


class Counted(Event, type="counts.Counted", key="id"):
    id: int


class Counter(Aggregate, table="counter", id="id", tenant="tenant_id"):
    id: int
    count: int = 0


class Shared(Aggregate, table="shared", id="id"):
    id: int


def code(work: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(FigError) as caught:
        work(*given, **more)
    return caught.value.code


@given(WHOSE, NAMES, WHOSE, NAMES)
def test_no_two_tenants_have_a_name_in_common(one: str | None, name: str, other: str | None, another: str) -> None:
    assert (within(one, name) == within(other, another)) == ((one, name) == (other, another))


def test_names_of_no_tenant_stay_as_they_are() -> None:
    assert (within(None, "ledger-7"), within("acme", "ledger-7")) == ("ledger-7", "@acme/ledger-7")
    assert within(None, "@acme/ledger-7") != within("acme", "ledger-7")


def test_what_is_kept_by_tenant_is_told_apart_by_it() -> None:
    assert within_class(Counter, 7, "acme") == Within("acme", 7) != within_class(Counter, 7, "globex")
    assert within_class(Shared, 7, "acme") == within_class(Shared, 7, None) == 7
    assert code(within_class, Counter, 7, None) == "tenant_missing"
    counter = Counter(7)
    assert code(belong, counter, None) == "tenant_missing"
    belong(counter, "acme")
    belong(counter, "acme")
    assert whole_id_of(counter) == Within("acme", 7) and Counter._tenant is None
    assert code(belong, counter, "globex") == "tenant_differs"
    belong(Shared(7), None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"table": "t", "tenant": True}, "column"),
        ({"stream": "t", "tenant": "tenant_id"}, "stream"),
        ({"table": "t", "tenant": "id"}, "is a field"),
    ],
)
def test_a_tenant_that_is_declared_wrongly_is_refused(line: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said) as caught:
        type("Wrong", (Aggregate,), {"__annotations__": {"id": int}}, id="id", **line)
    assert caught.value.code == "message_misdeclared"


@pytest.mark.parametrize(
    ("kind", "good", "wrong"),
    [
        ("text", ["acme", " x", "7", "007"], ["a\0"]),
        ("uuid", ["5f1d7f0e-0e5b-4b53-8d2c-0f8c2f0a7a11"], ["5F1D7F0E-0E5B-4B53-8D2C-0F8C2F0A7A11", "acme", ""]),
        (
            "integer",
            ["7", "-7", "2147483647"],
            ["007", "+7", " 7", "1_0", "\N{ARABIC-INDIC DIGIT SEVEN}", "2147483648", "7.0", "9" * 5000],
        ),
        ("bigint", ["2147483648"], ["9223372036854775808"]),
    ],
)
def test_no_two_spellings_are_one_tenant(kind: str, good: list[str], wrong: list[str]) -> None:
    assert [str(_tenant_value(each, *_TENANTS[kind])) for each in good] == good
    assert [_tenant_value(each, *_TENANTS[kind]) for each in wrong] == [None] * len(wrong)


def test_an_event_is_told_apart_by_whose_it_is_as_well() -> None:
    plain = LogEvent("1", "/s", "T", AT, b"")
    mine, yours = plain._replace(tenantid="acme"), plain._replace(tenantid="globex")
    assert len({digest(each) for each in (plain, mine, yours)}) == 3
    assert digest(plain) == digest(plain._replace(tenantid=""))  # CloudEvents has no empty attributes
    assert (tenant_of(mine), tenant_of(plain._replace(tenantid=""))) == ("acme", None)
    assert cause_of(mine) == replace(cause_of(plain), tenant="acme")


def test_a_projection_by_tenant_has_its_rows_by_both() -> None:
    class Counts(Projection, name="counts", id="id", indexes=["count"], tenant="tenant_id"):
        id: int
        count: int = 0

        @evolves(Counted)
        def _counted(self, event: Counted) -> None:
            self.count += 1

    made = Build(Counts.__shape__, 1).create()
    assert '"tenant_id" text NOT NULL, "id" bigint NOT NULL' in made and 'PRIMARY KEY ("tenant_id", "id")' in made
    assert '("tenant_id", "count")' in made
    with pytest.raises(FigError, match="is a field"):

        class Wrong(Projection, name="wrong", id="id", tenant="id"):
            id: int


@pytest.mark.parametrize("tenant", ["", "a\0", "a\n"])
def test_a_service_is_of_a_tenant_that_can_be(tenant: str) -> None:
    assert code(Service, "inventory", database="postgresql://nowhere/", tenant=tenant) == "bad_tenant"


def test_a_sagas_command_is_its_tenants() -> None:
    ids = {saga_id("orders.Checkout", "/shop", "order-1", each) for each in (None, "acme", "globex")}
    assert len(ids | {saga_id("orders.Checkout", "/mail", "order-1")}) == 4
    place = place_of(f"@ac%2Fme/saga:orders.Checkout:{min(ids)}:reserve:1~undo#2")
    assert place is not None and (place.id, place.step, place.undo) == (min(ids), "reserve", True)
    assert place_of(within("acme", command_id(place, 3))) == place == place_of(command_id(place, 3))
    assert place_of(f"x@acme/saga:orders.Checkout:{min(ids)}:reserve:1") is None

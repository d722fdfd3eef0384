"""Personal values: sealed under their subject's key, opened where they were sealed and nowhere else."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from typing import Annotated, Any, NewType

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import WithJsonSchema

from stranglerfig.eventlog import model as log
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Aggregate, Command, Event, Projection, evolves, sealing, testing
from stranglerfig.kit.messages import (
    data_of,
    decode,
    keys_wanted,
    kind_of,
    schema_of,
    sealed_data_of,
    subjects_of,
)
from stranglerfig.kit.sealing import Key
from stranglerfig.sagas import Saga, step
from tests.kit_people import Card, Customer, CustomerMoved, GiftSent
from tests.kit_shop import OrderPlaced

AT = datetime(2026, 1, 2, tzinfo=UTC)
CustomerId = NewType("CustomerId", int)


def key(number: int) -> Key:
    return Key(f"00000000-0000-4000-8000-{number:012d}", sealing.cipher(bytes([number]) * 32))


ANN, BEN = key(1), key(2)
BY_SUBJECT, BY_ID = {"1": ANN, "2": BEN, "ben": BEN}, {each.id: each for each in (ANN, BEN)}


def written(data: Any, type: str = "crm.CustomerMoved", version: int = 2) -> log.Event:
    data = data if isinstance(data, bytes) else orjson.dumps(data)
    return log.Event("e1", "/crm", type, AT, data, dataschema=f"fig:schemas/{type}/{version}")


def sealed(event: Event) -> dict[str, Any]:
    return orjson.loads(sealed_data_of(event, BY_SUBJECT))  # type: ignore[no-any-return]


class Everything(Event, type="crm.Everything", key="who", personal={"what": "who"}):
    who: str
    number: int
    what: list[int | float | str | None] | None = None


@given(
    st.text(),
    st.integers(-(2**70), 2**70),
    st.none()
    | st.lists(st.text() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.none()),
)
def test_what_is_sealed_is_opened(who: str, number: int, what: list[int | float | str | None] | None) -> None:
    event = Everything(who, number, what)
    data = sealed_data_of(event, {who: ANN})
    assert decode(Everything, written(data, "crm.Everything", 1), BY_ID) == event
    assert decode(Everything, written(data, "crm.Everything", 1)) == Everything(who, number)


def test_what_is_written_says_nothing() -> None:
    event = CustomerMoved(1, "Elm Street 5", date(1990, 5, 17), 3)
    found = sealed(event)
    assert (found["customer_id"], found["moves"]) == (1, 3)
    assert found["street"].startswith(f"fig:sealed:1:{ANN.id}.customer_id:")
    assert not any(word in orjson.dumps(found).decode() for word in ("Elm", "1990"))
    assert sealed(event)["street"] != found["street"], "no nonce twice"
    assert keys_wanted(CustomerMoved, written(found)) == [ANN.id] * 2
    assert "AESGCM" in repr(ANN) and repr(b"\1" * 32)[2:-1] not in repr(ANN)


def test_each_field_has_its_own_subject() -> None:
    event = GiftSent("g", 1, "ben", "hello", ["Elm Street"])
    assert subjects_of(event) == {"1", "ben"} and subjects_of(GiftSent("g", 1, "ben", "hello")) == {"1"}
    bens = {BEN.id: BEN}
    assert decode(GiftSent, written(sealed(event), "crm.GiftSent", 1), bens) == GiftSent(
        "g", 1, "ben", None, ["Elm Street"]
    )


def test_what_is_not_personal_needs_no_key() -> None:
    assert sealed(OrderPlaced(7, 2)) == {"item_id": 7, "quantity": 2} and subjects_of(OrderPlaced(7, 2)) == set()
    assert subjects_of(CustomerMoved(3)) == set() and sealed(CustomerMoved(3))["street"] is None


@pytest.mark.parametrize("what", ["another subject", "another field", "another type", "changed", "the field's name"])
def test_what_was_moved_does_not_open(what: str) -> None:
    class Other(Event, type="crm.Other", key="customer_id", personal={"street": "customer_id"}):
        customer_id: int
        street: str | None = None

    data = sealed(CustomerMoved(1, "Elm Street 5"))
    read: type[Event] = CustomerMoved
    if what == "another subject":
        data["customer_id"] = 2
    elif what == "another field":
        data["born"], data["street"] = data["street"], None
    elif what == "another type":
        read, data = Other, {"customer_id": 1, "street": data["street"]}
    elif what == "changed":
        head, _, text = data["street"].rpartition(":")
        data["street"] = f"{head}:{'B' if text[0] == 'A' else 'A'}{text[1:]}"
    else:
        data["moves"], data["street"] = 1, data["street"].replace(".customer_id:", ".moves:")
    kind = kind_of(read)
    with pytest.raises(FigError, match="was changed, or belongs to another event") as caught:
        decode(read, written(data, kind.type, kind.version), BY_ID)
    assert caught.value.code == "message_unreadable"


def test_plain_values_of_before_are_read() -> None:
    plain = {"customer_id": 1, "street": "Elm Street 5", "moves": 3}
    assert decode(CustomerMoved, written(plain)) == CustomerMoved(1, "Elm Street 5", None, 3)
    assert decode(CustomerMoved, written(plain | {"street": "fig:sealed:1:nothing"})).street == "fig:sealed:1:nothing"


def test_upcasters_are_given_what_is_opened() -> None:
    """Under the names that the fields had then."""
    data = sealing.seal(
        "crm.CustomerMoved", {"road": "who"}, {"who": 1, "road": "Elm", "note": "fig:sealed:1:x.y:z"}, BY_SUBJECT
    )
    assert decode(CustomerMoved, written(data, version=1), BY_ID) == CustomerMoved(1, "Elm", None, 3)
    assert decode(CustomerMoved, written(data, version=1)) == CustomerMoved(1, None, None, 0)


def test_of_an_older_version_a_text_that_only_looks_sealed_stays() -> None:
    text = f"fig:sealed:1:{ANN.id}.who:"
    for data in ({"who": 1, "road": text + "QUJD" * 12}, {"who": 1, "road": text + "="}):
        assert decode(CustomerMoved, written(data, version=1), BY_ID).street == data["road"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "ValueError"),
        ([1], "data: dataclass"),
        ({"customer_id": 1, "born": "Elm Street 5"}, "born: date"),
        ({"customer_id": 1, "born": {"Elm": 1}}, "born: date"),
    ],
)
def test_what_cannot_be_read_is_not_quoted(data: Any, said: str) -> None:
    with pytest.raises(FigError, match="message_unreadable") as caught:
        decode(CustomerMoved, written(data), BY_ID)
    assert said in caught.value.message and "Elm" not in caught.value.message


def test_what_an_upcaster_says_is_not_quoted() -> None:
    class Looked(Event, type="crm.Looked", key="who", version=3, personal={"what": "who"}):
        who: int
        what: str | None = None

    @Looked.upcast(2)
    def _(old: dict[str, Any]) -> dict[str, Any]:
        return {"who": {}[old["what"]]}

    for version, said in ((2, "of version 3: KeyError"), (1, "no upcaster from version 1")):
        with pytest.raises(FigError, match=said) as caught:
            decode(Looked, written({"who": 1, "what": "Elm"}, "crm.Looked", version))
        assert "Elm" not in caught.value.message


def test_the_schema_says_so_and_allows_what_is_written() -> None:
    schema = schema_of(CustomerMoved)
    assert {name for name, found in schema["properties"].items() if found.get("x-personal")} == {"street", "born"}
    event = CustomerMoved(1, "Elm Street 5", date(1990, 5, 17))
    for data in (sealed(event), orjson.loads(data_of(event)), sealed(CustomerMoved(1))):
        Draft202012Validator(schema).validate(data)

    class Loose(Event, type="crm.Loose", key="who", personal={"what": "who"}):
        who: CustomerId
        what: Annotated[str | None, WithJsonSchema({"type": ["string", "null"]})] = None

    assert schema_of(Loose)["properties"]["what"] == {
        "type": ["string", "null"], "default": None, "title": "What", "x-personal": True
    }  # fmt: skip


def test_a_base_keeps_what_it_has_declared() -> None:
    class MovedFar(CustomerMoved, type="crm.MovedFar", key="customer_id", personal={"country": "customer_id"}):
        country: str | None = None

    assert set(kind_of(MovedFar).personal) == {"street", "born", "country"}


def _declared(personal: dict[str, str], base: type[Event] | type[Command] = Event, **fields: Any) -> None:
    kinds = {"id": int, "who": int, "name": str | None, "whose": str | None} | fields.pop("kinds", {})
    given = {"name": None, "whose": None} | fields
    type(
        "Made",
        (base,),
        {"__annotations__": kinds, "__module__": __name__} | given,
        type="a.B",
        key="id",
        personal=personal,
    )


@pytest.mark.parametrize(
    ("personal", "more", "said"),
    [
        ({"nobody": "who"}, {}, "no field 'nobody', which is to be personal"),
        ({"name": "nobody"}, {}, "no field 'nobody', which is to name whose 'name' is"),
        ({"id": "who"}, {}, "its key 'id' is personal"),
        ({"who": "id"}, {}, "could not be read as None"),
        ({"name": "who"}, {"kinds": {"name": str}}, "could not be read as None"),
        ({"name": "who"}, {"name": "x"}, "could not be read as None"),
        ({"name": "whose"}, {}, "not a required str or int"),
        ({"name": "who"}, {"kinds": {"who": float}}, "not a required str or int"),
        ({"name": "whose", "whose": "who"}, {}, "that is not personal itself"),
        ({"name": "who"}, {"kinds": {"who": "Nowhere"}}, "not known here: name 'Nowhere'"),
        ({"name": "who"}, {"base": Command}, "a command is for another service"),
    ],
)
def test_a_wrong_declaration_is_refused(personal: dict[str, str], more: dict[str, Any], said: str) -> None:
    with pytest.raises(FigError, match=said) as caught:
        _declared(personal, **more)
    assert caught.value.code == "message_misdeclared" and caught.value.remedy
    _declared({"name": "who"})


def test_who_would_keep_it_otherwise_is_refused() -> None:
    with pytest.raises(FigError, match="snapshots would keep the personal fields of \\['CustomerMoved'\\]"):

        class Kept(Customer, id="customer_id", stream="kept", snapshot_every=10):
            pass

    with pytest.raises(FigError, match="its rows' ids are the personal 'street'"):

        class ByStreet(Projection, name="by_street", id="street"):
            street: str

            @evolves(CustomerMoved)
            def _moved(self, event: CustomerMoved) -> None: ...

    class Welcome(Command, type="crm.Welcome", key="customer_id"):
        customer_id: int

    class Started(Event, type="crm.Started", key="customer_id"):
        customer_id: int

    def saga(fields: dict[str, Any], starts: type[Event], keep: tuple[str, ...] = (), **ends: Any) -> None:
        welcome = step(Welcome, ok=CustomerMoved, keep=keep)
        body = {"__annotations__": {"customer_id": int} | fields, "welcome": welcome, "street": None}
        type("Made", (Saga,), body, type="crm.Made", starts=starts, **ends)

    street = {"street": str | None}
    for starts, keep, ends in (
        (CustomerMoved, (), {}),
        (Started, ("street",), {}),
        (Started, (), {"completed": CustomerMoved}),
    ):
        with pytest.raises(FigError, match="it would keep 'street', a personal field of CustomerMoved") as caught:
            saga(street, starts, keep, **ends)
        assert caught.value.code == "saga_misdeclared"
    saga({}, CustomerMoved, completed=CustomerMoved)
    saga(street, Started)


def test_the_harness_needs_neither_keys_nor_a_database() -> None:
    testing.given(Customer(1), CustomerMoved(1, "Elm Street 5", None, 1)).when(lambda c: c.move("Oak Lane 1")).then(
        CustomerMoved(1, "Oak Lane 1", None, 2)
    ).state(street="Oak Lane 1")
    testing.given(Customer(1), CustomerMoved(1, None, None, 1)).when(lambda c: c.move(None)).then(
        CustomerMoved(1, None, None, 2)
    )
    event = testing.event_of(CustomerMoved(1, "Elm Street 5"), source="/crm")
    assert decode(CustomerMoved, event) == CustomerMoved(1, "Elm Street 5")
    assert Card.__shape__.columns["street"] == ("text", True)
    assert issubclass(Customer, Aggregate) and Customer.__form__.snapshot_every == 0


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(FigError) as caught:
        sealing.cipher(bytes(32))
    assert caught.value.code == "backend_not_installed" and "stranglerfig[personal]" in caught.value.remedy

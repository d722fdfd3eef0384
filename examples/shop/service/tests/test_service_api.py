"""The API on a real PostgreSQL: state, idempotency key and event are one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest

from examples.shop.service.tests.conftest import Api


async def test_an_adjustment_changes_the_level_and_publishes_it(api: Api) -> None:
    status, answer = await api.post("adjust", "k1", item_id=7, delta=-30, reason="sold")
    assert (status, answer["on_hand"], answer["available"], answer["sku"]) == (200, 70, 70, "SKU-7")
    assert await api.call("GET", "/api/inventory/7") == (200, answer)
    assert api.rows("SELECT topic, type, key, data, correlationid, traceparent IS NOT NULL FROM outbox") == [
        (
            "events.inventory",
            "inventory.StockAdjusted",
            "7",
            {"item_id": 7, "delta": -30, "on_hand": 70, "reserved": 0, "reason": "sold"},
            "k1",
            True,
        )
    ]


async def test_a_repeated_key_gets_the_same_answer_and_changes_nothing(api: Api) -> None:
    first = await api.post("adjust", "k1", item_id=7, delta=5)
    assert await api.post("adjust", "k1", item_id=7, delta=5) == first
    assert api.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(105,)]
    assert api.rows("SELECT count(*) FROM outbox") == [(1,)]


async def test_one_key_at_once_many_times_counts_once(api: Api) -> None:
    answers = await asyncio.gather(*(api.post("adjust", "k", item_id=7, delta=1) for _ in range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert api.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(101,)]


async def test_many_at_once_on_one_item_all_count(api: Api) -> None:
    answers = await asyncio.gather(*(api.post("adjust", f"k{n}", item_id=7, delta=1) for n in range(20)))
    assert {status for status, _ in answers} == {200}
    assert api.rows("SELECT on_hand FROM stock_level WHERE item_id = 7") == [(120,)]
    assert api.rows("SELECT count(*), max((data->>'on_hand')::int) FROM outbox") == [(20, 120)]


async def test_a_reservation_is_held_then_released_once(api: Api) -> None:
    status, held = await api.post("reserve", "r", item_id=3, qty=4, order_id=9)
    assert (status, held["reserved"], held["available"]) == (200, 4, 96)
    assert api.rows("SELECT item_id, order_ref, quantity, state FROM reservation") == [(3, 9, 4, "held")]
    status, freed = await api.post("release", "f", reservation_id=held["reservation_id"])
    assert (status, freed["reserved"], freed["reservation_id"]) == (200, 0, held["reservation_id"])
    assert (await api.post("release", "f", reservation_id=held["reservation_id"]))[1] == freed
    assert (await api.post("release", "g", reservation_id=held["reservation_id"]))[0] == 409
    assert api.rows("SELECT type, data->>'reserved', data->>'reservation_id' FROM outbox ORDER BY occurred_at") == [
        ("inventory.ItemReserved", "4", str(held["reservation_id"])),
        ("inventory.ReservationReleased", "0", str(held["reservation_id"])),
    ]
    keys = api.rows("SELECT kind, delta FROM processed_request ORDER BY created_at")
    assert keys == [("reserve", 4), ("release", -4)]


@pytest.mark.parametrize(
    ("what", "content", "status", "code"),
    [
        ("adjust", {"item_id": 7, "delta": -101}, 409, "insufficient_stock"),
        ("adjust", {"item_id": 4711, "delta": 1}, 404, "unknown_item"),
        ("adjust", {"item_id": "7", "delta": 1}, 400, "bad_request"),
        ("adjust", {"item_id": 7}, 400, "bad_request"),
        ("reserve", {"item_id": 7, "qty": 101}, 409, "insufficient_stock"),
        ("reserve", {"item_id": 7, "qty": 0}, 400, "bad_request"),
        ("reserve", {"item_id": 4711, "qty": 1}, 404, "unknown_item"),
        ("release", {"reservation_id": 4711}, 404, "unknown_reservation"),
    ],
)
async def test_a_refusal_leaves_nothing(api: Api, what: str, content: Any, status: int, code: str) -> None:
    got, answer = await api.post(what, "k", **content)
    assert (got, answer["error"]) == (status, code)
    assert api.rows("SELECT count(*) FROM processed_request") == api.rows("SELECT count(*) FROM outbox") == [(0,)]


async def test_what_cannot_be_read_is_refused(api: Api) -> None:
    assert (await api.call("POST", "/api/inventory/adjust", b"{", {"Idempotency-Key": "k"}))[0] == 400
    assert (await api.call("POST", "/api/inventory/adjust", {"item_id": 1, "delta": 1}))[0] == 400
    assert (await api.call("GET", "/api/inventory/4711"))[0] == 404
    assert (await api.call("GET", "/api/inventory/99999999999999999999"))[0] == 404


async def test_health_and_contract(api: Api) -> None:
    assert (await api.call("GET", "/health"))[1]["release"] == "good"
    status, text = await api.call("GET", "/openapi.yaml")
    assert status == 200 and "/api/inventory/adjust" in text


@pytest.mark.parametrize("api", ["bad"], indirect=True)
async def test_the_bad_release_is_wrong_and_slow_for_some_items(api: Api) -> None:
    begun = time.perf_counter()
    assert (await api.call("GET", "/api/inventory/20"))[1]["on_hand"] == 101
    assert time.perf_counter() - begun >= 0.1
    assert (await api.call("GET", "/api/inventory/21"))[1]["on_hand"] == 100


async def test_what_the_database_refuses_is_unavailable_not_wrong(api: Api) -> None:
    with psycopg.connect(api.dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE stock_level ADD CONSTRAINT no CHECK (on_hand <> 42)")
        try:
            assert (await api.post("adjust", "k", item_id=7, delta=-58))[0] == 503
        finally:
            conn.execute("ALTER TABLE stock_level DROP CONSTRAINT no")
    assert (await api.post("adjust", "k", item_id=7, delta=-58))[0] == 200


async def test_a_session_that_is_over_is_replaced_before_anybody_notices(api: Api) -> None:
    ours = "FROM pg_stat_activity WHERE application_name = 'inventory'"
    with psycopg.connect(api.dsn, autocommit=True) as conn:
        conn.execute(f"SELECT pg_terminate_backend(pid) {ours}")
        while conn.execute(f"SELECT 1 {ours}").fetchone() is not None:
            pass
    assert (await api.call("GET", "/health"))[0] == 200

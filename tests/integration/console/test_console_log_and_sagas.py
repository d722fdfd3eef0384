"""What the pages of the log and of the sagas ask, on a real PostgreSQL: figures, the tail, decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from stranglerfig.gates import bounds
from tests.conftest import Server
from tests.console_desk import Desk


@pytest.fixture
async def desk(tmp_path: Path, postgres: Server) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, postgres.database(), postgres.database())
    await made.start()
    yield made
    await made.end()


async def test_the_log_is_told_with_readers_lag_and_schemas(desk: Desk) -> None:
    await desk.topics()
    await desk.schemas()
    page = await desk.ask("GET", "/api/log")
    assert page["trouble"] == []
    topics = {topic["name"]: topic for topic in page["topics"]}
    orders = topics["events.orders"]
    assert (orders["kind"], orders["retained"], len(orders["partitions"])) == ("events", 400, 4)
    (reader,) = orders["readers"]
    assert (reader["name"], reader["lag"], len(reader["lags"])) == ("inventory.reservations", 320, 4)
    assert topics["events.inventory"]["retention_seconds"] == 7 * 86400
    (subject,) = page["subjects"]
    assert (subject["subject"], subject["topic"]) == ("inventory.StockAdjusted", "events.inventory")
    assert [version["version"] for version in subject["versions"]] == [1, 2]
    assert subject["versions"][0]["registered_by"] == "ann@desk"


async def _messages(desk: Desk, path: str) -> AsyncIterator[Any]:
    address = f"http://127.0.0.1:{desk.server.port}{path}"
    headers = {**desk._headers, "Accept": "text/event-stream"}
    async with aiohttp.ClientSession() as session, session.get(address, headers=headers) as answer:
        event = b""
        async for line in answer.content:
            if line.startswith(b"event: "):
                event = line[7:].strip()
            elif line.startswith(b"data: "):
                yield event.decode(), orjson.loads(line[6:])


async def test_the_tail_goes_on_with_what_comes_and_is_filtered(desk: Desk) -> None:
    await desk.topics()
    seen = _messages(desk, "/api/log/tail?topic=events.orders&type=orders.*&key=3,%205&text=FRAGILE")
    event, first = await anext(seen)
    assert event == "state" and first["lines"] == [] and first["passed"] > 0
    await desk.append("events.orders", 300, text="fragile")
    await desk.append("events.orders", 300, "orders.OrderCancelled", text="fragile")
    keys: set[str] = set()
    types: set[str] = set()
    while len(keys) < 2:
        _, more = await anext(seen)
        keys |= {line["key"] for line in more["lines"]}
        types |= {line["type"] for line in more["lines"]}
    assert keys == {"3", "5"} and types <= {"orders.OrderPlaced", "orders.OrderCancelled"}
    await seen.aclose()  # type: ignore[attr-defined]
    line = more["lines"][-1]
    place = f"topic=events.orders&partition={line['partition']}&position={line['position']}"
    whole = await desk.ask("GET", f"/api/log/record?{place}")
    assert whole["events"][0]["data"]["note"] == "fragile" and whole["events"][0]["partitionkey"] == line["key"]
    for wrong, code in (
        ("topic=none&position=1", "unknown_topic"),
        ("topic=events.orders&position=99999", "unknown_position"),
    ):
        said = await desk.ask("GET", f"/api/log/record?{wrong}", status=404)
        assert said["error"]["code"] == code


async def test_a_tail_of_a_topic_that_is_not_there_says_so(desk: Desk) -> None:
    event, said = await anext(_messages(desk, "/api/log/tail?topic=nothing"))
    assert (event, said["code"]) == ("trouble", "unknown_topic")


async def test_what_is_parked_is_looked_at_and_decided_after_a_word_of_what_that_does(desk: Desk) -> None:
    desk.park()
    page = await desk.ask("GET", "/api/parked")
    assert page["trouble"] == []
    by_kind = {row["kind"]: row for row in page["parked"]}
    event, change = by_kind["event"], by_kind["change"]
    assert (event["of"], event["behind"], event["state"]) == ("orders", 2, "waiting")
    assert (change["of"], change["what"], change["key"]) == ("inventory/forward", "update of inventory", "item_id 7")
    which = f"of={change['of']}&number={change['number']}"
    one = await desk.ask("GET", f"/api/parked/one?kind=change&{which}")
    assert one["whole"]["statement"] == "UPDATE item SET on_hand = -1"
    one = await desk.ask("GET", f"/api/parked/one?kind=event&of=orders&number={event['number']}")
    assert one["whole"]["data"] == {"item_id": 7, "quantity": 3}

    async def decide(row: dict[str, Any], word: str, *, dry_run: bool, status: int = 200) -> Any:
        asked = {"kind": row["kind"], "of": row["of"], "number": row["number"], "word": word, "dry_run": dry_run}
        return await desk.ask("POST", "/api/parked/decide", asked, status=status)

    said = await decide(event, "retry", dry_run=True)
    assert said["done"] is False and "once more" in said["words"] and "2 later event(s)" in said["words"]
    assert desk.rows("SELECT count(*) FROM fig.dead_letter WHERE retry") == [(0,)]
    assert (await decide(event, "retry", dry_run=False))["done"] is True
    assert desk.rows("SELECT id FROM fig.dead_letter WHERE retry") == [(event["number"],)]
    assert {row["state"] for row in (await desk.ask("GET", "/api/parked"))["parked"]} == {"retry", "waiting"}
    said = await decide(change, "discard", dry_run=True)
    assert "the two databases differ" in said["words"]
    await decide(change, "discard", dry_run=False)
    assert desk.rows("SELECT resolution FROM fig.parked", dsn=desk.inventory) == [("skip",)]
    assert [row["kind"] for row in (await desk.ask("GET", "/api/parked"))["parked"]] == ["event"]
    assert (await decide(change, "discard", dry_run=False, status=404))["error"]["code"] == "unknown_parked"
    await decide(event, "discard", dry_run=False)
    assert (await decide(event, "discard", dry_run=True, status=404))["error"]["code"] == "unknown_letter"


async def test_sagas_are_told_with_their_share_of_success_and_its_bounds(desk: Desk) -> None:
    desk.sagas()
    (kind,) = (await desk.ask("GET", "/api/sagas"))["kinds"]
    assert (kind["running"], kind["needs_operator"], kind["stuck"]) == (3, 1, 1)
    share = kind["success"]
    # 96 ended in time; the one that began 900 seconds ago had 60: its verdict is a failure.
    assert (share["samples"], share["failures"], share["within"]) == (97, 1, 60)
    assert share["share"] == pytest.approx(96 / 97)
    assert share["lower"] == pytest.approx(1 - bounds.upper(1, 97, 0.025), abs=0.01)
    assert share["lower"] < share["share"] < share["upper"] < 1
    assert kind["phases"]["charge"] == {"done": 90, "failed": 7, "unknown": 1, "asked": 1, "open": 1}
    assert kind["statuses"]["completed"] == 90 and kind["counts"]["compensated"] == 6
    listed = (await desk.ask("GET", "/api/sagas/list?status=compensated&name=orders.Checkout"))["sagas"]
    assert len(listed) == 6


async def test_a_saga_is_shown_whole_and_an_operator_decides(desk: Desk) -> None:
    desk.sagas()
    (row,) = (await desk.ask("GET", "/api/sagas/list?status=needs%20operator"))["sagas"]
    path = f"/api/sagas/of/orders/{row['id']}"
    one = await desk.ask("GET", path)
    assert {step["name"]: step["phase"] for step in one["steps"]}["charge"] == "unknown"
    assert [step["name"] for step in one["drawn"]] == ["look", "reserve", "charge"]
    assert one["history"][0]["what"] == "running" and one["history"][-1]["what"] == "needs operator"
    said = await desk.ask("POST", f"{path}/decide", {"word": "resolve"})
    assert said["done"] is False and "counts charge as done" in said["words"]
    assert (await desk.ask("GET", path))["row"]["asked"] is None
    assert (await desk.ask("POST", f"{path}/decide", {"word": "retry", "dry_run": False}))["done"] is True
    one = await desk.ask("GET", path)
    assert (one["row"]["asked"], one["asked_by"]) == ("retry", "ann@desk (console)")
    other = desk.saga(500, "running", {"look": "skipped", "reserve": "asked", "charge": "open"})
    refused = await desk.ask("POST", f"/api/sagas/of/orders/{other}/decide", {"word": "retry"}, status=409)
    assert refused["error"]["code"] == "saga_not_blocked"
    await desk.ask("GET", "/api/sagas/of/orders/none", status=404)


async def test_flows_say_where_they_stopped(desk: Desk) -> None:
    desk.flows()
    (flow,) = (await desk.ask("GET", "/api/flows"))["flows"]
    assert flow["states"] == {"done": 12, "stopped": 1} and flow["looked_at"] == 13
    gone = {(arrow["source"], arrow["target"]): arrow["gone"] for arrow in flow["arrows"]}
    assert gone["orders.OrderPlaced/0", "stock.ItemReserved"] == 11
    assert (
        gone["orders.OrderPlaced/0", "stock.SoldOut"] == 2
        and gone["orders.OrderPlaced", "orders.OrderPlaced/0"] is None
    )
    layers = {spot["words"]: spot["layer"] for spot in flow["spots"]}
    assert layers["orders.OrderPlaced"] < layers["stock"] < layers["stock.ItemReserved"] < layers["money"]
    stopped = flow["courses"][0]
    (gap,) = stopped["missed"]
    assert (stopped["id"], stopped["state"], gap["service"]) == ("order-12", "stopped", "money")
    found = await desk.ask("GET", "/api/flows/courses?service=orders&flow=payment&state=stopped")
    assert [course["id"] for course in found["courses"]] == ["order-12"]
    await desk.ask("GET", "/api/flows/courses?service=orders&flow=none", status=404)


async def test_a_service_that_is_away_is_named_and_hides_no_other(desk: Desk) -> None:
    desk.sagas()
    desk.project.estate.services["search"] = type(desk.project.estate.services["orders"]).model_validate(
        {"dsn": "postgresql://postgres@127.0.0.1:1/none"}
    )
    page = await desk.ask("GET", "/api/sagas")
    assert len(page["kinds"]) == 1 and page["trouble"][0].startswith("search: ")
    assert (await desk.ask("GET", "/api/parked"))["trouble"][0].startswith("search: ")

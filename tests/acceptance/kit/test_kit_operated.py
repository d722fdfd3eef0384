"""An operator looks at services that are written with the kit, and decides: by the installed command."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import Projection, Refused, Service, Transaction, evolves
from stranglerfig.kit.messages import Event, data_of, kind_of
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas import Flow, Retry, Saga, step
from stranglerfig.sagas.running import Sagas
from tests.conftest import Server
from tests.kit_people import CustomerMoved
from tests.saga_shop import TOPICS, Charge, Charged, Declined, OrderPlaced

pytestmark = pytest.mark.acceptance
FIG = Path(sys.executable).with_name("fig")


class Hasty(Saga, type="orders.Hasty", starts=OrderPlaced):
    order_id: int
    cents: int

    charge = step(Charge, ok=Charged, fail=Declined, timeout="50ms", retry=Retry(attempts=1), pivot=True)


class Orders(Projection, name="orders_by_item", id="item_id"):
    item_id: int
    orders: int = 0

    @evolves(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.orders += 1


class Desk:
    """The operator's: a project, the command, and a service that runs meanwhile."""

    def __init__(self, folder: Path, dsn: str, log: EventLog | None = None) -> None:
        self.folder = folder
        self.log = log or MemoryLog()
        self.service = Service("orders", database=dsn, log=self.log)
        self.folder.joinpath("fig.yaml").write_text(
            "name: shop\nmonolith: {url: http://127.0.0.1:1, database: postgresql://fig@127.0.0.1:1/shop}\n"
            f"services: {{orders: '{dsn}'}}\ncontrol: '{dsn}'\n"
        )

    async def fig(self, *arguments: str, status: int = 0) -> str:
        """What the command prints."""
        done = await asyncio.to_thread(
            subprocess.run, [FIG, "--project", self.folder, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout

    async def told(self, *arguments: str) -> Any:
        """The same as JSON."""
        return json.loads(await self.fig(*arguments, "--json"))

    async def placed(self, *events: Event) -> None:
        """Orders on the log."""
        for event in events:
            await self.log.append(kind_of(event).topic, [event_of(event, source="/shop")])

    async def until(self, look: Callable[[], Any], what: str) -> Any:
        """Wait for what the command shows."""
        return await clock.until(look, timeout=30, what=what)


@pytest.fixture
async def desk(tmp_path: Path, postgres: Server) -> AsyncIterator[Desk]:
    made = Desk(tmp_path, postgres.database())
    Sagas(made.service, [Hasty])
    made.service.projection(Orders)

    @made.service.on(OrderPlaced)
    async def refuse_thirteen(event: OrderPlaced, tx: Transaction) -> None:
        if event.cents == 13:
            raise Refused("unlucky", cents=13)

    # Money is another service's, and does not run.
    flow = Flow("payment", starts=[OrderPlaced], ends=[Charged, Declined], within="500ms")
    flow.elsewhere("money", OrderPlaced, emits=[Charged, Declined])
    flow.recorded_by(made.service)
    for topic in TOPICS:
        await made.log.create_topic(topic)
    await made.service.migrate()
    running = asyncio.create_task(made.service.run())
    yield made
    await tasks.stop(running)
    await made.service.close()


async def test_sagas_that_need_somebody_are_found_and_decided(desk: Desk) -> None:
    await desk.placed(OrderPlaced(1, 1, 1, 100), OrderPlaced(2, 1, 1, 100))

    async def blocked() -> Any:
        found = (await desk.told("saga", "list", "--status", "needs operator"))["sagas"]
        return found if len(found) == 2 else None

    first, second = sorted(await desk.until(blocked, "two sagas to need an operator"), key=lambda each: each["key"])
    assert (first["name"], first["blocked"], first["service"]) == ("orders.Hasty", "charge", "orders")
    assert "orders.Hasty: 2 needs operator" in await desk.fig("saga", "list")
    shown = await desk.fig("saga", "show", first["id"])
    assert "charge asked, execution 1, attempt 1" in shown and "needs operator" in shown
    assert "would be counted as done" in await desk.fig("saga", "resolve", first["id"], "--dry-run")
    assert (await desk.told("saga", "show", first["id"]))["status"] == "needs operator"
    await desk.fig("saga", "resolve", first["id"])
    before = (await desk.told("saga", "show", second["id"]))["revision"]
    told = await desk.told("saga", "retry", second["id"])
    assert (told["decided"], told["dry_run"], [row["id"] for row in told["sagas"]]) == ("retry", False, [second["id"]])

    async def decided() -> bool:
        shown = [await desk.told("saga", "show", each["id"]) for each in (first, second)]
        asked_again = shown[1]["revision"] > before
        return shown[0]["status"] == "completed" and asked_again

    await desk.until(decided, "both words to be taken up")
    assert (await desk.told("saga", "show", first["id"]))["asked_by"]
    assert "needs nobody's word" in await desk.fig("saga", "retry", first["id"], status=3)
    assert "there is no saga nobody" in await desk.fig("saga", "show", "nobody", status=4)


async def test_a_saga_is_drawn(desk: Desk) -> None:
    await desk.placed(OrderPlaced(1, 1, 1, 100))

    async def known() -> bool:
        return bool((await desk.told("saga", "list"))["counts"])

    await desk.until(known, "the saga")
    drawn = await desk.fig("saga", "graph")
    assert drawn.startswith("flowchart TD") and 'charge{{"charge (pivot)<br>Charge, 0.05 s' in drawn
    file = desk.folder / "hasty.svg"
    await desk.fig("saga", "graph", "orders.Hasty", "--format", "svg", "-o", str(file))
    told = await desk.told("saga", "graph", "orders.Hasty")
    assert told["mermaid"] == drawn and told["drawing"]["steps"][0]["ask"] == "money.Charge"
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert "Known are: orders.Hasty" in await desk.fig("saga", "graph", "orders.Other", status=4)


async def test_parked_events_are_looked_at_retried_and_discarded(desk: Desk) -> None:
    await desk.placed(OrderPlaced(1, 1, 1, 13), OrderPlaced(1, 1, 1, 14), OrderPlaced(2, 1, 1, 13))

    async def parked() -> Any:
        found = await desk.told("events", "parked")
        return found if len(found) == 2 else None

    first, second = await desk.until(parked, "two parked events")
    assert (first["key"], first["behind"], first["error"]) == ("1", 1, "refused: unlucky")
    assert await desk.told("events", "parked", "--cause", "nothing like it") == []
    assert "1 behind it" in await desk.fig("events", "parked", "--subscription", "orders")
    whole = await desk.told("events", "inspect", str(first["id"]))
    assert whole["data"] == {"order_id": 1, "item_id": 1, "quantity": 1, "cents": 13}
    assert whole["attributes"]["type"] == "orders.OrderPlaced"
    assert "would be left out" in await desk.fig("events", "discard", str(first["id"]), "--dry-run")
    assert len(await desk.told("events", "parked")) == 2
    known = [{"service": "orders", "id": each["id"], "key": each["key"]} for each in (first, second)]
    assert await desk.told("events", "retry", str(second["id"])) == {"events": known[1:], "dry_run": False}

    async def tried() -> bool:
        found = [row for row in await desk.told("events", "parked") if row["id"] == second["id"]]
        return found[0]["attempts"] == second["attempts"] + 1 and not found[0]["retry"]

    await desk.until(tried, "the event to be tried once more")
    done = await desk.told("events", "discard", *(str(each["id"]) for each in (first, second)))
    assert done == {"events": known, "dry_run": False}

    async def gone() -> bool:
        async with desk.service.session() as conn:
            return await (await conn.execute("SELECT count(*) FROM fig.dead_letter")).fetchone() == (0,)

    await desk.until(gone, "what waited behind to follow")
    assert "Nothing is parked" in await desk.fig("events", "parked")
    assert "no event is parked" in await desk.fig("events", "inspect", "4711", status=4)


async def test_what_came_since_a_time_is_handled_again(tmp_path: Path, postgres: Server) -> None:
    dsn = postgres.database()
    log = PostgresLog(dsn)
    await log.migrate()
    await log.create_topic("events.orders")
    desk, handled = Desk(tmp_path, dsn, log), []

    @desk.service.on(OrderPlaced)
    async def see(event: OrderPlaced, tx: Transaction) -> None:
        handled.append(event.order_id)

    async def were(*orders: int) -> None:
        async def seen() -> bool:
            return handled == [*orders]

        await desk.until(seen, f"the orders {orders} to be handled")

    await desk.service.migrate()
    running = asyncio.create_task(desk.service.run())
    await desk.placed(OrderPlaced(1, 1, 1, 100))
    await were(1)
    since = clock.now().isoformat()
    await desk.placed(OrderPlaced(2, 1, 1, 100), OrderPlaced(3, 1, 1, 100))
    await were(1, 2, 3)
    replay = ("events", "replay", "events.orders", "--group", "orders", "--since", since)
    assert (await desk.told(*replay, "--again", "--dry-run"))["handled_again"] == 2
    told = await desk.told(*replay)
    assert (told["before"], told["after"]) == ([3], [1])
    await desk.placed(OrderPlaced(4, 1, 1, 100))
    await were(1, 2, 3, 4)  # read again, and known to have been handled
    assert "3 that it has handled are handled anew" in await desk.fig(*replay, "--again")
    await were(1, 2, 3, 4, 2, 3, 4)
    assert "no service of the kit has the subscription" in await desk.fig(
        *replay[:4], "nobody", *replay[5:], "--again", status=4
    )
    await tasks.stop(running)
    await desk.service.close()
    await log.close()


async def test_a_projection_is_rebuilt(desk: Desk) -> None:
    await desk.placed(OrderPlaced(1, 1, 1, 100), OrderPlaced(2, 1, 1, 100))

    async def serving(generation: int = 1) -> bool:
        rows = await desk.told("projection", "list")
        return (generation, "serving") in [(row["generation"], row["state"]) for row in rows]

    await desk.until(serving, "the first build")
    assert "orders orders_by_item v1 build 1: serving, events.orders/0 at 2" in await desk.fig("projection", "list")
    assert "build 2 of orders_by_item version 1 would be begun" in await desk.fig(
        "projection", "rebuild", "orders_by_item", "--dry-run"
    )
    told = await desk.told("projection", "rebuild", "orders_by_item")
    assert (told["version"], told["generation"], told["dry_run"]) == (1, 2, False)
    await desk.until(lambda: serving(2), "the second build")
    assert "no service has it" in await desk.fig("projection", "rebuild", "nothing", status=4)


async def test_a_key_is_destroyed_once_it_was_confirmed(desk: Desk) -> None:
    async def move(tx: Transaction) -> None:
        tx.send(CustomerMoved(7, "Elm Street 5"))

    await desk.log.create_topic("events.crm")
    await desk.service.execute(move)
    destroy = ("personal", "destroy", "7")
    assert "[not_confirmed]" in await desk.fig(*destroy, status=3)
    assert "[not_confirmed]" in await desk.fig(*destroy, "--confirm", "8", status=3)
    assert "the key of '7' in orders would be destroyed" in await desk.fig(*destroy, "--dry-run")
    told = await desk.told(*destroy, "--service", "orders", "--dry-run")
    assert told["destroyed_at"] is None and "key" not in told
    assert "the key of '7' in orders was destroyed at" in await desk.fig(*destroy, "--confirm", "7")
    again = await desk.told(*destroy, "--confirm", "7")
    assert again["destroyed_at"] and again["made_at"] == told["made_at"]
    assert "no service has a key" in await desk.fig("personal", "destroy", "8", "--confirm", "8", status=4)
    with pytest.raises(FigError, match="personal_key_destroyed"):
        await desk.service.execute(move)
    config = desk.folder / "fig.yaml"
    dsn = f"'{desk.service._dsn}'"
    config.write_text(config.read_text().replace(f"orders: {dsn}", f"orders: {dsn}, twin: {dsn}"))
    assert "several services have a key: orders, twin" in await desk.fig(*destroy, "--dry-run", status=4)


async def test_a_flow_that_stopped_is_found_and_drawn(desk: Desk) -> None:
    await desk.placed(OrderPlaced(1, 1, 1, 100))

    async def stopped() -> Any:
        return await desk.told("flow", "list", "--name", "payment", "--state", "stopped")

    (row,) = await desk.until(stopped, "the flow to have stopped")
    assert [(each["service"], each["event"]) for each in row["missed"]] == [("money", "orders.OrderPlaced")]
    shown = await desk.fig("flow", "show", row["id"])
    assert "money did not react to orders.OrderPlaced" in shown and "orders.OrderPlaced from /shop" in shown
    order = (await desk.log.read("events.orders", 0, 0))[0].event
    answer = order._replace(
        id="paid", source="/money", type="money.Charged", data=data_of(Charged(1)), correlationid=order.id,
        causationid=order.id,
    )  # fmt: skip
    await desk.log.append("events.money", [answer])

    async def done() -> bool:
        return (await desk.told("flow", "show", row["id"]))[0]["state"] == "done"

    await desk.until(done, "the flow to be done")
    assert "s0 -->|1| e1" in await desk.fig("flow", "graph")
    drawing = desk.folder / "payment.svg"
    assert "is drawn in" in await desk.fig("flow", "graph", "payment", "--format", "svg", "-o", str(drawing))
    assert drawing.read_text().startswith("<svg") and ">1</text>" in drawing.read_text()
    assert "Known are: payment" in await desk.fig("flow", "graph", "other", status=4)
    assert "no flow has the correlation id" in await desk.fig("flow", "show", "nothing", status=4)


async def test_where_nothing_is_kept_is_said(desk: Desk, tmp_path: Path, postgres: Server) -> None:
    assert "there is no service 'stock'" in await desk.fig("saga", "list", "--service", "stock", status=4)
    (tmp_path / "fig.yaml").write_text(
        (tmp_path / "fig.yaml").read_text().replace(desk.service._dsn, postgres.database())
    )
    assert "no service written with the kit is among: orders" in await desk.fig("events", "parked", status=4)

"""What an operator sees in the console: a project with a log, services with sagas, flows and parked events.

Rows are put where a running service would put them, so that a page has something of each kind to show.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
from psycopg.types.json import Json

from stranglerfig.console.role import server_of
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock, ids, postgres
from stranglerfig.kit import Service
from stranglerfig.kit.consumer import digest
from stranglerfig.runtime.settings import Project, load_project
from stranglerfig.sagas import Flow, drawing
from stranglerfig.sagas.declaring import kind_of_saga
from stranglerfig.sagas.flows import as_data
from stranglerfig.sagas.instances import queries
from stranglerfig.sagas.running import Sagas
from stranglerfig.schemas.formats import Format
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Given
from stranglerfig.sync import target
from tests.saga_shop import Charged, Checkout, Declined, ItemReserved, OrderPlaced, SoldOut

EXTRACTION = """\
context: inventory
service: {{url: 'http://127.0.0.1:1', database: '{dsn}'}}
routes:
  reads: [{{path: '/api/inventory/{{itemId}}', methods: [GET]}}]
tables:
  - from: public.inventory
    to: item
    key: {{item_id: item_id}}
"""
CHANGE = {
    "op": "u",
    "before": {"item_id": 7, "on_hand": 3},
    "after": {"item_id": 7, "on_hand": -1},
    "source": {"schema": "public", "table": "inventory"},
    "ts_ms": 1772355600000,
}


class Desk:
    """A project, and the console that serves it; ``dsn`` is the control database and that of the service ``orders``."""

    def __init__(self, folder: Path, dsn: str, inventory: str) -> None:
        self.dsn, self.inventory = dsn, inventory
        folder.joinpath("fig.yaml").write_text(
            f"name: shop\nmonolith: {{url: 'http://127.0.0.1:1', database: '{inventory}'}}\n"
            f"services: {{orders: '{dsn}'}}\ncontrol: '{dsn}'\n"
        )
        (context := folder / "contexts/inventory").mkdir(parents=True)
        context.joinpath("extraction.yaml").write_text(EXTRACTION.format(dsn=inventory))
        self.project: Project = load_project(folder)
        self.log = PostgresLog(dsn)
        self.server = server_of(self.project, dsn)
        self._service = Service("orders", database=dsn, log=self.log)
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}

    async def start(self) -> None:
        """Tables, the console, and a session with it."""
        await self.log.migrate()
        Sagas(self._service, [Checkout])
        self._flow().recorded_by(self._service)
        await self._service.migrate()
        async with postgres.session(self.inventory, what="test") as conn:
            await target.prepare(conn)
        await self.server.start("127.0.0.1", 0)
        self._session = aiohttp.ClientSession()
        token = self.link.partition("#")[2]
        said = await self.ask("POST", "/api/session", {"token": token})
        self._headers = {"Authorization": f"Bearer {said['session']}"}

    async def end(self) -> None:
        """Stop all."""
        if self._session is not None:
            await self._session.close()
        await self.server.stop()
        await self._service.close()
        await self.log.close()

    @property
    def url(self) -> str:
        """Where the console answers."""
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The session's."""
        return dict(self._headers)

    @property
    def link(self) -> str:
        """Opens the console once."""
        return self.server.link("ann@desk")

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """What the console answers."""
        assert self._session is not None
        address = f"{self.url}{path}"
        async with self._session.request(method, address, json=body, headers=self._headers) as answer:
            said = await answer.json()
            assert answer.status == status, said
            return said

    def rows(self, query: str, params: Sequence[Any] | Mapping[str, Any] = (), *, dsn: str = "") -> list[Any]:
        """What a database says."""
        with psycopg.connect(dsn or self.dsn, autocommit=True) as conn:
            done = conn.execute(query.encode(), params)
            return done.fetchall() if done.description else []

    async def fill(self) -> None:
        """Something of each kind."""
        await self.topics()
        await self.schemas()
        self.park()
        self.sagas()
        self.flows()

    # The log

    async def topics(self) -> None:
        """Events on two topics, and a group that is behind."""
        await self.log.create_topic("events.orders", partitions=4)
        await self.log.create_topic("events.inventory", partitions=2, retention_seconds=7 * 86400)
        await self.append("events.orders", 400)
        await self.append("events.inventory", 120, "inventory.StockAdjusted")
        for topic, group in (("events.orders", "inventory.reservations"), ("events.inventory", "search.index")):
            member = await self.log.subscribe([topic], group)
            await self.log.seek(topic, group, position=20)
            await member.close()

    async def append(self, topic: str, count: int, type: str = "orders.OrderPlaced", text: str = "") -> None:
        """Events of a shop."""
        now = clock.now()
        await self.log.append(
            topic,
            [
                Event(
                    ids.new_id(), "/shop/orders", type, now,
                    b'{"order_id": %d, "item_id": %d, "quantity": %d, "note": "%s"}'
                    % (number, number % 97, 1 + number % 3, text.encode()),
                    subject=str(number), partitionkey=str(number % 97),
                )
                for number in range(count)
            ],
        )  # fmt: skip

    async def schemas(self) -> None:
        """A subject with two versions."""
        store = SchemaStore(self.dsn)
        await store.prepare()
        fields = {"item_id": {"type": "integer"}}
        for more in ({}, {"reason": {"type": "string"}}):
            text = {"type": "object", "properties": fields | more, "required": ["item_id"]}
            given = Given(Format.JSON, orjson.dumps(text).decode())
            await store.register("inventory.StockAdjusted", given, by="ann@desk")
        await store.close()

    def park(self) -> None:
        """An event that ``orders`` could not handle with two behind it, and a change that sync could not apply."""
        self.rows("INSERT INTO fig.subscription (name) VALUES ('orders.reserve')")
        for number, error in ((0, "insufficient_stock: item 7 has 0 left [refused]"), (1, None), (2, None)):
            event = Event(f"p{number}", "/shop", "orders.OrderPlaced", clock.now(), b'{"item_id": 7, "quantity": 3}')
            told = {"id": event.id, "source": "/shop", "type": event.type, "time": event.time.isoformat()}
            self.rows(
                "INSERT INTO fig.dead_letter (subscription, key, topic, partition, position, event, data, digest,"
                " error, attempts) SELECT id, '7', 'events.orders', 0, %s, %s, %s, %s, %s, 5 FROM fig.subscription",
                (number, Json(told), event.data, digest(event, command=False), error),
            )
        self.rows(
            "INSERT INTO fig.parked (context, direction, lsn, ordinal, reason, change, error, statement)"
            " VALUES ('inventory', 'forward', 42, 1, 'error', %s, %s, 'UPDATE item SET on_hand = -1')",
            (Json(CHANGE), 'new row for "item" violates check constraint "item_on_hand_check" [change_refused]'),
            dsn=self.inventory,
        )

    # Sagas

    def sagas(self) -> None:
        """Ninety that ended well, six that were taken back, two on their way, one that needs an operator, one stuck."""
        kind = kind_of_saga(Checkout)
        told = {"name": kind.name, "version": kind.version, "drawing": Json(drawing.drawn(kind))}
        self.rows(queries.know, told)
        done = {"look": "skipped", "reserve": "done", "charge": "done"}
        back = {"look": "skipped", "reserve": "undone", "charge": "failed"}
        for number in range(90):
            self.saga(number, "completed", done, ended=True)
        for number in range(90, 96):
            self.saga(number, "compensated", back, ended=True)
        self.saga(96, "running", {**done, "charge": "asked"})
        self.saga(97, "compensating", {**back, "reserve": "undoing"})
        self.saga(98, "needs operator", {**done, "charge": "unknown"}, blocked="charge")
        self.saga(99, "running", {**done, "reserve": "asked", "charge": "open"}, ago=900, due=600)

    def saga(
        self,
        number: int,
        status: str,
        phases: dict[str, str],
        *,
        ended: bool = False,
        blocked: str | None = None,
        ago: float = 30,
        due: float | None = None,
    ) -> str:
        """One saga of an order; returns its id."""
        id = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
        at = clock.now() - timedelta(seconds=ago)
        steps = {name: [phase, 1, 2 if phase == "unknown" else 1, None, 0] for name, phase in phases.items()}
        history: list[list[Any]] = [[at.isoformat(), "running"]]
        for offset, (name, phase) in enumerate(phases.items()):
            if phase not in ("open", "skipped"):
                history.append([(at + timedelta(milliseconds=20 * offset)).isoformat(), name, "asked", 1, 1])
                history.append([(at + timedelta(milliseconds=20 * offset + 12)).isoformat(), name, phase, 1, 1])
        history.append([(at + timedelta(milliseconds=90)).isoformat(), status])
        data = {"order_id": number, "item_id": number % 7, "quantity": 1, "cents": 1990, "reason": ""}
        self.rows(
            "INSERT INTO fig.saga (id, name, version, key, flow, status, data, course, history, blocked, begun_at,"
            " ended_at, due_at, revision) VALUES (%s, 'orders.Checkout', 1, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 3)",
            (
                id, str(number), f"flow-{number}", status, Json(data),
                Json({"steps": steps, "early": {}, "limit": None, "late": False, "calls": []}), Json(history), blocked,
                at, at + timedelta(seconds=1) if ended else None,
                None if due is None else clock.now() - timedelta(seconds=due),
            ),
        )  # fmt: skip
        return id

    # Flows

    def _flow(self) -> Flow:
        flow = Flow("payment", starts=[OrderPlaced], ends=[Charged, Declined, SoldOut], within="30s")
        flow.elsewhere("stock", OrderPlaced, emits=[ItemReserved, SoldOut])
        flow.elsewhere("money", ItemReserved, emits=[Charged, Declined])
        return flow

    def flows(self) -> None:
        """Twelve that ended, and one at which nobody took the money."""
        told = self._flow().drawing
        self.rows("INSERT INTO fig.flow_kind (name, drawing) VALUES (%s, %s)", (told.name, Json(as_data(told))))
        begun = clock.now() - timedelta(minutes=5)
        for number in range(13):
            path = ["orders.OrderPlaced", "stock.ItemReserved", "money.Charged"]
            if number == 12:
                path = path[:2]
            elif number % 6 == 5:
                path = ["orders.OrderPlaced", "stock.SoldOut"]
            for hop, type in enumerate(path):
                self.rows(
                    "INSERT INTO fig.flow_event (flow, id, correlation, type, source, cause, at)"
                    " VALUES ('payment', %s, %s, %s, %s, %s, %s)",
                    (
                        f"{number}-{hop}", f"order-{number}", type, f"/{type.partition('.')[0]}",
                        f"{number}-{hop - 1}" if hop else None, begun + timedelta(seconds=number + hop / 10),
                    ),
                )  # fmt: skip

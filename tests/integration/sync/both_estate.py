"""Two databases that both write, with both streams between them, as after a cut-over: what the tests of it stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from stranglerfig.capture import capture
from stranglerfig.changes.conflicts import compile_conflicts
from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, ownership, versions
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.extraction.both import versioned
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.sync import apply
from stranglerfig.sync.target import prepare
from tests.conftest import Server

CONTEXT = "inventory"

# One monolith table that becomes two of the service's, with counters; one that becomes one, without; and one to which
# two others refer, of which one goes along with it.
MONOLITH = """
CREATE TABLE inventory (
    item_id bigint PRIMARY KEY, name text NOT NULL, quantity integer NOT NULL, reserved integer NOT NULL, note text);
CREATE TABLE labels (code text PRIMARY KEY, title text, size integer, body text);
CREATE TABLE shelves (id bigint PRIMARY KEY, name text UNIQUE);
CREATE TABLE places (id bigint PRIMARY KEY, shelf bigint REFERENCES shelves, note text);
CREATE TABLE tags (
    id bigint PRIMARY KEY, shelf bigint REFERENCES shelves ON DELETE CASCADE,
    above bigint REFERENCES tags ON DELETE CASCADE, note text);
"""
SERVICE = """
CREATE TABLE item (item_id bigint PRIMARY KEY, name text NOT NULL, note text);
CREATE TABLE stock (item_id bigint PRIMARY KEY, on_hand integer NOT NULL, reserved integer NOT NULL);
CREATE TABLE label (code text PRIMARY KEY, title text, size integer, body text);
CREATE TABLE shelf (id bigint PRIMARY KEY, name text UNIQUE);
CREATE TABLE place (id bigint PRIMARY KEY, shelf bigint REFERENCES shelf, note text);
CREATE TABLE tag (
    id bigint PRIMARY KEY, shelf bigint REFERENCES shelf ON DELETE CASCADE,
    above bigint REFERENCES tag ON DELETE CASCADE, note text);
"""
PLAIN = {
    "labels": ("label", "code", ("title", "size", "body")),
    "shelves": ("shelf", "id", ("name",)),
    "places": ("place", "id", ("shelf", "note")),
    "tags": ("tag", "id", ("shelf", "above", "note")),
}
"""By the monolith's table: the service's, the key, and the columns that are the same on both sides."""


def tables(rule: str | None) -> list[TableMapping]:
    """The mapping, with ``rule`` for all that is not counted."""
    return [
        TableMapping.model_validate(table)
        for table in (
            {
                "from": "public.inventory",
                "to": "item",
                "key": {"item_id": "item_id"},
                "columns": {"name": "name", "note": "note"},
                "reverse": {"name": "name", "note": "note"},
                "conflicts": {"rule": rule},
            },
            {
                "from": "public.inventory",
                "to": "stock",
                "key": {"item_id": "item_id"},
                "columns": {"on_hand": "quantity", "reserved": "reserved"},
                "reverse": {"quantity": "on_hand", "reserved": "reserved"},
                "conflicts": {"rule": rule, "delta": ["on_hand", "reserved"]},
            },
            *(
                {
                    "from": f"public.{source}",
                    "to": target,
                    "key": {key: key},
                    "columns": {c: c for c in columns},
                    "reverse": {c: c for c in columns},
                    "conflicts": {"rule": rule},
                }
                for source, (target, key, columns) in PLAIN.items()
            ),
        )
    ]


class Both:
    """Both sides: ``monolith`` and ``service`` are written by an application's role, never by ours."""

    def __init__(self, servers: tuple[Server, Server], rule: str | None, log: Any = None) -> None:
        self.rule = rule
        self.dsns = {Direction.REVERSE: servers[0].database(), Direction.FORWARD: servers[1].database()}
        for server in servers:
            server.role("app")
        self.app = {
            side: server.embedded.dsn(str(conninfo_to_dict(self.dsns[way])["dbname"]), "app")
            for side, way, server in (
                ("monolith", Direction.REVERSE, servers[0]),
                ("service", Direction.FORWARD, servers[1]),
            )
        }
        self.log = log or MemoryLog()
        self.told: dict[tuple[str, Direction], dict[str, Any]] = {}
        self.jobs: dict[Direction, apply.SyncJob] = {}
        self._tasks: dict[tuple[str, Direction], asyncio.Task[None]] = {}

    async def install(self) -> None:
        """Tables, ownership as after a cut-over to the service, versions."""
        monolith, service = self.dsns[Direction.REVERSE], self.dsns[Direction.FORWARD]
        async with (
            postgres.session(monolith, what="test") as source,
            postgres.session(service, what="test") as target,
        ):
            await source.execute(MONOLITH)
            await target.execute(SERVICE)
            for conn in (source, target):
                await conn.execute(
                    "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO app"
                )
            here = await catalogue.tables(source, ["public.inventory", *(f"public.{t}" for t in PLAIN)])
            there = await catalogue.tables(
                target, ["public.item", "public.stock", *(f"public.{t}" for t, _, _ in PLAIN.values())]
            )
            for conn, found in ((source, here), (target, there)):
                for name in found:
                    await conn.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")  # type: ignore[arg-type]
                await prepare(conn)
            mapping = compile_mapping(tables(self.rule), here, there)
            rules = compile_conflicts(tables(self.rule), mapping, here, there)
            left, right = versioned(mapping, rules)
            self.versioned = {"monolith": left, "service": right}
            for conn, found, side in ((source, here, "monolith"), (target, there, "service")):
                owner = side == "service"
                await ownership.install(
                    conn,
                    CONTEXT,
                    side=side,
                    owner=owner,
                    tables=list(found),
                    enforcing=True,
                    epoch=1,  # type: ignore[arg-type]
                )
                await versions.install(conn, CONTEXT, left if side == "monolith" else right)
            await source.execute("UPDATE fig.ownership SET state = 'ceded', shared = true")
        for direction in Direction:
            found_names = names(CONTEXT, direction)
            self.jobs[direction] = apply.SyncJob(
                CONTEXT, direction, self.dsns[direction], found_names.topic, found_names.origin, mapping, rules=rules
            )

    async def start(self, *parts: tuple[str, Direction]) -> None:
        """Start parts: ``capture`` or ``sync`` of a direction."""
        for part, direction in parts:

            async def report(told: dict[str, Any], at: tuple[str, Direction] = (part, direction)) -> None:
                self.told[at] = told

            if part == "capture":
                job = capture.CaptureJob(
                    CONTEXT,
                    direction,
                    self.dsns[direction.opposite],
                    self.jobs[direction].mapping.inputs(direction),
                    snapshot=False,
                )
                work = capture.run(job, self.log, report)
            else:
                work = apply.run(self.jobs[direction], self.log, report)
            self._tasks[part, direction] = tasks.spawn(work, name=f"test {part} {direction}")

    async def stop(self, *parts: tuple[str, Direction]) -> None:
        """Stop parts, or all."""
        for part in parts or tuple(self._tasks):
            if (task := self._tasks.pop(part, None)) is not None:
                await tasks.stop(task)

    async def streaming(self) -> None:
        """Both captures run, and the monolith takes the service's changes from here on."""

        async def both() -> bool:
            return all(self.told.get(("capture", d), {}).get("state") == "streaming" for d in Direction)

        await clock.until(both, timeout=30, what="both captures")
        await self.run(
            "service",
            'SELECT pg_logical_emit_message(true, \'fig.activated\', \'{"context": "inventory", "epoch": 1}\')',
        )

    async def run(self, side: str, *statements: str) -> None:
        """Statements in one transaction of an application."""
        async with postgres.session(self.app[side], what="app") as conn, conn.transaction():
            for statement in statements:
                await conn.execute(statement)  # type: ignore[arg-type]

    async def rows(self, side: str, query: str) -> list[Any]:
        dsn = self.dsns[Direction.REVERSE if side == "monolith" else Direction.FORWARD]
        async with postgres.session(dsn, what="test") as conn:
            return await postgres.fetch(conn, query)  # type: ignore[arg-type]

    async def settled(self, timeout: float = 30) -> None:
        """Wait until markers written now are applied on both sides: all before them is in."""
        nonces = {}
        for direction in Direction:
            nonces[direction] = f"n{clock.monotonic()}"
            body = f'{{"context": "inventory", "nonce": "{nonces[direction]}"}}'
            side = "monolith" if direction is Direction.FORWARD else "service"
            await self.run(side, f"SELECT pg_logical_emit_message(true, 'fig.marker', '{body}')")

        async def both() -> bool:
            for direction, nonce in nonces.items():
                told = self.told.get(("sync", direction), {})
                assert told.get("state") != "stopped", told["error"]
                side = "service" if direction is Direction.FORWARD else "monolith"
                if not await self.rows(side, f"SELECT 1 FROM fig.marker WHERE nonce = '{nonce}'"):
                    return False
            return True

        await clock.until(both, timeout=timeout, what="both sides to have applied all", every=0.02)

    async def stopped(self, direction: Direction) -> dict[str, Any]:
        """Wait until a direction stands; its error."""

        async def stands() -> dict[str, Any] | None:
            told = self.told.get(("sync", direction), {})
            return told["error"] if told.get("state") == "stopped" else None

        found = await clock.until(stands, timeout=20, what=f"{direction} to stop")
        assert found is not None
        return found

    async def equal(self) -> dict[str, list[Any]]:
        """Both sides hold the same; returns it."""
        monolith = {
            "item": await self.rows("monolith", "SELECT item_id, name, note FROM inventory ORDER BY 1"),
            "stock": await self.rows("monolith", "SELECT item_id, quantity, reserved FROM inventory ORDER BY 1"),
        }
        service = {
            "item": await self.rows("service", "SELECT * FROM item ORDER BY 1"),
            "stock": await self.rows("service", "SELECT * FROM stock ORDER BY 1"),
        }
        for source, (target, key, _) in PLAIN.items():
            monolith[target] = await self.rows("monolith", f'SELECT * FROM {source} ORDER BY {key}::text COLLATE "C"')
            service[target] = await self.rows("service", f'SELECT * FROM {target} ORDER BY {key}::text COLLATE "C"')
        assert monolith == service
        return monolith

    async def conflicts(self, side: str) -> list[Any]:
        return await self.rows(side, "SELECT pair, key, rule, outcome, theirs, ours FROM fig.conflict ORDER BY id")


SYNCS = tuple(("sync", direction) for direction in Direction)
CAPTURES = tuple(("capture", direction) for direction in Direction)


@asynccontextmanager
async def both(servers: tuple[Server, Server], rule: str | None, log: Any = None) -> AsyncIterator[Both]:
    """Both sides, captured and not yet synced, so that what is written now crosses."""
    made = Both(servers, rule, log)
    await made.install()
    try:
        await made.start(*CAPTURES)
        await made.streaming()
        yield made
    except BaseException:
        print(made.told)
        raise
    finally:
        await made.stop()
        for direction in Direction:
            await capture.remove(made.dsns[direction.opposite], CONTEXT, direction)

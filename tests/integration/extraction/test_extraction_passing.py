"""What the façade let pass, added up from its access log: each line once, whoever dies, and no gap that nobody sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import psycopg
import pytest

from stranglerfig.extraction import passing
from stranglerfig.extraction.passing import Passing
from stranglerfig.extraction.store import Store
from stranglerfig.facade.accesslog import rotated
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server


class Router:
    """What a router answers when it is asked for its state; ``away`` while it does not."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.passed: dict[str, list[float]] = {}
        self.away = False

    async def state(self) -> dict[str, Any]:
        if self.away:
            raise FigError("router_unreachable", "", "")
        return {"since": self.since, "queues": [{"queue": "stock", "passed": self.passed}]}


class Facade:
    """An access log as Envoy writes it, and the control database."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.log = folder / "access.log"
        self.dsn = dsn
        self.router: Router | None = None

    def answered(self, path: str, cluster: str | None = "monolith", times: int = 1) -> None:
        line = {
            **{"time": time.time(), "method": "GET", "path": path, "route": "pass", "cluster": cluster},
            **{"status": 200, "flags": "-", "duration_us": 10, "upstream_us": 5, "request_id": None},
            **{"traceparent": None, "bytes_in": 0, "bytes_out": 0, "instance": None},
        }
        with self.log.open("ab") as file:
            file.write((orjson.dumps(line) + b"\n") * times)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        parts = SimpleNamespace(envoy=SimpleNamespace(access_log=self.log), control_dsn=self.dsn, router=self.router)
        task = asyncio.create_task(Passing(cast(Any, parts)).follow())
        try:
            yield
        finally:
            await tasks.stop(task)

    def asked(self, statement: str) -> Any:
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(statement).fetchall()

    async def counted(self, *wanted: tuple[str, str, int]) -> None:
        async def there() -> bool:
            found = self.asked("SELECT side, path, sum(requests)::int FROM fig.passed GROUP BY 1, 2 ORDER BY 1, 2")
            return bool(found == [*wanted])

        await clock.until(there, timeout=10, what=f"{wanted} to be counted")

    @property
    def until(self) -> Any:
        return (self.asked("SELECT until FROM fig.passing") or [(datetime.min.replace(tzinfo=UTC),)])[0][0]

    async def looked(self) -> None:
        before = self.until

        async def again() -> bool:
            return bool(self.until > before)

        await clock.until(again, timeout=10, what="another look")

    @property
    def since(self) -> Any:
        return self.asked("SELECT since FROM fig.passing")[0][0]


@pytest.fixture
async def facade(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Facade:
    monkeypatch.setattr(passing, "EVERY", 0.05)
    found = Facade(tmp_path, postgres.database())
    await (await Store.open(found.dsn)).close()
    return found


async def test_each_line_is_counted_once_over_deaths_and_rotations(facade: Facade) -> None:
    facade.answered("/orders/1")
    async with facade.watched():
        await facade.counted(("monolith", "/orders/{}", 1))
        facade.answered("/orders/2", times=3)
        facade.answered("/gone", None)
        facade.answered("/api/stock/1", "service_inventory")
        await facade.counted(("facade", "/gone", 1), ("monolith", "/orders/{}", 4), ("service", "", 1))
    since = facade.since
    facade.answered("/orders/3")
    facade.log.rename(rotated(facade.log))
    facade.answered("/orders/4")
    async with facade.watched():
        await facade.counted(("facade", "/gone", 1), ("monolith", "/orders/{}", 6), ("service", "", 1))
    assert facade.since == since


async def test_a_log_that_was_lost_begins_the_time_anew(facade: Facade) -> None:
    facade.answered("/a")
    async with facade.watched():
        await facade.counted(("monolith", "/a", 1))
        first = facade.since
        facade.log.write_bytes(b"")
        await asyncio.sleep(0.3)
        second = facade.since
        assert second > first
        facade.answered("/a")
        await facade.counted(("monolith", "/a", 2))
        assert facade.since == second
    facade.log.rename(facade.log.with_name("elsewhere"))
    facade.answered("/b")
    async with facade.watched():
        await facade.counted(("monolith", "/a", 2), ("monolith", "/b", 1))
    assert facade.since > second


async def test_messages_are_counted_once_over_deaths_of_who_counts(facade: Facade) -> None:
    router = facade.router = Router(time.time())
    async with facade.watched():
        facade.answered("/orders/1")
        await facade.counted(("monolith", "/orders/{}", 1))
        await facade.looked()
        since = facade.since
        router.passed["Adjust"] = [2, time.time()]
        await facade.counted(("monolith", "/orders/{}", 1), ("monolith", "Adjust", 2))
        router.passed["Adjust"] = [3, time.time()]
        await facade.counted(("monolith", "/orders/{}", 1), ("monolith", "Adjust", 3))
    router.passed |= {"Adjust": [5, time.time()], "Reserve": [1, time.time()]}
    async with facade.watched():
        expected = ("monolith", "/orders/{}", 1), ("monolith", "Adjust", 5), ("monolith", "Reserve", 1)
        await facade.counted(*expected)
        await facade.looked()
        assert facade.since == since, "nothing was missed"
    assert facade.asked("SELECT DISTINCT route, method FROM fig.passed WHERE path = 'Adjust'") == [("stock", "message")]


async def test_another_life_of_the_router_begins_the_time_anew_and_an_absent_one_stops_it(facade: Facade) -> None:
    router = facade.router = Router(time.time())
    router.passed["Adjust"] = [2, time.time()]
    async with facade.watched():
        await facade.counted(("monolith", "Adjust", 2))
        await facade.looked()
        since = facade.since
        router.away = True
        facade.answered("/orders/1")
        await facade.counted(("monolith", "/orders/{}", 1), ("monolith", "Adjust", 2))
        stood = facade.until
        facade.answered("/orders/2")
        await facade.counted(("monolith", "/orders/{}", 2), ("monolith", "Adjust", 2))
        assert facade.until == stood, "what passed by queue meanwhile is not known"
        router.since, router.passed, router.away = time.time(), {"Adjust": [1, time.time()]}, False
        await facade.counted(("monolith", "/orders/{}", 2), ("monolith", "Adjust", 3))
        assert facade.since > since

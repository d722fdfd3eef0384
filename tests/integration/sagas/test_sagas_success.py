"""``saga_success``: each saga is a sample once, by whether it ended in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from stranglerfig.extraction.saga_success import KPI, SagaEnds
from stranglerfig.foundation import clock
from stranglerfig.gates.evidence import Samples
from stranglerfig.gates.settings import SagaSuccess
from stranglerfig.kit import Service
from stranglerfig.sagas.running import Sagas
from tests.conftest import Server
from tests.saga_shop import Checkout

SETTINGS = SagaSuccess.model_validate({"sagas": ["orders.Checkout"], "within": "15s", "above": 0.9, "samples": 50})
NEW = """INSERT INTO fig.saga (id, name, version, key, status, data, course, history, begun_at, ended_at, revision)
VALUES ('{0}', '{1}', 1, '1', '{2}', '{{}}', '{{}}', '[]', clock_timestamp() - interval '{3} seconds',
        clock_timestamp() - interval '{4} seconds', 1)"""


class Scene:
    """A service's database, and what was counted of its sagas."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.ends = SagaEnds(dsn, SETTINGS)

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def counted(self, enough: Callable[[int, int], bool]) -> tuple[int, int]:
        """How many sagas were counted, and how many of them as failures, once that is enough."""
        n = failed = 0

        async def look() -> bool:
            nonlocal n, failed
            samples = Samples()
            await self.ends.look(samples)
            for row in samples.rows():
                assert row["kpi"] == KPI
                n, failed = n + row["n"], failed + row["k"]
            return enough(n, failed)

        await clock.until(look, timeout=30, what="sagas to be counted")
        return n, failed


@pytest.fixture
async def scene(postgres: Server) -> Any:
    made = Scene(postgres.database())
    service = Service("orders", database=made.dsn)
    Sagas(service, [Checkout])
    await service.migrate()
    yield made
    await made.ends.close()


async def test_who_ends_in_time_is_a_success_and_who_does_not_is_none(scene: Scene) -> None:
    scene.rows(NEW.format("before", "orders.Checkout", "completed", 60, 1))
    await scene.ends.look(Samples())  # from here on
    scene.rows("SELECT pg_sleep(3.1)")  # what began a moment before that is not counted
    for status in ("completed", "compensated", "refused"):
        scene.rows(NEW.format(status, "orders.Checkout", status, 0, 0))
    scene.rows(NEW.format("other", "orders.Returns", "completed", 0, 0))
    scene.rows(NEW.format("stuck", "orders.Checkout", "needs operator", 0, 0))
    scene.rows(NEW.format("late", "orders.Checkout", "running", 0, 0))
    scene.rows("UPDATE fig.saga SET ended_at = NULL WHERE id IN ('stuck', 'late')")
    assert await scene.counted(lambda n, failed: n >= 3) == (3, 0)
    assert await scene.counted(lambda n, failed: n >= 2) == (2, 2)
    # Whoever ends behind its time is no success afterwards, and counted no second time.
    scene.rows("UPDATE fig.saga SET ended_at = clock_timestamp(), status = 'completed' WHERE ended_at IS NULL")
    scene.rows(NEW.format("next", "orders.Checkout", "completed", 0, 0))
    assert await scene.counted(lambda n, failed: n >= 1) == (1, 0)


async def test_a_database_that_is_away_is_looked_at_later(postgres: Server) -> None:
    away = SagaEnds("postgresql://postgres@127.0.0.1:1/none", SETTINGS)
    samples = Samples()
    await away.look(samples)
    assert not samples
    none = SagaEnds(postgres.database(), SETTINGS)  # whose service has not made its tables
    await none.look(samples)
    await none.look(samples)
    assert not samples
    await none.close()

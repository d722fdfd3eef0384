"""What the controller measures beside the extractions: databases that answer or do not, and what waits in services."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.extraction import vitals
from stranglerfig.extraction.vitals import Vitals
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.kit import Service
from stranglerfig.kit.testing import event_of
from stranglerfig.sagas.instances import keep_tables
from stranglerfig.sagas.measuring import measure
from stranglerfig.telemetry import metrics
from tests.conftest import Server
from tests.kit_shop import OrderPlaced

SAGA = """INSERT INTO fig.saga (id, name, version, key, status, data, course, history, blocked, begun_at, due_at,
    ended_at, revision) VALUES (%s, 'Order', 1, 'k', %s, '{}', '{}', '[]', %s, now(), now() - %s::interval, %s, 1)"""


@pytest.fixture
async def billing(postgres: Server) -> Service:
    """A service with sagas, and nothing in its database."""
    service = Service("billing", database=postgres.database(), log=MemoryLog(), source="/shop/billing")
    keep_tables(service)
    await service.migrate()
    await service.close()
    return service


def fill(dsn: str) -> None:
    """Two messages in the outbox, one parked with two behind it, three sagas."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for age in (90, 10):
            conn.execute(
                "INSERT INTO fig.outbox (id, topic, type, key, data, occurred_at)"
                " VALUES (%s, 't', 'T', 'k', '{}', now() - make_interval(secs => %s))",
                (str(age), age),
            )
        conn.execute("INSERT INTO fig.subscription (name) VALUES ('billing'), ('billing.late')")
        for number, error in enumerate(("refused", None, None)):
            conn.execute(
                "INSERT INTO fig.dead_letter"
                " (subscription, key, topic, partition, position, event, data, digest, error)"
                " VALUES (1, 'k', 't', 0, %s, '{}', '', gen_random_uuid(), %s)",
                (number, error),
            )
        now = datetime.now(UTC)
        for id, status, blocked, due, ended in (
            ("a", "running", None, "200 s", None),
            ("b", "needs operator", "pay", None, None),
            ("c", "done", None, None, now),
        ):
            conn.execute(SAGA, (id, status, blocked, due, ended))


def told(registry: CollectorRegistry, metric: str, /, **labels: str) -> float | None:
    return registry.get_sample_value(metric, labels)


async def test_what_waits_in_a_service_is_read_from_its_database(billing: Service, postgres: Server) -> None:
    registry = CollectorRegistry()
    figures = metrics.ServiceFigures(registry)
    async with postgres_session(billing._dsn) as conn:
        assert await measure(conn, "billing", figures)
        for name in ("fig_service_outbox_messages", "fig_service_outbox_oldest_seconds", "fig_saga_oldest_due_seconds"):
            assert told(registry, name, service="billing") == 0
        fill(billing._dsn)
        assert await measure(conn, "billing", figures)
    assert told(registry, "fig_service_outbox_messages", service="billing") == 2
    assert 90 <= (told(registry, "fig_service_outbox_oldest_seconds", service="billing") or 0) < 3600
    assert told(registry, "fig_service_parked_messages", service="billing", subscription="billing") == 1
    assert told(registry, "fig_service_waiting_messages", service="billing", subscription="billing") == 2
    assert told(registry, "fig_service_parked_messages", service="billing", subscription="billing.late") == 0
    assert 200 <= (told(registry, "fig_saga_oldest_due_seconds", service="billing") or 0) < 3600
    assert told(registry, "fig_saga_blocked_instances", service="billing") == 1
    assert told(registry, "fig_saga_instances", service="billing", name="Order", status="done") == 1
    async with postgres_session(postgres.database()) as conn:
        assert not await measure(conn, "billing", figures), "that one is no service's"
    assert told(registry, "fig_service_outbox_messages", service="billing") is None


def postgres_session(dsn: str) -> Any:
    return postgres.session(dsn, what="test")


async def test_a_database_that_is_away_is_told_of_and_so_is_its_return(
    billing: Service, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "EVERY", 0.05)
    log = MemoryLog()
    await log.create_topic("events.orders")
    feed = await log.subscribe(["events.orders"], "billing.late")
    for number in range(3):
        await log.append("events.orders", [event_of(OrderPlaced(number, 1), source="/orders")])
    role = postgres.role("vitals_reader")
    hidden = billing._dsn.replace("postgres@", f"{role}@")
    parts = SimpleNamespace(
        control_dsn=postgres.database(),
        monolith_dsn=postgres.database(),
        contexts={"billing": SimpleNamespace(service_dsn=billing._dsn), "hidden": SimpleNamespace(service_dsn=hidden)},
        services={},
        log=log,
    )
    task = tasks.spawn(Vitals(parts).run(), name="vitals")  # type: ignore[arg-type]
    registry = metrics.REGISTRY

    async def until(condition: Callable[[], bool], what: str) -> None:
        async def so() -> bool:
            assert not task.done() or task.result() is None
            return condition()

        await clock.until(so, timeout=60, what=what, at_most=0.1)

    def up(database: str) -> float | None:
        return told(registry, "fig_database_up", database=database)

    try:
        names = ("control", "monolith", "billing", "hidden")
        await until(lambda: all(up(name) == 1 for name in names), "all databases to be seen")
        skew = told(registry, "fig_clock_skew_seconds", database="monolith")
        assert skew is not None and skew < 0.5, "one machine has one clock"
        labels = {"service": "billing", "subscription": "billing.late"}
        await until(lambda: told(registry, "fig_service_subscription_lag_messages", **labels) == 3, "the lag")
        assert told(registry, "fig_service_outbox_messages", service="billing") == 0
        assert told(registry, "fig_service_outbox_messages", service="hidden") is None, "what may not be read"

        name = billing._dsn.rpartition("/")[2]
        with psycopg.connect(postgres.embedded.dsn(), autocommit=True) as conn:
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            await until(lambda: up("billing") == 0, "it to be missed")
            assert told(registry, "fig_clock_skew_seconds", database="billing") is None
            assert told(registry, "fig_service_outbox_messages", service="billing") is None
            assert up("monolith") == 1
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
        await until(lambda: up("billing") == 1, "it to be back")
    finally:
        await tasks.stop(task)
        await feed.close()
    assert told(registry, "fig_service_outbox_messages", service="billing") is None, "nobody looks any more"


@pytest.mark.parametrize(("there", "differs"), [(100.0, 0.0), (100.2, 0.0), (99.5, 0.5), (103.0, 2.5)])
def test_clocks_differ_by_what_the_question_cannot_have_taken(there: float, differs: float) -> None:
    assert vitals.skew(100.0, there, 100.5) == pytest.approx(differs)

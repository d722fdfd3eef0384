"""Every few seconds: do the databases answer, do their clocks agree, what waits in the services? As metrics.

Each database is looked at by a task of its own: one that hangs delays nobody, and never the controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import psycopg

from stranglerfig.extraction.parts import Parts
from stranglerfig.foundation import clock, mysql, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.sagas.measuring import measure
from stranglerfig.telemetry import metrics

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at a database."""
PATIENCE = 5.0
"""Seconds in which it must have answered."""
_COUNTS = 2**53
"""Positions beyond are sequence numbers (Kinesis'), whose differences count nothing."""
Look = Callable[[], Awaitable[None]]


class Vitals:
    """What the controller looks at beside the extractions."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._services = metrics.ServiceFigures(metrics.REGISTRY)
        self._kept: dict[str, postgres.Kept] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        parts = self._parts
        works: list[tuple[str, Look, Callable[[], None]]] = [
            ("control", partial(self._postgres, "control", parts.control_dsn), lambda: None)
        ]
        if mysql.is_mysql(parts.monolith_dsn):
            works.append(("monolith", self._mariadb, lambda: None))
        else:
            works.append(("monolith", partial(self._postgres, "monolith", parts.monolith_dsn), lambda: None))
        services = {**parts.services, **{name: each.service_dsn for name, each in parts.contexts.items()}}
        for name, dsn in services.items():
            here = partial(self._postgres, name, dsn, service=True)
            works.append((name, here, partial(self._services.unknown, name)))
        try:
            async with asyncio.TaskGroup() as group:
                for name, look, away in works:
                    group.create_task(self._again(name, look, away), name=f"vitals {name}")
                group.create_task(tasks.supervise(self._lags, name="vitals of the log"), name="vitals of the log")
        finally:
            self._services.unregister()
            for kept in self._kept.values():
                await kept.close()

    async def _again(self, database: str, look: Look, away: Callable[[], None]) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    await look()
                metrics.DATABASE_UP.labels(database).set(1)
            except (FigError, psycopg.Error, OSError, TimeoutError) as error:
                log.warning("the database of %s does not answer: %s", database, error, extra={"action": "no_answer"})
                metrics.DATABASE_UP.labels(database).set(0)
                metrics.clear(metrics.CLOCK_SKEW, database=database)
                away()
                if (kept := self._kept.get(database)) is not None:
                    await kept.close()  # its session may still be busy with what was given up
            await asyncio.sleep(EVERY)

    async def _postgres(self, database: str, dsn: str, *, service: bool = False) -> None:
        kept = self._kept.setdefault(database, postgres.Kept(dsn, what="vitals"))
        async with kept.session() as conn:
            begun = clock.epoch()
            there = await postgres.value(conn, "SELECT extract(epoch FROM clock_timestamp())::float8")
            _skewed(database, begun, float(there), clock.epoch())
            if service:
                try:
                    await measure(conn, database, self._services)
                except psycopg.errors.InsufficientPrivilege as error:
                    log.info("what waits in %s may not be read: %s", database, error, extra={"action": "unread"})
                    self._services.unknown(database)

    async def _mariadb(self) -> None:
        async with mysql.session(self._parts.monolith_dsn, what="vitals") as conn:
            begun = clock.epoch()
            there = await conn.value("SELECT unix_timestamp(now(6))")
            assert there is not None
            _skewed("monolith", begun, float(str(there)), clock.epoch())

    async def _lags(self) -> None:
        """How far each group is behind in the topics of events."""
        log_ = self._parts.log
        shown: set[tuple[str, str]] = set()
        while True:
            behind: dict[tuple[str, str], int] = {}
            for topic in await log_.topics():
                if topic.name.startswith("fig.") or max(topic.next_positions, default=0) > _COUNTS:
                    continue
                for group in await log_.groups(topic.name):
                    at = await log_.committed(topic.name, group)
                    key = (group.partition(".")[0], group)
                    ends = zip(topic.next_positions, at, strict=False)
                    behind[key] = behind.get(key, 0) + sum(max(0, end - here) for end, here in ends)
            for key in shown - behind.keys():
                metrics.SUBSCRIPTION_LAG.remove(*key)
            for key, count in behind.items():
                metrics.SUBSCRIPTION_LAG.labels(*key).set(count)
            shown = set(behind)
            await asyncio.sleep(EVERY)


def skew(begun: float, there: float, ended: float) -> float:
    """By how many seconds a clock that said ``there`` between ``begun`` and ``ended`` differs from ours, at least."""
    return max(0.0, begun - there, there - ended)


def _skewed(database: str, begun: float, there: float, ended: float) -> None:
    metrics.CLOCK_SKEW.labels(database).set(skew(begun, there, ended))

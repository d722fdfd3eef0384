"""The role ``alerts``: what every process serves as metrics is judged, and a webhook is told what fires.

A process of its own, so that a controller that stands still is told of as well, and a webhook that does not answer
holds up nothing. What was told is in the control database, so that a restart tells nothing twice; while that is away
it is in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import aiohttp
import orjson
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.targets import Target
from stranglerfig.telemetry import alerts, metrics
from stranglerfig.telemetry.judging import Firing, Judge, Labels, Sample
from stranglerfig.telemetry.notices import Notice, message

TABLES = postgres.Tables("alerts", __package__ or "", ("alerts.sql",))
log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks."""
PATIENCE = 3.0
"""Seconds in which a process must have told its metrics."""
WEBHOOK_PATIENCE = 10.0
"""Seconds in which the webhook must have answered."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts to tell the webhook: doubled after each that failed."""
AGAIN = 4 * 3600.0
"""Seconds after which the webhook is told once more of what still fires (Alertmanager's default)."""
_NAMES = frozenset(alert.metric for alert in alerts.ALL)


def read(served: str, target: Target, estate: str) -> Iterator[Sample]:
    """The samples that alerts are about, of what a process serves; with the labels that Prometheus would add.

    Raises:
        ValueError: it is not Prometheus' text format.
    """
    lines = [line for line in served.splitlines() if line.partition("{")[0].partition(" ")[0] in _NAMES]
    added = labels(target, estate)
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            yield Sample(sample.name, {**sample.labels, **added}, float(sample.value))


def labels(target: Target, estate: str) -> dict[str, str]:
    """What tells a target from others."""
    return {"estate": estate, "instance": target.address, **({"role": target.role} if target.role else {})}


@dataclass(frozen=True, slots=True)
class Book:
    """What was told, kept over restarts.

    Args:
        dsn: the control database's.
    """

    dsn: str

    async def migrate(self) -> None:
        """Create the table."""
        async with postgres.session(self.dsn, what="alerts") as conn:
            await postgres.migrate(conn, *TABLES)

    async def load(self) -> list[Notice]:
        """What was kept; alerts that this version knows no more are left out."""
        async with postgres.session(self.dsn, what="alerts") as conn:
            rows = await postgres.fetch(
                conn, "SELECT name, labels, since, begun, value, ended, told, told_at FROM fig.alert"
            )
        found = [(row[0], tuple((name, value) for name, value in row[1]), *row[2:]) for row in rows]
        return [Notice(*row) for row in found if row[0] in alerts.BY_NAME]

    async def keep(self, notices: Collection[Notice]) -> None:
        """Keep these, and no others."""
        rows = [
            (n.name, orjson.dumps(n.labels).decode(), n.since, n.begun, n.value, n.ended, n.told, n.told_at)
            for n in notices
        ]
        async with postgres.session(self.dsn, what="alerts") as conn, conn.transaction(), conn.cursor() as cursor:
            await cursor.execute("DELETE FROM fig.alert")
            await cursor.executemany(
                "INSERT INTO fig.alert (name, labels, since, begun, value, ended, told, told_at)"
                " VALUES (%s, %s::jsonb, %s, %s, %s, %s, %s, %s)",
                rows,
            )


class Alerting:
    """Looks, judges, and tells.

    Args:
        targets: where to look; asked for at each look.
        url: the webhook's.
    """

    def __init__(
        self,
        estate: str,
        targets: Callable[[], Sequence[Target]],
        url: str,
        book: Book,
        *,
        every: float = EVERY,
        judge: Judge | None = None,
    ) -> None:
        self._estate = estate
        self._targets = targets
        self._url = url
        self._book = book
        self._every = every
        self._judge = Judge() if judge is None else judge
        self._notices: dict[tuple[str, Labels], Notice] = {}
        self._unkept = False
        self._keeping = asyncio.Lock()
        self._untold = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Look and tell until cancelled.

        Raises:
            FigError: the control database cannot be read at the start.
        """
        await self._book.migrate()
        now = clock.epoch()
        for notice in await self._book.load():
            self._notices[notice.name, notice.labels] = notice
            if notice.ended is None:
                self._judge.resume(notice.name, notice.labels, notice.since, now)
        self._untold.set()
        try:
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
                group.create_task(self._tell(session), name="webhook")
                ready()
                while True:
                    begun = clock.monotonic()
                    self._found(self._judge.look(clock.epoch(), await self._samples(session)))
                    await self._keep()
                    await asyncio.sleep(max(0.05, self._every - (clock.monotonic() - begun)))
        finally:
            await self._keep()

    async def _samples(self, session: aiohttp.ClientSession) -> list[Sample]:
        found = await asyncio.gather(*(self._ask(session, target) for target in self._targets()))
        return [sample for samples in found for sample in samples]

    async def _ask(self, session: aiohttp.ClientSession, target: Target) -> list[Sample]:
        # Envoy serves thousands of series that no alert is about.
        path = "/ready" if target.role == "envoy" else target.path
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        samples: list[Sample] = []
        try:
            async with session.get(f"{target.scheme}://{target.address}{path}", timeout=timeout) as answer:
                answer.raise_for_status()
                if target.role != "envoy":
                    samples = list(read(await answer.text(), target, self._estate))
            up = 1.0
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.info("%s does not tell its metrics: %s", target.role, error, extra={"action": "not_told"})
            up = 0.0
        return [*samples, Sample("up", labels(target, self._estate), up)]

    def _found(self, firing: Sequence[Firing]) -> None:
        """Take what fires now: what is new, and what is over."""
        now = clock.epoch()
        there = {(each.alert.name, each.labels): each for each in firing}
        for key, each in there.items():
            before = self._notices.get(key)
            if before is None or before.ended is not None:
                # One that was over and untold is told as begun again.
                told = before.told if before is not None else None
                at = before.told_at if before is not None else 0.0
                self._notices[key] = Notice(*key, each.since, now, each.value, told=told, told_at=at)
                self._changed(f"{each.alert.name} begins")
            else:
                self._notices[key] = replace(before, value=each.value)
        for key, notice in list(self._notices.items()):
            if key not in there and notice.ended is None:
                self._notices[key] = replace(notice, ended=now)
                self._changed(f"{notice.name} is over")
        for alert in alerts.ALL:
            count = sum(1 for name, _ in there if name == alert.name)
            metrics.ALERTS_FIRING.labels(alert.name).set(count)
        if self._due():
            self._untold.set()

    def _changed(self, what: str) -> None:
        log.warning("%s", what, extra={"action": "alert"})
        self._unkept = True

    def _due(self) -> list[Notice]:
        """What the webhook is to be told: what it does not know, and once in a while what still fires."""
        now = clock.epoch()
        return [n for n in self._notices.values() if n.status != n.told or now - n.told_at > AGAIN]

    async def _keep(self) -> None:
        async with self._keeping:
            if not self._unkept:
                return
            self._unkept = False
            try:
                await self._book.keep(list(self._notices.values()))
            except (FigError, psycopg.Error, OSError) as error:
                self._unkept = True
                log.warning("what is told is not kept: %s", error, extra={"action": "alerts_unkept"})

    async def _tell(self, session: aiohttp.ClientSession) -> None:
        """Tell the webhook what it does not know, for as long as it takes."""
        pause = FIRST_PAUSE
        while True:
            await self._untold.wait()
            self._untold.clear()
            due = self._due()
            if not due:
                continue
            if await self._post(session, due):
                pause = FIRST_PAUSE
                self._told(due)
                await self._keep()
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self._untold.set()

    async def _post(self, session: aiohttp.ClientSession, due: Sequence[Notice]) -> bool:
        headers = {"Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_PATIENCE)
        body = orjson.dumps(message(self._estate, due))
        try:
            async with session.post(self._url, data=body, headers=headers, timeout=timeout) as answer:
                accepted = answer.status < 300
                said = f"it answered {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # The error may have the address, which may hold a secret.
            accepted, said = False, type(error).__name__
        metrics.ALERT_POSTS.labels("accepted" if accepted else "failed").inc()
        if not accepted:
            log.warning("the webhook could not be told: %s", said, extra={"action": "webhook_failed"})
        return accepted

    def _told(self, due: Sequence[Notice]) -> None:
        now = clock.epoch()
        for notice in due:
            key = (notice.name, notice.labels)
            here = self._notices[key]
            if notice.ended is not None and here.ended is not None:
                del self._notices[key]
            else:
                # It may have ended, or begun again, while the webhook was told.
                self._notices[key] = replace(here, told=notice.status, told_at=now)
        self._unkept = True

"""Services of several real processes each, one server for their databases and the log, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import EmbeddedPostgres

POINTS = (
    "relay/read", "relay/appended", "relay/removed", "consumer/attempted", "consumer/handled",
    "consumer/committed", "saga/written", "saga/claimed", "saga/called", "saga/told",
)  # fmt: skip
SETTINGS = {"synchronous_commit": "off", "max_connections": "200"}
ROOT = Path(__file__).parents[3]
# Whoever measures coverage would have the processes at half their speed: what they do is covered elsewhere.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("COV")} | {
    "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"
}


class Estate:
    """Services, of which the first one has the sagas.

    Args:
        begins: the topic that sagas begin from, and say their end in.
        environment: what the processes are told beside.
    """

    def __init__(self, server: EmbeddedPostgres, *roles: str, begins: str, **environment: str) -> None:
        self.server = server
        self.begins = begins
        self.environment = environment
        self.dsns = {role: server.create_database(role) for role in roles}
        self.log_dsn = server.create_database("log")
        self.processes: list[tuple[str, asyncio.subprocess.Process]] = []
        self._sagas = roles[0]
        self._looking: psycopg.Connection[Any] | None = None
        # What the test itself appends is not to be forgotten with the server, as all else may be.
        self.rows("log", "CREATE ROLE customers SUPERUSER LOGIN; ALTER ROLE customers SET synchronous_commit = on")

    async def prepare(self, topics: Sequence[str]) -> None:
        """The log's tables, and topics."""
        log_ = PostgresLog(self.log_dsn)
        await log_.migrate()
        for topic in topics:
            await log_.create_topic(topic, partitions=2)
        await log_.close()

    def rows(self, database: str, query: str) -> list[Any]:
        """What a database says."""
        with psycopg.connect(self.dsns.get(database, self.log_dsn), autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def start(
        self,
        role: str,
        *,
        point: str = "",
        visit: int = 1,
        victim: int | None = None,
        sign: signal.Signals = signal.SIGKILL,
        **environment: str,
    ) -> asyncio.subprocess.Process:
        """One more process, which dies at its ``visit``-th visit to ``point``, or has the ``victim`` die."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.sagas.worker", role, self.dsns[role], self.log_dsn),
            cwd=ROOT, env=ENVIRONMENT | self.environment | environment,
            stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.processes.append((role, process))
        if point:
            self.doom(process, point, visit, victim, sign)
        return process

    def doom(
        self,
        process: asyncio.subprocess.Process,
        point: str,
        visit: int,
        victim: int | None = None,
        sign: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Have a process, or the ``victim``, die at the process's ``visit``-th visit to ``point`` from now on."""
        assert process.stdin is not None
        process.stdin.write(f"{point} {visit} {victim or process.pid} {sign:d}\n".encode())

    async def replace(self, number: int, **environment: str) -> None:
        """A process is killed, if it lives, and another one takes its place."""
        role, process = self.processes.pop(number)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await self.start(role, **environment)

    async def replace_dead(self) -> int:
        """Others take the places of those that have died; returns how many."""
        dead = [process for _, process in self.processes if process.returncode is not None]
        for process in dead:
            await self.replace(next(n for n, (_, each) in enumerate(self.processes) if each is process))
        return len(dead)

    async def end(self) -> None:
        """End all that run."""
        for _, process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._looking is not None:
            self._looking.close()

    async def append(self, events: Sequence[Event], *, ahead: int = 600) -> None:
        """What sagas begin with, no more than ``ahead`` of what has ended."""
        log_ = PostgresLog(self.server.dsn("log", "customers"))
        for start in range(0, len(events), 200):

            async def appended(start: int = start) -> bool:
                with contextlib.suppress(FigError, psycopg.OperationalError):
                    if self.ended() < start - ahead:
                        return False
                    await log_.append(self.begins, events[start : start + 200])
                    return True
                return False

            await clock.until(appended, timeout=600, what="the sagas to keep up", every=0.1, at_most=0.1)
        await log_.close()

    def ended(self) -> int:
        """How many sagas have ended."""
        if self._looking is None or self._looking.closed:  # it is asked often
            self._looking = psycopg.connect(self.dsns[self._sagas], autocommit=True)
        return int(self._looking.execute("SELECT count(ended_at) FROM fig.saga").fetchall()[0][0])

    async def all_ended(self, count: int, timeout: float) -> None:
        """Wait for it."""

        async def ended() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                return self.ended() == count
            return False

        await clock.until(ended, timeout=timeout, what=f"{count} sagas to end")

    def check(self, count: int) -> None:
        """So many have ended, and nothing is left over: nothing parked, nothing locked."""
        assert self.rows(self._sagas, "SELECT count(*), count(ended_at) FROM fig.saga") == [(count, count)]
        assert self.rows(self._sagas, "SELECT * FROM fig.saga_lock") == []
        for database in self.dsns:
            assert self.rows(database, "SELECT event, error FROM fig.dead_letter") == []

    async def told(self, beginnings: str) -> dict[str, str]:
        """By a saga's key, the type of its end as it is on the log: once.

        Args:
            beginnings: what the types of the events that sagas begin with begin with.
        """

        async def relayed() -> bool:
            return self.rows(self._sagas, "SELECT count(*) FROM fig.outbox") == [(0,)]

        await clock.until(relayed, timeout=60, what="the outbox to be empty")
        log_ = PostgresLog(self.log_dsn)
        ends: list[tuple[str, str]] = []
        for partition in range(2):
            position = 0
            while records := await log_.read(self.begins, partition, position):
                position = records[-1].position + 1
                found = (record.event for record in records)
                ends += [(each.subject or "", each.type) for each in found if not each.type.startswith(beginnings)]
        await log_.close()
        assert len(ends) == len(dict(ends)), "an end was said twice"
        return dict(ends)

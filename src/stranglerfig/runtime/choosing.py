"""Which candidates there are, and each of them measured: what ``fig events choose`` does.

PostgreSQL is measured in a database that is made for it and dropped; the others in topics. A server of our own in a
throw-away folder is killed where a candidate's durability is asked for, and keeps the groups of logs that have none.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo, sql

from stranglerfig.eventlog import BACKENDS, describe, open_log, scheme_of
from stranglerfig.eventlog.choosing.measure import PREFIX, Say, measure
from stranglerfig.eventlog.choosing.model import Ask, Footprint, Looked, Measured, Result, Trial, not_tested
from stranglerfig.eventlog.choosing.operation import operation_of
from stranglerfig.eventlog.choosing.survival import survives
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.foundation import ids, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import footprint
from stranglerfig.runtime.embedded import EmbeddedPostgres
from stranglerfig.runtime.places import control_dsn
from stranglerfig.runtime.settings import Project

USUAL: Final = (
    ("Kafka", "kafka://127.0.0.1:9092"),
    ("RabbitMQ streams", "rabbitmq://127.0.0.1:5552"),
    ("PostgreSQL", "postgresql://postgres@127.0.0.1:5432/postgres"),
)
"""Where candidates usually listen on a developer's machine."""
_POSTGRES: Final = ("postgres", "postgresql")
_OVERHEAD: Final = 120.0
"""Seconds beyond the asked ones after which a candidate is given up: a server that hangs must not hang us."""
EMBEDDED: Final = "PostgreSQL, embedded"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A log to be measured.

    Attributes:
        name: shown; without secrets.
        url: its address; None for the embedded PostgreSQL in the throw-away folder.
        origin: where it was taken from.
        ours: whether fig starts and watches its server.
    """

    name: str
    url: str | None
    origin: str
    ours: bool = False

    @property
    def scheme(self) -> str:
        """Which backend."""
        return "postgres" if self.url is None else scheme_of(self.url)


def machine() -> str:
    """This machine, in a few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def _name(url: str) -> str:
    return f"{operation_of(scheme_of(url)).title} at {describe(url).partition('://')[2]}"


def asked_for(urls: Sequence[str]) -> list[Candidate]:
    """The candidates of ``--candidate``: addresses, or ``embedded``.

    Raises:
        FigError: ``unknown_log_backend``.
    """
    return [
        Candidate(EMBEDDED, None, "asked for", ours=True)
        if url == "embedded"
        else Candidate(_name(url), url, "asked for")
        for url in urls
    ]


async def look_around(project: Project | None) -> tuple[list[Candidate], list[Looked]]:
    """The log of ``fig.yaml``, what answers at the usual places, and the embedded PostgreSQL; and where was looked."""
    candidates: list[Candidate] = []
    looked: list[Looked] = []
    if project is None:
        looked.append(Looked("the log of fig.yaml", "fig.yaml", False, "there is no fig.yaml here"))
    else:
        found, seen = await _of_project(project)
        looked.append(seen)
        candidates += found
    for what, url in USUAL:
        where = describe(url)
        if any(one.url is not None and _address(one.url) == _address(url) for one in candidates):
            continue
        if not await _answers(url):
            looked.append(Looked(what, where, False, "nothing listens"))
        elif urlsplit(url).scheme not in BACKENDS:
            looked.append(Looked(what, where, False, "listens, but this version of fig has no such log"))
        else:
            looked.append(Looked(what, where, True, "listens"))
            candidates.append(Candidate(_name(url), url, "found"))
    if not any(one.ours for one in candidates):
        candidates.append(Candidate(EMBEDDED, None, "embedded", ours=True))
        looked.append(Looked(EMBEDDED, "a throw-away folder", True, "what fig starts when nothing else is configured"))
    return candidates, looked


async def _of_project(project: Project) -> tuple[list[Candidate], Looked]:
    embedded = project.estate.control is None and project.log_url is None
    try:
        url = project.log_url or control_dsn(project)
    except FigError as error:
        return [], Looked("the log of fig.yaml", "the embedded PostgreSQL", False, error.message)
    where = describe(url)
    if not await _answers(url):
        return [], Looked("the log of fig.yaml", where, False, "nothing listens")
    name = f"{EMBEDDED} (fig's own)" if embedded else _name(url)
    return [Candidate(name, url, "fig.yaml", ours=embedded)], Looked("the log of fig.yaml", where, True, "listens")


def _address(url: str) -> tuple[str, int] | None:
    """Host and port of the (first) server of a log; None where the address names none."""
    if urlsplit(url).scheme in _POSTGRES:
        parts = conninfo.conninfo_to_dict(url)
        host, port = str(parts.get("host") or "127.0.0.1"), str(parts.get("port") or "5432")
    else:
        host, _, port = urlsplit(url).netloc.rpartition("@")[2].partition(",")[0].rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


async def _answers(url: str) -> bool:
    if (address := _address(url)) is None:
        return False
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


@contextmanager
def throw_away() -> Iterator[EmbeddedPostgres]:
    """An embedded PostgreSQL in a folder of its own, both gone afterwards; as durable as fig's own."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)  # root lends postgres an account, which must pass through here
    server = EmbeddedPostgres(folder / "data", die_with_parent=True)
    try:
        server.start()  # in this thread, see processes.die_with_parent
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _database(dsn: str) -> AsyncIterator[str]:
    """A database beside the one that ``dsn`` names, dropped afterwards."""
    name = f"{PREFIX}{ids.nonce()[:8]}"
    try:
        try:
            async with postgres.session(dsn, what="choose") as conn:
                await conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise FigError(
                "choose_needs_database",
                f"at {postgres.describe(dsn)} the database to measure the log in cannot be created: {error}",
                "Name a role that may (ALTER ROLE … CREATEDB), or a server of yours for trials.",
                database=postgres.describe(dsn),
            ) from error
        yield conninfo.make_conninfo(dsn, dbname=name)
    finally:
        async with postgres.session(dsn, what="choose") as conn:
            await conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def _settings(dsn: str) -> str:
    async with postgres.session(dsn, what="choose") as conn:
        shown = await postgres.one(
            conn, "SELECT current_setting('fsync'), current_setting('synchronous_commit'), version()"
        )
    assert shown is not None
    return f"fsync {shown[0]}, synchronous_commit {shown[1]}, {' '.join(shown[2].split()[:2])}"


async def choose(ask: Ask, candidates: Sequence[Candidate], say: Say) -> list[Result]:
    """Measure each candidate in turn; one that fails is a result as well."""
    with throw_away() as server:
        results = []
        for number, candidate in enumerate(candidates, start=1):
            head = f"[{number}/{len(candidates)}] {candidate.name}: "
            results.append(await _one(ask, candidate, server, _headed(say, head)))
    return results


def _headed(say: Say, head: str) -> Say:
    return lambda words: say(head + words)


async def _one(ask: Ask, candidate: Candidate, server: EmbeddedPostgres, say: Say) -> Result:
    url = candidate.url or server.dsn()
    operation = operation_of(candidate.scheme)
    measured: Measured | None = None
    seen: Footprint | None = None
    problem: str | None = None
    durability, settings = not_tested("not ours to kill"), ""
    try:
        async with asyncio.timeout(ask.seconds + _OVERHEAD):
            if candidate.scheme in _POSTGRES:
                settings = await _settings(url)
                async with _database(url) as scratch:
                    measured, seen = await _measured(ask, PostgresLog(scratch), url, say)
            else:
                state = await asyncio.to_thread(server.create_database, f"state_{ids.nonce()[:8]}")
                measured, seen = await _measured(ask, open_log(url, state=state), url, say)
            if candidate.ours:
                durability = await _killed(ask, server, say)
    except FigError as error:
        problem = f"{error.message} [{error.code}]"
    except TimeoutError:
        problem = f"gave no end within {ask.seconds + _OVERHEAD:.0f} s"
    return Result(
        candidate.name, candidate.scheme, candidate.origin, 0 if candidate.ours else operation.further, operation,
        durability, measured, seen, settings, problem,
    )  # fmt: skip


async def _measured(ask: Ask, log: EventLog, url: str, say: Say) -> tuple[Measured, Footprint | None]:
    try:
        await log.migrate()
        measured = await measure(log, ask, say)
        address = _address(url)
        # After the work: what it took for itself while it was measured.
        return measured, await asyncio.to_thread(footprint.of_server, *address) if address else None
    finally:
        await log.close()


async def _killed(ask: Ask, server: EmbeddedPostgres, say: Say) -> Trial:
    database = await asyncio.to_thread(server.create_database, f"killed_{ids.nonce()[:8]}")
    # It is started in this thread, see processes.die_with_parent; nothing else is under way then.
    return await survives(lambda: PostgresLog(database), kill=server.kill, start=server.start, size=ask.size, say=say)

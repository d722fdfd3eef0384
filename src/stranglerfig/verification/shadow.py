"""The comparator of shadow reads: it gets a copy of a read, asks both sides the same, and counts what it finds.

It never answers a user: the copy is acknowledged at once, and what is too much is dropped and counted as missing
coverage. Why it asks both sides itself: ``docs/decisions/0003-comparator-asks-both.md``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple

import aiohttp
import psycopg
from aiohttp import web
from psycopg.types.json import Jsonb
from yarl import URL

from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load
from stranglerfig.foundation.tls import Trust
from stranglerfig.telemetry import metrics
from stranglerfig.verification.answers import (
    Answer,
    Difference,
    NoiseLedger,
    Rules,
    compare,
    redacted_body,
    redacted_differences,
)
from stranglerfig.verification.settings import ShadowSettings

log = logging.getLogger(__name__)
TABLES = postgres.Tables("verification_answers", __package__ or "", ("answers_tables.sql",))
_sql = load(__package__ or "", "shadow.sql")

ROUTE = "x-fig-route"
"""Header of a copy: ``<context>:read:<number>``, set by the façade."""
PAIRS_PER_SECOND = 50
AT_LAST = 64
"""Differing answers that are asked again at a time: each takes up to a second."""
PAUSES = (0.02, 0.08, 0.2, 0.7)
"""Shares of the allowed lag between two askings of a differing read."""
UNWRITTEN = 600
"""Seconds of counts that are kept while the control database is away."""
# Hop by hop, set by the mirroring itself, or such that the answer would have no body.
NOT_FORWARDED = frozenset(
    (
        ROUTE,
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
        "accept-encoding",
        "x-envoy-internal",
        "x-fig-pin",
        "if-none-match",
        "if-modified-since",
    )
)
NOT_THERE = frozenset(("ClientConnectorError", "ClientOSError", "ServerDisconnectedError"))
"""Errors after which another instance is asked."""
Verdict = Literal["equal", "mismatched", "lagged", "noise", "dropped", "errors"]


@dataclass(frozen=True)
class ShadowContext:
    """What the comparator is told about a context: where both sides listen, and what counts as equal.

    Attributes:
        service_urls: the base URLs of the service's instances, asked in turn.
        monolith_trust, service_trust: whom https:// addresses must prove to be.
    """

    context: str
    monolith_url: str
    service_urls: tuple[str, ...]
    settings: ShadowSettings = field(default_factory=ShadowSettings)
    monolith_trust: Trust = field(default_factory=Trust)
    service_trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True, slots=True)
class Copy:
    """A mirrored read; ``at`` is its wall time, seconds since 1970."""

    route: str
    method: str
    target: str
    headers: Mapping[str, str]
    at: float

    @property
    def request_id(self) -> str | None:
        """The user's request, as the access log names it."""
        return next((value for name, value in self.headers.items() if name.lower() == "x-request-id"), None)


class Pair(NamedTuple):
    """Both sides' answers to one read, and how long each took, in microseconds."""

    monolith: Answer
    service: Answer
    monolith_us: int
    service_us: int


@dataclass
class Counts:
    """One route's second."""

    compared: int = 0
    equal: int = 0
    mismatched: int = 0
    lagged: int = 0
    noise: int = 0
    dropped: int = 0
    errors: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        setattr(self, verdict, getattr(self, verdict) + 1)
        if verdict not in ("dropped", "errors"):
            self.compared += 1


class Findings:
    """What was found and not written yet: counts, samples and latencies, until :meth:`flush` takes them."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int], Counts] = defaultdict(Counts)
        self.samples: list[dict[str, Any]] = []
        self.latencies: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._pairs_seen: dict[tuple[str, int], int] = {}

    def count(self, context: str, copy: Copy, verdict: Verdict) -> None:
        """Count a verdict in the second of its request."""
        if verdict not in ("dropped", "errors"):
            metrics.COMPARED.labels(context).inc()
        if verdict == "mismatched":
            metrics.MISMATCHED.labels(context).inc()
        self.counts[context, copy.route, int(copy.at)].add(verdict)

    def latency(self, context: str, at: float, monolith_us: int, service_us: int) -> None:
        """Keep a pair of latencies: a uniform sample of each second (reservoir sampling)."""
        key = (context, int(at))
        seen = self._pairs_seen[key] = self._pairs_seen.get(key, 0) + 1
        kept = self.latencies.setdefault(key, [])
        if len(kept) < PAIRS_PER_SECOND:
            kept.append((monolith_us, service_us))
        elif (place := random.randrange(seen)) < PAIRS_PER_SECOND:  # noqa: S311  a sample, no secret
            kept[place] = (monolith_us, service_us)

    async def flush(self, conn: Connection, keep: Mapping[str, int], settled: Mapping[str, int]) -> None:
        """Write all, in one transaction; what could not be written is kept, within bounds.

        ``settled`` is per context the second before which nothing is added any more.
        """
        counts, samples, latencies = dict(self.counts), self.samples, self.latencies
        self.counts, self.samples, self.latencies, self._pairs_seen = defaultdict(Counts), [], {}, {}
        try:
            async with conn.transaction(), conn.cursor() as cursor:
                await cursor.executemany(
                    _sql.add_counts,
                    [{"context": c, "route": r, "at": at, **asdict(each)} for (c, r, at), each in counts.items()],
                )
                await cursor.executemany(_sql.add_sample, samples)
                for context in {sample["context"] for sample in samples}:
                    await cursor.execute(_sql.cap_samples, {"context": context, "keep": keep[context]})
                await cursor.executemany(
                    _sql.add_latencies,
                    [
                        {"context": c, "at": at, "monolith": [m for m, _ in pairs], "service": [s for _, s in pairs]}
                        for (c, at), pairs in latencies.items()
                    ],
                )
                await cursor.executemany(_sql.settle, [{"context": c, "until": at} for c, at in settled.items()])
        except BaseException:
            oldest = clock.epoch() - UNWRITTEN
            for (context, route, at), each in counts.items():
                if at >= oldest:
                    mine = self.counts[context, route, at]
                    for name, number in asdict(each).items():
                        setattr(mine, name, getattr(mine, name) + number)
            raise


class Comparator:
    """Asks, compares and counts for one context."""

    def __init__(self, context: ShadowContext, findings: Findings, session: aiohttp.ClientSession) -> None:
        self.context = context
        self.settings = context.settings
        self.ledgers: dict[str, NoiseLedger] = defaultdict(NoiseLedger)
        self._rules = Rules(context.settings)
        self._findings = findings
        self._session = session
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(context.settings.queue)
        self._again = 0
        self._second = (0, 0)
        self._turn = 0
        self._tls: dict[Trust, dict[str, Any]] = {}
        self._unsettled: Counter[int] = Counter()

    def lead_to(self, context: ShadowContext) -> None:
        """Ask where ``context`` says from now on."""
        self.context = context
        self._tls.clear()  # a file of authorities may say something else now

    def offer(self, copy: Copy) -> None:
        """Take a copy, or count it as dropped."""
        second, number = self._second
        number = number + 1 if second == int(copy.at) else 1
        self._second = (int(copy.at), number)
        if number > self.settings.most_per_second:
            self._findings.count(self.context.context, copy, "dropped")
            return
        try:
            self._queue.put_nowait(copy)
        except asyncio.QueueFull:
            self._findings.count(self.context.context, copy, "dropped")
        else:
            self._unsettled[int(copy.at)] += 1

    @property
    def settled(self) -> int:
        """The second (since 1970) before which all verdicts are counted: none comes later for those."""
        return min(self._unsettled, default=int(clock.epoch()))

    async def run(self) -> None:
        """Work the queue until cancelled; what was under way when it ends counts as dropped."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.settings.concurrency):
                    group.create_task(self._work(group))
        finally:
            while not self._queue.empty():
                self._count(self._queue.get_nowait(), "dropped")
            self._unsettled.clear()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while True:
            copy = await self._queue.get()
            try:
                verdict = await self._first(copy, group)
            except asyncio.CancelledError:
                self._count(copy, "dropped")
                raise
            if verdict is not None:
                self._count(copy, verdict)

    def _count(self, copy: Copy, verdict: Verdict) -> None:
        self._findings.count(self.context.context, copy, verdict)
        self._unsettled[int(copy.at)] -= 1
        if not self._unsettled[int(copy.at)]:
            del self._unsettled[int(copy.at)]

    async def _first(self, copy: Copy, group: asyncio.TaskGroup) -> Verdict | None:
        """The verdict on a copy; None when the sides must be asked again, which goes on beside the queue."""
        pair = await self._ask_both(copy)
        if pair.monolith.error is not None:
            return "errors"
        if pair.service.error is None:
            self._findings.latency(self.context.context, copy.at, pair.monolith_us, pair.service_us)
        ledger = self.ledgers[copy.route]
        if random.random() * 100 < self.settings.baseline:  # noqa: S311
            ledger.baseline(await self._restless(copy, pair.monolith))
        found = compare(pair.monolith, pair.service, self._rules)
        if not found:
            ledger.compared(set())
            return "equal"
        if self._again >= AT_LAST:
            return "dropped"
        self._again += 1
        group.create_task(self._ask_again(copy, pair, found))
        return None

    async def _ask_again(self, copy: Copy, pair: Pair, found: list[Difference]) -> None:
        verdict: Verdict = "errors"
        try:
            verdict, pair, found = await self._settle(copy, pair, found)
        finally:
            self._again -= 1
            self._count(copy, verdict)
        if verdict == "mismatched":
            self._sample(copy, verdict, pair, found)

    async def _settle(self, copy: Copy, pair: Pair, found: list[Difference]) -> tuple[Verdict, Pair, list[Difference]]:
        """Does the difference pass (lag), is it in any two answers (noise), or does it stay?"""
        ledger = self.ledgers[copy.route]
        ledger.baseline(await self._restless(copy, pair.monolith))
        lasting = {difference.field for difference in found}
        for share in PAUSES:
            if all(ledger.noisy(name) for name in lasting):
                break  # waiting would not help
            await asyncio.sleep(share * self.settings.lag)
            pair = await self._ask_both(copy)
            if pair.monolith.error is not None:
                return "errors", pair, found
            found = compare(pair.monolith, pair.service, self._rules)
            lasting &= {difference.field for difference in found}
            if not found or not lasting:
                ledger.compared(set())
                return "lagged", pair, found
        ledger.compared(lasting)
        noise = all(ledger.noisy(name) for name in lasting)
        return ("noise" if noise else "mismatched"), pair, found

    async def _restless(self, copy: Copy, first: Answer) -> set[str]:
        """The fields that differ between the monolith's own answers, again and again.

        A value that changed once, between two askings, is data on the move; noise never settles.
        """
        second, _ = await self._ask(self.context.monolith_url, copy)
        fields = {difference.field for difference in compare(first, second, self._rules)}
        if not fields or second.error is not None:
            return set()
        await asyncio.sleep(0.05)
        third, _ = await self._ask(self.context.monolith_url, copy)
        if third.error is not None:
            return set()
        return fields & {difference.field for difference in compare(second, third, self._rules)}

    async def _ask_both(self, copy: Copy) -> Pair:
        # Who is asked first has the shorter queue in our own loop: toss for it.
        asked = [self._ask(self.context.monolith_url, copy), self._ask_service(copy)]
        swap = random.random() < 0.5  # noqa: S311
        first, second = await asyncio.gather(*(reversed(asked) if swap else asked))
        monolith, service = (second, first) if swap else (first, second)
        return Pair(monolith[0], service[0], monolith[1], service[1])

    async def _ask_service(self, copy: Copy) -> tuple[Answer, int]:
        """As :meth:`_ask`, of the instance whose turn it is; of the next where that one is not there."""
        urls = self.context.service_urls
        self._turn += 1
        turn = self._turn
        for number in range(len(urls)):
            found = await self._ask(urls[(turn + number) % len(urls)], copy)
            if found[0].error not in NOT_THERE:
                break
        return found

    async def _ask(self, url: str, copy: Copy) -> tuple[Answer, int]:
        """One side's answer, and how long it took to its last byte, in microseconds."""
        most = self.settings.max_body_kb * 1024
        begun = perf_counter_ns()
        try:
            async with self._session.request(
                copy.method,
                URL(url.rstrip("/") + copy.target, encoded=True),
                headers=copy.headers,
                allow_redirects=False,
                **self._secured(url),
                timeout=aiohttp.ClientTimeout(total=self.settings.timeout),
            ) as answer:
                body = await _at_most(answer, most)
                took = (perf_counter_ns() - begun) // 1000
                headers = {name.lower(): value for name, value in answer.headers.items()}
                if body is None:
                    return Answer(answer.status, headers, error=f"a body of more than {most} bytes"), took
                return Answer(answer.status, headers, body), took
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(0, error=type(error).__name__), (perf_counter_ns() - begun) // 1000

    def _secured(self, url: str) -> dict[str, Any]:
        if not url.startswith("https:"):
            return {}
        trust = self.context.monolith_trust if url == self.context.monolith_url else self.context.service_trust
        if trust not in self._tls:
            self._tls[trust] = trust.client()
        return self._tls[trust]

    def _sample(self, copy: Copy, verdict: Verdict, pair: Pair, found: list[Difference]) -> None:
        if len(self._findings.samples) >= self.settings.samples:
            return
        self._findings.samples.append(
            {
                "context": self.context.context,
                "route": copy.route,
                "at": copy.at,
                "verdict": verdict,
                "request_id": copy.request_id,
                # Queries carry what users typed.
                "path": copy.target.partition("?")[0],
                "differences": Jsonb(redacted_differences(found, self._rules)),
                "monolith": Jsonb(redacted_body(pair.monolith, self._rules)),
                "service": Jsonb(redacted_body(pair.service, self._rules)),
            }
        )


async def _at_most(answer: aiohttp.ClientResponse, most: int) -> bytes | None:
    body = bytearray()
    async for piece in answer.content.iter_chunked(1 << 16):
        body += piece
        if len(body) > most:
            return None
    return bytes(body)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a copy as they are sent to both sides: the user's, without what mirroring added."""
    kept = {name: value for name, value in headers.items() if name.lower() not in NOT_FORWARDED}
    for name in [name for name in kept if name.lower() == "x-forwarded-for"]:
        # The mirroring proxy has appended its own address.
        rest = kept.pop(name).rpartition(",")[0].strip()
        if rest:
            kept[name] = rest
    kept["x-fig-shadow"] = "1"
    return kept


class ShadowServer:
    """The comparators of all contexts behind one port, and the writer of their findings."""

    def __init__(self, contexts: Sequence[ShadowContext], control_dsn: str) -> None:
        self.findings = Findings()
        self.comparators: dict[str, Comparator] = {}
        self._contexts = contexts
        self._kept = postgres.Kept(control_dsn, what="shadow")
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._work: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> None:
        """Create the tables, listen and work.

        Raises:
            FigError: ``database_unreachable``.
        """
        async with self._kept.session() as conn:
            await migrate(conn)
            await conn.execute(_sql.forget)
        self._session = aiohttp.ClientSession(
            # Below the keep-alive of usual servers: a connection that is just being closed would be an error of ours.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1.5),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for context in self._contexts:
            comparator = Comparator(context, self.findings, self._session)
            self.comparators[context.context] = comparator
            name = f"shadow:{context.context}"
            self._work.append(tasks.spawn(tasks.supervise(comparator.run, name=name), name=name))
        self._work.append(tasks.spawn(tasks.supervise(self._write, name="shadow:write"), name="shadow:write"))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._copy)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=256).start()

    def lead_to(self, context: str, service_urls: Sequence[str], trust: Trust) -> None:
        """Ask other instances of a context's service from now on."""
        comparator = self.comparators[context]
        comparator.lead_to(replace(comparator.context, service_urls=tuple(service_urls), service_trust=trust))

    async def stop(self) -> None:
        """Stop; what was found is written first, when the control database is there."""
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._work:
            await tasks.stop(task)
        if self._session is not None:
            with suppress(FigError, psycopg.Error):
                await self.flush()
            await self._session.close()
        await self._kept.close()

    async def _copy(self, request: web.Request) -> web.Response:
        route = request.headers.get(ROUTE, "")
        comparator = self.comparators.get(route.partition(":")[0])
        if comparator is None:
            return web.Response(status=404)
        comparator.offer(Copy(route, request.method, request.raw_path, forwarded(request.headers), clock.epoch()))
        return web.Response(status=204)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(1 - clock.epoch() % 1)
            await self.flush()

    async def flush(self) -> None:
        """Write what was found so far.

        Raises:
            FigError: ``database_unreachable``; the counts are kept.
        """
        keep = {context.context: context.settings.samples for context in self._contexts}
        async with self._kept.session() as conn:
            settled = {name: comparator.settled for name, comparator in self.comparators.items()}
            await self.findings.flush(conn, keep, settled)


async def serve_shadow(
    host: str,
    port: int,
    contexts: Sequence[ShadowContext],
    control_dsn: str,
    *,
    ready: Callable[[], None] | None = None,
    beside: Callable[[ShadowServer], Awaitable[None]] | None = None,
) -> None:
    """Run the comparator until cancelled; ``ready`` is called once it listens, ``beside`` runs along with it."""
    server = ShadowServer(contexts, control_dsn)
    try:
        await server.start(host, port)
        if ready is not None:
            ready()
        if beside is not None:
            await beside(server)
        await asyncio.Event().wait()
    finally:
        await server.stop()


# --- what was found


async def migrate(conn: Connection) -> None:
    """The comparator's tables in the control database."""
    await postgres.migrate(conn, *TABLES)


async def counts(conn: Connection, context: str, since: datetime) -> Counts:
    """The sums of a context since a moment."""
    row = await postgres.one(conn, _sql.counts, {"context": context, "since": since})
    assert row is not None
    return Counts(*(int(value) for value in row))


async def latencies(conn: Connection, context: str, since: datetime) -> list[tuple[int, int]]:
    """Pairs of latencies (monolith, service) in microseconds since a moment, sampled."""
    rows = await postgres.fetch(conn, _sql.latencies, {"context": context, "since": since})
    return [(int(monolith), int(service)) for monolith, service in rows]


async def samples(conn: Connection, context: str, *, most: int = 20) -> list[dict[str, Any]]:
    """The newest differing answers of a context, redacted."""
    names = ("route", "at", "verdict", "request_id", "path", "differences", "monolith", "service")
    rows = await postgres.fetch(conn, _sql.samples, {"context": context, "most": most})
    return [dict(zip(names, row, strict=True)) for row in rows]

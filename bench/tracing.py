"""What tracing costs: the façade and the sync without it, and with nothing, one in a hundred and all sampled.

The collector answers and forgets, so that what it costs to keep spans is not counted; that it takes them is.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import facade, pgbench, stream
from bench.context import Context, until
from bench.flow import flow
from bench.result import Result
from bench.tables import execute
from examples.servers import fetch
from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.model import ContextRouting, Estate
from stranglerfig.facade.settings import ContextFacade
from stranglerfig.runtime.embedded import free_port
from stranglerfig.telemetry.model import Destination

ROUNDS = 3
TRANSACTIONS = 100_000
# As the shop's monolith does it: the message travels with the transaction, and costs no row.
TRACED_TICK = """\\set n random(1, 1000000)
BEGIN;
SELECT pg_logical_emit_message(true, 'traceparent', '00-' || md5(random()::text) || '-' || left(md5(:n::text), 16)
    || CASE WHEN :n <= {of_a_million} THEN '-01' ELSE '-00' END);
INSERT INTO tick (id, body, created_at)
VALUES (nextval('tick_id'), 'a row of some length, as they come: ' || :n, clock_timestamp());
COMMIT;
"""


class Way(NamedTuple):
    """How much is traced."""

    name: str
    share: float | None

    @property
    def label(self) -> str:
        """As notes have it."""
        return "without" if self.share is None else f"{self.share:.0%}"


WAYS = (Way("off", None), Way("0", 0.0), Way("1", 0.01), Way("100", 1.0))


def answered(context: Context) -> list[Result]:
    """``tracing_facade_p99`` at 2,000 requests a second and ``tracing_facade_rate``, as many as go, at 100 %."""
    seconds = context.seconds(4)
    wrk = fetch.debian("wrk", "wrk")
    rounds: dict[str, list[dict[str, float]]] = {way.label: [] for way in WAYS}
    with context.folder("tracing") as folder, ExitStack() as stack:
        upstream, collector = free_port(), free_port()
        for port in (upstream, collector):
            facade._start(stack, folder, [sys.executable, "-m", "bench.upstream", str(port)])
        ports = {way.label: _facade(stack, folder, way, upstream, collector) for way in WAYS}
        for port in ports.values():
            facade._load(port, 1.0)
        for number in range(ROUNDS):
            for label, port in ports.items():
                found = facade._load(port, seconds) | {"most": _most(wrk, port, seconds)}
                rounds[label].append(found)
                context.say(
                    f"tracing: round {number + 1} of {ROUNDS}, {label}: p99 {found['p99']:.2f} ms at"
                    f" {found['rate']:.0f}/s, {found['failed']} failed; {found['most']:,.0f}/s at most"
                )
    p99 = {label: statistics.median(r["p99"] for r in each) for label, each in rounds.items()}
    most = {label: statistics.median(r["most"] for r in each) for label, each in rounds.items()}
    failed = sum(r["failed"] for each in rounds.values() for r in each)
    how = f"medians of {ROUNDS} rounds of {seconds:.0f} s, Envoy with 2 workers"
    broke = f"{failed:.0f} requests failed" if failed else ""
    told = "; ".join(f"{label}: p99 {p99[label]:.2f} ms, at most {most[label]:,.0f}/s" for label in p99)
    return [
        Result(
            "tracing_facade_p99", p99["100%"], "ms", "the façade without traces (ms)", p99["without"],
            note=f"all sampled, at {facade.RATE:,} requests/s; {told}; {how}", failed=broke,
        ),
        Result(
            "tracing_facade_rate", most["100%"], "requests/s", "the façade without traces", most["without"],
            more_is_better=True, note=f"all sampled, wrk with 64 connections; {told}; {how}", failed=broke,
        ),
    ]  # fmt: skip


def _facade(stack: ExitStack, folder: Path, way: Way, upstream: int, collector: int) -> int:
    port = free_port()
    away = f"http://127.0.0.1:{free_port()}"
    to = f"http://127.0.0.1:{upstream}"
    control = EnvoyControl(folder / f"envoy-{way.name}", f"127.0.0.1:{free_port()}", Estate(to, away, away))
    traces = None if way.share is None else Destination("otlp", f"http://127.0.0.1:{collector}", way.share)
    routing = ContextRouting("inventory", facade.ROUTES, to, options=ContextFacade())
    control.prepare([routing], listen=f"127.0.0.1:{port}", traces=traces)
    facade._start(stack, folder, control.command(workers=2))
    until(lambda: asyncio.run(facade._ready(control)), 15, "Envoy", every=0.05)
    return port


def _most(wrk: str, port: int, seconds: float) -> float:
    """Requests a second from a client that asks as fast as it is answered."""
    command = [wrk, "-t1", "-c64", f"-d{max(1, round(seconds))}s", f"http://127.0.0.1:{port}/api/inventory/7"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise RuntimeError(f"wrk says: {said[-500:]}")
    return float(found[1])


def applied(context: Context) -> list[Result]:
    """``tracing_sync_p99`` at 2,000 transactions a second and ``tracing_sync_rate`` of a backlog, all sampled."""
    p99: dict[str, float] = {}
    rate: dict[str, float] = {}
    with context.folder("tracing") as folder, ExitStack() as stack:
        collector = free_port()
        facade._start(stack, folder, [sys.executable, "-m", "bench.upstream", str(collector)])
        source, target, control = stack.enter_context(context.servers("source", "target", "control"))
        for way in WAYS:
            here, there = source.create_database(f"shop_{way.name}"), target.create_database(f"copy_{way.name}")
            execute(here, stream.TICKS.format(seen=""), "CREATE SEQUENCE tick_id CACHE 100")
            execute(there, stream.TICKS.format(seen=""))
            log = control.create_database(f"fig_{way.name}")
            script = folder / f"{way.name}.sql"
            of_a_million = round((way.share or 0) * 1_000_000)
            script.write_text(stream.TICK if way.share is None else TRACED_TICK.format(of_a_million=of_a_million))
            with _endpoint(None if way.share is None else collector):
                p99[way.label], rate[way.label] = _applied(context, way, here, there, log, script)
            context.say(f"tracing: sync, {way.label}: p99 {p99[way.label]:.1f} ms, backlog {rate[way.label]:,.0f}/s")
    told = "; ".join(f"{label}: p99 {p99[label]:.1f} ms, backlog {rate[label]:,.0f}/s" for label in p99)
    return [
        Result(
            "tracing_sync_p99", p99["100%"], "ms", "capture and sync without traces (ms)", p99["without"],
            note=f"commit to commit, all sampled, at {stream.RATE:,} transactions/s; {told}",
        ),
        Result(
            "tracing_sync_rate", rate["100%"], "transactions/s", "capture and sync without traces", rate["without"],
            more_is_better=True, note=f"a backlog of one-row transactions, all sampled; {told}",
        ),
    ]  # fmt: skip


def _applied(context: Context, way: Way, here: str, there: str, log: str, script: Path) -> tuple[float, float]:
    """p99 in ms at the rate, and transactions a second of a backlog."""
    with flow(context, f"tracing_{way.name}", here, there, log, stream.TICK_MAPPING) as ours:
        ours.load()
        ours.go()
        ours.await_snapshot(60)
        stream._ticks(here, script, 2)
        settled = stream._histogram(ours.folder)
        last, _ = stream._ticks(here, script, context.seconds(10))
        ours.await_sentinel(f"SELECT count(*) >= {last} FROM tick", 120)
        time.sleep(0.7)  # its last report
        counted = stream._histogram(ours.folder)
        p99 = stream._quantile({bound: count - settled.get(bound, 0) for bound, count in counted.items()}, 0.99)
        ours.stop()
        made = context.rows(TRANSACTIONS) // 8 * 8
        arguments = [f"--transactions={made // 8}"]
        pgbench.finish(pgbench.command(here, script, clients=8, arguments=arguments, durable=False), 600)
        ours.load()
        begun = ours.go()
        rate = made / (ours.await_sentinel(f"SELECT count(*) >= {last + made} FROM tick", 600) - begun)
    return p99, rate


@contextmanager
def _endpoint(collector: int | None) -> Iterator[None]:
    """Tell the processes that begin meanwhile where spans go."""
    if collector is not None:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector}"
    try:
        yield
    finally:
        os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)

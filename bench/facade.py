"""What the façade adds to a request: the same 2,000 a second with and without Envoy before a trivial server."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.context import Context, until
from bench.flow import REPOSITORY
from bench.result import Result
from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.model import ContextRouting, Estate
from stranglerfig.facade.settings import ContextFacade, ReadRoute, Route, Routes
from stranglerfig.facade.upstreams import Upstream
from stranglerfig.runtime.embedded import free_port

RATE = 2000
ROUNDS = 3
ROUTES = Routes(
    reads=(ReadRoute(path="/api/inventory/{itemId}", methods=("GET", "HEAD")),),
    writes=(
        Route(path="/api/inventory/adjust", methods=("POST",)),
        Route(path="/api/inventory/reserve", methods=("POST",)),
        Route(path="/api/inventory/release", methods=("POST",)),
    ),
)


def added(context: Context) -> list[Result]:
    """``facade_p50`` and ``facade_p99``: medians over rounds that alternate, each with a client of its own."""
    seconds = context.seconds(6)
    with context.folder("facade") as folder, ExitStack() as stack:
        upstream, port = free_port(), free_port()
        _start(stack, folder, [sys.executable, "-m", "bench.upstream", str(upstream)])
        control = EnvoyControl(
            folder / "envoy",
            f"127.0.0.1:{free_port()}",
            Estate(
                f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
            ),
        )
        routing = ContextRouting(
            "inventory", ROUTES, Upstream((f"http://127.0.0.1:{upstream}",)), options=ContextFacade()
        )
        control.prepare([routing], listen=f"127.0.0.1:{port}")
        _start(stack, folder, control.command(workers=2))
        until(lambda: asyncio.run(_ready(control)), 15, "Envoy", every=0.05)
        rounds: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
        _load(upstream, 1.0), _load(port, 1.0)
        for number in range(ROUNDS):
            for name, to in (("without", upstream), ("with", port)):
                found = _load(to, seconds)
                rounds[name].append(found)
                context.say(
                    f"facade: round {number + 1} of {ROUNDS}, {name} Envoy: p50 {found['p50']:.2f} ms,"
                    f" p99 {found['p99']:.2f} ms at {found['rate']:.0f}/s, {found['failed']} failed"
                )
    results = []
    for name, limit in (("p50", 1.0), ("p99", 3.0)):
        before, after = (statistics.median(r[name] for r in rounds[way]) for way in ("without", "with"))
        failed = sum(r["failed"] for way in rounds.values() for r in way)
        results.append(
            Result(
                f"facade_{name}",
                after - before,
                "ms more",
                "the same requests without the façade (ms)",
                before,
                limit,
                note=f"{after:.2f} ms with, {before:.2f} ms without, at {rounds['with'][-1]['rate']:.0f} requests/s;"
                f" medians of {ROUNDS} rounds of {seconds:.0f} s; a read that is routed to the monolith",
                failed=f"{failed} requests failed" if failed else "",
            )
        )
    return results


async def _ready(control: EnvoyControl) -> bool:
    try:
        return await control.ready()
    finally:
        await control.close()


def _start(stack: ExitStack, folder: Path, command: list[str]) -> None:
    log = stack.enter_context((folder / "output.log").open("ab"))
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}


def _load(port: int, seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.client", str(port), str(RATE), str(seconds)],
        cwd=REPOSITORY,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the client failed: {done.stderr[-500:]}")
    return dict(json.loads(done.stdout))

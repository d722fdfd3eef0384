"""What the router adds to a command: the same 5,000 a second through one queue, and through router and two queues.

Its peer is RabbitMQ's own shovel, which hands messages on from queue to queue inside the broker, with as much safety
(acknowledged once the next queue has confirmed) and no decision about any of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from pamqp import commands

from bench.context import Context
from bench.flow import REPOSITORY
from bench.result import Result
from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.facade import amqp
from stranglerfig.facade.messages import plans
from stranglerfig.facade.queues import QueueRoute, QueueSettings
from stranglerfig.facade.router import QueueRouter
from stranglerfig.facade.settings import Routes
from stranglerfig.runtime.embedded import free_port

RATE = 5000
ROUNDS = 3
PLAN = plans(
    [
        (
            "inventory",
            Routes(writes=(QueueRoute(queue="in", types=("AdjustStock",)),)),
            {"in": QueueSettings(monolith="mono", service="svc", key="header:item_id", command_id="message_id")},
        )
    ]
)["in"]
_SHOVEL = """[{rabbitmq_shovel, [{shovels, [{shovel, [
  {source, [{protocol, amqp091}, {uris, ["AMQP"]}, {queue, <<"shovelled">>}, {prefetch_count, 1000},
            {declarations, [{'queue.declare', [{queue, <<"shovelled">>}, durable]}]}]},
  {destination, [{protocol, amqp091}, {uris, ["AMQP"]},
                 {publish_fields, [{exchange, <<>>}, {routing_key, <<"mono">>}]}]},
  {ack_mode, on_confirm}, {reconnect_delay, 1}]}]}]}]."""


def added(context: Context) -> list[Result]:
    """``router_rate``, ``router_p50`` and ``router_cpu``: medians over rounds that alternate."""
    seconds = context.seconds(6)
    rounds: dict[str, list[dict[str, float]]] = {"without router": [], "shovel": [], "router": []}
    cpu: list[float] = []
    with context.folder("rabbitmq") as folder:
        port = free_port()
        advanced = _SHOVEL.replace("AMQP", f"amqp://guest:guest@127.0.0.1:{port}")
        broker = RabbitMQ(folder, port=port, plugins=("rabbitmq_shovel",), advanced=advanced)
        broker.start()
        try:
            asyncio.run(_declare(broker.amqp))
            _courier(broker.amqp, "mono", 1.0)
            for number in range(ROUNDS):
                rounds["without router"].append(_courier(broker.amqp, "mono", seconds))
                rounds["shovel"].append(_courier(broker.amqp, "shovelled", seconds))
                with _router(broker.amqp) as pid:
                    before = _spent(pid)
                    rounds["router"].append(_courier(broker.amqp, "in", seconds))
                    cpu.append((_spent(pid) - before) / (RATE * seconds) * 1_000_000)
                for way, found in rounds.items():
                    last = found[-1]
                    context.say(
                        f"messages: round {number + 1} of {ROUNDS}, {way}: p50 {last['p50']:.2f} ms, "
                        f"p99 {last['p99']:.2f} ms at {last['rate']:.0f}/s"
                    )
        finally:
            broker.stop()
    direct, shovel, router = (statistics.median(found["p50"] for found in rounds[way]) for way in rounds)
    wrong, theirs = (sum(found["lost"] + found["overtaken"] for found in rounds[way]) for way in ("router", "shovel"))
    failed = f"{wrong:.0f} commands were lost or overtaken" if wrong else ""
    note = f"persistent, durable, confirmed; 10,000 keys; medians of {ROUNDS} rounds of {seconds:.0f} s"
    more = f"one queue alone: {direct:.1f} ms; the shovel lost or overtook {theirs:.0f}; {note}"
    rate = statistics.median(found["rate"] for found in rounds["router"])
    return [
        Result("router_rate", rate, "commands/s", None, None, 0.98 * RATE, True, f"of {RATE}/s sent; {note}", failed),
        Result("router_p50", router - direct, "ms more", "RabbitMQ's shovel", shovel - direct, 2.0, note=more),
        Result("router_cpu", statistics.median(cpu), "µs of a core per command", note=note),
    ]


async def _declare(url: str) -> None:
    conn = await amqp.connect(url)
    channel = await conn.channel()
    for queue in ("in", "mono", "svc"):
        await conn.call(channel, commands.Queue.Declare(queue=queue, durable=True))
    await conn.close()


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'src'}"}


def _courier(url: str, into: str, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.courier", url, into, "mono", str(RATE), str(seconds)],
        cwd=REPOSITORY,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the courier failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _router(url: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.messages", url], cwd=REPOSITORY, env=_environment(), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(url: str) -> None:
    """Be the router, as its role runs it."""
    from stranglerfig.runtime.roles import collect_rarely

    collect_rarely()
    router = QueueRouter(PLAN, url, lambda plan, message: "monolith")
    uvloop.run(router.run(lambda: print("ready", flush=True)))


if __name__ == "__main__":
    main(sys.argv[1])

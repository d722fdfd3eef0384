"""The shop's commands by queue, through a router, on real servers: answered once, in order, over releases and kills."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.shop import ledger
from examples.shop.commands import INBOUND
from examples.shop.estate import MONOLITH_QUEUE, SERVICE_QUEUE, Estate
from stranglerfig.facade.messages import plans
from stranglerfig.facade.queues import QueueRoute, QueueSettings
from stranglerfig.facade.router import QueueRouter, keep
from stranglerfig.facade.settings import Routes
from stranglerfig.foundation import clock, tasks

PLAN = plans(
    [
        (
            "inventory",
            Routes(writes=(QueueRoute(queue=INBOUND, types=("AdjustStock", "ReserveItem")),)),
            {
                INBOUND: QueueSettings(
                    monolith=MONOLITH_QUEUE, service=SERVICE_QUEUE, key="header:item_id", command_id="message_id"
                )
            },
        )
    ]
)[INBOUND]


class Routing:
    """A router in a thread of its own, as its role would be a process of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = threading.Thread(target=lambda: asyncio.run(self._route()))
        self.ready = threading.Event()
        self._stop = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        assert self.ready.wait(30)

    async def _route(self) -> None:
        self._loop = asyncio.get_running_loop()
        router = QueueRouter(PLAN, self._url, lambda plan, message: "monolith")
        task = tasks.spawn(keep(router, self.ready.set), name="router")
        await self._stop.wait()
        await tasks.stop(task)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


@pytest.fixture(scope="module")
def estate(begin: Callable[[Callable[[], None]], None]) -> Iterator[Estate]:
    root = Path(tempfile.mkdtemp(prefix="fig-messages-"))
    root.chmod(0o755)
    made = Estate(root, items=300, settings={"fsync": "off"}, messages=True)
    routing = Routing(made.broker.amqp)
    try:
        begin(made.start_databases)
        made.deploy_monolith()
        made.deploy_service()
        routing.start()
        made.start_load(url=made.monolith_url, rate=60, mix={"writes": 100})
        yield made
    finally:
        made.stop_load()
        routing.stop()
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


def until(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    deadline = clock.monotonic() + timeout
    while not condition():
        assert clock.monotonic() < deadline, f"waited for {what}"
        clock.block(0.05)


def answered(estate: Estate) -> int:
    return int(estate.load_status().get("commands_succeeded", 0))


def flow(estate: Estate) -> None:
    before = answered(estate)
    until(lambda: answered(estate) > before + 40, "commands to be answered")


def checked(estate: Estate) -> dict[str, Any]:
    """Let the load come to rest, and hold its ledger against the monolith alone."""
    estate.steer(rate=0)
    asked = clock.epoch()
    until(
        lambda: (now := estate.load_status()).get("at", 0) > asked + 1.1 and not now.get("in_flight"),
        "the last answers",
    )
    found = ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "monolith", seed=estate.seed)
    assert not [found[kind] for kind in ("lost_writes", "duplicated_writes", "phantom_writes") if found[kind]], found
    assert not found["misordered_commands"] and not found["contradicted_answers"], found["examples"]
    estate.steer(rate=60)
    return found


def failed_commands(estate: Estate) -> list[dict[str, Any]]:
    return [one for one in ledger.read(estate.ledger).failures if one["failed"] == "commands"]


def test_a_release_is_replaced_and_each_command_is_answered_once(estate: Estate) -> None:
    """The estate is shared and the tests come in any order: what counts is what the releases add.

    Of requests by HTTP one may meet a connection that the old release closes at this moment: no façade is between here.
    """
    flow(estate)
    before, failed = checked(estate), failed_commands(estate)
    flow(estate)
    estate.deploy_monolith()
    flow(estate)
    estate.deploy_monolith()
    flow(estate)
    assert failed_commands(estate) == failed
    found = checked(estate)
    assert found["commands"] > before["commands"]
    assert found["repeated_answers"] == before["repeated_answers"]


def test_kills_of_monolith_and_broker_lose_nothing(estate: Estate) -> None:
    flow(estate)
    estate.programs.pop("monolith").kill()
    estate.deploy_monolith()
    flow(estate)
    checked(estate)
    estate.broker.kill()
    estate.broker.start()
    flow(estate)
    checked(estate)

"""``kill -9`` of router, broker, monolith and service while commands come by queue, and around the cut-over: no command
is lost, doubled, done out of order per item, or answered in two ways."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from shop_driver import CONTEXT, READS, WRITES, Refused, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SYNC = ("sync", "")
PLACES = [(SYNC, "monolith"), (WRITES, "service")]


def commands(shop: Shop) -> int:
    """How many commands by queue have been answered."""
    return int(shop.estate.load_status().get("commands_succeeded", 0))


def flow(shop: Shop, more: int = 20) -> None:
    """Wait until commands are answered again."""
    before = commands(shop)
    until(lambda: commands(shop) >= before + more, "commands to be answered", 60)


def killed_router(shop: Shop) -> None:
    shop.back("router", shop.kill("router"))


def killed_broker(shop: Shop) -> None:
    shop.estate.broker.kill()
    shop.estate.broker.start()


def killed_monolith(shop: Shop) -> None:
    shop.estate.programs.pop("monolith").kill()
    shop.estate.deploy_monolith()


def killed_service(shop: Shop) -> None:
    shop.estate.programs.pop("service").kill()
    shop.estate.deploy_service()


FAULTS = [killed_router, killed_broker, killed_monolith, killed_service]


@pytest.mark.parametrize(("place", "owner"), PLACES, ids=["sync", "writes"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_kill_under_load(
    messages_shop: Shop, place: tuple[str, str], owner: str, fault: Callable[[Shop], None]
) -> None:
    shop = messages_shop
    shop.go(place)
    flow(shop)
    fault(shop)
    flow(shop)
    found = shop.sound(owner, failed=fault is not killed_router)
    assert found["commands"] > 40


@pytest.mark.parametrize("state", ["intent", "fenced"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_kill_in_the_middle_of_a_cutover(messages_shop: Shop, fault: Callable[[Shop], None], state: str) -> None:
    shop = messages_shop
    shop.go(READS)
    flow(shop)
    asked = shop.ask("advance", CONTEXT, "--wait", "60")
    reached = {"intent": ("intent", "fenced", "ceded"), "fenced": ("fenced", "ceded")}[state]
    until(lambda: shop.ownership()["monolith"][0] in reached or not asked.running(), f"the state {state}", every=0.0005)
    fault(shop)
    try:
        asked.result()
    except Refused as refused:
        assert refused.remedy, refused
    until(lambda: shop.owner(), "an owner", 30)
    shop.go(WRITES)
    flow(shop)
    shop.sound("service", failed=True)


def test_over_and_back_under_load_and_what_the_plan_says(messages_shop: Shop) -> None:
    shop = messages_shop
    shop.go(READS)
    plan = shop.fig("plan", CONTEXT)
    assert plan["commands"] and "message_id" in plan["commands"][0]
    before = shop.sound("monolith")
    for place, owner in ((WRITES, "service"), (READS, "monolith"), (WRITES, "service")):
        shop.go(place)
        flow(shop)
        found = shop.sound(owner)
        assert found["repeated_answers"] == before["repeated_answers"], "nothing was killed: nobody answers twice"
    cutovers = [m for m in shop.status()["milestones"] if m["kind"] == "cutover"]
    assert any(m.get("held_commands") for m in cutovers), cutovers


def test_a_router_that_is_stopped_bars_the_cutover_and_harms_nobody(messages_shop: Shop) -> None:
    shop = messages_shop
    shop.go(READS)
    pid = shop.pid("router")
    os.kill(pid, signal.SIGSTOP)
    try:
        refused = shop.refusal("advance", CONTEXT, "--wait", "60")
        assert refused.code == "cutover_aborted", refused
        assert refused.context["cause"]["code"] == "router_unreachable"
        assert shop.owner() == "monolith"
    finally:
        os.kill(pid, signal.SIGCONT)
    flow(shop)
    shop.sound("monolith", failed=True)

"""``kill -9`` of the controller around each journalled step of the cut-over, both ways, under traffic; and its other
ends: an open transaction, a full budget, a stopped controller, a second one."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
from shop_driver import CONTEXT, READS, WRITES, Refused, Shop, until

from stranglerfig.extraction.cutover import KILL_POINTS

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
BACK = ("after:intend", "after:hold", "after:fence", "before:cede", "after:cede", "after:activate")


def cut_over(shop: Shop, direction: str) -> None:
    """What a person asks for."""
    if direction == "forward":
        shop.advance()
    else:
        shop.rollback()


@pytest.mark.parametrize(
    ("direction", "point"), [*(("forward", point) for point in KILL_POINTS), *(("back", point) for point in BACK)]
)
def test_a_killed_controller_finishes_or_undoes(shop: Shop, direction: str, point: str) -> None:
    start, end = (READS, WRITES) if direction == "forward" else (WRITES, READS)
    shop.go(start)
    epochs = [epoch for _, epoch in shop.ownership().values()]
    pending = shop.kill_at(point)
    before = shop.pid("controller")
    # Asked once: what the dead one had begun, the next one goes on with.
    cut_over(shop, direction)
    assert not pending.exists() and shop.pid("controller") != before, f"{point} was never reached"
    assert shop.place() == end
    winner, loser = ("service", "monolith") if direction == "forward" else ("monolith", "service")
    rows = shop.ownership()
    assert rows[winner][0] == "owner" and rows[loser][0] in ("ceded", "standby")
    assert max(epoch for _, epoch in rows.values()) > max(epochs)
    assert not shop.failures, shop.failures[:3]


def test_nothing_was_lost_by_all_that_killing(shop: Shop) -> None:
    """After whatever ran before this in the module: over once more, and everything adds up, on either side."""
    shop.go(WRITES)
    shop.sound("service")
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    shop.go(READS)
    shop.sound("monolith")


def test_an_open_transaction_in_the_way_gives_up_and_harms_nobody(shop: Shop) -> None:
    shop.go(READS)
    with psycopg.connect(shop.estate.monolith_dsn, application_name="shop:inventory") as conn:
        conn.execute("SET ROLE shop_app")
        conn.execute("UPDATE inventory SET reorder_level = reorder_level WHERE item_id = 1")
        said = shop.refusal("advance", CONTEXT, "--wait", "60")
        assert said.code in ("cutover_aborted", "transaction_too_old"), said
        assert shop.owner() == "monolith"
        conn.rollback()
    shop.sound("monolith")
    shop.go(WRITES)
    shop.sound("service")


def test_a_transaction_that_begins_while_the_cutover_rehearses(shop: Shop) -> None:
    """Too young for the rehearsal to see that it will not end: the fence waits for it, and the budget ends that."""
    shop.go(READS)
    asked = shop.ask("advance", CONTEXT, "--wait", "60")
    until(lambda: [line for line in asked.lines() if "rehearsing" in line.get("text", "")], "the rehearsal", every=0.01)
    with psycopg.connect(shop.estate.monolith_dsn, application_name="shop:inventory") as conn:
        conn.execute("SET ROLE shop_app")
        conn.execute("UPDATE inventory SET reorder_level = reorder_level WHERE item_id = 1")
        with pytest.raises(Refused) as refused:
            asked.result()
        assert refused.value.code in ("cutover_aborted", "transaction_too_old", "cutover_overtaken"), refused.value
        assert shop.owner() == "monolith"
        conn.rollback()
    shop.sound("monolith")
    shop.go(WRITES)
    assert not shop.failures


def test_a_controller_that_slept_through_its_cutover(shop: Shop) -> None:
    """SIGSTOP at the worst moment, longer than every budget: the fence server gives up for it; awake, it gives way."""
    shop.go(READS)
    controller = shop.pid("controller")
    asked = shop.ask("advance", CONTEXT, "--wait", "60")
    try:
        until(lambda: shop.ownership()["monolith"][0] in ("intent", "fenced"), "the cut-over's begin", every=0.0005)
        os.kill(controller, signal.SIGSTOP)
        slept_in = shop.ownership()["monolith"]
        until(lambda: shop.owner() or shop.ownership()["monolith"][0] == "ceded", "someone to act", 20)
        time.sleep(1.5)  # the sleeper's own budget, and its peers' patience, are over
    finally:
        os.kill(controller, signal.SIGCONT)
    try:
        asked.result()
        assert shop.place() == WRITES
    except Refused as refused:
        assert refused.code in ("cutover_aborted", "cutover_overtaken", "rolled_back"), refused
        assert slept_in[0] in ("intent", "fenced", "owner")
    shop.go(WRITES)
    shop.sound("service")


def test_a_second_controller_by_mistake_waits(shop: Shop) -> None:
    shop.go(READS)
    first = shop.pid("controller")
    second = shop.ask("run", "controller")
    try:
        shop.go(WRITES)
        shop.go(READS)
        assert second.running() and shop.pid("controller") == first
        # The first one dies: either may lead, one does.
        shop.kill("controller")
        shop.go(WRITES)
    finally:
        second.process.terminate()
        second.process.wait(20)
    shop.back("controller", first)
    shop.go(READS)
    shop.sound("monolith")

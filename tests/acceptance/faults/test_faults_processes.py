"""``kill -9`` of every process of the estate, ours and theirs, while changes flow: each comes back, goes on where the
rows say, and nothing that was acknowledged is lost, doubled or made up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from shop_driver import CONTEXT, READS, WRITES, Refused, Shop, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SYNC = ("sync", "")
STAGES = [(SYNC, "monolith"), (WRITES, "service")]


def flowing(shop: Shop, direction: str = "forward") -> bool:
    """Whether capture and sync of a direction are at their work."""
    return (
        shop.flow(direction, "capture").get("state") == "streaming"
        and shop.flow(direction, "sync").get("state") == "applying"
    )


@pytest.mark.parametrize(("stage", "owner"), STAGES, ids=["sync", "writes"])
def test_killed_roles_come_back(shop: Shop, stage: tuple[str, str], owner: str) -> None:
    shop.go(stage)
    for role in ("capture", "sync", "fence", "shadow", "controller"):
        shop.back(role, shop.kill(role))
    shop.sound(owner)
    # Envoy takes the connections that it carried with it: those requests are lost with it, and no others.
    shop.back("envoy", shop.kill("envoy"))
    shop.sound(owner, failed=True)
    assert shop.fig("verify", CONTEXT)["differences"] == 0


@pytest.mark.parametrize(("stage", "owner"), STAGES, ids=["sync", "writes"])
def test_a_killed_application_is_started_again(shop: Shop, stage: tuple[str, str], owner: str) -> None:
    shop.go(stage)
    estate = shop.estate
    estate.programs.pop("monolith").kill()
    estate.deploy_monolith()
    estate.programs.pop("service").kill()
    estate.deploy_service()
    shop.sound(owner, failed=True)


@pytest.mark.parametrize(("stage", "owner"), STAGES, ids=["sync", "writes"])
@pytest.mark.parametrize("which", ["shop_server", "inventory_server"])
def test_a_killed_database_recovers(shop: Shop, stage: tuple[str, str], owner: str, which: str) -> None:
    shop.go(stage)
    server = getattr(shop.estate, which)
    server.kill()
    server.start()
    until(lambda: flowing(shop), "the flows to go on")
    shop.sound(owner, failed=True)
    # Nobody fails any more, and the extraction goes on from here.
    shop.go(READS)
    shop.go(WRITES)
    shop.sound("service")


@pytest.mark.parametrize(("stage", "owner"), STAGES, ids=["sync", "writes"])
def test_a_killed_control_database_stops_no_request(shop: Shop, stage: tuple[str, str], owner: str) -> None:
    shop.go(stage)
    role = shop.pid("postgres")
    server = int((Path(shop.data.path) / "postgres" / "postmaster.pid").read_text().split("\n")[0])
    os.kill(server, signal.SIGKILL)
    shop.back("postgres", role)
    until(lambda: flowing(shop), "the flows to go on")
    shop.sound(owner)


@pytest.mark.parametrize("state", ["intent", "fenced"])
@pytest.mark.parametrize("victim", ["capture", "sync", "fence", "envoy", "shop_server", "inventory_server", "postgres"])
def test_a_process_killed_in_the_middle_of_a_cutover(shop: Shop, victim: str, state: str) -> None:
    """Before the point of no return: either it gets through, or it is undone; then it gets through when asked again."""
    shop.go(READS)
    asked = shop.ask("advance", CONTEXT, "--wait", "60")
    pid = 0 if victim.endswith("_server") else shop.pid(victim)
    reached = {"intent": ("intent", "fenced", "ceded"), "fenced": ("fenced", "ceded")}[state]
    until(lambda: shop.ownership()["monolith"][0] in reached, f"the state {state}", every=0.0005)
    if pid:
        os.kill(pid, signal.SIGKILL)
        shop.back(victim, pid)
    else:
        server = getattr(shop.estate, victim)
        server.kill()
        server.start()
    try:
        asked.result()
    except Refused as refused:
        assert refused.remedy, refused
    until(lambda: shop.owner(), "an owner", 30)
    shop.go(WRITES)
    # Who was held by the fence server, carried by Envoy or served by a database that died, may have failed.
    shop.sound("service", failed=victim not in ("capture", "sync", "postgres"))

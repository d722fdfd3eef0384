"""InventoryService as several instances under ``fig up`` and traffic: one killed, one added, no read failed."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import yaml
from shop_driver import CONTEXT, WRITES, Shop, until

from examples.shop import ledger

ENDED = (
    "SELECT (SELECT count(*) FROM fig.saga WHERE ended_at IS NOT NULL)"
    " + (SELECT count(*) FROM fig.flow_event WHERE type IN ('shop.OrderConfirmed', 'shop.OrderRejected'))"
)
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


def lead_to(shop: Shop, *urls: str) -> None:
    """Name other instances in ``extraction.yaml``, in one step, while everything runs."""
    settings = yaml.safe_load(shop.file.read_text())
    settings["service"].pop("url", None)
    settings["service"]["urls"] = list(urls)
    draft = shop.file.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(settings, sort_keys=False))
    draft.replace(shop.file)


def figures(shop: Shop, url: str) -> dict[str, Any]:
    """What ``fig status`` says of an instance in the last second."""
    found: dict[str, Any] = ((shop.status()["now"] or {}).get("instances") or {}).get(url.removeprefix("http://"), {})
    return found


def answers(shop: Shop, url: str) -> bool:
    """Whether an instance got a share of the last second's requests, and is asked on."""
    found = figures(shop, url)
    return bool(found.get("serving") and found.get("share") and found["reads"] + found["writes"])


def members(shop: Shop) -> set[str]:
    """The members of the service's group."""
    with psycopg.connect(shop.control) as conn:
        found = conn.execute(
            "SELECT member FROM fig.lease_member WHERE grp = 'inventory' AND lease_until > clock_timestamp()"
        ).fetchall()
    return {str(member) for (member,) in found}


def test_an_instance_dies_and_another_comes(shop: Shop) -> None:
    shop.go(WRITES)
    estate = shop.estate
    # From here on the service acts on commands of checkouts as well: its instances are one group.
    estate.deploy_checkout(shop.control)
    estate.steer(mix={"reads": 45, "writes": 40, "checkouts": 15})
    before = {role: row["pid"] for role, row in shop.roles().items()}
    first, second = estate.add_instance("instance-1"), estate.add_instance("instance-2")
    lead_to(shop, first, second)
    for url in (first, second):
        until(lambda url=url: answers(shop, url), f"answers of {url}")
    assert "instance " + first.removeprefix("http://") in shop.text("status", CONTEXT)
    assert not figures(shop, estate.service_url).get("serving")
    estate.programs.pop("service").stop()
    until(lambda: len(members(shop)) == 2, "two members of the group")

    estate.programs["instance-1"].kill()
    until(lambda: figures(shop, first).get("serving") is False, "the dead instance to be left out")
    third = estate.add_instance("instance-3")
    lead_to(shop, second, third)
    until(lambda: answers(shop, third), f"answers of {third}")
    until(lambda: len(members(shop)) == 2, "the new one in the dead one's place")

    # What cannot be read changes nothing, and says so until it is mended.
    good = shop.file.read_text()
    shop.file.write_text(good.replace(third, "ftp://nowhere"))
    ignored = until(lambda: shop.status()["warnings"], "the warning")
    assert "service.urls" in ignored[-1] and "not in force" in ignored[-1]
    assert answers(shop, third) or until(lambda: answers(shop, third), "answers go on")
    shop.file.write_text(good)
    until(lambda: not shop.status()["warnings"], "the warning to go")

    # Nobody knows of a write that was under way where it died; no read was lost, and nothing written twice.
    failures = shop.failures
    assert not [each for each in failures if each["failed"] == "reads"], failures
    shop.silent()
    accepted = sum(line["kind"] == "checkout" and line["status"] == 202 for line in ledger.read(estate.ledger).writes)
    assert accepted > 10
    until(lambda: shop.value(estate.checkout_dsn, ENDED) >= accepted, "each checkout to end", 90)
    shop.sound("service", failed=True)
    assert before == {role: row["pid"] for role, row in shop.roles().items()}, "nothing was started again"

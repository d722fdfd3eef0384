"""A cut-over that is watched in the console, then InventoryService as several instances under ``fig up`` and traffic:
one killed, one added, no read failed; the console says what each change did."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest
import yaml
from shop_driver import CONTEXT, READS, WRITES, Shop, until

from examples.shop import ledger
from stranglerfig.extraction.model import STEPS
from tests.browser import Browser

ENDED = (
    "SELECT (SELECT count(*) FROM fig.saga WHERE ended_at IS NOT NULL)"
    " + (SELECT count(*) FROM fig.flow_event WHERE type IN ('shop.OrderConfirmed', 'shop.OrderRejected'))"
)
WATCH = """(() => {
  window.seen = [];
  const look = () => {
    const steps = [...document.querySelectorAll('.journal li')].map((each) => each.innerText.split('\\n')[0].trim());
    if (steps.join() !== window.seen.at(-1)?.join()) window.seen.push(steps);
  };
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
  look();
})()"""
"""Keeps each state of the cut-over's timeline, from now on for as long as the page is not loaded again."""
AFTER = (
    "SELECT count(*) FROM fig.series WHERE at > (SELECT max(at) FROM fig.milestone WHERE kind IN ('cutover', 'switch'))"
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


DECIDED = "document.querySelector('dialog[open] [data-state=done], dialog[open] [data-state=failed]')"


def button(words: str) -> str:
    return (
        "[...(document.querySelector('dialog[open]') ?? document).querySelectorAll('button')]"
        f".find((each) => each.innerText.startsWith({words!r}) && !each.disabled)"
    )


async def advance(browser: Browser) -> str:
    """Press *Advance*, read the dry run, confirm it; how it ended, in words."""
    await browser.until("document.querySelector('#gate .verdict.pass')", seconds=90)
    await browser.until(button("Advance to writes"), seconds=30)
    await browser.ask(f"{button('Advance to writes')}.click()")
    await browser.until(DECIDED, seconds=60)
    said = "document.querySelector('dialog[open] .said').innerText"
    if not await browser.ask(f"!!{button('Advance now')}"):  # refused already: a busy machine's lag, an aged gate
        told = str(await browser.ask(said))
        await browser.ask(f"{button('Leave it')}.click()")
        return told
    assert "cut over" in await browser.ask("document.querySelector('dialog[open] .effects').innerText")
    await browser.ask(f"{button('Advance now')}.click()")
    await browser.until(f"!{button('Leave it')} && {DECIDED}", seconds=120)
    told = str(await browser.ask(said))
    await browser.ask(f"{button('Close')}.click()")
    return told


async def cut_over(shop: Shop, browser: Browser) -> None:
    """An operator presses *Advance* in the console and watches the writes go over; the page is never loaded again."""
    shop.go(READS)
    assert shop.owner() == "monolith"
    await browser.size(1440, 1000)
    await browser.open(shop.fig("console", "--link")["link"])
    await browser.until("document.querySelector('[data-context=inventory]')", seconds=60)
    await browser.ask("location.hash = '#/extractions/inventory'")
    await browser.until("document.querySelector('.pipeline')", seconds=60)
    await browser.ask(WATCH)
    async with asyncio.timeout(180):  # a busy machine is refused now and then, and nothing is changed by it
        said = await advance(browser)
        while shop.place() != WRITES:
            await asyncio.sleep(1)
            said = await advance(browser)
    assert shop.place() == WRITES, said
    names = [str(step) for step in STEPS]
    await browser.until(f"window.seen.at(-1).join() === {','.join(names)!r}", seconds=60)
    epoch = shop.ownership()["service"][1]
    assert shop.owner() == "service"
    lead = "document.querySelector('.lead').innerText"
    await browser.until(f"{lead}.includes('service owns the writes, epoch {epoch}')", seconds=60)
    # What was held is there once the cut-over has ended well.
    await browser.until("document.querySelector('.facts')", seconds=60)
    seen = await browser.ask("seen")
    print(f"{said!r}; the timeline's states: {seen}")
    assert seen[0] == [] and all(names[: len(each)] == each for each in seen if "abort" not in each)
    facts = await browser.ask("[...document.querySelectorAll('.facts dd')].map((each) => each.innerText)")
    assert facts[0].isdigit() and facts[3].endswith(("ms", " s")), facts
    assert "cut-over to the service" in await browser.ask("document.querySelector('.marks').innerText")
    assert "not ended" not in await browser.ask("document.querySelector('.journal').innerText")


async def test_a_cut_over_is_watched_then_an_instance_dies_and_another_comes(shop: Shop, browser: Browser) -> None:
    await cut_over(shop, browser)
    estate = shop.estate
    # From here on the service acts on commands of checkouts as well: its instances are one group.
    estate.deploy_checkout(shop.control)
    estate.steer(mix={"reads": 45, "writes": 40, "checkouts": 15})
    before = {role: row["pid"] for role, row in shop.roles().items()}
    first, second = estate.add_instance("instance-1"), estate.add_instance("instance-2")
    # Fifteen seconds after the cut-over are enough to compare with.
    until(lambda: shop.value(shop.control, AFTER) > 15, "seconds of traffic after the cut-over", 90, every=0.5)
    lead_to(shop, first, second)
    for url in (first, second):
        until(lambda url=url: answers(shop, url), f"answers of {url}")
    assert "instance " + first.removeprefix("http://") in shop.text("status", CONTEXT)
    assert not figures(shop, estate.service_url).get("serving")
    estate.programs.pop("service").stop()
    until(lambda: len(members(shop)) == 2, "two members of the group")

    # What naming two did is said as soon as ten seconds of it are there.
    said = "['faster', 'slower', 'same'].includes(document.querySelector('.changed')?.dataset.verdict)"
    await browser.until(said, seconds=90)
    assert f"{first.removeprefix('http://')}" in await browser.ask("document.querySelector('.changed').innerText")
    estate.programs["instance-1"].kill()
    until(lambda: figures(shop, first).get("serving") is False, "the dead instance to be left out")
    row = f"document.querySelector('[data-instance={json.dumps(first.removeprefix('http://'))}]')"
    await browser.until(f"{row}?.innerText.includes('gets no requests')", seconds=60)
    third = estate.add_instance("instance-3")
    lead_to(shop, second, third)
    until(lambda: answers(shop, third), f"answers of {third}")
    until(lambda: len(members(shop)) == 2, "the new one in the dead one's place")
    await browser.until(
        f"document.querySelector('.changed').innerText.includes({third.removeprefix('http://')!r})", seconds=60
    )
    assert await browser.ask("window.seen.length") > 1 and browser.said == [], "the page was never loaded again"
    await browser.ask("location.hash = '#/'")
    await browser.until("document.querySelector('.waits [class~=service]')", seconds=60)

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

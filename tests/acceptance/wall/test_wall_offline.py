"""A page that was open once is loaded again while its server is away, and what is done meanwhile is merged."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser import Browser
from tests.storm import WORDS, Storm, opened, write

pytestmark = pytest.mark.acceptance
KEPT = """(async () => Object.fromEntries(await Promise.all((await caches.keys()).map(async (name) =>
  [name, await Promise.all((await (await caches.open(name)).keys()).map(async (request) =>
    [request.url, await (await (await caches.open(name)).match(request)).text()]))]))))()"""


async def test_a_page_loads_without_its_server_and_merges_when_it_is_back(
    browsers: list[Browser], storm: Storm
) -> None:
    ann, ben = browsers
    # What an earlier build has kept goes when this one is there.
    earlier = "if (window.caches) caches.open('fig-wall-earlier');"
    script = await ann.send("Page.addScriptToEvaluateOnNewDocument", source=earlier)
    await asyncio.gather(opened(ann, storm.link), opened(ben, storm.link))
    await ann.send("Page.removeScriptToEvaluateOnNewDocument", **script)
    await write(ann, "e", "order placed")
    await ben.until(f"{WORDS} === 'Order Placed'")
    await ann.until("navigator.serviceWorker.controller?.state === 'activated'")
    kept = await ann.ask(KEPT)
    base, _, token = storm.link.partition("#")
    assert len(kept) == 1 and "fig-wall-earlier" not in kept
    files = dict(next(iter(kept.values())))
    names = ["graph.css", "graph.js", "react.js", "rolldown-runtime.js", "wall.css", "wall.js"]
    assert sorted(files) == [base, *(f"{base}{name}" for name in names)]
    secrets = (token, storm.reads_only.partition("#")[2])
    assert not any(secret in said for secret in secrets for file in files.items() for said in file)

    # While the server is there, its page is taken and not the kept one.
    swap = "(async said => { for (const name of await caches.keys()) await (await caches.open(name)).put('/', said); })"
    await ann.ask(f"{swap}(new Response('of before', {{headers: {{'Content-Type': 'text/html'}}}}))")
    await ann.send("Page.reload")
    await ann.until(f"document.querySelector('.state.online') && {WORDS} === 'Order Placed'")
    page = "new Response(await (await fetch('/')).text(), {headers: {'Content-Type': 'text/html'}})"
    await ann.ask(f"(async () => {swap}({page}))()")

    # The server ends; the page is loaded anew, shows the wall as it was, and is written on. So once more.
    await storm.end()
    await ann.send("Page.reload")
    await ann.until(f"document.querySelector('.state.offline') && {WORDS} === 'Order Placed'", seconds=20)
    await write(ann, "e", "order paid")
    await ann.send("Page.reload")
    await ann.until(f"document.querySelector('.state.offline') && {WORDS} === 'Order Paid|Order Placed'", seconds=20)
    await write(ben, "e", "order sent")

    # It is back, and so is everybody.
    await storm.start()
    assert storm.link == f"{base}#{token}"
    for browser in browsers:
        await browser.until(f"{WORDS} === 'Order Paid|Order Placed|Order Sent'", seconds=20)
    now = dict(next(iter((await ann.ask(KEPT)).values())))
    assert sorted(now) == sorted(files), "nothing else is kept"
    assert [name for name in files if now[name] != files[name]] == []

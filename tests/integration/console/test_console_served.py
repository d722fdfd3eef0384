"""The console's API on a real control database with the rows that the controller would have written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from stranglerfig.console.app import ConsoleServer
from stranglerfig.console.role import server_of
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import postgres as sessions
from stranglerfig.gates.evidence import EvidenceStore
from tests import console_project

if TYPE_CHECKING:
    from stranglerfig.runtime.settings import Project
    from tests.conftest import Server


@dataclass
class Console:
    """A console that is served, and somebody who is signed in."""

    project: Project
    control: str
    server: ConsoleServer
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def ask(self, path: str, *, status: int = 200, body: Any = None, **headers: str) -> Any:
        method = "GET" if body is None else "POST"
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            said = await answer.json()
            assert answer.status == status, said
            return said

    async def refused(self, path: str, status: int, **more: Any) -> str:
        return str((await self.ask(path, status=status, **more))["error"]["code"])


@pytest.fixture
async def console(postgres: Server, tmp_path: Path) -> AsyncIterator[Console]:
    control = postgres.database()
    project = console_project.write(tmp_path, control)
    server = server_of(project, control)
    await server.start("127.0.0.1", 0)
    await console_project.begin(project, control)
    token = server.link("ann@desk").partition("#")[2]
    async with aiohttp.ClientSession() as http:
        found = Console(project, control, server, http)
        session = await found.ask("/api/session", body={"token": token})
        assert (session["by"], session["estate"]) == ("ann@desk", "shop")
        http.headers["Authorization"] = f"Bearer {session['session']}"
        yield found
    await server.stop()


async def test_the_estate_says_where_requests_wait_and_the_extraction_what_an_instance_did(console: Console) -> None:
    waiting = (await console.ask("/api/estate"))["waiting"]
    assert waiting["bottleneck"] is None and "10.0.0.7:8000 of inventory gets no requests" in waiting["words"]
    assert [side["name"] for side in waiting["sides"]] == ["monolith", "inventory"]
    assert waiting["sides"][1]["stretch"] == 1 and waiting["sides"][0]["share"] > 0.9
    page = await console.ask("/api/extractions/inventory")
    assert [(each["name"], each["state"]) for each in page["instances"]] == [
        ("10.0.0.7:8000", "out"), ("10.0.0.8:8000", "serving"),
    ]  # fmt: skip
    assert len(page["instances"][0]["rates"]) == len(page["series"]["at"])
    (change,) = page["changes"]
    assert (change["added"], change["removed"], change["verdict"]) == (["10.0.0.8:8000"], [], "faster")
    assert change["before"]["p50_ms"] == 12.8 and change["after"]["p50_ms"] == 3.2
    assert "leads to 10.0.0.7:8000, 10.0.0.8:8000" in [mark["text"] for mark in page["marks"]]

    # The service slows down: from then on what is asked of it waits, and the estate says where.
    store = await Store.open(console.control)
    try:
        for second in await store.series("inventory", last=10):
            at = second.pop("at")
            slow = second["service"] | {"reads": 40, "p50_ms": 32.0, "busy_ms": 1280.0}
            await store.sample("inventory", at, second | {"service": slow})
    finally:
        await store.close()
    waiting = (await console.ask("/api/estate"))["waiting"]
    assert waiting["bottleneck"] == "inventory" and "10.0 times as long" in waiting["words"]


async def test_the_monoliths_end_and_what_went_before_it(console: Console) -> None:
    there = (await console.ask("/api/estate"))["monolith"]
    assert (there["retired"], there["watched"], there["passing"]) == (None, False, [])
    assert "not every context has left the monolith" in there["reasons"][0]
    await console_project.depart(console.control)
    leaving = (await console.ask("/api/extractions/catalogue"))["decommissioning"]
    assert leaving["holding"] == "fig_holding_catalogue" and leaving["dropped_at"] is None
    assert leaving["users"][0]["application"] == "nightly"
    await console_project.depart(console.control, dropped=True)
    left = (await console.ask("/api/extractions/catalogue"))["decommissioning"]
    assert left["dropped_at"] and left["archive"][0]["rows"] == 900 and left["holding"] is None
    async with asyncio.timeout(30):
        while not (end := (await console.ask("/api/estate"))["monolith"])["retired"]:
            await asyncio.sleep(0.1)
    assert (end["retired"]["by"], end["refused"][0]["path"]) == ("ann@desk", "/orders/{}")


async def test_the_estate_says_where_every_context_stands(console: Console) -> None:
    estate = await console.ask("/api/estate")
    catalogue, inventory = estate["contexts"]
    assert (catalogue["begun"], catalogue["traffic"], catalogue["verdict"]) == (False, None, None)
    assert (inventory["place"], inventory["owner"], inventory["epoch"]) == ("reads at 10 %", "monolith", 2)
    assert inventory["traffic"] == pytest.approx(
        {"reads": 30, "writes": 12, "errors": inventory["traffic"]["errors"], "reads_share": 0.1, "writes_share": 0}
    )
    assert inventory["lag"]["state"] == "applying" and 5 < inventory["lag"]["milliseconds"] < 25
    assert (inventory["verdict"], inventory["passed"], inventory["kpis"]) == ("inconclusive", 2, 4)
    assert "error_rate: 12 of 400" in inventory["warnings"][0]
    async with sessions.session(console.control, what="test") as conn:
        begun = await sessions.fetch(conn, "SELECT context FROM fig.extraction")
    assert begun == [("inventory",)], "to be looked at is not to begin"


async def test_an_extraction_shows_its_evidence_and_its_last_cut_over(console: Console) -> None:
    found = await console.ask("/api/extractions/inventory")
    states = {step["place"]: step["state"] for step in found["steps"]}
    assert states["sync"] == "done" and states["reads at 10 %"] == "now" and states["writes"] == "ahead"
    assert (found["next"], found["back"]) == ("reads at 50 %", "reads, shadow")
    errors = next(kpi for kpi in found["kpis"] if kpi["name"] == "error_rate")
    last = errors["growth"][-1]
    assert last["samples"] == errors["samples"] == 900
    assert last["least"] < errors["observed"] < last["most"] < errors["threshold"]
    assert len(found["series"]["at"]) == 300 and {len(column) for column in found["series"].values()} == {300}
    assert found["verifications"][0]["named"][0]["columns"] == {"on_hand": ["41", "40"]}
    assert (found["shadow"]["compared"], found["shadow"]["mismatched"]) == (401, 1)
    sample = found["shadow"]["samples"][0]
    assert (sample["monolith"]["on_hand"], sample["service"]["on_hand"]) == (41, 40)
    cutover = found["cutover"]
    assert (cutover["outcome"], cutover["held_requests"], cutover["epoch"]) == ("done", 31, 1)
    assert [step["step"] for step in cutover["steps"]] == [
        *("intend", "hold", "fence", "mark", "prove", "cede", "activate", "release")
    ]
    nothing = await console.ask("/api/extractions/catalogue")
    assert (nothing["cutover"], nothing["kpis"], nothing["next"]) == (None, [], "build")


async def test_the_audit_trail_is_whole_page_by_page(console: Console) -> None:
    whole = await console.ask("/api/audit")
    assert whole["more"] is None
    assert {entry["kind"] for entry in whole["entries"]} == {"command", "milestone", "visit"}
    asked = next(entry for entry in whole["entries"] if entry["kind"] == "command")
    assert (asked["by"], asked["outcome"], asked["text"]) == ("ann@desk", "failed", "there is not enough evidence yet")
    seen: list[Any] = []
    behind = ""
    while True:
        page = await console.ask(f"/api/audit?limit=3{behind}")
        seen += page["entries"]
        if page["more"] is None:
            break
        behind = f"&before={page['more']}"
    assert seen == whole["entries"]
    assert (await console.ask("/api/audit?context=catalogue"))["entries"] == []


async def test_who_has_no_session_is_told_nothing(console: Console) -> None:
    nobody = {"Authorization": "Bearer nobody"}
    for path in ("/api/estate", "/api/extractions/inventory", "/api/audit", "/api/commands/1"):
        assert await console.refused(path, 401, **nobody) == "console_session"
    wanted = {"verb": "abort", "dry_run": True}
    assert await console.refused("/api/extractions/inventory/commands", 401, body=wanted, **nobody) == "console_session"
    elsewhere = {"Origin": "http://evil.example"}
    assert await console.refused("/api/estate", 403, **elsewhere) == "console_elsewhere"
    assert await console.refused("/api/session", 403, body={"token": "guessed"}) == "console_link"


async def test_what_is_asked_wrongly_is_refused_with_a_reason(console: Console) -> None:
    assert await console.refused("/api/extractions/nowhere", 404) == "unknown_context"
    assert await console.refused("/api/commands/99", 404) == "unknown_command"
    assert await console.refused("/api/commands/-1", 404) == "unknown_command"
    assert await console.refused("/api/audit?limit=many", 400) == "bad_request"
    assert await console.refused("/api/audit?before=x", 400) == "bad_request"
    commands = "/api/extractions/inventory/commands"
    for wrong in ({}, {"verb": "drop"}, {"verb": "verify", "more": 1}, {"verb": "advance", "override": " "}):
        assert await console.refused(commands, 400, body=wrong) == "bad_request"
    assert await console.refused(commands, 409, body={"verb": "abort", "dry_run": False}) == "not_confirmed"
    assert (await console.ask("/api/audit"))["entries"][0]["what"] == "advance", (
        "none of it was asked of the controller"
    )


async def test_a_command_is_the_controllers_and_is_followed_to_its_end(console: Console) -> None:
    wanted = {"verb": "rollback", "dry_run": True}
    asked = await console.ask("/api/extractions/inventory/commands", body=wanted)
    assert (asked["state"], asked["by"], asked["dry_run"]) == ("pending", "ann@desk (console)", True)
    store = await Store.open(console.control)
    try:
        (command,) = await store.pending()
        assert (command.id, command.verb, command.args) == (asked["id"], "rollback", {"dry_run": True, "reason": None})
        events = console.http.get(f"{console.url}/api/commands/{asked['id']}", headers={"Accept": "text/event-stream"})
        async with events as answer:
            await store.tell(command.id, "note", "looking", {})
            await store.end(command.id, "done", "would go back", {"effects": ["route reads back"]})
            text = (await answer.read()).decode()
    finally:
        await store.close()
    states = [json.loads(part.partition("data: ")[2]) for part in text.split("\n\n") if part.startswith("event: state")]
    assert states[-1]["state"] == "done" and states[-1]["said"][-1]["data"]["effects"] == ["route reads back"]
    assert text.endswith("event: end\ndata: {}\n\n")


async def test_a_page_that_follows_is_told_of_the_next_second(console: Console) -> None:
    store, evidence = await Store.open(console.control), EvidenceStore(console.control)
    events = console.http.get(f"{console.url}/api/extractions/inventory", headers={"Accept": "text/event-stream"})
    try:
        async with asyncio.timeout(60), events as answer:
            seen: list[int] = []
            async for line in answer.content:
                if not line.startswith(b"data: "):
                    continue
                found = json.loads(line[6:])
                latency = next(kpi for kpi in found["kpis"] if kpi["name"] == "latency")
                seen.append(latency["growth"][-1]["samples"])
                if seen[-1] > 900:
                    break
                second = found["series"]["at"][-1] + 1
                await console_project.pass_by(store, evidence, second)
                await console_project.judge(console.project, store, evidence)
    finally:
        await store.close()
        await evidence.close()
    assert (seen[0], seen[-1]) == (900, 903)


async def test_the_page_keeps_itself_to_itself(console: Console) -> None:
    async with aiohttp.ClientSession() as http, http.get(console.url) as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert "<style" not in page and " style=" not in page and "<script>" not in page
    async with aiohttp.ClientSession() as http, http.get(f"{console.url}/api/openapi.json") as answer:
        document = await answer.json()
    assert document["openapi"] == "3.1.0" and "/api/estate" in document["paths"]

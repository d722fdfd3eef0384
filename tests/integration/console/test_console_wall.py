"""The wall's server with clients of its protocol: all of them see all, and what was seen is never lost."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pycrdt import Doc, Map

from stranglerfig.console.room import Storage
from stranglerfig.console.server import WallServer
from stranglerfig.console.site import POLICY
from stranglerfig.console.wall import SharedWall
from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.model import void_signatures
from stranglerfig.storming.text import parse
from tests.storm import Client, Storm

MODEL = Path("examples/shop/estate/contexts/inventory/model.storm")
Opened = Callable[[str], Awaitable[Client]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WallServer]:
    storage = Storage(tmp_path / "walls" / "wall.sqlite")
    found = WallServer(SharedWall(storage, tmp_path / "wall.storm"))
    await found.start("127.0.0.1", 0)
    yield found
    await found.stop()
    storage.close()


@pytest.fixture
async def opened(session: aiohttp.ClientSession) -> AsyncIterator[Opened]:
    """Opens a link as a client; all leave at the end."""
    clients: list[Client] = []

    async def join(link: str) -> Client:
        client = Client(session, link)
        await client.join()
        clients.append(client)
        return client

    yield join
    await asyncio.gather(*(client.leave() for client in clients))


@pytest.mark.parametrize("run", range(50))
async def test_twenty_who_open_a_fresh_wall_together_all_see_all(server: WallServer, opened: Opened, run: int) -> None:
    async def come(number: int) -> Client:
        client = await opened(server.link())
        client.hang(f"n{number}", f"event {number:02}")
        return client

    clients = await asyncio.gather(*(come(number) for number in range(20)))
    texts = [f"event {number:02}" for number in range(20)]
    await asyncio.gather(*(client.until(*texts) for client in clients))
    assert len(server.wall.room.clients) == 20, run


async def test_all_agree_after_random_edits_with_lost_connections(server: WallServer, opened: Opened) -> None:
    clients = [await opened(server.link()) for _ in range(12)]

    async def edit(number: int, client: Client) -> None:
        chance = random.Random(number)
        for step in range(20):
            client.hang(f"{number}-{step}", f"event {number} {step}")
            notes = client.doc.get("notes", type=Map)
            some = notes[chance.choice(sorted(notes.keys()))]
            some["x"], some["y"] = chance.randrange(9000), chance.randrange(900)
            if step % 7 == number % 7:
                await client.leave()
                client.hang(f"{number}-{step}-away", f"written by {number} alone at {step}")
                await client.join()
            await asyncio.sleep(chance.random() / 100)

    await asyncio.gather(*(edit(number, client) for number, client in enumerate(clients)))
    texts = [f"event {number} {step}" for number in range(12) for step in range(20)]
    texts += [f"written by {n} alone at {step}" for n in range(12) for step in range(20) if step % 7 == n % 7]
    await asyncio.gather(*(client.until(*texts) for client in clients))
    places = [client.doc.get("notes", type=Map).to_py() for client in [*clients, await opened(server.link())]]
    async with asyncio.timeout(10):
        while any(other != places[0] for other in places):
            await asyncio.sleep(0.02)
            places = [client.doc.get("notes", type=Map).to_py() for client in clients]
    assert len(places[0] or {}) == len(texts)


async def test_a_link_that_reads_sees_and_is_refused_when_it_writes(server: WallServer, opened: Opened) -> None:
    writer, reader = await opened(server.link()), await opened(server.link(reads_only=True))
    writer.hang("a", "seen")
    await reader.until("seen")
    assert (await reader.ask("PUT", "file"))[0] == 403
    assert (await reader.ask("POST", "text", "context A\n"))[0] == 403
    assert (await reader.ask("GET", "text"))[1].strip().endswith('sticky event "seen" 0 0')
    reader.hang("b", "not allowed")
    async with asyncio.timeout(5):
        await reader.closed.wait()
    assert reader.socket is not None and reader.socket.close_code == 1008
    writer.hang("c", "also seen")
    late = await opened(server.link())
    await late.until("seen", "also seen")


async def test_strangers_are_kept_out(server: WallServer, session: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await Client(session, server.link()[:-3] + "abc").join()
    assert refused.value.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await Client(session, server.link()).join(Origin="http://elsewhere.example")
    assert refused.value.status == 403
    assert (await Client(session, f"{server.link().partition('#')[0]}#").ask("GET", "text"))[0] == 403


async def test_a_message_that_is_no_protocol_ends_only_who_sent_it(server: WallServer, opened: Opened) -> None:
    good, bad = await opened(server.link()), await opened(server.link())
    assert bad.socket is not None
    await bad.socket.send_bytes(b"\x00\x02\x05abc")
    async with asyncio.timeout(5):
        await bad.closed.wait()
    good.hang("a", "goes on")
    await (await opened(server.link())).until("goes on")


async def test_the_page_may_load_nothing_from_elsewhere(server: WallServer, session: aiohttp.ClientSession) -> None:
    base = server.link().partition("#")[0]
    for path, kind in (("", "html"), ("wall.js", "javascript"), ("wall.css", "css")):
        async with session.get(base + path) as answer:
            assert answer.status == 200 and answer.content_type.endswith(kind)
            assert answer.headers["Content-Security-Policy"] == POLICY
            assert server.writes not in await answer.text()
    assert "unsafe" not in POLICY


async def test_the_file_is_written_on_command_and_never_over_somebody_elses_words(
    server: WallServer, opened: Opened
) -> None:
    client, file = await opened(server.link()), server.wall.file
    client.hang("a", "OrderPlaced", x=40, y=20)
    await (await opened(server.link())).until("OrderPlaced")
    assert not file.exists()
    status, said = await client.ask("PUT", "file")
    assert (status, said["written"]) == (200, True)
    assert file.read_text() == 'wall\n  sticky event "OrderPlaced" 40 20\n'
    assert (await client.ask("PUT", "file"))[1]["written"] is False
    file.write_text('wall\n  sticky event "OrderPlaced" 40 20\n  sticky actor "Clerk" 0 0\n')
    status, said = await client.ask("PUT", "file")
    assert (status, said["error"]["code"]) == (409, "wall_file_changed")
    status, said = await client.ask("POST", "file")
    assert (status, said["touched"]) == (200, 1)
    await client.until("Clerk", "OrderPlaced")
    assert "a" in client.doc.get("notes", type=Map), "it is the same sticky still"


async def test_who_is_offline_while_a_text_is_taken_in_doubles_nothing(server: WallServer, opened: Opened) -> None:
    client = await opened(server.link())
    status, _ = await client.ask("POST", "text", MODEL.read_text())
    assert status == 200
    await client.ask("GET", "wall")
    async with asyncio.timeout(5):
        while len(client.texts()) < 10:
            await asyncio.sleep(0.01)
    before = client.texts()
    await client.leave()
    client.closed.clear()
    client.hang("late", "written offline")
    await client.ask("POST", "text", MODEL.read_text())
    await client.join()
    await client.until(*before, "written offline")
    await (await opened(server.link())).until(*before, "written offline")


async def test_what_others_have_seen_survives_a_kill(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    shutil.copy(MODEL, tmp_path / "model.storm")
    storm = Storm(tmp_path, str(tmp_path / "model.storm"))
    await storm.start()
    first, link = Client(session, storm.link), storm.link
    await first.join()
    second = Client(session, storm.link)
    await second.join()
    first.hang("mine", "Seen by another")
    async with asyncio.timeout(10):
        while "Seen by another" not in second.texts():
            await asyncio.sleep(0.005)
    texts = second.texts()
    await storm.end(signal.SIGKILL)
    await asyncio.gather(first.leave(), second.leave())
    await storm.start()
    assert storm.link == link, "people keep their links"
    third = Client(session, storm.link)
    await third.join()
    await third.until(*texts)
    await third.leave()
    assert (tmp_path / "model.storm").read_text() == MODEL.read_text(), "nobody said that it shall be written"
    assert await storm.end() == 0
    command = [sys.executable, "-m", "stranglerfig.cli.main", "--project", str(tmp_path), "storm"]
    done = subprocess.run(
        [*command, str(tmp_path / "model.storm"), "--write"], capture_output=True, text=True, check=True
    )
    assert "is written" in done.stdout
    said = (tmp_path / "model.storm").read_text()
    assert 'sticky event "Seen by another"' in said
    assert not void_signatures(parse(said)) and parse(said).contexts == parse(MODEL.read_text()).contexts


async def test_what_the_disk_does_not_take_nobody_else_sees_until_it_does(server: WallServer, opened: Opened) -> None:
    writer, other = await opened(server.link()), await opened(server.link())
    writer.hang("a", "kept")
    await other.until("kept")
    database = server.wall.room.storage._db
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")  # a disk that is full
    writer.hang("b", "too much " * 4000)
    async with asyncio.timeout(5):
        await asyncio.gather(writer.closed.wait(), other.closed.wait())
    assert other.texts() == ["kept"]
    database.execute("PRAGMA max_page_count = 100000")
    late = await opened(server.link())
    await late.until("kept", "too much " * 4000)
    again: Doc[Any] = Doc()
    server.wall.room.storage.load(again)
    assert sorted(again.get("notes", type=Map).to_py() or {}) == ["a", "b"]


async def test_one_wall_is_served_once(server: WallServer) -> None:
    with pytest.raises(FigError) as refused:
        Storage(server.wall.room.storage.file)
    assert refused.value.code == "wall_open_already"

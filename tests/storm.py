"""``fig storm`` as a process, and clients of its wall that speak the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from pycrdt import Doc, Map, YMessageType, create_sync_message, create_update_message, handle_sync_message

from tests.browser import Browser
from tests.conftest import passable

STICKIES, COLUMNS, CONTEXTS = 2000, 50, 10
"""The wall at its largest, by :func:`hang_all`."""
_KINDS = ("command", "aggregate", "event", "policy", "event", "readmodel")


class Storm:
    """The command, running."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = passable(folder)
        self.arguments = arguments
        self.link, self.reads_only = "", ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "stranglerfig.cli.main", "--project", str(self.folder), "--json", "storm", *self.arguments),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = b""
        async with asyncio.timeout(30):
            while not said.rstrip().endswith(b"}"):
                line = await self._process.stdout.readline()
                assert line, said
                said += line
        links = orjson.loads(said)
        self.link, self.reads_only = links["link"], links["reads_only"]

    async def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self._process.pid, number)
        async with asyncio.timeout(15):
            return await self._process.wait()


class Client:
    """A client as Yjs' own would be; ``link`` is what ``fig storm`` printed."""

    def __init__(self, session: aiohttp.ClientSession, link: str) -> None:
        self.doc: Doc[Any] = Doc()
        self.session = session
        self.base, _, self.token = link.partition("#")
        self.socket: aiohttp.ClientWebSocketResponse | None = None
        self.closed = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._applying = False
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._subscription = self.doc.observe(self._updated)

    async def join(self, **headers: str) -> None:
        self.socket = await self.session.ws_connect(
            f"{self.base}wall", protocols=("fig-wall", self.token), headers=headers, max_msg_size=0
        )
        await self.socket.send_bytes(create_sync_message(self.doc))
        self._reading = asyncio.create_task(self._read(self.socket))
        self._writing = asyncio.create_task(self._write(self.socket))

    async def leave(self) -> None:
        assert self.socket is not None and self._reading is not None
        self._writing.cancel()
        await self.socket.close()
        await self._reading
        self.closed.clear()

    async def rejoin(self, seconds: float = 30.0) -> None:
        """Come back as soon as the server is there, which may have been killed."""
        if self.socket is not None:
            await self.leave()
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await self.join()
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)

    def _updated(self, event: Any) -> None:
        if not self._applying:
            self._waiting.put_nowait(create_update_message(event.update))

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # what was not sent is told when both compare what they have
            while True:
                await socket.send_bytes(await self._waiting.get())

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # the server died while it was answered
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY and message.data[0] == YMessageType.SYNC:
                    self._applying = True
                    reply = handle_sync_message(message.data[1:], self.doc)
                    self._applying = False
                    if reply is not None:
                        await socket.send_bytes(reply)
        self.closed.set()

    def hang(self, id_: str, text: str, **more: Any) -> None:
        """Hang an event."""
        values = {"kind": "event", "text": text, "x": 0, "y": 0, **more}
        self.doc.get("notes", type=Map)[id_] = Map(values)

    def texts(self) -> list[str]:
        notes = self.doc.get("notes", type=Map).to_py() or {}
        return sorted(str(note["text"]) for note in notes.values())

    async def until(self, *texts: str, seconds: float = 10.0) -> None:
        """Wait until exactly these hang."""
        try:
            async with asyncio.timeout(seconds):
                while self.texts() != sorted(texts):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{self.texts()} instead of {sorted(texts)}") from None

    async def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(method, f"{self.base}api/{path}", data=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, orjson.loads(text) if answer.content_type == "application/json" else text


def hang_all(client: Client) -> None:
    """Fill the wall: rows of stickies that are joined from left to right, and contexts around some."""
    doc = client.doc
    edges, contexts = doc.get("edges", type=Map), doc.get("contexts", type=Map)
    with doc.transaction():
        for number in range(CONTEXTS):
            contexts[f"c{number}"] = Map(
                {"name": f"Context {number}", "x": number * 1000 - 20, "y": -60, "width": 960, "height": 1200}
            )
        for number in range(STICKIES):
            column, row = number % COLUMNS, number // COLUMNS
            client.hang(
                f"n{number}", f"Happened{number}", kind=_KINDS[column % len(_KINDS)], x=column * 240, y=row * 150
            )
            if column:
                edges[f"n{number - 1}>n{number}"] = Map({"source": f"n{number - 1}", "target": f"n{number}"})


WORDS = "[...document.querySelectorAll('.sticky .words')].map(e => e.innerText).sort().join('|')"
"""What a page shows on its stickies."""


async def opened(browser: Browser, link: str, width: int = 1440) -> None:
    await browser.size(width, 900, touch=width < 900)
    await browser.open(link)
    await browser.until("document.querySelector('.state.online')")


async def write(browser: Browser, key: str, words: str) -> None:
    """A sticky by keyboard alone."""
    await browser.press(key)
    await browser.until("document.activeElement.matches('.sticky textarea')")
    await browser.write(words)
    await browser.press("Enter")
    await browser.until("document.activeElement.matches('.react-flow__node')")

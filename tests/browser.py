"""Debian's Chromium, driven over its own DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from examples.servers.fetch import debian

_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
KEYS = {
    "Enter": 13,
    "Escape": 27,
    "Delete": 46,
    "Tab": 9,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Browser:
    """One Chromium with a profile of its own, and one page in it."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._numbers = itertools.count(1)
        self.said: list[str] = []
        """What the page wrote to its console as an error, and what it threw."""
        self._traced: list[dict[str, Any]] = []

    async def start(self) -> None:
        program = debian("chromium", "chromium")
        self._process = subprocess.Popen(
            [program, *_QUIET, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        chosen = self._profile / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not chosen.exists() or "\n" not in chosen.read_text():
                await asyncio.sleep(0.02)
        port = chosen.read_text().split("\n")[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json") as answer:
            page = next(target for target in await answer.json() if target["type"] == "page")
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def send(self, method: str, **params: Any) -> Any:
        """Do it, and wait for the answer."""
        assert self._socket is not None
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(20):
            while True:
                said = await self._socket.receive_json()
                if said.get("id") == number:
                    assert "error" not in said, said["error"]
                    return said.get("result", {})
                self._hear(said)

    def _hear(self, said: dict[str, Any]) -> None:
        if "method" not in said:
            return  # an answer that nobody waits for any more
        if said["method"] == "Tracing.dataCollected":
            self._traced += said["params"]["value"]
        elif said["method"] == "Runtime.exceptionThrown":
            self.said.append(str(said["params"]["exceptionDetails"]))
        elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.said.append(said["params"]["entry"]["text"])

    async def size(self, width: int, height: int, *, touch: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch
        )
        await self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    async def open(self, address: str) -> None:
        await self.send("Page.navigate", url=address)

    async def ask(self, expression: str) -> Any:
        """What an expression is in the page."""
        result = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression: str, *, seconds: float = 10.0) -> None:
        """Wait until an expression is true."""
        try:
            async with asyncio.timeout(seconds):
                while not await self.ask(f"!!({expression})"):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            seen = await self.ask("document.body.innerText")
            raise AssertionError(f"never true: {expression}\n{seen}\n{self.said}") from None

    async def press(self, key: str, *, modifiers: int = 0, does: str = "") -> None:
        """One key; ``modifiers``: Alt 1, Ctrl 2, Meta 4, Shift 8; ``does`` is the editing command it stands for."""
        code = KEYS.get(key) or ord(key.upper())
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"text": "\r" if key == "Enter" else key} if (len(key) == 1 or key == "Enter") and not modifiers else {}
        commands = {"commands": [does]} if does else {}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text, **commands)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    async def write(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        await self.mouse("mouseMoved", *start)
        await self.mouse("mousePressed", *start, button="left", clickCount=1)
        for step in range(1, 6):
            x, y = (a + (b - a) * step / 5 for a, b in zip(start, end, strict=True))
            await self.mouse("mouseMoved", x, y, button="left")
        await self.mouse("mouseReleased", *end, button="left", clickCount=1)

    async def click(self, x: float, y: float) -> None:
        await self.mouse("mouseMoved", x, y)
        await self.mouse("mousePressed", x, y, button="left", clickCount=1)
        await self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    async def online(self, *, on: bool) -> None:
        await self.send(
            "Network.emulateNetworkConditions", offline=not on, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    async def trace(self) -> None:
        """Write down what the page's threads do from now on."""
        self._traced = []
        await self.send("Tracing.start", traceConfig={"includedCategories": ["toplevel", "devtools.timeline"]})

    async def traced(self) -> list[dict[str, Any]]:
        """What they did."""
        assert self._socket is not None
        await self.send("Tracing.end")
        async with asyncio.timeout(20):
            while (said := await self._socket.receive_json()).get("method") != "Tracing.tracingComplete":
                self._hear(said)
        return self._traced

    async def picture(self, file: Path) -> None:
        shot = await self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))

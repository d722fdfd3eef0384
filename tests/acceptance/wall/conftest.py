"""A wall, and browsers to open it in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.servers.fetch import Missing
from tests.browser import Browser
from tests.conftest import required
from tests.storm import Storm


@pytest.fixture
async def browsers(tmp_path: Path) -> AsyncIterator[list[Browser]]:
    """Two browsers."""
    found = [Browser(tmp_path / f"browser{number}") for number in range(2)]
    try:
        await asyncio.gather(*(browser.start() for browser in found))
        yield found
    except Missing as missing:
        required(str(missing))
    finally:
        await asyncio.gather(*(browser.stop() for browser in found))


@pytest.fixture
async def storm(tmp_path: Path) -> AsyncIterator[Storm]:
    folder = tmp_path / "project"
    folder.mkdir()
    found = Storm(folder)
    await found.start()
    yield found
    await found.end()

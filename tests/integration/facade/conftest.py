"""The estate of the façade's tests, fresh for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from facade_estate import Estates


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estates]:
    async with AsyncExitStack() as stack:
        made = Estates(tmp_path / "facade")
        stack.push_async_callback(made.stop)
        await made.start()
        yield made

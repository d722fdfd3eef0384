"""All that the console's own document describes, asked with what nobody would send: never a failure of the server,
always what the document says, nothing without a session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.console_desk import Desk
from tests.http_foreign import asked

KEPT = "SELECT (SELECT count(*) FROM fig.saga), (SELECT count(*) FROM fig.dead_letter WHERE error IS NOT NULL)"


@pytest.fixture
async def desk(postgres: Server, tmp_path: Path) -> AsyncIterator[Desk]:
    found = Desk(tmp_path, postgres.database(), postgres.database())
    await found.start()
    try:
        await found.fill()
        yield found
    finally:
        await found.end()


@pytest.mark.timeout(300)
async def test_nothing_breaks_it_and_it_answers_as_its_document_says(desk: Desk, tmp_path: Path) -> None:
    document = await desk.ask("GET", "/api/openapi.json")
    kept = desk.rows(
        "SELECT (SELECT count(*) FROM fig.saga), (SELECT count(*) FROM fig.dead_letter WHERE error IS NOT NULL)"
    )
    said = await asked(tmp_path, desk.url, document, headers=desk.headers)
    assert re.search(rf"Tested: {len(operations(document))}\b", said), said[-3000:]
    # Again, with names that there are: what lies behind them is reached.
    there = {"context": "inventory", "service": "orders", "name": "orders.Checkout", "topic": "events.orders"}
    await asked(tmp_path, desk.url, document, headers=desk.headers, values=there)
    assert desk.rows(KEPT) == kept
    await desk.ask("GET", "/api/estate")


@pytest.mark.timeout(300)
async def test_without_a_session_there_is_nothing(desk: Desk, tmp_path: Path) -> None:
    document = await desk.ask("GET", "/api/openapi.json")
    for operation in operations(document):
        if operation["security"]:
            # Only the refusal is left of what it may answer.
            operation["responses"] = {status: operation["responses"][status] for status in ("400", "401", "403")}
    await asked(tmp_path, desk.url, document, checks="not_a_server_error,status_code_conformance")
    assert desk.rows("SELECT count(*) FROM fig.command") == [(0,)]


def operations(document: Any) -> list[Any]:
    return [operation for path in document["paths"].values() for operation in path.values()]

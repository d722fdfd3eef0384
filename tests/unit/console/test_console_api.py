"""The API's declaration: its types do not drift, its document is whole, and what is live is read once for all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stranglerfig.console import api, app, openapi, typescript
from stranglerfig.console.api import Live, Model, Route
from stranglerfig.console.entry import Entry
from stranglerfig.console.reading import Reading

TYPES = Path(__file__).parents[3] / "web/src/console/types.ts"


class Number(Model):
    """One."""

    value: int


def routes() -> list[Route]:
    return app.routes(Reading.nowhere(), Entry(Path()))


def test_the_pages_types_are_those_of_the_models() -> None:
    assert TYPES.read_text() == typescript.written(), "run: make types-web"


def test_the_document_names_every_route_and_leads_nowhere_else() -> None:
    document = openapi.document(routes())
    asked = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert asked == {(route.path, route.method) for route in routes()}
    known = document["components"]["schemas"]

    def references(part: object) -> set[str]:
        if isinstance(part, dict):
            mine = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return mine.union(*(references(inner) for inner in part.values()))
        return set().union(*(references(inner) for inner in part)) if isinstance(part, list) else set()

    queries = {f"#/components/schemas/{route.query.__name__}" for route in routes() if route.query}
    assert references(document) | queries == {f"#/components/schemas/{name}" for name in known}
    numbers = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(numbers)) == len(numbers)
    closed = [operation for path in document["paths"].values() for operation in path.values() if operation["security"]]
    assert len(closed) == len(numbers) - 2, "all but how a session begins want one"


async def test_what_is_live_is_read_once_for_all_and_told_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "EVERY", 0.02)
    reads, value = 0, 0

    async def read() -> Number:
        nonlocal reads
        reads += 1
        return Number(value=value)

    live = Live()
    first, second = live.follow("number", read), live.follow("number", read)
    async with asyncio.timeout(30):
        assert await anext(first) == await anext(second) == b'event: state\ndata: {"value":0}\n\n'
        begun = reads
        waiting = asyncio.ensure_future(anext(first))
        while reads < begun + 5:
            await asyncio.sleep(0.01)
        assert not waiting.done(), "nothing has changed"
        value = 7
        assert await waiting == await anext(second) == b'event: state\ndata: {"value":7}\n\n'
        late = live.follow("number", read)
        assert await anext(late) == b'event: state\ndata: {"value":7}\n\n', "who comes late is told all"
        for each in (first, second, late):
            await each.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        ended = reads
        await asyncio.sleep(0.1)
        assert reads == ended, "nobody looks, nothing is read"


async def test_a_reading_that_fails_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "EVERY", 0.02)
    away = True

    async def read() -> Number:
        if away:
            raise ValueError("the server is away")
        return Number(value=1)

    events = Live().follow("number", read)
    async with asyncio.timeout(30):
        said = await anext(events)
        assert said.startswith(b"event: trouble\n") and b"the server is away" in said
        away = False
        assert (await anext(events)).startswith(b"event: state\n")
        await events.aclose()  # type: ignore[attr-defined]

"""Handlers in turn: first wishes fetched together, then one after the other, each to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from stranglerfig.kit.driving import Failed, in_turn, is_early, turn


class Scene:
    """What happened, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def fetch(self, wanted: list[Any]) -> None:
        self.seen.append(("fetch", wanted))

    async def run(self, *handlers: Coroutine[Any, Any, None]) -> None:
        await in_turn(handlers, self.fetch, lambda number: self.seen.append(("done", number)))

    async def loads(self, name: str, *wanted: Any) -> None:
        for each in wanted:
            self.seen.append((name, "wants", each, is_early()))
            await turn(each)
            self.seen.append((name, "has", each))


async def test_first_wishes_are_fetched_together_and_each_then_runs_to_its_end() -> None:
    scene = Scene()
    await scene.run(scene.loads("a", 1, 2), scene.loads("b", 3), scene.loads("c"))
    assert scene.seen == [
        ("a", "wants", 1, True), ("b", "wants", 3, True), ("fetch", [1, 3]),
        ("a", "has", 1), ("a", "wants", 2, False), ("a", "has", 2), ("done", 0),
        ("b", "has", 3), ("done", 1), ("done", 2),
    ]  # fmt: skip


async def test_a_handler_that_waits_for_something_else_keeps_its_place() -> None:
    scene = Scene()

    async def slow() -> None:
        await asyncio.sleep(0.01)
        scene.seen.append("slow")
        await turn("x")

    async def failing() -> None:
        with pytest.raises(ValueError):
            await asyncio.gather(_raises())
        scene.seen.append("saw it")

    await scene.run(slow(), failing(), scene.loads("b", 3))
    assert scene.seen == [
        ("b", "wants", 3, True), ("fetch", [3]), "slow", ("done", 0), "saw it", ("done", 1), ("b", "has", 3),
        ("done", 2),
    ]  # fmt: skip


async def _raises() -> None:
    raise ValueError


@pytest.mark.parametrize("early", [True, False])
async def test_the_one_that_fails_is_named_and_no_later_one_runs(early: bool) -> None:
    scene = Scene()

    async def fails() -> None:
        if not early:
            await turn(1)
        raise KeyError("no")

    with pytest.raises(Failed) as caught:
        await scene.run(scene.loads("a", 1), fails(), scene.loads("c", 2))
    assert caught.value.number == 1 and isinstance(caught.value.__cause__, KeyError)
    assert ("c", "has", 2) not in scene.seen and (("done", 0) in scene.seen) is not early


async def test_what_cannot_be_fetched_is_nobodys_fault() -> None:
    async def fetch(_: list[Any]) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await in_turn([Scene().loads("a", 1)], fetch, lambda number: None)


async def test_a_cancellation_reaches_the_handler_whose_turn_it_is() -> None:
    seen: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    scene = Scene()
    running = asyncio.create_task(scene.run(waits(), scene.loads("b", 1)))
    while ("fetch", [1]) not in scene.seen:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["cancelled"] and ("b", "has", 1) not in scene.seen


async def test_a_task_beside_the_handler_has_no_turn() -> None:
    async def spawns() -> None:
        await asyncio.gather(turn(1), turn(2))

    with pytest.raises(Failed) as caught:
        await Scene().run(spawns())
    assert "not in tasks" in str(caught.value.__cause__)
    await turn("alone")

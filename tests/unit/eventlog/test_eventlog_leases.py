"""What a member of a group holds while it renews its leases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stranglerfig.eventlog import leases
from stranglerfig.eventlog.leases import Membership

ONE, OTHER = ("t", 0), ("t", 1)


class Answers:
    """A database that says what a renewal finds; ``meanwhile`` happens while a place is claimed."""

    log = "log"

    def __init__(self, renewed: list[Any], claimed: list[Any]) -> None:
        self.renewed, self.claimed = renewed, claimed
        self.asked: dict[str, Any] = {}
        self.meanwhile = lambda: None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Answers]:
        yield self

    async def execute(self, *_: Any) -> None:
        """Taken."""

    async def fetch(self, _: Any, query: str, params: dict[str, Any]) -> list[Any]:
        if query is leases._queries.renew:
            return self.renewed
        self.asked = params
        self.meanwhile()
        return self.claimed

    async def value(self, *_: Any) -> int:
        return 1

    def member(self, monkeypatch: pytest.MonkeyPatch) -> Membership:
        monkeypatch.setattr(leases.postgres, "fetch", self.fetch)
        monkeypatch.setattr(leases.postgres, "value", self.value)

        async def places() -> dict[tuple[str, int], int]:
            return {ONE: 0, OTHER: 0}

        return Membership(self, places, "g", 3.0)  # type: ignore[arg-type]


async def test_what_is_read_while_a_place_is_claimed_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(renewed=[(*ONE, 5)], claimed=[(*OTHER, 3)])
    member = answers.member(monkeypatch)
    member.held = {ONE: 7}
    answers.meanwhile = lambda: member.held.update({ONE: 9})
    await member._renew()
    assert member.held == {ONE: 9, OTHER: 3}


async def test_a_place_that_was_taken_is_begun_where_the_group_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(renewed=[(*OTHER, 3)], claimed=[(*ONE, 2)])
    member = answers.member(monkeypatch)
    member.held = {ONE: 7, OTHER: 3}
    await member._renew()
    assert member.held == {ONE: 2, OTHER: 3}
    assert answers.asked["partitions"] == [0, 1]


async def test_a_place_whose_batch_is_in_hand_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(renewed=[(*OTHER, 3)], claimed=[])
    member = answers.member(monkeypatch)
    member.held, member.busy = {ONE: 7, OTHER: 3}, ONE
    await member._renew()
    assert member.held == {OTHER: 3}
    assert answers.asked["partitions"] == [1]

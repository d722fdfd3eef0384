"""What is decided next, for the rows that matter; the worlds of the exhaustive test cover the ways there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import get_args

import pytest

from stranglerfig.databases.model import State
from stranglerfig.extraction import model
from stranglerfig.extraction.model import Action, Observation, Row

STATES: tuple[State, ...] = get_args(State)
FRESH = Observation(Row("owner", 4), Row("standby", 3))


def test_the_steps_in_their_order() -> None:
    seen, path = FRESH, []
    while (action := model.next_action(seen)) is not Action.DONE:
        path.append(action)
        seen = {
            Action.INTEND: replace(seen, loser=Row("intent", 5), epoch=5),
            Action.HOLD: replace(seen, holding=True),
            Action.FENCE: replace(seen, loser=Row("fenced", 5, "n"), nonce="n"),
            Action.MARK: replace(seen, marked=True),
            Action.PROVE: replace(seen, proved=True),
            Action.CEDE: replace(seen, loser=Row("ceded", 5, "n")),
            Action.ACTIVATE: replace(seen, winner=Row("owner", 5, "n")),
            Action.RELEASE: replace(seen, released=True),
        }[action]
    assert tuple(path) == model.STEPS


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (replace(FRESH, wanted=False), Action.DONE),
        (replace(FRESH, loser=Row("intent", 5)), Action.ABORT),  # found by recovery
        (replace(FRESH, loser=Row("fenced", 5, "n")), Action.ABORT),
        (replace(FRESH, loser=Row("fenced", 5, "n"), epoch=5, nonce="n", giving_up=True), Action.ABORT),
        (replace(FRESH, loser=Row("fenced", 5, "n"), epoch=5, nonce="other"), Action.LOST),
        (replace(FRESH, loser=Row("owner", 5), epoch=5), Action.LOST),  # given up by the fence server
        (replace(FRESH, loser=Row("intent", 6), epoch=5), Action.LOST),
        (replace(FRESH, loser=Row("standby", 5)), Action.LOST),
        (replace(FRESH, loser=Row("ceded", 5, "n"), giving_up=True), Action.ACTIVATE),  # only forward
        (replace(FRESH, loser=Row("ceded", 5, "n"), winner=Row("owner", 5)), Action.RELEASE),
    ],
)
def test_what_is_done_when_something_went_wrong(seen: Observation, action: Action) -> None:
    assert model.next_action(seen) is action


def test_every_pair_of_rows_has_a_next_action_and_recovery_never_begins_anything() -> None:
    for (one, two), (first, second) in itertools.product(
        itertools.product(STATES, STATES), itertools.product((1, 2), (1, 2))
    ):
        seen = Observation(Row(one, first, "n"), Row(two, second, "n"), wanted=False)
        assert model.next_action(seen) in (
            Action.ACTIVATE,
            Action.RELEASE,
            Action.DONE,
            Action.ABORT,
            Action.LOST,
        )


@pytest.mark.parametrize(
    ("monolith", "service", "owner", "direction"),
    [
        (Row("owner", 0), Row("standby", 0), "monolith", None),
        (Row("intent", 1), Row("standby", 0), "monolith", "forward"),
        (Row("fenced", 1, "n"), Row("standby", 0), "monolith", "forward"),
        (Row("ceded", 1, "n"), Row("standby", 0), None, "forward"),
        (Row("ceded", 1, "n"), Row("owner", 1, "n"), "service", None),
        (Row("ceded", 1, "n"), Row("fenced", 2, "m"), "service", "back"),
        (Row("ceded", 1, "n"), Row("ceded", 2, "m"), None, "back"),
        (Row("owner", 2, "m"), Row("ceded", 2, "m"), "monolith", None),
        (Row("standby", 0), Row("standby", 0), None, None),
    ],
)
def test_who_owns_and_what_is_under_way(monolith: Row, service: Row, owner: str | None, direction: str | None) -> None:
    assert model.owner_of(monolith, service) == owner
    assert model.under_way(monolith, service) == direction
    assert model.inconsistent(monolith, service) is None


def test_rows_that_contradict_each_other() -> None:
    assert model.inconsistent(Row("owner", 1), Row("intent", 2)) == "both sides accept writes"
    assert model.inconsistent(Row("ceded", 3), Row("owner", 2)) is not None
    assert model.next_epoch(Row("owner", 3), Row("ceded", 7)) == 8
    assert model.guard_admits("owner", lock_free=True)
    assert not model.guard_admits("owner", lock_free=False)
    assert not model.guard_admits("standby", lock_free=True)

"""Our own tables: each room is known to who brings them forward, and no step is edited once it has landed."""

from __future__ import annotations

import re

import pytest

from stranglerfig.runtime import tables
from tests import landed_steps

HOW = (
    "{step} has changed since it landed. Databases that have run it never run it again, so they would stay as they are:"
    " put it back, and append a new step to the room's TABLES that changes what is there."
)
NEW = "{step} is new: record it with python -m tests.landed_steps"


@pytest.mark.parametrize(("step", "made"), [*landed_steps.steps()])
def test_a_step_that_has_landed_is_not_edited(step: str, made: str) -> None:
    known = landed_steps.landed()
    assert step in known, NEW.format(step=step)
    assert known[step] == made, HOW.format(step=step)


def test_no_step_is_taken_away_or_moved() -> None:
    gone = set(landed_steps.landed()) - {step for step, _ in landed_steps.steps()}
    assert not gone, f"{sorted(gone)}: databases have run them; steps are appended only"


def test_what_a_step_does_is_noticed_and_what_it_says_is_not() -> None:
    text = "-- Why.\nCREATE TABLE a (\n    b int\n);\n"
    assert landed_steps.digest(text) == landed_steps.digest("CREATE TABLE a (\n    -- how many\n    b int\n);")
    assert landed_steps.digest(text) != landed_steps.digest(text.replace("int", "bigint"))


def test_every_room_that_keeps_tables_is_known() -> None:
    assert landed_steps.declared() == {room.room for room in landed_steps.rooms()}
    for room, (_, steps) in tables.ROOMS.items():
        found = tables.tables_of(room)
        assert (found.room, len(found.steps)) == (room, steps), f"{room}: correct its number in runtime/tables.py"


def test_every_file_that_makes_tables_is_a_step_of_a_room() -> None:
    known = {(room.package, step) for room in landed_steps.rooms() for step in room.steps} | {*landed_steps.MARIADB}
    making = re.compile(r"^(CREATE|ALTER) (TABLE|FUNCTION|OR REPLACE FUNCTION)\b", flags=re.MULTILINE)
    for file in landed_steps.SOURCE.rglob("*.sql"):
        package = ".".join(("stranglerfig", *file.parent.relative_to(landed_steps.SOURCE).parts))
        if making.search(file.read_text()):
            assert (package, file.name) in known, f"{file.name} of {package} makes what nobody brings forward"

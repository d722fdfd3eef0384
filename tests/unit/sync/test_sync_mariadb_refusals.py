"""Whose fault a refusal of MariaDB's is: the row's, or the server's."""

from __future__ import annotations

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.mariadb import refusals


@pytest.mark.parametrize(
    ("number", "state", "about"),
    [
        (1062, "23000", True),  # a duplicate key
        (1118, "42000", True),  # a row that is too large
        (30001, "45000", True),  # what a trigger signals, with a number of its own
        (1644, "45F01", True),
        (1364, "HY000", True),  # no default, which has no class of its own
        (1205, "HY000", False),  # a lock that was waited for
        (1213, "40001", False),  # a deadlock
        (1290, "HY000", False),  # read only
        (1044, "42000", False),  # a right on the database
    ],
)
def test_what_speaks_of_a_row(number: int, state: str, about: bool) -> None:
    refused = FigError("statement_refused", "no", "", errno=number, sqlstate=state)
    assert refusals.about_data(refused) is about

"""What the logs refuse alike."""

from __future__ import annotations

import pytest

from stranglerfig.eventlog import model
from stranglerfig.foundation.errors import FigError


def test_a_retention_within_bounds() -> None:
    model.check_retention(10, 10, 20, log="x", topic="t")
    model.check_retention(20, 10, 20, log="x", topic="t")


@pytest.mark.parametrize("seconds", [9.9, 20.1])
def test_a_retention_that_the_log_cannot_keep_to(seconds: float) -> None:
    with pytest.raises(FigError, match="keeps them for 10 s to 20 s") as error:
        model.check_retention(seconds, 10, 20, log="x", topic="t")
    assert (error.value.code, error.value.context["topic"]) == ("log_lacks", "t")

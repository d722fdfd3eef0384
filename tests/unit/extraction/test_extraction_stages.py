from __future__ import annotations

import pytest

from stranglerfig.extraction.stages import DECOMMISSION_STEPS, Place, Stage, ahead, behind, route
from stranglerfig.foundation.errors import FigError

STEPS = (1.0, 10.0, 100.0)


def test_the_way_forward_visits_every_stage_once_in_order() -> None:
    place, seen = Place(Stage.PREPARE), [Place(Stage.PREPARE)]
    while place.stage is not Stage.DONE:
        place = ahead(place, STEPS)
        seen.append(place)
    assert seen == list(route(STEPS))
    assert [p.step for p in seen if p.stage is Stage.READS] == ["shadow", "1", "10", "100"]
    assert tuple(p.step for p in seen if p.stage is Stage.DECOMMISSION) == DECOMMISSION_STEPS


@pytest.mark.parametrize("place", [Place(Stage.DONE), Place(Stage.READS, "37")])
def test_nothing_comes_after_the_end_or_an_unknown_step(place: Place) -> None:
    with pytest.raises(FigError) as refused:
        ahead(place, STEPS)
    assert refused.value.code == "nothing_ahead"


@pytest.mark.parametrize(
    ("place", "back"),
    [
        (Place(Stage.DECOMMISSION, "retire"), Place(Stage.WRITES)),
        (Place(Stage.WRITES), Place(Stage.READS, "100")),
        (Place(Stage.READS, "10"), Place(Stage.READS, "shadow")),
        (Place(Stage.READS, "shadow"), Place(Stage.SYNC)),
        (Place(Stage.SYNC), Place(Stage.BUILD)),
        (Place(Stage.BUILD), Place(Stage.PREPARE)),
    ],
)
def test_one_command_goes_back_from_every_stage(place: Place, back: Place) -> None:
    assert behind(place, STEPS) == back


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (Place(Stage.DONE), "irreversible"),
        (Place(Stage.PREPARE), "nothing_behind"),
        (Place(Stage.ABORTED), "nothing_behind"),
    ],
)
def test_where_there_is_no_way_back_it_is_said(place: Place, code: str) -> None:
    with pytest.raises(FigError) as refused:
        behind(place, STEPS)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("place", "share", "text"),
    [
        (Place(Stage.SYNC), 0, "sync"),
        (Place(Stage.READS, "shadow"), 0, "reads, shadow"),
        (Place(Stage.READS, "10"), 10, "reads at 10 %"),
        (Place(Stage.WRITES), 100, "writes"),
        (Place(Stage.DECOMMISSION, "watch"), 100, "decommission, watch"),
    ],
)
def test_a_place_knows_its_share_of_reads_and_its_name(place: Place, share: float, text: str) -> None:
    assert place.share == share
    assert str(place) == text

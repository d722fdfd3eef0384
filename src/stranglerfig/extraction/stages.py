"""The stages and their steps: which follows which, forward and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stranglerfig.foundation.errors import FigError


class Stage(StrEnum):
    """Where an extraction is; in exactly one."""

    PREPARE = "prepare"
    BUILD = "build"
    SYNC = "sync"
    READS = "reads"
    WRITES = "writes"
    DECOMMISSION = "decommission"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Place:
    """A stage and, inside ``reads`` and ``decommission``, a step of it.

    Steps of ``reads``: ``shadow``, then shares such as ``10`` (percent). Steps of ``decommission``: ``watch``,
    ``brownout``, ``retire``, ``report``.
    """

    stage: Stage
    step: str = ""

    @classmethod
    def first(cls) -> Place:
        """Where every extraction begins."""
        return cls(Stage.PREPARE)

    @property
    def share(self) -> float:
        """Share of reads, in percent, that the service answers here."""
        if self.stage in (Stage.WRITES, Stage.DECOMMISSION, Stage.DONE):
            return 100.0
        if self.stage is Stage.READS and self.step != "shadow":
            return float(self.step)
        return 0.0

    def __str__(self) -> str:
        if not self.step:
            return self.stage.value
        return (
            f"{self.stage.value} at {self.step} %"
            if self.stage is Stage.READS and self.share
            else f"{self.stage.value}, {self.step}"
        )


DECOMMISSION_STEPS = ("watch", "brownout", "retire", "report")


def route(read_steps: tuple[float, ...]) -> tuple[Place, ...]:
    """All places in order, for the configured shares of reads."""
    return (
        Place(Stage.PREPARE),
        Place(Stage.BUILD),
        Place(Stage.SYNC),
        Place(Stage.READS, "shadow"),
        *(Place(Stage.READS, f"{share:g}") for share in read_steps),
        Place(Stage.WRITES),
        *(Place(Stage.DECOMMISSION, step) for step in DECOMMISSION_STEPS),
        Place(Stage.DONE),
    )


def ahead(place: Place, read_steps: tuple[float, ...]) -> Place:
    """The place after ``place``.

    Raises:
        FigError: ``nothing_ahead`` in ``done``.
    """
    if place.stage is Stage.ABORTED:
        return Place(Stage.PREPARE)  # nothing of it is left, so it can be begun anew
    places = route(read_steps)
    if place.stage is Stage.DONE or place not in places:
        raise FigError("nothing_ahead", f"the extraction is {place}: nothing comes after it", "Start another one.")
    return places[places.index(place) + 1]


def behind(place: Place, read_steps: tuple[float, ...]) -> Place:
    """Where ``fig rollback`` goes from ``place``.

    One switch takes back all reads (any share → shadow); writes go back to all reads at the service; decommissioning is
    undone as a whole.

    Raises:
        FigError: ``nothing_behind`` where there is nothing to take back, ``irreversible`` after the drop.
    """
    shadow = Place(Stage.READS, "shadow")
    if place.stage is Stage.DONE:
        raise FigError(
            "irreversible", "the monolith's tables were dropped: there is no way back", "Restore the archive by hand."
        )
    if place.stage is Stage.DECOMMISSION:
        return Place(Stage.WRITES)
    if place.stage is Stage.WRITES:
        return Place(Stage.READS, f"{read_steps[-1]:g}")
    if place.stage is Stage.READS:
        return Place(Stage.SYNC) if place == shadow else shadow
    if place.stage is Stage.SYNC:
        return Place(Stage.BUILD)
    if place.stage is Stage.BUILD:
        return Place(Stage.PREPARE)
    raise FigError("nothing_behind", f"the extraction is in {place}: there is nothing to take back", "")

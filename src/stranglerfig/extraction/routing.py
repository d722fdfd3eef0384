"""Where an extraction's requests go, given where it stands. Pure: routes are derived, never remembered."""

from __future__ import annotations

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Stage
from stranglerfig.extraction.store import Standing
from stranglerfig.facade.model import ContextRouting


def routing(settings: ExtractionSettings, standing: Standing, *, fenced: bool = False) -> ContextRouting:
    """The context's part of the route table; ``fenced`` while a cut-over decides who gets the writes."""
    place = standing.place
    gone = place.stage is Stage.DONE or bool(standing.facts.get("routes_gone"))
    owner = "service" if standing.owner == "service" else "monolith"
    leaving = place.stage in (Stage.DECOMMISSION, Stage.DONE)
    return ContextRouting(
        context=settings.context,
        routes=settings.routes,
        service=settings.service.upstream,
        # Who owns the data answers all reads, wherever the stage's row stands after a crash.
        reads=100.0 if owner == "service" else place.share,
        shadow=place.stage is Stage.READS and owner == "monolith",
        writes="fenced" if fenced else owner,  # type: ignore[arg-type]  # mypy loses the literal in the conditional
        gone=gone,
        # The monolith is no baseline any more once its tables go.
        options=settings.facade.model_copy(update={"hold_back": 0.0}) if leaving else settings.facade,
    )

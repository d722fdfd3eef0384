"""What waits for other people before an extraction goes on: approvals, who asked, and the change window."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from stranglerfig.access import approvals, windows
from stranglerfig.access.settings import parsed, wanted
from stranglerfig.console.api import Model
from stranglerfig.console.reading import Reading
from stranglerfig.extraction import requests
from stranglerfig.extraction.admission import guarded
from stranglerfig.extraction.stages import Place, Stage, ahead
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError


class Approved(Model):
    """Somebody agrees; ``until`` is when that ends."""

    person: str
    at: datetime
    until: datetime


class Declined(Model):
    """Somebody said no."""

    by: str
    at: datetime
    reason: str


class Request(Model):
    """Who asked for the step, and was told that others must agree first."""

    by: str
    person: str
    origin: str
    at: datetime
    plan: str
    reason: str
    declined: Declined | None


class Window(Model):
    """When the stage may be entered: each of ``groups`` must have one open; ``turns`` is when that changes."""

    groups: list[list[str]]
    open: bool
    turns: datetime | None


class Agreement(Model):
    """The step that comes next, where a policy wants more of it than its gate. ``needed`` is how many must approve.

    ``lasts`` is how many seconds an approval counts.
    """

    context: str
    place: str
    target: str
    stage: str
    needed: int
    lasts: float
    approved: list[Approved]
    request: Request | None
    window: Window | None


async def of(reading: Reading, conn: postgres.Connection, context: str, standing: Standing | None) -> Agreement | None:
    """What other people and the clock must say of a context's next step; None where nothing."""
    settings = reading.settings(context)
    place = Place.first() if standing is None else standing.place
    try:
        target = ahead(place, settings.gates.reads.steps)
    except FigError:
        return None
    stage = guarded(target)
    needed, groups, lasts = wanted((reading.project.estate.policy, settings.policy), stage)
    if place.stage is Stage.ABORTED or not (needed or groups):
        return None
    request = None
    if needed and standing is not None:
        request = await requests.waiting(conn, context, standing.visit)
    given = await _given(conn, context, stage, request) if needed else []
    return Agreement(
        context=context,
        place=str(place),
        target=str(target),
        stage=stage,
        needed=needed,
        lasts=lasts,
        approved=given,
        request=None if request is None else _request(request),
        window=window(tuple(tuple(group) for group in groups), clock.now()) if groups else None,
    )


async def _given(
    conn: postgres.Connection, context: str, stage: str, request: requests.Request | None
) -> list[Approved]:
    """Who agrees now, each person once and without the one who asked; before anybody has, of whichever plan."""
    newest: dict[str, Approved] = {}
    for each in reversed(await approvals.listed(conn, context)):
        wanted_plan = request is None or (each["plan"] == request.plan and each["person"] != request.person)
        if each["counts"] and each["stage"] == stage and wanted_plan:
            newest[each["person"]] = Approved(person=each["person"], at=each["at"], until=each["expires_at"])
    return list(newest.values())


def _request(found: requests.Request) -> Request:
    no = None
    if found.declined is not None:
        by, at, reason = found.declined
        no = Declined(by=by, at=at, reason=reason)
    return Request(
        by=found.name,
        person=found.person,
        origin=found.origin,
        at=found.at,
        plan=found.plan,
        reason=found.reason,
        declined=no,
    )


def window(groups: tuple[tuple[str, ...], ...], now: datetime) -> Window:
    """Whether the windows are open at ``now``, and when that changes (None: not within 15 days)."""
    is_open = all(windows.is_open(group, now) for group in parsed(groups))
    turns = _turns(groups, is_open, now.replace(second=0, microsecond=0))
    return Window(groups=[list(group) for group in groups], open=is_open, turns=turns)


@lru_cache(maxsize=64)
def _turns(groups: tuple[tuple[str, ...], ...], is_open: bool, minute: datetime) -> datetime | None:
    """Looked for once a minute: two weeks of minutes are gone through."""
    return windows.closes(parsed(groups), minute) if is_open else windows.opens(parsed(groups), minute)

"""How a context leaves the monolith's database, and the monolith's own end: what is still used, what is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from stranglerfig.console.api import Model
from stranglerfig.console.reading import Reading
from stranglerfig.extraction import decommission, retirement
from stranglerfig.extraction.retirement import FRESH, Look, Passed
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock, postgres
from stranglerfig.runtime.wiring import envoy_control

LISTED = 20
"""Kinds of request that are listed."""


class User(Model):
    """Somebody who was seen at the old tables: how often, while they were watched."""

    application: str
    role: str
    table: str
    seen: int


class Archived(Model):
    """A table's archive, which is all that is left of it."""

    table: str
    rows: int
    bytes: int
    file: str
    sha256: str


class Size(Model):
    """What the monolith had, or has, of the context: lines of code, routes, tables, bytes, transactions a second."""

    lines: int
    routes: int
    tables: int
    bytes: int
    transactions: float | None


class Decommissioning(Model):
    """Where decommissioning stands.

    ``users`` and ``dependents`` are None before the tables were watched; ``missed`` who was seen during the brown-out.
    ``holding`` is the schema where the tables wait; ``droppable_at`` when the agreed time is over; ``dropped_at`` when
    they were dropped, which is the one step without a way back.
    """

    users: list[User] | None
    dependents: list[str]
    missed: list[User]
    holding: str | None
    droppable_at: datetime | None
    dropped_at: datetime | None
    archive: list[Archived]
    before: Size | None
    after: Size | None


class Kind(Model):
    """Requests of one kind, and when the last one ended."""

    route: str
    method: str
    path: str
    requests: int
    last_at: datetime


class Said(Model):
    """Who did it, and when."""

    by: str
    at: datetime


class Monolith(Model):
    """Whether anything still passes to the monolith, or its end.

    ``quiet`` is for how many seconds nothing may have passed; ``quiet_since`` when the last request ended that did, or
    since when the façade is watched. ``passing`` is what passed within ``quiet``, the most frequent kinds first, of
    ``kinds``; ``refused`` what was asked for since it is retired. ``reasons`` is why it cannot be retired now.
    """

    retired: Said | None
    restored: Said | None
    quiet: float
    quiet_since: datetime | None
    watched: bool
    passing: list[Kind]
    kinds: int
    refused: list[Kind]
    reasons: list[str]


def of(settings: ExtractionSettings, standing: Standing | None, entered_at: datetime | None) -> Decommissioning | None:
    """A context's, from what its steps have kept; None before it is decommissioned."""
    if standing is None or standing.place.stage not in (Stage.DECOMMISSION, Stage.DONE):
        return None
    facts, done = standing.facts, standing.place.stage is Stage.DONE
    watch = facts.get("watch")
    kept = bool(facts.get("retired")) and not done
    grace = timedelta(seconds=settings.decommission.grace_seconds)
    measured = facts.get("decommission") or {}
    return Decommissioning(
        users=None if watch is None else _users(watch["users"]),
        dependents=[f"{each['kind']} {each['name']} on {each['on']}" for each in (watch or {}).get("dependents", ())],
        missed=_users(facts.get("brownout_users") or ()),
        holding=decommission.holding(settings.context) if kept else None,
        droppable_at=entered_at + grace
        if entered_at is not None and standing.place == Place(Stage.DECOMMISSION, "report")
        else None,
        dropped_at=entered_at if done else None,
        archive=[Archived(**{key: each[key] for key in Archived.model_fields}) for each in facts.get("archive") or ()],
        before=_size(measured.get("before")),
        after=_size(measured.get("after")),
    )


def _users(found: Iterable[Mapping[str, Any]]) -> list[User]:
    return [User(**{key: each[key] for key in User.model_fields}) for each in found]


def _size(found: Mapping[str, Any] | None) -> Size | None:
    if not found:
        return None
    names = ("routes", "tables", "bytes")
    transactions = found.get("transactions")
    return Size(lines=found["code"]["lines"], transactions=transactions, **{name: found[name] for name in names})


async def monolith(reading: Reading) -> Monolith:
    """The monolith's, as ``fig retire`` sees it."""
    project = reading.project
    ports = reading.data.ports()
    envoy = envoy_control(project, ports) if ports else None
    try:
        found = await retirement.look(reading.control, [*project.extractions], project.estate.facade.quiet, envoy)
    finally:
        if envoy is not None:
            await envoy.close()
    async with reading.session() as conn:
        last = await postgres.value(conn, "SELECT max(last_at) FROM fig.passed WHERE side = 'monolith'")
        back = await postgres.one(
            conn,
            "SELECT name, at FROM fig.audit WHERE context = '' AND action = %s AND outcome = 'done'"
            " AND NOT coalesce((details #>> '{args,dry_run}')::boolean, false) ORDER BY id DESC LIMIT 1",
            (retirement.RESTORE,),
        )
    return told(found, last, None if back is None else Said(by=back[0], at=back[1]), clock.now())


def told(found: Look, last: datetime | None, restored: Said | None, now: datetime) -> Monolith:
    """What was seen, as the page tells it; ``last`` is when the last request that passed ended."""
    retired = found.retired
    return Monolith(
        retired=None if retired is None else Said(by=retired["by"], at=retired["at"]),
        restored=None if retired else restored,
        quiet=found.quiet,
        quiet_since=last or found.since,
        watched=found.until is not None and now - found.until <= timedelta(seconds=FRESH),
        passing=[] if retired else _kinds(found.passing),
        kinds=0 if retired else len(found.passing),
        refused=_kinds(found.refused),
        reasons=[] if retired else [each.message for each in found.reasons(now)],
    )


def _kinds(found: Iterable[Passed]) -> list[Kind]:
    return [
        Kind(route=each.route, method=each.method, path=each.path, requests=each.requests, last_at=each.last_at)
        for each in list(found)[:LISTED]
    ]

"""Sagas and flows of all services: how many succeed, which need somebody, how each went."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple, TypeVar

from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.gates import bounds
from stranglerfig.runtime import services
from stranglerfig.runtime.settings import Project
from stranglerfig.sagas import operating
from stranglerfig.sagas.drawing import Drawing
from stranglerfig.sagas.flows import Course
from stranglerfig.sagas.flows import Drawing as Flow

WINDOW: Final = 3600.0
"""Seconds over which success is counted."""
LIMIT: Final = 600.0
"""Seconds that a saga may take where neither a gate nor its declaration says: what a gate would take."""
CONFIDENCE: Final = 0.95
ENDED: Final = 5_000
"""Of how many ended sagas, the newest, the ways are counted."""
COURSES: Final = 300
"""How many of a flow's courses are looked at, the newest."""
T = TypeVar("T")


class Success(NamedTuple):
    """The share of sagas that ended in time.

    Attributes:
        samples, failures: those whose verdict fell into the window.
        within: seconds that one may take.
        share, lower, upper: of successes; the bounds are those of Clopper and Pearson (1934) at 95 %, two-sided, of
            samples that count less where failures come in bursts (:func:`bounds.design_effect`), as gates have them.
            None where there are no samples.
    """

    samples: int
    failures: int
    within: float
    window: float
    share: float | None
    lower: float | None
    upper: float | None


class Kind(NamedTuple):
    """A kind of saga: its newest version as declared, and how its sagas stand."""

    service: str
    name: str
    version: int
    drawing: Drawing
    counts: Mapping[str, int]
    success: Success
    running: int
    blocked: int
    stuck: int
    ways: Mapping[str, Mapping[str, int]]


class FlowKind(NamedTuple):
    """A choreographed flow, how often each way was gone, and its newest courses by correlation id."""

    service: str
    drawing: Flow
    ways: Mapping[tuple[str, str], int]
    courses: Mapping[str, Course]


def success(blocks: list[tuple[float, int, int]], within: float, window: float) -> Success:
    """What samples come to; ``blocks`` are (second, samples, failures)."""
    n = sum(block[1] for block in blocks)
    k = sum(block[2] for block in blocks)
    if n == 0:
        return Success(0, 0, within, window, None, None, None)
    shrunk = bounds.design_effect([(samples, failures) for _, samples, failures in blocks])
    alpha = (1 - CONFIDENCE) / 2
    worst, best = bounds.upper(k / shrunk, n / shrunk, alpha), bounds.lower(k / shrunk, n / shrunk, alpha)
    return Success(n, k, within, window, 1 - k / n, 1 - worst, 1 - best)


def limits(project: Project) -> dict[str, float]:
    """The seconds that sagas may take, by kind, where a gate says so."""
    found: dict[str, float] = {}
    for each in project.extractions.values():
        asked = each.gates.writes.saga_success
        if asked is not None:
            found |= dict.fromkeys(asked.sagas, asked.within / 1000)
    return found


async def kinds(project: Project) -> tuple[list[Kind], list[str]]:
    """Every kind of saga that a service declares, by name; and what could not be asked, in words."""
    said = limits(project)

    async def of(service: str, conn: Connection) -> list[Kind]:
        newest: dict[str, Drawing] = {drawing["name"]: drawing for drawing, _ in await operating.drawings(conn)}
        within = {name: said.get(name, drawing["within"]) for name, drawing in newest.items()}
        standing = await operating.standing(conn, within)
        counts = await operating.counted(conn)
        until = await operating.settled(conn)
        since = until - timedelta(seconds=WINDOW)
        found = []
        for name, drawing in newest.items():
            limit = within[name] or LIMIT
            blocks = await operating.ends(conn, [name], begun=since, since=since, until=until, within=limit)
            stands = standing.get(name, operating.Standing(0, 0, 0))
            ways = await operating.gone(conn, name, drawing["version"], last=ENDED)
            found.append(
                Kind(
                    service,
                    name,
                    drawing["version"],
                    drawing,
                    counts.get(name, {}),
                    success(blocks, limit, WINDOW),
                    *stands,
                    ways,
                )
            )
        return found

    return await _everywhere(project, of)


async def flow_kinds(project: Project) -> tuple[list[FlowKind], list[str]]:
    """Every flow that a service records; and what could not be asked, in words."""

    async def of(service: str, conn: Connection) -> list[FlowKind]:
        return [
            FlowKind(
                service,
                drawing,
                await operating.ways(conn, drawing.name),
                await operating.courses(conn, drawing, last=COURSES),
            )
            for drawing in (await operating.flow_drawings(conn)).values()
        ]

    return await _everywhere(project, of)


async def courses(
    project: Project, service: str, name: str, *, state: str | None, id: str | None, last: int
) -> Mapping[str, Course]:
    """The newest courses of a flow that are in a state, however long ago they began, or one by its correlation id.

    Raises:
        FigError: ``unknown_flow``, ``unknown_service``.
    """
    async for conn in _of(project, service):
        drawing = (await operating.flow_drawings(conn)).get(name)
        if drawing is not None:
            return await operating.courses(conn, drawing, correlation=id, state=state, last=last)
    raise FigError("unknown_flow", f"{service} records no flow '{name}'", "See fig flow list.", flow=name)


async def listed(
    project: Project, *, name: str | None, status: str | None, key: str | None, last: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The newest sagas, of all services; and what could not be asked, in words."""

    async def of(service: str, conn: Connection) -> list[dict[str, Any]]:
        rows = await operating.listed(conn, status=status, name=name, key=key, last=last)
        return [{"service": service, **row} for row in rows]

    rows, away = await _everywhere(project, of)
    return sorted(rows, key=lambda row: row["begun_at"], reverse=True)[:last], away


async def shown(project: Project, service: str, id: str) -> tuple[dict[str, Any], Drawing | None]:
    """One saga, whole, and the drawing of its version.

    Raises:
        FigError: ``unknown_saga``, ``unknown_service``.
    """
    async for _, conn in services.each(project, service, operating.has_sagas):
        row = await operating.shown(conn, id)
        if row is not None:
            drawings = [drawing for drawing, _ in await operating.drawings(conn)]
            mine = [each for each in drawings if (each["name"], each["version"]) == (row["name"], row["version"])]
            return row, mine[0] if mine else None
    raise FigError("unknown_saga", f"{service} has no saga {id}", "See fig saga list.", saga=id)


async def decide(
    project: Project, service: str, id: str, word: Literal["retry", "resolve"], by: str, *, dry_run: bool
) -> str:
    """Leave an operator's word for a saga that needs one; returns in words what it does.

    Raises:
        FigError: ``unknown_saga``, ``saga_not_blocked``, ``missing_privilege``.
    """
    row, _ = await shown(project, service, id)
    operating.refuse_unblocked(row)
    if not dry_run:
        async for _, conn in services.each(project, service, operating.has_sagas):
            await operating.ask(conn, id, word, by)
    return consequence(row, word)


def consequence(row: Mapping[str, Any], word: Literal["retry", "resolve"]) -> str:
    """What an operator's word does to a saga that needs one."""
    steps = [*row["blocked"].split()]
    back = any(row["course"]["steps"][step][0] in ("undoing", "undone") for step in steps)
    names = " and ".join(steps)
    if word == "retry":
        what = "undo of " if back else ""
        return (
            f"A worker of {row['name']} asks for the {what}{names} once more, with all its attempts."
            " If they are spent again, the saga needs an operator again."
        )
    if back:
        return (
            f"The saga counts {names} as undone and goes on taking back what came before. Nothing is undone by this:"
            " see to it first that it is."
        )
    return (
        f"The saga counts {names} as done and goes on with what follows. Nothing is done by this: see to it first that"
        " it is. What the step would have answered is missing in the saga's fields."
    )


async def _everywhere(
    project: Project, of: Callable[[str, Connection], Awaitable[list[T]]]
) -> tuple[list[T], list[str]]:
    """What each service that keeps sagas says; one that is away is named, and hides no other."""
    found: list[T] = []
    away: list[str] = []
    for name in services.databases(project):
        try:
            async for conn in _of(project, name):
                found += await of(name, conn)
        except FigError as error:
            away.append(f"{name}: {error.message}")
    return found, away


async def _of(project: Project, name: str) -> AsyncIterator[Connection]:
    try:
        async for _, conn in services.each(project, name, operating.has_sagas):
            yield conn
    except FigError as error:
        if error.code != "nothing_kept":
            raise

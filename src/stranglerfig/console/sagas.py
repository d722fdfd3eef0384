"""The page of the sagas: how many succeed, which need somebody, how one went; and flows that nobody conducts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import orjson
from pydantic import Field

from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.console.slowly import Slowly
from stranglerfig.runtime import saga_figures
from stranglerfig.sagas import flow_drawing
from stranglerfig.sagas.flows import Course, Happened, Reaction

Status = Literal["waiting", "running", "compensating", "needs operator", "completed", "compensated", "refused"]
State = Literal["done", "running", "stopped", "surprising"]
COURSES = 40
"""How many of a flow's newest courses the page shows."""


class SagaShare(Model):
    """The share of sagas that ended in time, over the last ``window`` seconds, with its 95 % interval.

    ``within`` is the seconds that one may take; ``share``, ``lower`` and ``upper`` are null without samples.
    """

    samples: int
    failures: int
    within: float
    window: float
    share: float | None
    lower: float | None
    upper: float | None


class SagaStep(Model):
    """A step as declared: steps of one ``group`` run side by side; after the ``pivot`` there is no way back."""

    name: str
    group: int
    ask: str | None
    ok: list[str]
    fail: list[str]
    undo: str | None
    timeout: float | None
    pivot: bool
    when: str | None


class SagaKind(Model):
    """A kind of saga: its newest version, and how its sagas stand.

    ``phases`` counts, by step, in which phase it is; ``statuses`` how those stand: of the ones that have not ended and
    of the newest that have. ``counts`` has all that are kept, by status.
    """

    service: str
    name: str
    version: int
    starts: str
    completed: str | None
    compensated: str | None
    steps: list[SagaStep]
    success: SagaShare
    running: int
    needs_operator: int
    stuck: int
    counts: dict[str, int]
    phases: dict[str, dict[str, int]]
    statuses: dict[str, int]


class SagasPage(Model):
    """All kinds. ``trouble`` says what could not be asked."""

    kinds: list[SagaKind]
    trouble: list[str]


class SagasQuery(Model):
    """Which sagas; what is empty is not asked for."""

    name: str = Field(default="", max_length=300)
    status: Status | Literal[""] = ""
    key: str = Field(default="", max_length=300)


class SagaRow(Model):
    """One saga in a list; ``blocked`` names the steps that need an operator, ``asked`` what one has asked for."""

    service: str
    id: str
    name: str
    version: int
    tenant: str | None
    key: str
    status: Status
    blocked: str | None
    begun_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    asked: str | None


class SagaRows(Model):
    """The newest first."""

    sagas: list[SagaRow]
    trouble: list[str]


class SagaStepAt(Model):
    """Where a step of a saga stands."""

    name: str
    phase: str
    execution: int
    attempt: int
    due: datetime | None


class SagaEntry(Model):
    """Something that happened to a saga: to a step, or (``step`` null) to the whole."""

    at: datetime
    step: str | None
    what: str
    attempt: int | None


class SagaOne(Model):
    """One saga, whole."""

    row: SagaRow
    flow: str | None
    trace: str | None
    data: dict[str, Any]
    steps: list[SagaStepAt]
    drawn: list[SagaStep]
    history: list[SagaEntry]
    asked_by: str | None


class SagaWord(Model):
    """An operator's word. With ``dry_run`` nothing is done but said."""

    word: Literal["retry", "resolve"]
    dry_run: bool = True


class SagaConsequence(Model):
    """What the word does, and whether it is given."""

    words: str
    done: bool


class ReactionDrawn(Model):
    """A service reacts to an event, and says one of these then."""

    service: str
    event: str
    emits: list[str]
    may_stay_silent: bool


class FlowSpot(Model):
    """An event, or (``after`` is the event) a service's reaction, in the drawing; ``across`` in widths of a box."""

    id: str
    words: str
    after: str | None
    layer: int
    across: float


class FlowArrow(Model):
    """A way in the drawing; ``gone`` is how often, where that is counted; ``back`` leads to an earlier layer."""

    source: str
    target: str
    gone: int | None
    back: bool


class FlowEvent(Model):
    """An event of a flow that was seen; ``hops`` from its start, -1 where it follows from nothing that was seen."""

    id: str
    type: str
    source: str
    at: datetime
    hops: int


class FlowGap(Model):
    """A reaction that has not come."""

    service: str
    event: str
    id: str
    emits: list[str]


class FlowCourse(Model):
    """One flow as it went, by its correlation id: what was ``missed`` makes it ``stopped``."""

    id: str
    state: State
    path: list[FlowEvent]
    missed: list[FlowGap]
    waiting: list[FlowGap]
    surprises: list[str]
    ends: list[str]


class FlowKind(Model):
    """A choreographed flow as declared, and its newest courses; ``states`` counts those of the newest ``looked_at``."""

    service: str
    name: str
    starts: list[str]
    ends: list[str]
    within: float
    max_hops: int | None
    events: list[str]
    reactions: list[ReactionDrawn]
    spots: list[FlowSpot]
    arrows: list[FlowArrow]
    states: dict[str, int]
    looked_at: int
    courses: list[FlowCourse]


class FlowsPage(Model):
    """All flows."""

    flows: list[FlowKind]
    trouble: list[str]


class CoursesQuery(Model):
    """Which courses of a flow: in a state, however old, or one by its id."""

    service: str = Field(max_length=300)
    flow: str = Field(max_length=300)
    state: State | Literal[""] = ""
    id: str = Field(default="", max_length=300)


class FlowCourses(Model):
    """The newest first."""

    courses: list[FlowCourse]


def routes(reads: Reading) -> list[Route]:
    """What the page asks."""
    project = reads.project

    async def kinds() -> SagasPage:
        found, trouble = await saga_figures.kinds(project)
        return SagasPage(kinds=[_kind(kind) for kind in found], trouble=trouble)

    async def flow_kinds() -> FlowsPage:
        found, trouble = await saga_figures.flow_kinds(project)
        return FlowsPage(flows=[_flow(kind) for kind in found], trouble=trouble)

    all_kinds, all_flows = Slowly(kinds, every=2.0), Slowly(flow_kinds, every=3.0)

    async def page(_: Asked) -> SagasPage:
        return await all_kinds()

    async def flows(_: Asked) -> FlowsPage:
        return await all_flows()

    async def listed(asked: Asked) -> SagaRows:
        query: SagasQuery = asked.query
        rows, trouble = await saga_figures.listed(
            project, name=query.name or None, status=query.status or None, key=query.key or None, last=100
        )
        return SagaRows(sagas=[SagaRow(**row) for row in rows], trouble=trouble)

    async def one(asked: Asked) -> SagaOne:
        return await _one(reads, asked.path["service"], asked.path["saga"])

    async def decide(asked: Asked) -> SagaConsequence:
        said: SagaWord = asked.body
        words = await saga_figures.decide(
            project, asked.path["service"], asked.path["saga"], said.word, f"{asked.by} (console)",
            dry_run=said.dry_run,
        )  # fmt: skip
        all_kinds.forget()
        return SagaConsequence(words=words, done=not said.dry_run)

    async def courses(asked: Asked) -> FlowCourses:
        query: CoursesQuery = asked.query
        found = await saga_figures.courses(
            project, query.service, query.flow, state=query.state or None, id=query.id or None, last=COURSES
        )
        return FlowCourses(courses=[_course(id, course) for id, course in found.items()])

    path = "/api/sagas/of/{service}/{saga}"
    return [
        Route("/api/sagas", SagasPage, page, "Kinds of sagas, and how their sagas stand.", live=True),
        Route("/api/sagas/list", SagaRows, listed, "The newest sagas.", query=SagasQuery, live=True),
        Route(path, SagaOne, one, "One saga, whole.", live=True, statuses=(404,)),
        Route(
            f"{path}/decide", SagaConsequence, decide, "An operator's word; look first, with dry_run.",
            method="POST", body=SagaWord, statuses=(404, 409),
        ),
        Route("/api/flows", FlowsPage, flows, "Choreographed flows, and how they went.", live=True),
        Route("/api/flows/courses", FlowCourses, courses, "How flows went.", query=CoursesQuery, statuses=(404,)),
    ]  # fmt: skip


def _kind(kind: saga_figures.Kind) -> SagaKind:
    drawing = kind.drawing
    ways = {step: dict(phases) for step, phases in kind.ways.items()}
    statuses = ways.pop("", {})
    return SagaKind(
        service=kind.service,
        name=kind.name,
        version=kind.version,
        starts=drawing["starts"],
        completed=drawing["completed"],
        compensated=drawing["compensated"],
        steps=_steps(drawing),
        success=SagaShare(**kind.success._asdict()),
        running=kind.running,
        needs_operator=kind.blocked,
        stuck=kind.stuck,
        counts=dict(kind.counts),
        phases=ways,
        statuses=statuses,
    )


def _steps(drawing: Mapping[str, Any] | None) -> list[SagaStep]:
    return [] if drawing is None else [SagaStep(**step) for step in drawing["steps"]]


async def _one(reads: Reading, service: str, id: str) -> SagaOne:
    row, drawing = await saga_figures.shown(reads.project, service, id)
    return SagaOne(
        row=SagaRow(service=service, **{name: row[name] for name in SagaRow.model_fields if name != "service"}),
        flow=row["flow"],
        trace=row["trace"],
        data=orjson.loads(orjson.dumps(row["data"], default=str)),
        steps=[
            SagaStepAt(
                name=name,
                phase=phase,
                execution=execution,
                attempt=attempt,
                due=None if due is None else datetime.fromtimestamp(due, UTC),
            )
            for name, (phase, execution, attempt, due, *_) in row["course"].get("steps", {}).items()
        ],
        drawn=_steps(drawing),
        history=[_entry(said) for said in row["history"]],
        asked_by=row["asked_by"],
    )


def _entry(said: list[Any]) -> SagaEntry:
    """``[at, status]`` or ``[at, step, phase, execution, attempt]``, as ``sagas.instances`` keeps it."""
    if len(said) == 2:
        return SagaEntry(at=said[0], step=None, what=said[1], attempt=None)
    return SagaEntry(at=said[0], step=said[1], what=said[2], attempt=said[4])


def _flow(kind: saga_figures.FlowKind) -> FlowKind:
    drawing = kind.drawing
    spots, arrows = flow_drawing.arranged(drawing, kind.ways)
    states: dict[str, int] = {}
    for course in kind.courses.values():
        states[course.state] = states.get(course.state, 0) + 1
    newest = [_course(id, course) for id, course in kind.courses.items()]
    first = [course for course in newest if course.state in ("stopped", "surprising")][:COURSES]
    return FlowKind(
        service=kind.service,
        name=drawing.name,
        starts=[*drawing.starts],
        ends=[*drawing.ends],
        within=drawing.within,
        max_hops=drawing.max_hops,
        events=drawing.events,
        reactions=[
            ReactionDrawn(service=each.service, event=each.event, emits=[*each.emits],
                          may_stay_silent=each.may_stay_silent)
            for each in drawing.reactions
        ],
        spots=[FlowSpot(**spot._asdict()) for spot in spots],
        arrows=[FlowArrow(**arrow._asdict()) for arrow in arrows],
        states=states,
        looked_at=len(newest),
        courses=[*first, *(course for course in newest[:COURSES] if course not in first)],
    )  # fmt: skip


def _course(id: str, course: Course) -> FlowCourse:
    def gaps(some: list[tuple[Reaction, Happened]]) -> list[FlowGap]:
        return [FlowGap(service=r.service, event=e.type, id=e.id, emits=[*r.emits]) for r, e in some]

    return FlowCourse(
        id=id,
        state=cast(State, course.state),
        path=[
            FlowEvent(
                id=event.id, type=event.type, source=event.source, at=datetime.fromtimestamp(event.at, UTC), hops=hops
            )
            for event, hops in course.path
        ],
        missed=gaps(course.missed),
        waiting=gaps(course.waiting),
        surprises=course.surprises,
        ends=course.ends,
    )

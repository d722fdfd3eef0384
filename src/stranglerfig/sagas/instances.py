"""A saga's row: between what :mod:`.model` decides on and what the database keeps."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from stranglerfig.foundation import postgres, sql
from stranglerfig.kit import Service
from stranglerfig.kit.aggregates import Aggregate
from stranglerfig.kit.consumer import ATTEMPT
from stranglerfig.kit.tenants import within
from stranglerfig.kit.transactions import Cause
from stranglerfig.sagas.model import At, Definition, Phase, Saga, Status

queries = sql.load(__package__ or "")

TABLES = postgres.Tables("sagas", __package__ or "", ("tables.sql", "tenants.sql"))
LONGEST_HISTORY: Final = 500
_SPACE: Final = uuid.UUID("5f1d7f0e-0e5b-4b53-8d2c-0f8c2f0a7a11")
_COMMAND = re.compile(r"(?:@[^/]+/)?saga:([^:]+):([0-9a-f-]{36}):(\w+):(\d+)(~undo)?(?:#\d+)?")


def keep_tables(service: Service) -> None:
    """Have a service keep this room's tables in its database, and forget what is old in them."""
    old = [queries.old_sagas, queries.old_flow_events, queries.stray_flow_events]
    service.keeps(*TABLES, old)


class Instance(Aggregate, table="fig.saga", id="id"):
    """One saga. ``course`` has what :class:`~stranglerfig.sagas.model.Saga` has beside status and data."""

    id: str
    name: str
    version: int
    key: str
    flow: str | None
    trace: str | None
    status: str
    data: dict[str, Any]
    course: dict[str, Any]
    history: list[Any]
    blocked: str | None
    lock: str | None
    begun_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    revision: int
    asked: str | None = None
    tenant: str | None = None

    @property
    def cause(self) -> Cause:
        """Why it acts when time passes."""
        return Cause(f"saga:{self.name}:{self.id}", self.flow, self.trace, self.tenant)

    def stands(self, definition: Definition) -> Saga:
        """Where it stands, its steps in their order."""
        course = self.course
        steps = course["steps"]
        return Saga(
            Status(self.status), self.data,
            {each.name: At(Phase(steps[each.name][0]), *steps[each.name][1:]) for each in definition.steps},
            {name: (ok, keep) for name, (ok, keep) in course["early"].items()},
            course["limit"], tuple((self.blocked or "").split()), course.get("late", False),
        )  # fmt: skip

    def now_stands(self, saga: Saga, now: datetime) -> None:
        """Keep where it stands, and what of that is new."""
        before = self.course.get("steps", {})
        at = now.isoformat(timespec="milliseconds")
        steps = {
            name: [str(each.phase), each.execution, each.attempt, each.due, each.base]
            for name, each in saga.steps.items()
        }
        news = [[at, name, *told[:3]] for name, told in steps.items() if told[:3] != before.get(name, [None] * 4)[:3]]
        if saga.status != self.status:
            news.append([at, str(saga.status)])
        self.history = [*self.history, *(each for each in news if each[2:3] != ["open"])][-LONGEST_HISTORY:]
        self.status = str(saga.status)
        self.data = saga.data
        self.course = {
            "steps": steps, "early": dict(saga.early), "limit": saga.limit, "late": saga.is_late,
            "calls": self.course.get("calls", []),
        }  # fmt: skip
        blocked = " ".join(saga.blocked) or None
        if blocked != self.blocked:
            self.asked = None  # an operator's word was for what is no longer so
        self.blocked = blocked
        self.due_at = None if saga.due is None else datetime.fromtimestamp(saga.due, UTC)
        if self.asked is not None:
            self.due_at = now
        self.revision += 1


class Lock(Aggregate, table="fig.saga_lock", id="name"):
    """What one saga holds."""

    name: str
    saga: str


class Place(NamedTuple):
    """What a command of a saga's is for."""

    saga: str
    id: str
    step: str
    execution: int
    undo: bool


def saga_id(name: str, source: str, started_by: str, tenant: str | None = None) -> str:
    """The id of the saga that a tenant's event begins: the same whenever the event of this source and id is met."""
    return str(uuid.uuid5(_SPACE, f"{name} {within(tenant, source)}\0{started_by}"))


def key_of_step(place: Place) -> str:
    """What tells a step's execution apart for ever: a command's id, and the idempotency key of a call outward."""
    return f"saga:{place.saga}:{place.id}:{place.step}:{place.execution}{'~undo' if place.undo else ''}"


def command_id(place: Place, attempt: int) -> str:
    """The id of the command that asks for it, the ``attempt``-th time."""
    return key_of_step(place) + (f"{ATTEMPT}{attempt}" if attempt > 1 else "")


def place_of(command: str | None) -> Place | None:
    """What the command of this id was for; None when it is not a saga's."""
    match = None if command is None else _COMMAND.fullmatch(command)
    return match and Place(match[1], match[2], match[3], int(match[4]), match[5] is not None)

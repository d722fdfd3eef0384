"""What a report is made of. The fields of ``report.json`` are those of ``build.build``; here is what it is fed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ACTORS = ("monolith", "service")


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay in a stage or a step of it; ``gate`` is ``gates.model.GateVerdict.as_dict()`` as it stood at the end."""

    name: str
    entered_at: datetime
    left_at: datetime | None = None
    gate: Mapping[str, Any] | None = None
    step: str = ""
    left_by: str = ""


@dataclass(frozen=True, slots=True)
class Cutover:
    """Writes moved, ``forward`` to the service or ``back``; ``holds_ms`` are the waits of held requests, if kept."""

    direction: str
    epoch: int
    held_requests: int
    hold_p50_ms: float | None
    hold_p99_ms: float | None
    hold_max_ms: float | None
    duration_ms: float
    at: datetime | None = None
    holds_ms: Sequence[float] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollback:
    """Something was taken back; ``automatic`` when nobody asked for it."""

    stage: str
    cause: str
    automatic: bool
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A whole-table comparison; ``where`` says at which stage."""

    rows_compared: int
    differences: int
    seconds: float
    at: datetime | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One second. ``rps``, ``p50_ms``, ``p99_ms`` are by actor (``monolith``, ``service``)."""

    at: datetime
    rps: Mapping[str, float] = field(default_factory=dict)
    p50_ms: Mapping[str, float | None] = field(default_factory=dict)
    p99_ms: Mapping[str, float | None] = field(default_factory=dict)
    errors: int = 0
    lag_forward_ms: float | None = None
    lag_reverse_ms: float | None = None
    held: int = 0
    stage: str = ""

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Point:
        """From a row of ``fig.series``: ``at``, by actor ``reads``, ``writes``, ``errors``, ``p50_ms``, ``p99_ms``."""
        sides = {actor: row.get(actor) or {} for actor in ACTORS}
        return Point(
            at=row["at"],
            rps={actor: side.get("reads", 0) + side.get("writes", 0) for actor, side in sides.items()},
            p50_ms={actor: side.get("p50_ms") for actor, side in sides.items()},
            p99_ms={actor: side.get("p99_ms") for actor, side in sides.items()},
            errors=sum((row.get(name) or {}).get("errors", 0) for name in (*ACTORS, "facade")),
            lag_forward_ms=row.get("lag_forward_ms"),
            lag_reverse_ms=row.get("lag_reverse_ms"),
            held=int(row.get("held") or 0),
            stage=str(row.get("stage") or ""),
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that the pictures point out: ``kind`` is ``switch``, ``cutover`` or ``rollback``."""

    at: datetime
    label: str
    kind: str = "switch"


@dataclass(frozen=True, slots=True)
class ReportInput:
    """All of it.

    Attributes:
        outcome: ``completed`` or ``failed``.
        mode: such as ``full`` or ``quick``.
        ledger, sync, decommission: as they go into ``report.json``.
        overrides, refusals: who overrode which gate and why; writes that guards refused, by cause.
        more: further top-level fields of ``report.json``.
    """

    context: str
    outcome: str
    mode: str = ""
    duration_seconds: float = 0.0
    started_at: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Visit] = ()
    cutovers: Sequence[Cutover] = ()
    rollbacks: Sequence[Rollback] = ()
    ledger: Mapping[str, Any] = field(default_factory=dict)
    verification: Sequence[Verification] = ()
    sync: Mapping[str, Any] = field(default_factory=dict)
    decommission: Mapping[str, Any] = field(default_factory=dict)
    series: Sequence[Point] = ()
    marks: Sequence[Mark] = ()
    overrides: Sequence[Mapping[str, Any]] = ()
    refusals: Sequence[Mapping[str, Any]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

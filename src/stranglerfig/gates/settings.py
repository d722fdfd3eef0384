"""The ``gates:`` part of ``extraction.yaml``: which KPIs must hold, with what thresholds and how many samples."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from stranglerfig.changes.settings import Milliseconds, Settings
from stranglerfig.gates.bounds import samples_needed
from stranglerfig.gates.model import Kind, Kpi, percent

_PERCENT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")


def share(found: Any) -> Any:
    """``0.0001`` or ``0.01%`` → 0.0001."""
    if isinstance(found, str) and (match := _PERCENT.match(found)):
        return float(match[1]) / 100
    return found


Share = Annotated[float, BeforeValidator(share), Field(gt=0, lt=1)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]


class Sampled(Settings):
    """What every KPI that is judged by samples has."""

    samples: int = Field(gt=0, description="Samples at which passing is judged.")
    alpha: Alpha = Field(default=0.05, description="Chance to pass by luck at the first look.")
    fail_alpha: Alpha = Field(default=0.01, description="Chance to fail by luck, over all looks.")
    independent: bool = Field(default=False, description="Samples never come in bursts: no correction for them.")

    def _enough(self, allowed: float) -> None:
        least = samples_needed(0, allowed, self.alpha)
        if self.samples < least:
            raise ValueError(
                f"{self.samples} samples can never show a rate below {percent(allowed)} at "
                f"{percent(1 - self.alpha)} confidence, not even without a failure: it takes {least}"
            )


class LatencyShare(Sampled):
    """At least ``share`` of the times lie below ``below``."""

    below: Milliseconds = Field(description="Duration with its unit: 50ms.")
    share: Share = Field(default=0.99, description="Share of the times that must lie below it.")
    samples: int = Field(default=5_000, gt=0, description="Samples at which passing is judged.")

    @model_validator(mode="after")
    def _reachable(self) -> LatencyShare:
        self._enough(1 - self.share)
        return self


class RateBelow(Sampled):
    """The share of failures lies below ``below``."""

    below: Share = Field(default=0.0001, description="Share: 0.0001 or 0.01%.")
    samples: int = Field(default=50_000, gt=0, description="Samples at which passing is judged.")

    @model_validator(mode="after")
    def _reachable(self) -> RateBelow:
        self._enough(self.below)
        return self


class RateAbove(Sampled):
    """The share of successes lies above ``above``."""

    above: Share = Field(default=0.9999, description="Share: 0.9999 or 99.99%.")
    samples: int = Field(default=50_000, gt=0, description="Samples at which passing is judged.")

    @model_validator(mode="after")
    def _reachable(self) -> RateAbove:
        self._enough(1 - self.above)
        return self


class SagaSuccess(RateAbove):
    """The share of sagas that end in time: completed, or taken back cleanly, which a refusal leads to as well."""

    sagas: tuple[str, ...] = Field(min_length=1, description="Their types: orders.Checkout.")
    within: Milliseconds = Field(
        default=600_000,
        description="The time that one may take. One that has not ended by then is a failure, for good.",
    )
    service: str | None = Field(
        default=None,
        description="The service whose database keeps them, by its name under services of fig.yaml; the context's own"
        " where none is named.",
    )


class NoWorse(Sampled):
    """The service's answers are not slower than the monolith's in the same window, by more than ``margin``."""

    margin: float = Field(default=1.25, ge=1, le=10, description="Ratio by which the service may be slower.")
    samples: int = Field(default=5_000, gt=0, description="The service's answers at which passing is judged.")


class Fact(Settings):
    """Something that must be true; it has nothing to set."""


class ValueAbove(Settings):
    """A number that must be at least ``above``."""

    above: float = Field(description="The least number that passes.")


class Custom(Settings):
    """A KPI of the team's own: one number from the service's database, asked for when ``fig advance`` asks."""

    sql: str = Field(description="A query that yields one number, run in the service's database.")
    below: float | None = Field(default=None, description="The number must be below this.")
    above: float | None = Field(default=None, description="The number must be at least this.")

    @model_validator(mode="after")
    def _complete(self) -> Custom:
        if (self.below is None) == (self.above is None):
            raise ValueError("a custom KPI has either below or above")
        return self


class Gate(Settings):
    """What the gates of all stages have."""

    custom: dict[str, Custom] = Field(default_factory=dict, description="KPIs of the team's own, by name.")


class PrepareGate(Gate):
    """The domain model and the event schemas are signed off, and the databases are fit."""

    model_lint: Fact = Field(default_factory=Fact, description="The model has no lint errors.")
    model_signed: Fact = Field(default_factory=Fact, description="All who must sign have signed the model as it is.")
    schemas_registered: Fact = Field(default_factory=Fact, description="Every event of the model has its schema.")
    preflight: Fact = Field(default_factory=Fact, description="The preflight refuses nothing.")


class BuildGate(Gate):
    """The service deploys and its tests pass."""

    service_healthy: Fact = Field(default_factory=Fact, description="The service answers its health check.")
    contract: Fact = Field(default_factory=Fact, description="The routes answer as the contract says.")
    checks_pass: Fact = Field(default_factory=Fact, description="The service's own checks pass.")
    coverage: ValueAbove = Field(default=ValueAbove(above=0.9), description="Share of the code that its tests cover.")


class SyncGate(Gate):
    """The service's data is equal and never far behind."""

    cdc_latency: LatencyShare = Field(
        default=LatencyShare(below="1s", samples=2_000),  # type: ignore[arg-type]
        description="From commit in the monolith to commit in the service, once caught up with the copy.",
    )
    row_equality: Fact = Field(
        default_factory=Fact, description="The whole-table comparison at a marker finds both equal."
    )
    apply_rate: Fact = Field(default_factory=Fact, description="Changes are applied faster than they are written.")


class ReadsGate(Gate):
    """The service answers reads correctly, and no slower than before."""

    latency: LatencyShare = Field(default=LatencyShare(below="50ms"), description="The service's answers.")  # type: ignore[arg-type]
    error_rate: RateBelow = Field(default=RateBelow(), description="Answers that are failures.")
    shadow_mismatch: RateBelow = Field(default=RateBelow(), description="Shadow reads with unequal answers.")
    no_worse: NoWorse = Field(default=NoWorse(), description="Against the monolith's answers in the same window.")
    row_equality: Fact | None = Field(default=None, description="Also compare all rows; off by default.")
    guard_samples: int = Field(default=300, gt=0, description="Samples a weight step needs before the next one.")
    steps: tuple[float, ...] = Field(default=(1, 10, 50, 100), description="Weights in percent.")

    @model_validator(mode="after")
    def _rising(self) -> ReadsGate:
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not self.steps or not rising or self.steps[0] <= 0 or self.steps[-1] != 100:
            raise ValueError("steps rise from above 0 to 100")
        return self


class WritesGate(Gate):
    """The service owns the data, and the monolith's copy follows."""

    error_rate: RateBelow = Field(default=RateBelow(), description="Writes that are failures.")
    adjust_end_to_end: LatencyShare = Field(
        default=LatencyShare(below="250ms"),  # type: ignore[arg-type]
        description="From occurred_at in the outbox, else the commit, to the event in the log; wants service.outbox.",
    )
    reverse_lag: LatencyShare = Field(
        default=LatencyShare(below="1s", samples=2_000),  # type: ignore[arg-type]
        description="From commit in the service to commit in the monolith.",
    )
    row_equality: Fact = Field(
        default_factory=Fact, description="The whole-table comparison at a marker finds both equal."
    )
    saga_success: SagaSuccess | None = Field(default=None, description="Sagas that end in time; off by default.")


class DecommissionGate(Gate):
    """The monolith works without the context."""

    monolith_checks: Fact = Field(default_factory=Fact, description="The monolith's own checks pass.")


class GateSettings(Settings):
    """``gates:`` of ``extraction.yaml``."""

    prepare: PrepareGate = Field(default_factory=PrepareGate)
    build: BuildGate = Field(default_factory=BuildGate)
    sync: SyncGate = Field(default_factory=SyncGate)
    reads: ReadsGate = Field(default_factory=ReadsGate)
    writes: WritesGate = Field(default_factory=WritesGate)
    decommission: DecommissionGate = Field(default_factory=DecommissionGate)

    def kpis(self, stage: str) -> tuple[Kpi, ...]:
        """The KPIs of a stage's gate, in the order of the file's reference."""
        gate: Gate = getattr(self, stage)
        standard: Gate = getattr(GateSettings(), stage)
        found: list[Kpi] = []
        for name in type(gate).model_fields:
            setting = getattr(gate, name)
            if isinstance(setting, Settings):
                found.append(_kpi(name, setting, getattr(standard, name)))
        return (*found, *(_custom(name, custom) for name, custom in gate.custom.items()))


def _kpi(name: str, setting: Settings, standard: Settings | None) -> Kpi:
    kind: Kind
    limit: float | None
    match setting:
        case LatencyShare():
            kind, threshold, limit, unit = Kind.SHARE_BELOW, setting.share, setting.below, "ms"
        case RateBelow():
            kind, threshold, limit, unit = Kind.RATE_BELOW, setting.below, None, ""
        case RateAbove():
            kind, threshold, limit, unit = Kind.RATE_ABOVE, setting.above, None, ""
        case NoWorse():
            kind, threshold, limit, unit = Kind.NO_WORSE, 0.5, None, ""
        case ValueAbove():
            kind, threshold, limit, unit = Kind.VALUE_ABOVE, setting.above, None, ""
        case _:
            return Kpi(name, Kind.STATE, 1)
    loosened = _loosened(setting, standard)
    if not isinstance(setting, Sampled):
        return Kpi(name, kind, threshold, limit, unit, loosened=loosened)
    return Kpi(
        name,
        kind,
        threshold,
        limit,
        unit,
        samples=setting.samples,
        alpha=setting.alpha,
        fail_alpha=setting.fail_alpha,
        margin=setting.margin if isinstance(setting, NoWorse) else 1.0,
        independent=setting.independent,
        loosened=loosened,
    )


# Fields that make a KPI weaker when they grow, and those that make it weaker when they shrink.
_WEAKER_UP = ("below", "margin", "alpha")
_WEAKER_DOWN = ("share", "above", "samples")


def _loosened(setting: Settings, standard: Settings | None) -> str:
    words = []
    for field in (*_WEAKER_UP, *_WEAKER_DOWN):
        ours, default = getattr(setting, field, None), getattr(standard, field, None)
        if ours is None or default is None or (ours <= default if field in _WEAKER_UP else ours >= default):
            continue
        words.append(f"{field} {ours:g} instead of {default:g}")
    return ", ".join(words)


def _custom(name: str, custom: Custom) -> Kpi:
    if custom.below is not None:
        return Kpi(name, Kind.VALUE_BELOW, custom.below)
    return Kpi(name, Kind.VALUE_ABOVE, custom.above or 0.0)

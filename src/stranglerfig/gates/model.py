"""KPIs, the evidence for them, and the three verdicts: pass, fail, or not enough evidence yet.

Passing is judged at planned sample sizes only. The first look comes at ``n >= planned`` with the KPI's own alpha (5 %).
When it is inconclusive the next one comes at twice the samples, with half the alpha: look j spends ``alpha/2^(j-1)``,
so that all looks together spend less than twice alpha. What was spent is reported.

Failing is judged continuously, with an alpha of its own (1 %). Half of it guards the whole of the evidence, at sample
sizes that grow by a quarter; half guards what came since the last such look, so that a breach after a long good time is
seen at once. Look j spends ``alpha·6/(π²j²)``, which sums to alpha over endless looks.

The effective sample size shrinks when failures come in bursts (see ``bounds.design_effect``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from stranglerfig.gates import bounds

FIRST_FAIL_LOOK = 20
FAIL_LOOKS_GROW = 1.25
RECENT = (50, 5)
"""Samples and blocks that the most recent evidence must have before it is judged alone."""
FEWEST_TO_FAIL = 3
"""Blocks below which nothing fails: within one of them a burst cannot be told from a breach."""
FEWEST_BLOCKS = 10
"""Blocks of both sides' answers below which a comparison is not judged."""


class Verdict(StrEnum):
    """What evidence says. Inconclusive never counts as a pass."""

    PASS = "pass"  # noqa: S105  a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Kind(StrEnum):
    """How a KPI is judged."""

    RATE_BELOW = "rate below"
    """Share of failures below ``threshold``."""
    RATE_ABOVE = "rate above"
    """Share of successes above ``threshold``."""
    SHARE_BELOW = "share below limit"
    """At least ``threshold`` of the values lie below ``limit``."""
    NO_WORSE = "no worse"
    """The service's answers are not slower than the monolith's by more than ``margin``."""
    STATE = "state"
    """A fact that must be true."""
    VALUE_BELOW = "value below"
    VALUE_ABOVE = "value at least"


@dataclass(frozen=True, slots=True)
class Kpi:
    """What must hold.

    Attributes:
        threshold: a share for rates (0.0001) and ``SHARE_BELOW`` (0.99), ½ for ``NO_WORSE``, a number for values.
        limit: for ``SHARE_BELOW``, what the values lie below, in ``unit``.
        samples: n at which passing is first judged; 0 for states and values.
        margin: for ``NO_WORSE``, the ratio by which the service may be slower (1.25 = a quarter).
        independent: samples are known to be independent; no correction for bursts.
        loosened: in what it asks less than the product's default; empty when it does not.
    """

    name: str
    kind: Kind
    threshold: float
    limit: float | None = None
    unit: str = ""
    samples: int = 0
    alpha: float = 0.05
    fail_alpha: float = 0.01
    margin: float = 1.25
    independent: bool = False
    loosened: str = ""

    @property
    def says(self) -> str:
        """The KPI as a sentence a person reads: ``99 % below 50 ms``."""
        match self.kind:
            case Kind.RATE_BELOW:
                return f"below {percent(self.threshold)}"
            case Kind.RATE_ABOVE:
                return f"above {percent(self.threshold)}"
            case Kind.SHARE_BELOW:
                return f"{percent(self.threshold)} below {self.limit or 0:g} {self.unit}".strip()
            case Kind.NO_WORSE:
                return f"at most {percent(self.margin - 1)} slower than the monolith"
            case Kind.STATE:
                return "must hold"
            case Kind.VALUE_BELOW:
                return f"below {self.threshold:g} {self.unit}".strip()
            case _:
                return f"at least {self.threshold:g} {self.unit}".strip()


def percent(share: float) -> str:
    """A share as text: 0.0001 → ``0.01 %``."""
    return f"{share * 100:.6g} %"


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of time's samples: ``k`` of ``n`` were failures (or values not below the limit).

    ``at`` is epoch seconds. The histograms (bucket → count, see ``bounds.bucket``) hold the service's and the
    monolith's latencies, where they are kept.
    """

    at: int
    n: int
    k: int = 0
    histogram: Mapping[int, int] = field(default_factory=dict)
    baseline: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen: blocks of samples in order of time, or a fact, or a value, with a word on where it is from."""

    blocks: tuple[Block, ...] = ()
    fact: bool | None = None
    value: float | None = None
    detail: str = ""

    @property
    def n(self) -> int:
        """Samples."""
        return sum(block.n for block in self.blocks)

    @property
    def k(self) -> int:
        """Failures."""
        return sum(block.k for block in self.blocks)

    def since(self, at: int) -> Evidence:
        """Only the blocks after ``at``."""
        return replace(self, blocks=tuple(block for block in self.blocks if block.at > at))


@dataclass(frozen=True, slots=True)
class Looks:
    """How often one KPI was judged in one scope, so that no alpha is spent twice.

    Attributes:
        passing, next_pass: looks for a pass so far, and the samples at which the next comes (0: the planned ones).
        failing, next_fail: the same for a fail over all evidence.
        recent, recent_at: looks for a fail over what came since the block ``recent_at``.
        passed: the verdict that passed; it stands until the KPI fails.
        failed: the verdict that failed; it stands until a later look does not confirm it.
    """

    passing: int = 0
    next_pass: int = 0
    failing: int = 0
    next_fail: int = FIRST_FAIL_LOOK
    recent: int = 0
    recent_at: int = 0
    alpha_spent: float = 0.0
    passed: KpiVerdict | None = None
    failed: KpiVerdict | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for the control database."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("passed", "failed"):
            plain[name] = None if plain[name] is None else plain[name].as_dict()
        return plain

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Looks:
        """The inverse of ``as_dict``."""
        stands = {name: KpiVerdict.from_dict(plain[name]) for name in ("passed", "failed") if plain.get(name)}
        return Looks(**{**plain, **stands})


@dataclass(frozen=True, slots=True)
class KpiVerdict:
    """One KPI judged.

    Attributes:
        threshold, observed, bound: on one scale (a share, ½-scale for ``no worse``, or the value itself); ``bound`` is
            the confidence bound that the verdict compares with the threshold.
        confidence: of the verdict, after all alpha that was spent on it.
        needed: how many more samples until the next judgement that could pass, if no further failure comes.
    """

    name: str
    kind: Kind
    threshold: float | bool
    observed: float | bool | None
    bound: float | None
    confidence: float | None
    samples: int
    verdict: Verdict
    needed: int = 0
    alpha_spent: float = 0.0
    reason: str = ""
    says: str = ""
    limit: float | None = None
    unit: str = ""
    planned: int = 0
    loosened: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as in the report."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "kind": str(self.kind),
            "verdict": str(self.verdict),
        }

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> KpiVerdict:
        """The inverse of ``as_dict``."""
        return KpiVerdict(**{**plain, "kind": Kind(plain["kind"]), "verdict": Verdict(plain["verdict"])})


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """All KPIs of a gate: any fail is a fail, all pass is a pass, all else is inconclusive."""

    verdict: Verdict
    kpis: tuple[KpiVerdict, ...]
    looks: Mapping[str, Looks] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[KpiVerdict, ...]:
        """The KPIs that failed: the cause of a rollback."""
        return tuple(kpi for kpi in self.kpis if kpi.verdict is Verdict.FAIL)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as in the report (the looks are not part of it)."""
        return {"verdict": str(self.verdict), "kpis": [kpi.as_dict() for kpi in self.kpis]}


def judge(kpi: Kpi, evidence: Evidence, looks: Looks | None = None) -> tuple[KpiVerdict, Looks]:
    """Judge one KPI; returns the verdict and the looks to remember for the next time."""
    looks = looks or Looks()
    if kpi.kind in (Kind.STATE, Kind.VALUE_BELOW, Kind.VALUE_ABOVE):
        return _state(kpi, evidence), looks
    looks = _failing(kpi, evidence, looks)
    if looks.failed is not None:
        return looks.failed, looks
    if looks.passed is not None:
        return looks.passed, looks
    return _passing(kpi, evidence, looks)


def judge_gate(
    kpis: Sequence[Kpi], evidence: Mapping[str, Evidence], looks: Mapping[str, Looks] | None = None
) -> GateVerdict:
    """Judge every KPI of a gate; evidence that is missing is no evidence. A gate without KPIs is inconclusive."""
    known = looks or {}
    judged = [judge(kpi, evidence.get(kpi.name, Evidence()), known.get(kpi.name)) for kpi in kpis]
    verdicts = tuple(verdict for verdict, _ in judged)
    return GateVerdict(_all(verdicts), verdicts, {v.name: seen for v, seen in judged})


def judge_guard(
    kpis: Sequence[Kpi], evidence: Mapping[str, Evidence], looks: Mapping[str, Looks] | None = None, *, samples: int
) -> GateVerdict:
    """Judge a step before the next one: pass = ``samples`` seen of each KPI that counts, and none confirmed bad.

    This is weaker than a gate on purpose: it decides whether more traffic may come, not whether the stage may be left.
    """
    known = looks or {}
    verdicts: list[KpiVerdict] = []
    seen: dict[str, Looks] = {}
    for kpi in kpis:
        found = evidence.get(kpi.name, Evidence())
        verdict, seen[kpi.name] = judge(replace(kpi, samples=max(kpi.samples, samples)), found, known.get(kpi.name))
        if verdict.verdict is Verdict.INCONCLUSIVE and kpi.samples and found.n >= samples:
            verdict = replace(verdict, verdict=Verdict.PASS, needed=0, reason=f"{found.n} samples, not confirmed bad")
        elif verdict.verdict is Verdict.INCONCLUSIVE and kpi.samples:
            verdict = replace(verdict, needed=samples - found.n, reason=f"{found.n} of {samples} samples of this step")
        verdicts.append(verdict)
    return GateVerdict(_all(verdicts), tuple(verdicts), seen)


def _all(verdicts: Sequence[KpiVerdict]) -> Verdict:
    if any(verdict.verdict is Verdict.FAIL for verdict in verdicts):
        return Verdict.FAIL
    if verdicts and all(verdict.verdict is Verdict.PASS for verdict in verdicts):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE


def _state(kpi: Kpi, evidence: Evidence) -> KpiVerdict:
    if kpi.kind is Kind.STATE:
        observed: float | bool | None = evidence.fact
        holds = evidence.fact
        threshold: float | bool = True
    else:
        observed, threshold = evidence.value, kpi.threshold
        holds = None
        if evidence.value is not None and not math.isnan(evidence.value):
            below = kpi.kind is Kind.VALUE_BELOW
            holds = evidence.value < kpi.threshold if below else evidence.value >= kpi.threshold
    verdict = Verdict.INCONCLUSIVE if holds is None else Verdict.PASS if holds else Verdict.FAIL
    reason = evidence.detail or ("not known yet" if holds is None else "holds" if holds else "does not hold")
    return replace(
        _verdict(kpi, verdict, samples=0 if holds is None else 1, reason=reason), threshold=threshold, observed=observed
    )


def _verdict(kpi: Kpi, verdict: Verdict, *, samples: int, reason: str, **more: Any) -> KpiVerdict:
    values: dict[str, Any] = {"observed": None, "bound": None, "confidence": None, **more}
    return KpiVerdict(
        name=kpi.name,
        kind=kpi.kind,
        threshold=kpi.threshold,
        samples=samples,
        verdict=verdict,
        reason=reason,
        says=kpi.says,
        limit=kpi.limit,
        unit=kpi.unit,
        planned=kpi.samples,
        loosened=kpi.loosened,
        **values,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A badness with its one-sided bounds: smaller is better, ``allowed`` is the threshold on this scale."""

    observed: float
    allowed: float
    least: float
    most: float


def estimate(kpi: Kpi, evidence: Evidence, alpha: float) -> Estimate | None:
    """What the evidence says of a KPI that is judged by samples, bounded at ``alpha``; None while it says nothing."""
    if kpi.kind is Kind.NO_WORSE:
        blocks = [(block.histogram, block.baseline) for block in evidence.blocks]
        both = sum(1 for new, old in blocks if new and old)
        found = bounds.ranks(blocks, kpi.margin) if both >= FEWEST_BLOCKS else None
        if found is None:
            return None
        share, error = found
        away = bounds.student(alpha, both - 1) * error
        return Estimate(share, 0.5, max(0.0, share - away), min(1.0, share + away))
    allowed = kpi.threshold if kpi.kind is Kind.RATE_BELOW else 1 - kpi.threshold
    n, k = evidence.n, evidence.k
    if n == 0:
        return None
    shrunk = 1.0 if kpi.independent else bounds.design_effect([(block.n, block.k) for block in evidence.blocks])
    return Estimate(
        k / n, allowed, bounds.lower(k / shrunk, n / shrunk, alpha), bounds.upper(k / shrunk, n / shrunk, alpha)
    )


def shown(kpi: Kpi, badness: float) -> float:
    """A badness on the KPI's own scale."""
    return 1 - badness if kpi.kind in (Kind.RATE_ABOVE, Kind.SHARE_BELOW) else badness


def _spend(alpha: float, look: int) -> float:
    return alpha * 6 / (math.pi**2 * look**2)


def _failing(kpi: Kpi, evidence: Evidence, looks: Looks) -> Looks:
    half = kpi.fail_alpha / 2
    parts: list[tuple[Evidence, float, str]] = []
    n = evidence.n
    if n >= looks.next_fail and (kpi.independent or len(evidence.blocks) >= FEWEST_TO_FAIL):
        looks = replace(looks, failing=looks.failing + 1, next_fail=math.ceil(n * FAIL_LOOKS_GROW))
        parts.append((evidence, _spend(half, looks.failing), "over all evidence"))
    recent = evidence.since(looks.recent_at)
    if looks.recent_at and recent.n >= RECENT[0] and len(recent.blocks) >= RECENT[1]:
        looks = replace(looks, recent=looks.recent + 1, recent_at=recent.blocks[-1].at)
        parts.append((recent, _spend(half, looks.recent), f"over the last {recent.n} samples"))
    elif not looks.recent_at and evidence.blocks:
        looks = replace(looks, recent_at=evidence.blocks[-1].at)
    for part, alpha, where in parts:
        found = estimate(kpi, part, alpha)
        if found is not None and found.least > found.allowed:
            reason = f"worse than the threshold {where}: {part.k} of {part.n}"
            if kpi.kind is Kind.NO_WORSE:
                reason = f"slower than the monolith in {percent(found.observed)} of pairs {where}"
            verdict = _verdict(
                kpi,
                Verdict.FAIL,
                samples=part.n,
                reason=reason,
                observed=shown(kpi, found.observed),
                bound=shown(kpi, found.least),
                confidence=1 - kpi.fail_alpha,
                alpha_spent=kpi.fail_alpha,
            )
            return replace(looks, passed=None, failed=verdict)
    return replace(looks, failed=None) if parts else looks


def _passing(kpi: Kpi, evidence: Evidence, looks: Looks) -> tuple[KpiVerdict, Looks]:
    n = evidence.n
    due = looks.next_pass or kpi.samples
    alpha = kpi.alpha / 2**looks.passing
    found = estimate(kpi, evidence, alpha)
    looking = n >= due and found is not None
    if looking:
        doubled = replace(looks, passing=looks.passing + 1, next_pass=2 * n, alpha_spent=looks.alpha_spent + alpha)
    if looking and found is not None and found.most < found.allowed:
        verdict = _verdict(
            kpi,
            Verdict.PASS,
            samples=n,
            reason=f"the bound is within the threshold at look {doubled.passing}",
            observed=shown(kpi, found.observed),
            bound=shown(kpi, found.most),
            confidence=1 - doubled.alpha_spent,
            alpha_spent=doubled.alpha_spent,
        )
        return verdict, replace(doubled, passed=verdict)
    looks = doubled if looking else looks
    verdict = _verdict(
        kpi,
        Verdict.INCONCLUSIVE,
        samples=n,
        reason=_why_not_yet(kpi, evidence, looks, found),
        observed=None if found is None else shown(kpi, found.observed),
        bound=None if found is None else shown(kpi, found.most),
        confidence=1 - (looks.alpha_spent or kpi.alpha),
        alpha_spent=looks.alpha_spent,
        needed=_needed(kpi, evidence, looks),
    )
    return verdict, looks


def _needed(kpi: Kpi, evidence: Evidence, looks: Looks) -> int:
    """Until the next look that could pass if the failures stay as they are."""
    due = looks.next_pass or kpi.samples
    if kpi.kind is not Kind.NO_WORSE:
        allowed = kpi.threshold if kpi.kind is Kind.RATE_BELOW else 1 - kpi.threshold
        least = bounds.samples_needed(evidence.k, allowed, kpi.alpha / 2**looks.passing)
        due = max(due, 1)
        while due < least:  # looks in between cannot pass
            due *= 2
    return max(0, due - evidence.n)


def _why_not_yet(kpi: Kpi, evidence: Evidence, looks: Looks, found: Estimate | None) -> str:
    if evidence.n == 0:
        return "no samples yet"
    if found is None:
        return f"fewer than {FEWEST_BLOCKS} seconds in which both sides answered"
    if looks.passing:
        return f"not shown at look {looks.passing}; the next look comes at {looks.next_pass} samples"
    return f"passing is judged at {kpi.samples} samples"

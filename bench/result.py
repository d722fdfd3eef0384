"""One figure, beside its peer's and its target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """A measured figure.

    Attributes:
        target: what must be reached; None where nothing was asked for.
        more_is_better: rates reach their target from above, times and sizes from below.
        peer: what was measured beside it, in the same unit; None where there is nothing comparable.
        note: how it was measured, what else was seen, and where the time goes when the target is missed.
        failed: why ``met`` is false whatever the value says.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    target: float | None = None
    more_is_better: bool = False
    note: str = ""
    failed: str = ""

    @property
    def ratio(self) -> float | None:
        """Our value over the peer's."""
        return round(self.value / self.peer_value, 3) if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.failed:
            return False
        if self.target is None:
            return None
        return self.value >= self.target if self.more_is_better else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        """The entry of ``results.json``."""
        return {
            "name": self.name,
            "value": _round(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": None if self.peer_value is None else _round(self.peer_value),
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "note": "; ".join(part for part in (self.failed, self.note) if part),
        }


def _round(value: float) -> float:
    return round(value, 3) if abs(value) < 1000 else round(value)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1))]

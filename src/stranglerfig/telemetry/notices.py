"""What a webhook is told of alerts, in the form in which Alertmanager tells it (version 4).

Form: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stranglerfig.telemetry.alerts import BY_NAME, GUIDE
from stranglerfig.telemetry.judging import Labels, text

VERSION = "4"
_NEVER = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert of one series, as the webhook is told of it.

    Attributes:
        since: when its condition began to hold, seconds since 1970.
        begun: when it began to fire.
        ended: when it was seen to fire no more; None while it does.
        told: what the webhook has accepted last of it: None, ``firing``.
        told_at: when.
    """

    name: str
    labels: Labels
    since: float
    begun: float
    value: float
    ended: float | None = None
    told: str | None = None
    told_at: float = 0.0

    @property
    def status(self) -> str:
        """``firing`` or ``resolved``."""
        return "firing" if self.ended is None else "resolved"

    @property
    def all_labels(self) -> dict[str, str]:
        """With its name and its severity."""
        return {"alertname": self.name, **dict(self.labels), "severity": BY_NAME[self.name].severity}

    @property
    def fingerprint(self) -> str:
        """The same for the same labels, whoever computes it; 16 hexadecimal digits."""
        told = "\0".join(f"{key}\1{value}" for key, value in sorted(self.all_labels.items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def as_dict(self, guide: str = GUIDE) -> dict[str, Any]:
        """As one of the message's ``alerts``."""
        alert = BY_NAME[self.name]
        return {
            "status": self.status,
            "labels": self.all_labels,
            "annotations": {
                "summary": text(alert.summary, self.labels, self.value),
                "description": text(alert.description, self.labels, self.value),
                "runbook_url": f"{guide}#{alert.anchor}",
            },
            "startsAt": _time(self.begun),
            "endsAt": _NEVER if self.ended is None else _time(self.ended),
            "generatorURL": "",
            "fingerprint": self.fingerprint,
        }


def message(estate: str, notices: Iterable[Notice]) -> dict[str, Any]:
    """One call's body: ``firing`` when any of them does."""
    alerts = [notice.as_dict() for notice in notices]
    firing = any(alert["status"] == "firing" for alert in alerts)
    return {
        "version": VERSION,
        "groupKey": f'{{}}:{{estate="{estate}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": "stranglerfig",
        "groupLabels": {"estate": estate},
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": "",
        "alerts": alerts,
    }


def _common(found: list[Mapping[str, str]]) -> dict[str, str]:
    shared = set(found[0].items()) if found else set()
    for each in found[1:]:
        shared &= set(each.items())
    return dict(sorted(shared))


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

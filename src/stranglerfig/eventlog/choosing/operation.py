"""The written facts on operating each log, read from ``operation.yaml``."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from stranglerfig.eventlog.choosing.model import Operation


@lru_cache(maxsize=1)
def _facts() -> dict[str, dict[str, Any]]:
    text = files(__package__ or "").joinpath("operation.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


def operation_of(scheme: str) -> Operation:
    """What operating the log of ``scheme`` takes (``postgresql`` is ``postgres``)."""
    facts = _facts()["postgres" if scheme == "postgresql" else scheme]
    return Operation(**(facts | {"watch": tuple(facts["watch"])}))

"""The catalogue of error codes behind ``fig explain``: what each means and what to do, in ``codes.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TypedDict

import yaml


class Entry(TypedDict):
    """What ``fig explain`` says of a code; ``kind`` decides the exit status (usage, refused, not_found, other)."""

    title: str
    kind: str
    means: str
    do: str


@cache
def catalogue() -> dict[str, Entry]:
    """Every code, in the order of the file."""
    found: dict[str, Entry] = yaml.safe_load(files(__package__).joinpath("codes.yaml").read_text(encoding="utf-8"))
    return found


def kind_of(code: str) -> str:
    """The kind of a code; ``other`` for one that has no entry."""
    entry = catalogue().get(code)
    return entry["kind"] if entry else "other"

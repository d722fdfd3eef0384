"""SQL kept in files: ``-- name: some_query`` starts a statement, the comment lines after it say what it is for."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """The named statements of one file, by attribute: ``queries.append_records``."""

    def __init__(self, statements: dict[str, str], source: str) -> None:
        self._statements = statements
        self._source = source

    def __getattr__(self, name: str) -> LiteralString:
        try:
            # The text comes from a file of ours, never from outside.
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._source} has no statement named {name}") from None


@cache
def load(package: str, file: str = "queries.sql") -> Queries:
    """The statements of ``file`` beside ``package`` (``__package__`` of the caller)."""
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{package}/{file} names a statement twice")
    return Queries({name: body.strip() for name, body in zip(names, bodies, strict=True)}, f"{package}/{file}")

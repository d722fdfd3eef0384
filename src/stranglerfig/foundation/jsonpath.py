"""The part of JSONPath (RFC 9535) by which users name places in JSON: names, indexes, wildcards, descendants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

Place = tuple[str | int, ...]
"""Where a value stands: member names and array indexes from the root."""

_TOKEN = re.compile(
    r"(?P<deep>\.\.)?(?:(?P<dot>(?<=\.\.)|\.)(?P<name>\w[\w-]*|\*)|\[(?P<index>\d+|\*)\]|\['(?P<quoted>[^']*)'\])"
)


class JsonPath:
    """A compiled path: :meth:`matches` says whether it names a place, :meth:`values` what stands at all it names."""

    def __init__(self, steps: Sequence[tuple[bool, str | int]]) -> None:
        self.steps = tuple(steps)

    def matches(self, place: Place) -> bool:
        """Whether the value at ``place`` is named by this path."""
        return self._from(0, place, 0)

    def values(self, document: Any) -> Iterator[Any]:
        """What stands in a decoded JSON document at the places that this path names; some perhaps more than once."""
        yield from _values(self.steps, document)

    def _from(self, step: int, place: Place, at: int) -> bool:
        if step == len(self.steps):
            return at == len(place)
        deep, wanted = self.steps[step]
        last = len(place) if deep else min(at + 1, len(place))
        return any(
            (wanted == "*" or place[here] == wanted) and self._from(step + 1, place, here + 1)
            for here in range(at, last)
        )


def _values(steps: Sequence[tuple[bool, str | int]], at: Any) -> Iterator[Any]:
    if not steps:
        yield at
        return
    deep, wanted = steps[0]
    children = at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ()
    for name, child in children:
        if wanted == "*" or name == wanted:
            yield from _values(steps[1:], child)
        if deep:
            yield from _values(steps, child)


@lru_cache(maxsize=1024)
def compile_path(text: str) -> JsonPath:
    """Compile ``text``.

    Raises:
        ValueError: it is no such path; the message says where.
    """
    if not text.startswith("$"):
        raise ValueError(f"a JSONPath begins with $: {text}")
    steps: list[tuple[bool, str | int]] = []
    at = 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"{text} cannot be read from '{text[at:]}' on: names, [*], [0], ['name'] and .. are known")
        index = found["index"]
        wanted: str | int
        if index is not None:
            wanted = "*" if index == "*" else int(index)
        else:
            wanted = found["name"] if found["name"] is not None else found["quoted"]
        steps.append((found["deep"] is not None, wanted))
        at = found.end()
    return JsonPath(steps)


def render(place: Place, *, every_index: bool = False) -> str:
    """``$.items[3].qty``; with ``every_index`` ``$.items[*].qty``, the field rather than the value."""
    parts = ["$"]
    for step in place:
        if isinstance(step, int):
            parts.append("[*]" if every_index else f"[{step}]")
        elif re.fullmatch(r"\w[\w-]*", step):
            parts.append(f".{step}")
        else:
            parts.append(f"['{step}']")
    return "".join(parts)

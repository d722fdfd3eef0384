"""Every target by its name. Each is made only when it is run: some import much."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from tests.fuzz.harness import Target


def _from(module: str, name: str) -> Callable[[], Target]:
    def make() -> Target:
        target: Target = getattr(import_module(f"tests.fuzz.{module}"), name)()
        return target

    return make


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "decoder": _from("on_changes", "decoder"),
    "envelope": _from("on_changes", "envelope"),
    "events": _from("on_events", "events"),
    "wires": _from("on_wires", "wires"),
    "access-log": _from("on_texts", "access_log"),
    "trace": _from("on_texts", "traceparent"),
    "yaml": _from("on_texts", "project"),
    "storm": _from("on_texts", "storm"),
    "schemas": _from("on_texts", "schemas"),
    "sources": _from("on_texts", "sources"),
    "wall": _from("on_wall", "wall"),
}

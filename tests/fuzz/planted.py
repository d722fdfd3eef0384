"""Targets with a defect for one input in a hundred, to see that the harness finds it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from tests.fuzz import harness
from tests.fuzz.harness import Target
from tests.fuzz.program import main


def is_bad(given: int) -> bool:
    return given % 100 == 13


def _raises() -> None:
    raise KeyError("planted")


def _hangs() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0.2)  # not the twenty seconds of a real one
    while True:
        pass


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _swallows() -> None:
    bytearray(harness.MEMORY * 2)


def _target(name: str, defect: Callable[[], None]) -> Callable[[], Target]:
    def take(given: int) -> bool:
        if is_bad(given):
            defect()
        return given % 2 == 0

    return lambda: Target(name, lambda rng: rng.randrange(10_000), take)


TARGETS: Final[dict[str, Callable[[], Target]]] = {
    "raises": _target("raises", _raises),
    "hangs": _target("hangs", _hangs),
    "dies": _target("dies", _dies),
    "swallows": _target("swallows", _swallows),
}

if __name__ == "__main__":
    sys.exit(
        main(TARGETS, argparse.ArgumentParser("tests.fuzz.planted", description=__doc__), module="tests.fuzz.planted")
    )

"""How long ``fig up`` takes until everything it starts is ready."""

from __future__ import annotations

import time

from bench.context import Context
from bench.result import Result
from bench.shop import VALUES, shop


def ready(context: Context) -> list[Result]:
    """``up``: on a new data directory, and again on the one that is there."""
    with shop(context, items=1000) as (estate, fig):
        estate.write_project(VALUES)
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            fig("up", "--detach")
            seconds.append(time.perf_counter() - begun)
            fig("down")
    return [
        Result(
            "up",
            seconds[0],
            "s",
            target=5.0,
            note=f"the whole command, on a new data directory with its initdb; again on the same: {seconds[1]:.2f} s",
        )
    ]

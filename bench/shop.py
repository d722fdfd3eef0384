"""The worked scenario's estate, and ``fig`` as its operator uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.context import Context
from examples.shop.demo import QUICK, Refused
from examples.shop.estate import Estate

# Gates that ask for little: what is measured here is not the evidence.
VALUES: dict[str, float] = QUICK | {
    "samples": 400,
    "error_below": 0.02,
    "shadow_samples": 100,
    "shadow_below": 0.1,
    "latency_samples": 400,
    "latency_share": 0.05,
    "margin": 10.0,
    "lag_samples": 400,
}


class Fig:
    """The installed command; its last line as data."""

    def __init__(self, context: Context, estate: Estate) -> None:
        self._context = context
        self._estate = estate
        self._command = [str(Path(sys.executable).with_name("fig")), "--project", str(estate.project), "--json"]

    def __call__(self, *arguments: str, timeout: float = 300) -> dict[str, Any]:
        """Run it to its end.

        Raises:
            Refused: with what it was refused with.
        """
        done = subprocess.run(
            [*self._command, *arguments],
            env=dict(os.environ) | self._estate.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise Refused(done.returncode, done.stderr, " ".join(arguments))
        found: Any = {}
        for text in (done.stdout, *done.stdout.strip().splitlines()[-1:]):
            with suppress(ValueError):
                found = json.loads(text)
                break
        if not isinstance(found, dict):
            return {}
        return dict(found["data"]) if "kind" in found and "data" in found else found


@contextmanager
def shop(context: Context, items: int, *, catalogue: bool = False) -> Iterator[tuple[Estate, Fig]]:
    """Databases, monolith and service (both, with the ``catalogue``), running; ended afterwards, ``fig`` first."""
    with context.folder("shop") as folder:
        estate = Estate(folder, items=items, catalogue=catalogue)
        fig = Fig(context, estate)
        try:
            estate.start_databases()
            estate.deploy_monolith(reserve="table")
            estate.deploy_service("good")
            if catalogue:
                estate.deploy_catalogue()
            yield estate, fig
        finally:
            if (estate.project / "fig.yaml").exists():
                try:
                    fig("down")
                except RuntimeError as error:
                    context.say(str(error))
            estate.stop()

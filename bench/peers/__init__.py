"""Peers that are Python libraries: in an environment of their own, so that the project depends on none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WANTED = HERE / "requirements.txt"
ENVIRONMENT = HERE.parents[1] / ".servers" / "peers"


def measured(program: str, *arguments: object, timeout: float = 600) -> dict[str, Any]:
    """Run a program of this folder in the peers' environment; what it printed last, which is JSON.

    Raises:
        RuntimeError: with the end of what it said, when it failed.
    """
    return said([str(_python()), str(HERE / program), *map(str, arguments)], timeout)


def said(command: list[str], timeout: float = 600) -> dict[str, Any]:
    """Run a program whose last line is JSON."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[1:3]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _python() -> Path:
    """The environment's interpreter; made when it is not there, or was made from other requirements."""
    python, made = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.txt"
    if not made.exists() or made.read_bytes() != WANTED.read_bytes():
        uv = [str(Path(sys.executable).with_name("uv"))]
        own = {**os.environ, "VIRTUAL_ENV": str(ENVIRONMENT)}
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--requirement", str(WANTED)], check=True, env=own)
        made.write_bytes(WANTED.read_bytes())
    return python

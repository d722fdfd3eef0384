"""Runs a target over many altered inputs, in several processes, each under a bound of CPU time and of memory.

An input is known by target, seed and number: ``python -m tests.fuzz TARGET --seed S --at N`` makes it again, alone.
What a target raises is a defect, but the refusals that it takes itself. A process that dies, or that does not come
back from one input, is one as well: the number of the input stands in a shared page before it is tried.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
BLOCK = 64
"""Inputs that follow from one state of the generator."""
CPU_SECONDS = 5
"""For a block; a usual one takes milliseconds."""
MEMORY = 1 << 30
"""Bytes of address space that a process may take beyond what it has when it begins."""
WAIT = 900.0
"""Seconds until a process that neither ends nor uses CPU time is given up."""


@dataclass(frozen=True)
class Target:
    """Something that reads foreign bytes.

    Attributes:
        make: the next input.
        take: reads it; True when it was understood, False when it was refused as documented. It asserts what must hold.
        show: the input as text, for whoever repairs.
    """

    name: str
    make: Callable[[Random], Any]
    take: Callable[[Any], bool]
    show: Callable[[Any], str] = repr


@dataclass
class Result:
    """What a run found. ``defect`` is empty when nothing was; else it says how to see it again."""

    inputs: int = 0
    understood: int = 0
    seconds: float = 0.0
    grown: int = 0
    defect: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)

    def line(self, name: str) -> str:
        """For a terminal."""
        speed = self.inputs / self.seconds if self.seconds else 0
        share = self.understood / self.inputs if self.inputs else 0
        return (
            f"{name:<12} {self.inputs:>10,} inputs in {self.seconds:6.1f} s ({speed:>8,.0f}/s), {share:5.1%} understood, "
            f"memory +{self.grown / 1e6:.0f} MB{', DEFECT' if self.defect else ''}"
        )


class TooLong(BaseException):
    """One block of inputs took more CPU time than all of them may."""


def _generator(name: str, seed: int, block: int) -> Random:
    return Random(f"{name}/{seed}/{block}")


def one(target: Target, seed: int, number: int) -> Any:
    """The input with that number."""
    rng = _generator(target.name, seed, number // BLOCK)
    for _ in range(number % BLOCK):
        target.make(rng)
    return target.make(rng)


def _late(_: int, frame: FrameType | None) -> None:
    raise TooLong


def work(target: Target, *, seed: int, first: int, count: int, page: Path) -> dict[str, Any]:
    """Try the inputs from ``first`` on (a multiple of ``BLOCK``), in this process.

    Returns:
        inputs, understood, grown (bytes of resident memory after the first tenth), and ``defect`` with ``at``.
    """
    signal.signal(signal.SIGPROF, _late)
    understood = done = 0
    early = 0
    make, take = target.make, target.take
    with page.open("r+b") as file, mmap.mmap(file.fileno(), 8) as at:
        try:
            while done < count:
                rng = _generator(target.name, seed, (first + done) // BLOCK)
                signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
                for _ in range(min(BLOCK, count - done)):
                    at[:] = (first + done).to_bytes(8, "big")
                    if take(make(rng)):
                        understood += 1
                    done += 1
                if not early and done >= count // 10:
                    early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        except BaseException as error:  # noqa: BLE001  a native library panics by one that is no Exception
            signal.setitimer(signal.ITIMER_PROF, 0)
            text = "".join(traceback.format_exception(error, limit=-6))
            return {"inputs": done, "understood": understood, "defect": text, "at": first + done}
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) * 1024
    return {"inputs": done, "understood": understood, "grown": grown}


def bound_memory() -> None:
    """More than :data:`MEMORY` beyond what is taken now is a MemoryError, or the end of the process."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


def run(name: str, *, count: int, seed: int, processes: int = 2, module: str = "tests.fuzz") -> Result:
    """Try ``count`` inputs of a target, spread over processes.

    Args:
        module: what runs as ``python -m`` and knows the target.
    """
    began = time.monotonic()
    each = -(-count // processes // BLOCK) * BLOCK
    shares = [(first, min(each, count - first)) for first in range(0, count, each)]
    result = Result()
    # Coverage measures the tests that are about something, not millions of inputs at a fifth of the speed.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")])
    )
    with tempfile.TemporaryDirectory(prefix="fig-fuzz-") as folder:
        children = []
        for number, (first, share) in enumerate(shares):
            page = Path(folder, str(number))
            page.write_bytes(first.to_bytes(8, "big"))
            command = [sys.executable, "-m", module, name, "--seed", str(seed), "--work", f"{first}:{share}:{page}"]
            child = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            children.append((child, page))
        for child, page in children:
            result.parts.append(_ended(child, page))
    for part in result.parts:
        result.inputs += part["inputs"]
        result.understood += part["understood"]
        result.grown = max(result.grown, part.get("grown", 0))
        if part.get("defect") and not result.defect:
            result.defect = (
                f"{name}: input {part['at']} of seed {seed}; see it again with\n"
                f"    python -m {module} {name} --seed {seed} --at {part['at']}\n{part['defect']}"
            )
    result.seconds = time.monotonic() - began
    return result


def _ended(child: subprocess.Popen[str], page: Path) -> dict[str, Any]:
    try:
        out, error = child.communicate(timeout=WAIT)
    except subprocess.TimeoutExpired:
        child.kill()
        out, error = child.communicate()
        error = f"it did not come back within {WAIT:g} s\n{error}"
    if child.returncode == 0:
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found
    at = int.from_bytes(page.read_bytes(), "big")
    return {
        "inputs": 0,
        "understood": 0,
        "at": at,
        "defect": f"the process ended with {child.returncode}\n{error[-3000:]}",
    }

"""The command line over a set of targets; apart, because the harness is tested with targets of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz import harness
from tests.fuzz.harness import Target


def main(
    targets: Mapping[str, Callable[[], Target]], parser: argparse.ArgumentParser, *, module: str | None = None
) -> int:
    """Run what the command line says; the exit status is 1 when a defect was found."""
    parser.add_argument("target", nargs="*", help=f"among {', '.join(targets)}; all without one")
    parser.add_argument("--count", type=int, default=100_000, help="inputs of each target")
    parser.add_argument("--seed", type=int, help="the generator's; without it a random one, which is printed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--at", type=int, metavar="N", help="make the input with this number, show it and try it, alone"
    )
    parser.add_argument("--work", help=argparse.SUPPRESS)
    said = parser.parse_args()
    unknown = set(said.target) - set(targets)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = said.target or list(targets)
    seed = int.from_bytes(os.urandom(4), "big") if said.seed is None else said.seed
    if said.work:
        first, count, page = said.work.split(":", 2)
        target = targets[names[0]]()
        harness.bound_memory()
        print(json.dumps(harness.work(target, seed=seed, first=int(first), count=int(count), page=Path(page))))
        return 0
    if said.at is not None:
        target = targets[names[0]]()
        given = harness.one(target, seed, said.at)
        print(target.show(given))
        print("understood" if target.take(given) else "refused")
        return 0
    print(f"seed {seed}")
    broken = False
    for name in names:
        result = harness.run(name, count=said.count, seed=seed, processes=said.processes, module=module or "tests.fuzz")
        print(result.line(name), flush=True)
        if result.defect:
            broken = True
            print(result.defect, file=sys.stderr)
    return int(broken)

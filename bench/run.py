"""``python -m bench.run [--only NAME …] [--scale 0.1]``: all benches, one after the other; ``make bench`` runs it.

Writes ``bench/out/results.json`` and prints a table. Targets hold for scale 1 on two cores, with fsync on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    cutover,
    engines,
    extractions,
    facade,
    kit,
    logs,
    memory,
    messages,
    sagas,
    scale,
    schemas,
    snapshot,
    soak,
    stream,
    tracing,
    up,
    wall,
)
from bench.context import Context, await_quiet
from bench.result import Result

OUT = Path(__file__).parent / "out"
Bench = Callable[[Context], list[Result]]
BENCHES: tuple[tuple[tuple[str, ...], Bench], ...] = (
    (("snapshot_1to1", "verify_1m"), snapshot.one_to_one),
    (("snapshot_mapped",), snapshot.mapped),
    (("stream_latency_p50", "stream_latency_p99"), stream.latency),
    (("backlog",), stream.backlog),
    (("sync_workers",), scale.postgres),
    (("memory",), memory.peaks),
    (("sync_kafka", "sync_kafka_workers"), scale.kafka),
    (("capture_p50", "capture_p99", "capture_rate", "capture_cpu", "capture_memory"), engines.compared),
    (("extraction_cpu", "extraction_memory"), extractions.added),
    (("log_append", "log_read"), logs.postgres),
    (("kafka_append", "kafka_read"), logs.kafka),
    (("schema_lookup", "schema_check"), schemas.governed),
    (("kit_relay", "kit_inbox", "kit_projection", "kit_load", "kit_written", "kit_read"), kit.service),
    (("kit_memory",), kit.memory),
    (("sagas_rate", "sagas_step"), sagas.orchestrated),
    (("facade_p50", "facade_p99"), facade.added),
    (("tracing_facade_p99", "tracing_facade_rate"), tracing.answered),
    (("tracing_sync_p99", "tracing_sync_rate"), tracing.applied),
    (("router_rate", "router_p50", "router_cpu"), messages.added),
    (("up",), up.ready),
    (("wall_drag_p95",), wall.dragged),
    (("wall_remote_p95",), wall.seen),
    (("cutover_hold", "cutover_failed"), cutover.held),
    (tuple(f"soak_{kind}" for kind in soak.KINDS), soak.flat),
)


def wanted(only: list[str]) -> list[tuple[tuple[str, ...], Bench]]:
    """The benches that give figures of these names (``stream_latency`` means both of its figures)."""
    if not only:
        return list(BENCHES)
    found = [(names, bench) for names, bench in BENCHES if any(n.startswith(o) for n in names for o in only)]
    if not found:
        raise SystemExit(f"no such bench; there are {', '.join(name for names, _ in BENCHES for name in names)}")
    return found


def run(context: Context, names: tuple[str, ...], bench: Bench) -> list[Result]:
    """One bench; what breaks is a figure that is not met, and the others still run."""
    begun = time.perf_counter()
    try:
        results = bench(context)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return [Result(name, 0.0, "", failed=f"did not run to its end: {error}") for name in names]
    for result in results:
        context.say(show(result))
    context.say(f"({time.perf_counter() - begun:.0f} s)")
    return results


def show(result: Result) -> str:
    """A figure in a line."""
    verdict = {True: "met", False: "NOT MET", None: "no target"}[result.met]
    return f"{result.name}: {result.value:,.4g} {result.unit} ({verdict})"


def write(results: list[Result], *, keep: bool) -> Path:
    """Write ``results.json``; with ``keep``, over the figures of the same names only."""
    OUT.mkdir(exist_ok=True)
    file = OUT / "results.json"
    found = [result.as_dict() for result in results]
    if keep and file.exists():
        new = {entry["name"] for entry in found}
        found = [entry for entry in json.loads(file.read_text()) if entry["name"] not in new] + found
        order = [name for names, _ in BENCHES for name in names]
        found.sort(key=lambda entry: order.index(entry["name"]) if entry["name"] in order else len(order))
    file.write_text(json.dumps(found, indent=2) + "\n")
    return file


def table(entries: list[dict[str, object]]) -> Table:
    """The figures as people read them."""
    made = Table(title="stranglerfig: what it reaches", title_justify="left")
    for column in ("name", "value", "target", "met", "peer", "ratio"):
        made.add_column(
            column,
            justify="left" if column in ("name", "peer") else "right",
            overflow="fold",
            no_wrap=column in ("name", "value"),
        )

    def number(value: object) -> str:
        return "" if value is None else f"{value:,.6g}"

    for entry in entries:
        beside = f"{number(entry['peer_value'])}  {entry['peer']}" if entry["peer"] else ""
        met = {True: "yes", False: "[bold red]no[/bold red]", None: ""}[entry["met"]]  # type: ignore[index]
        value = f"{number(entry['value'])} {entry['unit']}"
        made.add_row(str(entry["name"]), value, number(entry["target"]), met, beside, number(entry["ratio"]))
    return made


def main() -> int:
    """The command; exit status 0 also when a target is missed: a bench reports."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="one figure, or all that begin so")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes; targets are for 1")
    parser.add_argument(
        "--patience", type=float, default=20, metavar="S", help="seconds to wait for other programs to be quiet"
    )
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    begun = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # Below /tmp, which the account that runs PostgreSQL may pass.
    root = Path(tempfile.mkdtemp(prefix="stranglerfig-bench-", dir="/tmp"))
    root.chmod(0o755)
    context = Context(
        root, options.scale, lambda text: console.print(f"{time.perf_counter() - begun:6.1f}s  {text}", markup=False)
    )
    results: list[Result] = []
    chosen = wanted(options.only)
    try:
        for number, (names, bench) in enumerate(chosen, start=1):
            await_quiet(0.4, options.patience, context.say)
            context.say(f"[{number}/{len(chosen)}] {', '.join(names)}")
            found = run(context, names, bench)
            if options.scale != 1:
                found = [replace(r, note=f"at scale {options.scale:g}; {r.note}") for r in found]
            results += found
            file = write(results, keep=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    console.print(table(json.loads(file.read_text())))
    console.print(f"{file}  ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``soak_*``: the shop for half an hour at half of its load, and whether anything of ours grows.

Two contexts are on their way: the inventory's writes are the service's, the catalogue is compared in its shadow. Looked
at every few seconds: memory and descriptors of each process, the WAL that each slot holds, tables of ours with their
dead rows, files. What a log of events keeps by design grows with its events, and is named with the time it takes.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psycopg

from bench.context import Context
from bench.result import Result
from bench.shop import VALUES, Fig, shop
from bench.slope import BLOCKS, WARM_UP, Slope, slope
from examples.shop.demo import Refused
from examples.shop.estate import Estate

SECONDS = 1800.0
RATE = 120
"""Requests a second: half of what the worked scenario asks."""
MIX = {"reads": 60, "writes": 25, "orders": 5, "prices": 10}
EVERY = 5.0
MEGABYTE = 1 << 20


class Kind(NamedTuple):
    """What is looked at.

    Attributes:
        tolerance: growth per hour that counts as none.
        room: what it may take before somebody is woken, for the time that is told of what grows.
    """

    unit: str
    tolerance: float
    room: float


KINDS = {
    "memory": Kind("MB", 6.0, 1024.0),
    "descriptors": Kind("descriptors", 2.0, 1000.0),
    "threads": Kind("threads", 1.0, 1000.0),
    "wal": Kind("MB", 16.0, 2048.0),
    "dead": Kind("rows", 5000.0, 10_000_000.0),
    "size": Kind("MB", 8.0, 10_240.0),
    "files": Kind("MB", 8.0, 10_240.0),
    "kept": Kind("MB", float("inf"), 10_240.0),
}
KEPT = ("control: fig.log_", "envoy: access.log")
"""What is kept: all events of a log in PostgreSQL, where none expires yet; the access log up to its rotation."""
SLOTS = """
SELECT slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 FROM pg_replication_slots
 WHERE restart_lsn IS NOT NULL
"""
TABLES = """
SELECT schemaname || '.' || relname, n_live_tup::float8, n_dead_tup::float8, pg_total_relation_size(relid)::float8
  FROM pg_stat_user_tables WHERE schemaname = ANY(%s)
"""
Sample = dict[tuple[str, str], float]
"""By kind and name."""


def flat(context: Context) -> list[Result]:
    """By how much the worst of each kind may grow, the upper end of its slope's interval; what grows is named."""
    seconds = context.seconds(SECONDS)
    every = min(EVERY, seconds * (1 - WARM_UP) / BLOCKS / 3)
    with shop(context, items=context.rows(20_000), catalogue=True) as (estate, fig):
        _begin(context, estate, fig)
        before = estate.load_status()
        times, samples = _watch(context, estate, fig, seconds, every)
        after = estate.load_status()
        estate.stop_load()
    failed = after["failed"] - before["failed"]
    how = (
        f"{(after['requests'] - before['requests']) / (after['at'] - before['at']):.0f} requests/s for {seconds:.0f} s"
        f" ({after['requests'] - before['requests']:,}, {failed} failed), the first third left out"
    )
    slopes = judged(times, samples)
    _keep(context, slopes)
    return [_result(kind, slopes, how, failed) for kind in KINDS if any(each == kind for each, _ in slopes)]


def judged(times: list[float], samples: Iterable[Sample]) -> dict[tuple[str, str], Slope]:
    """The slope of each series; where there was nothing of it (yet), it was nothing."""
    looks = list(samples)
    return {
        key: slope(times, [sample.get(key, 0.0) for sample in looks], KINDS[key[0]].tolerance)
        for key in sorted({key for sample in looks for key in sample})
    }


def _result(kind: str, slopes: Mapping[tuple[str, str], Slope], how: str, failed: float) -> Result:
    own = {name: found for (each, name), found in slopes.items() if each == kind}
    unit, tolerance, room = KINDS[kind]
    worst = max(own.values(), key=lambda found: found.high)
    unclear = sum(found.verdict == "unclear" for found in own.values())
    told = []
    for name, found in sorted(own.items(), key=lambda item: -item[1].high):
        if found.verdict != "flat" or kind == "kept":
            hours = found.hours(room)
            until = "" if hours is None else f", {room:,.0f} {unit} more after {hours:,.0f} h at the earliest"
            told.append(
                f"{name} {found.verdict}: {found.per_hour:+,.1f} ({found.low:+,.1f} to {found.high:+,.1f})"
                f" {unit}/h at {found.level:,.1f}{until}"
            )
    return Result(
        f"soak_{kind}", worst.high, f"{unit}/h", target=None if kind == "kept" else tolerance,
        note=f"by how much the fastest of {len(own)} series may grow, at 99 % ({unclear} unclear), {how}; "
        + ("; ".join(told) or "all flat"),
        failed=f"{failed} requests failed" if failed else "",
    )  # fmt: skip


def _keep(context: Context, slopes: Mapping[tuple[str, str], Slope]) -> None:
    for (kind, name), found in slopes.items():
        if found.verdict != "flat" or kind in ("memory", "kept"):
            context.say(
                f"soak: {kind} {name}: {found.verdict}, {found.level:,.1f}, {found.per_hour:+,.2f}"
                f" ({found.low:+,.2f} to {found.high:+,.2f}) {KINDS[kind].unit}/h"
            )


# -- the shop


def _begin(context: Context, estate: Estate, fig: Fig) -> None:
    estate.write_project(VALUES)
    estate.deploy_monolith(reserve="api")
    fig("up", "--detach")
    estate.start_load(rate=RATE, mix=MIX)
    for name, goal in (("inventory", ("writes", "")), ("catalogue", ("reads", "shadow"))):
        for _ in range(40):
            status = [each for each in fig("status")["extractions"] if each["context"] == name]
            if status and (status[0]["stage"], status[0]["step"]) == goal:
                break
            context.say(f"soak: {name} is in {status[0]['stage'] if status else 'none'}")
            # What a stage has to show is not what is measured here; a catalogue without checks of its own is none.
            build = ("--override", "a soak") if status and status[0]["stage"] == "build" else ()
            try:
                fig("advance", name, "--wait", "120", *build)
            except Refused as refused:  # a busy machine: a stream that is behind, writers seen a moment ago
                context.say(f"soak: {refused}")
                time.sleep(2)
        else:
            raise RuntimeError(f"{name} never came to {' '.join(goal)}")


def _watch(
    context: Context, estate: Estate, fig: Fig, seconds: float, every: float
) -> tuple[list[float], list[Sample]]:
    roles = {row["role"]: row["pid"] for row in fig("ps")["roles"]}
    programs = {name: program.pid for name, program in estate.programs.items() if name != "load"}
    control = fig("ps")["addresses"]["control database"]
    databases = {
        "control": (control, ["fig", "public"]),
        "monolith": (estate.monolith_dsn, ["fig"]),
        "service": (estate.service_dsn, ["fig"]),
    }
    begun = time.monotonic()
    times: list[float] = []
    samples: list[Sample] = []
    while (now := time.monotonic() - begun) < seconds:
        times.append(now)
        samples.append(_sample(estate.project / ".fig", {**roles, **programs}, databases))
        if len(times) % max(1, round(60 / every)) == 0:
            memory = sum(samples[-1]["memory", role] for role in roles)
            context.say(f"soak: {now:.0f} of {seconds:.0f} s, {memory:,.0f} MB in all processes of fig up")
        time.sleep(max(0.0, every * len(times) - (time.monotonic() - begun)))
    restarted = [row["role"] for row in fig("ps")["roles"] if row["pid"] != roles.get(row["role"])]
    if restarted:
        raise RuntimeError(f"not the same processes any more: {', '.join(restarted)}")
    return times, samples


def _sample(data: Path, pids: Mapping[str, int], databases: Mapping[str, tuple[str, list[str]]]) -> Sample:
    found: Sample = {}
    families = _families(pids)
    for name, family in families.items():
        found["memory", name] = sum(map(_pss, family)) / MEGABYTE
        if name != "postgres":  # whose sessions keep files open as they meet them, up to max_files_per_process
            found["descriptors", name] = sum(_count(Path(f"/proc/{pid}/fd")) for pid in family)
        found["threads", name] = sum(_count(Path(f"/proc/{pid}/task")) for pid in family)
    for name, (dsn, schemas) in databases.items():
        _database(found, name, dsn, schemas)
    for folder in ("logs", "envoy", "router", "console", "run"):
        found["files", folder] = _bytes(data / folder, "") / MEGABYTE - _bytes(data / folder, "access.log") / MEGABYTE
    found["kept", "envoy: access.log"] = _bytes(data / "envoy", "access.log") / MEGABYTE
    return found


def _database(found: Sample, name: str, dsn: str, schemas: list[str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for slot, held in conn.execute(SLOTS):
            found["wal", f"{name}: slot {slot}"] = held / MEGABYTE
        rows = conn.execute(TABLES, (schemas,)).fetchall()
    found["dead", name] = sum(dead for _, _, dead, _ in rows)
    for table, _, _, size in rows:
        kind = "kept" if f"{name}: {table}".startswith(KEPT) else "size"
        found[kind, f"{name}: {table}"] = size / MEGABYTE


# -- the kernel's word


def _families(pids: Mapping[str, int]) -> dict[str, list[int]]:
    """Each process with those below it; servers of PostgreSQL too, whose sessions come and go."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(folder.name))
    found = {}
    for name, pid in pids.items():
        family, waiting = [], [pid]
        while waiting:
            one = waiting.pop()
            family.append(one)
            waiting += children[one]
        found[name] = family
    return found


def _quietly(read: Callable[[], float]) -> float:
    with contextlib.suppress(OSError):
        return read()
    return 0.0  # it has ended meanwhile


def _pss(pid: int) -> float:
    """Bytes of its own, not of files and of what servers share from their start: there a leak is (proc(5),
    smaps_rollup)."""

    def read() -> float:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return next((int(line.split()[1]) * 1024.0 for line in text.splitlines() if line.startswith("Pss_Anon:")), 0.0)

    return _quietly(read)


def _count(folder: Path) -> float:
    return _quietly(lambda: float(sum(1 for _ in folder.iterdir())))


def _bytes(folder: Path, prefix: str) -> float:
    files = [path for path in folder.rglob(f"{prefix}*") if path.is_file()]
    return sum(_quietly(lambda path=path: float(path.stat().st_size)) for path in files)

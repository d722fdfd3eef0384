"""What the terminal shows: progress of a command, and where extractions stand. Numbers and words, no decisions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from stranglerfig.cli.main import dumps_line
from stranglerfig.foundation import clock

Show = Callable[[str, str, Mapping[str, Any], datetime | None], None]
_FIGURES = re.compile(r"\d[\d,.]*")
COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def duration(seconds: float) -> str:
    """Seconds as people say them: ``0.4 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: Any) -> str:
    """A number short enough for a table; other things as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.4g}"


def amount(data: Mapping[str, Any]) -> str:
    """``41,000 of 100,000, 52,300/s, about 2 s left``: only what is known; empty when nothing is."""
    if data.get("done") is None:
        return ""
    parts = [f"{number(data['done'])} of {number(data['total'])}" if data.get("total") else number(data["done"])]
    if data.get("rate"):
        parts.append(f"{number(round(data['rate']))}/s")
    if data.get("remaining") is not None:
        parts.append(f"about {duration(float(data['remaining']))} left")
    return ", ".join(parts)


@contextmanager
def progress(as_json: bool) -> Iterator[Show]:
    """Show what the controller says: bars on a terminal, lines elsewhere, JSON Lines when asked for JSON."""
    console = Console()
    if as_json:
        yield _json_line
    elif not console.is_terminal:
        yield _plain_line()
    else:
        with _bars(console) as bars:
            yield _bar(bars)


@contextmanager
def beside(as_json: bool) -> Iterator[Callable[[str, float, float], None]]:
    """Show on standard error how far a command is that prints its result when it is done; nothing beside JSON."""
    console = Console(stderr=True)
    if as_json:
        yield lambda _what, _done, _of: None
    elif not console.is_terminal:
        yield _counted(_plain_line(err=True))
    else:
        with _bars(console) as bars:
            yield _counted(_bar(bars))


def _counted(show: Show) -> Callable[[str, float, float], None]:
    return lambda what, done, of: show("progress", what, {"done": done, "total": of}, clock.now())


def _bars(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"), console=console)


def _json_line(kind: str, text: str, data: Mapping[str, Any], at: datetime | None) -> None:
    click.echo(dumps_line({"at": at, "kind": kind, "text": text, "data": data}))


def _plain_line(*, err: bool = False) -> Show:
    last: dict[str, float] = {}

    def show(kind: str, text: str, data: Mapping[str, Any], at: datetime | None) -> None:
        known = amount(data) if kind == "progress" else ""
        if kind == "progress" and at is not None:
            # A line per second and thing is enough for a file; the end of a thing always shows.
            thing = _FIGURES.sub("#", text)
            if at.timestamp() - last.get(thing, 0.0) < 1 and data.get("done") != data.get("total"):
                return
            last[thing] = at.timestamp()
        click.echo(f"{text}: {known}" if known else text, err=err)
        if kind == "done":
            for line in details(data):
                click.echo(line)

    return show


def _bar(bars: Progress) -> Show:
    shown: dict[str, TaskID] = {}

    def show(kind: str, text: str, data: Mapping[str, Any], at: datetime | None) -> None:
        if kind != "progress" or not data.get("total"):
            bars.console.print(text, markup=False, highlight=False)
            if kind == "done":
                for line in details(data):
                    bars.console.print(line, markup=False, highlight=False)
            return
        thing = _FIGURES.sub("#", text)  # one bar, though the figures in its text change
        if thing not in shown:
            shown[thing] = bars.add_task(text, total=data["total"], amount="")
        bars.update(
            shown[thing], description=text, completed=data.get("done", 0), total=data["total"], amount=amount(data)
        )

    return show


def details(data: Mapping[str, Any]) -> list[str]:
    """A result's facts as indented lines; lists of objects one line each."""
    lines: list[str] = []
    for key, value in data.items():
        label = key.replace("_", " ")
        if isinstance(value, Mapping):
            lines.append(f"  {label}: " + _inline(value))
        elif isinstance(value, list):
            lines.append(f"  {label}:" + (" none" if not value else ""))
            lines.extend(f"    {_inline(item) if isinstance(item, Mapping) else item}" for item in value)
        else:
            lines.append(f"  {label}: {number(value)}")
    return lines


def _inline(value: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {number(found)}" for key, found in value.items() if found not in (None, "")
    )


def status(found: Mapping[str, Any]) -> RenderableType:
    """``extraction.commands.status`` as tables."""
    extractions = found.get("extractions", [])
    parts = [part for extraction in extractions for part in _status(extraction)]
    if not parts:
        parts.append(Text("No extraction has begun: fig plan CONTEXT looks whether one can."))
    if registry := found.get("schema_registry"):
        parts.append(Text(f"schema registry: {registry}"))
    return Group(*parts)


def _status(extraction: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(heading(extraction), style="bold")]
    for line in (traffic(extraction), *instances(extraction), *flows(extraction)):
        if line:
            parts.append(Text("  " + line))
    if rows := kpis(extraction):
        table = Table(box=None, pad_edge=True)
        for column in ("KPI", "threshold", "observed", "bound", "samples", "needed", "verdict"):
            table.add_column(column, justify="left" if column in ("KPI", "verdict") else "right")
        for row in rows:
            table.add_row(*row[:-1], Text(row[-1], style=COLOURS.get(row[-1], "")))
        parts.append(table)
    parts.extend(Text(f"  warning: {warning}", style="yellow") for warning in extraction.get("warnings", []))
    return parts


def status_lines(found: Mapping[str, Any]) -> list[str]:
    """The same as plain lines, one per extraction, for a log."""
    lines = []
    for extraction in found.get("extractions", []):
        parts = [heading(extraction), traffic(extraction), *instances(extraction), *flows(extraction)]
        parts += [f"{row[0]} {row[2]} of {row[1]}: {row[-1]}" for row in kpis(extraction)]
        parts += [f"warning: {warning}" for warning in extraction.get("warnings", [])]
        lines.append("; ".join(part for part in parts if part))
    return lines


def heading(extraction: Mapping[str, Any]) -> str:
    """``inventory: reads, 10 %; the monolith owns the writes, epoch 0``."""
    step = str(extraction.get("step") or "")
    shown = f", {step} %" if step.replace(".", "", 1).isdigit() else (f", {step}" if step else "")
    return (
        f"{extraction['context']}: {extraction['stage']}{shown}; "
        f"the {extraction.get('owner', 'monolith')} owns the writes, epoch {extraction.get('epoch', 0)}"
    )


def traffic(extraction: Mapping[str, Any]) -> str:
    """What the façade saw in the last second."""
    now = dict(extraction.get("now") or extraction.get("traffic") or {})
    now.pop("instances", None)
    return "last second: " + _flat(now) if now else ""


def instances(extraction: Mapping[str, Any]) -> list[str]:
    """One line per instance, where the service has several: what it answered, and whether it gets requests."""
    found = (extraction.get("now") or {}).get("instances") or {}
    if len(found) < 2:
        return []
    return [
        f"instance {name}: "
        + ("" if figures.get("serving") else "not serving; ")
        + (_instance(figures) or "no request")
        for name, figures in found.items()
    ]


def _instance(figures: Mapping[str, Any]) -> str:
    share = figures.get("share")
    known = {key: value for key, value in figures.items() if key not in ("serving", "share") and value is not None}
    return ", ".join([*(() if share is None else (f"{share:.0%}",)), *([_flat(known)] if known else ())])


def _flat(value: Mapping[str, Any], prefix: str = "") -> str:
    parts = []
    for key, found in value.items():
        name = f"{prefix} {key.replace('_', ' ')}".strip()
        if isinstance(found, Mapping):
            parts.append(_flat(found, name))
        elif key not in ("at", "busy_ms") and found is not None and not isinstance(found, list):
            parts.append(f"{name} {number(found)}")
    return ", ".join(part for part in parts if part)


def flows(extraction: Mapping[str, Any]) -> list[str]:
    """One line per direction: state, lag, progress of the snapshot."""
    lines = []
    for direction, parts in (extraction.get("flows") or {}).items():
        said = [f"{part} {_flow(report)}" for part, report in parts.items() if report]
        lines.append(f"{direction}: " + "; ".join(said))
    return lines


def _flow(report: Mapping[str, Any]) -> str:
    words = [str(report.get("state", "unknown"))]
    if error := report.get("error"):
        told = f"{error.get('message')} [{error.get('code')}]" if isinstance(error, Mapping) else error
        words.append(f"({told})")
    known = ("lag_seconds", "lag_bytes", "latency_p50_ms", "latency_p99_ms", "rate", "rows", "snapshot_rows", "parked")
    words += [f"{key.replace('_', ' ')} {number(report[key])}" for key in known if report.get(key) is not None]
    if holders := report.get("waits_for"):
        words.append("waits for " + " and ".join(_holder(holder) for holder in holders))
    if parts := report.get("parts"):
        words.append(_parts(report, parts))
    return ", ".join(words)


def _holder(holder: Mapping[str, Any]) -> str:
    """``pid 4711 (nightly, open for 12 s)``: a session whose transaction holds what sync needs."""
    said = [str(holder["application"])] if holder.get("application") else []
    if holder.get("seconds") is not None:
        said.append(f"open for {number(holder['seconds'])} s")
    return f"pid {holder['pid']}" + (f" ({', '.join(said)})" if said else "")


def _parts(report: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> str:
    """``3 partitions, 2 workers, the slowest partition 1 (host/77) p99 12 ms, 40 records behind``."""
    slowest = max(parts, key=lambda part: (part.get("state") != "applying", part.get("p99_ms") or 0.0))
    shown = f"the slowest partition {slowest['partition']} ({slowest['worker']})"
    if slowest.get("state") != "applying":
        shown += f" {slowest.get('state')}"
    if slowest.get("p99_ms") is not None:
        shown += f" p99 {number(slowest['p99_ms'])} ms"
    return (
        f"{number(report.get('partitions'))} partitions, {number(report.get('workers'))} workers, {shown},"
        f" {number(report.get('behind'))} records behind"
    )


def kpis(extraction: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The gate's KPIs as rows of text, the verdict last."""
    gate = extraction.get("gate") or {}
    keys = ("threshold", "observed", "bound", "samples", "needed")
    return [
        (str(kpi.get("name", "")), *(number(kpi.get(key)) for key in keys), str(kpi.get("verdict", "")))
        for kpi in gate.get("kpis", [])
    ]

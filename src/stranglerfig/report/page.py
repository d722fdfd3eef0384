"""``report.html``: one file with no scripts and nothing loaded, drawn from ``report.json`` alone.

The verdict first; then what the traffic saw, what the gates rested on, what was proven, what the monolith lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from stranglerfig.report import charts
from stranglerfig.report.charts import Pin, Scene, Span, Trace, clock, number
from stranglerfig.report.parts import NOTHING, document, figure, say, section, table

Report = Mapping[str, Any]
_SIGNS = {"pass": "✓", "fail": "✕", "inconclusive": "…"}
_LEDGER = {
    "requests": "Requests sent",
    "failed_requests": "Failed: neither success nor a business refusal",
    "acknowledged_writes": "Writes acknowledged",
    "lost_writes": "Lost: acknowledged, then nowhere",
    "duplicated_writes": "Doubled: acknowledged once, there twice",
    "phantom_writes": "Made up: refused, but there",
    "unknown_writes": "Unanswered: there at most once",
}
_COMMANDS = {
    "commands": "Of the writes, commands by queue",
    "misordered_commands": "Overtaken: done before an earlier command of the same key",
    "repeated_answers": "Answered again, the same",
    "contradicted_answers": "Answered again, differently",
}
_ZEROS = (
    "failed_requests",
    "lost_writes",
    "duplicated_writes",
    "phantom_writes",
    "misordered_commands",
    "contradicted_answers",
)


def page(report: Report) -> str:
    """The whole page."""
    scene, begin = _scene(report)
    sections = (
        _head(report),
        _traffic(report, scene, begin),
        _cutovers(report),
        _stages(report, scene, begin),
        _evidence(report),
        _rollbacks(report, begin),
        _proof(report),
        _decommission(report),
        _settings(report),
    )
    return document(f"{report['context']}: {report['outcome']}", *sections)


def _verdict(verdict: str) -> str:
    sign = f'<b aria-hidden="true">{_SIGNS.get(verdict, "")}</b>'
    return f'<span class="verdict {escape(verdict)}">{sign} {escape(verdict)}</span>'


def _ms(value: Any) -> str:
    return NOTHING if value is None else f"{number(round(float(value), 1))} ms"


def _epoch(text: Any) -> float | None:
    return None if text is None else datetime.fromisoformat(str(text)).timestamp()


def _since(text: Any, begin: float) -> str:
    at = _epoch(text)
    return NOTHING if at is None else clock(max(0.0, at - begin))


def _scene(report: Report) -> tuple[Scene, float]:
    """What the pictures share, and the epoch second at which their time begins."""
    times = [_epoch(point["at"]) or 0.0 for point in report["series"]]
    visits = [(_epoch(v["entered_at"]) or 0.0, _epoch(v["left_at"]), str(v["name"])) for v in report["stages"]]
    known = [*times, *(begin for begin, _, _ in visits), *(end for _, end, _ in visits if end is not None)]
    begin, last = (times[0], times[-1]) if times else (min(known, default=0.0), max(known, default=1.0))
    if begin - min(known, default=begin) < (last - begin) / 3:  # a little before the first second that was seen
        begin = min(known, default=begin)
    length = max(last - begin, 1.0)
    spans: list[Span] = []
    for entered, left, name in visits:
        a, b = max(0.0, entered - begin), min(length, (last if left is None else left) - begin)
        if spans and spans[-1].label == name:
            spans[-1] = Span(spans[-1].begin, b, name)
        elif b > a:
            spans.append(Span(a, b, name))
    pins = [
        Pin(min(max(0.0, (_epoch(mark["at"]) or 0.0) - begin), length), i, str(mark["label"]), str(mark["kind"]))
        for i, mark in enumerate(report["marks"], start=1)
    ]
    return Scene(length, spans, pins), begin


def _head(report: Report) -> str:
    ledger, cutovers = report["ledger"], report["cutovers"]
    waits = [cutover["hold_max_ms"] for cutover in cutovers if cutover["hold_max_ms"] is not None]
    verification = report["verification"]
    tiles: list[tuple[str, str]] = [
        ("requests", say(ledger["requests"])),
        ("failed", say(ledger["failed_requests"])),
        ("lost, doubled, made up", " · ".join(say(ledger[f"{k}_writes"]) for k in ("lost", "duplicated", "phantom"))),
        ("longest wait at a cut-over", _ms(max(waits)) if waits else NOTHING),
        ("rows that differ at the end", say(verification[-1]["differences"]) if verification else NOTHING),
        ("from start to end", clock(float(report["duration_seconds"] or 0))),
    ]
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)
    loosened = [kpi for visit in report["stages"] for kpi in visit["gate"]["kpis"] if kpi.get("loosened")]
    note = ""
    if loosened:
        names = ", ".join(sorted({str(kpi["name"]) for kpi in loosened}))
        note = f'<p class="note"><b>Looser than the defaults:</b> {escape(names)}. Each says below in what.</p>'
    if report["overrides"]:
        count = len(report["overrides"])
        note += f'<p class="note"><b>Gate verdicts overridden by a person: {count}.</b> See below.</p>'
    mode = f" · {escape(str(report['mode']))}" if report["mode"] else ""
    day = f" · {escape(str(report['started_at'])[:16].replace('T', ' '))} UTC" if report["started_at"] else ""
    words = escape(str(report["headline"]))
    for noun in ("requests", "failed", "lost", "doubled", "made", "rows"):
        words = words.replace(f" {noun}", f"&nbsp;{noun}")
    return (
        f'<header class="{escape(str(report["outcome"]))}"><p class="kicker">Extraction of '
        f"<b>{escape(str(report['context']))}</b>{mode}{day}</p><h1>{words}</h1>"
        f'<dl class="tiles">{shown}</dl>{note}</header>'
    )


def _trace(report: Report, begin: float, name: str, style: str, read: Callable[[Report], Any]) -> Trace:
    points = [((_epoch(point["at"]) or 0.0) - begin, read(point)) for point in report["series"]]
    return Trace(name, style, points)


def _traffic(report: Report, scene: Scene, begin: float) -> str:
    if not report["series"]:
        return ""

    def trace(name: str, style: str, read: Callable[[Report], Any]) -> Trace:
        return _trace(report, begin, name, style, read)

    def of(part: str, actor: str) -> Callable[[Report], Any]:
        return lambda point: point[part].get(actor)

    latency = [
        trace(f"{actor} {what}", f"{actor} {what}", of(f"{what}_ms", actor))
        for actor in ("monolith", "service")
        for what in ("p50", "p99")
    ]
    answered = [trace(f"answered by the {actor}", actor, of("rps", actor)) for actor in ("service", "monolith")]
    lags = [
        trace("monolith to service", "service p99", lambda p: p["lag_forward_ms"]),
        trace("service to monolith", "monolith p99", lambda p: p["lag_reverse_ms"]),
    ]
    worst = max((v for t in latency for _, v in t.points if v is not None), default=0.0)
    parts = [
        figure(
            "Answer times of the moving routes, per second, log scale",
            [(t.style, t.name) for t in latency],
            charts.lines(
                scene,
                latency,
                unit="ms",
                title="Answer times",
                about=f"Median and 99th percentile per second of monolith and service; the highest is {worst:.0f} ms.",
            ),
        ),
        figure(
            "Requests per second, by who answered",
            [(f"area {t.style}", t.name) for t in reversed(answered)],
            charts.stacked(
                scene,
                answered,
                unit="req/s",
                title="Requests per second",
                about="Stacked areas: the service's share grows as reads and writes are switched to it.",
            ),
        ),
    ]
    if any(v is not None for t in lags for _, v in t.points):
        about = "How far the copy is behind its source, from commit to commit, in both directions."
        picture = charts.lines(scene, lags, unit="ms", title="Lag of the copies", about=about)
        parts.append(figure("Lag from commit to commit, log scale", [(t.style, t.name) for t in lags], picture))
    pins = "".join(
        f'<li class="{escape(pin.kind)}"><b>{pin.number}</b> <span>{clock(pin.at)}</span> {escape(pin.label)}</li>'
        for pin in scene.pins
    )
    parts.insert(1, f'<ol class="pins">{pins}</ol>' if pins else "")
    return section("What the traffic saw", "Bands are stages, numbered lines are switches.", *parts)


def _cutovers(report: Report) -> str:
    cutovers = report["cutovers"]
    high = max((float(cutover["hold_max_ms"] or 0) for cutover in cutovers), default=0.0) * 1.05
    cards = []
    for cutover in cutovers:
        to = "service" if cutover["direction"] == "forward" else "monolith"
        name = f"To the {to}, epoch {cutover['epoch']}"
        marks = {
            label: float(cutover[key])
            for label, key in (("p50", "hold_p50_ms"), ("p99", "hold_p99_ms"), ("max", "hold_max_ms"))
            if cutover[key] is not None
        }
        said = ", ".join(f"{key} {value:.0f} ms" for key, value in marks.items())
        about = f"{name}: {cutover['held_requests']} requests waited; {said}"
        title = "Waits of held requests"
        picture = charts.strip(cutover["holds_ms"], marks=marks, title=title, about=about, high=high) if marks else ""
        facts = f"{say(cutover['held_requests'])} requests held · writes moved in {_ms(cutover['duration_ms'])}"
        if cutover.get("held_commands"):
            facts += f" · {say(cutover['held_commands'])} commands waited, {_ms(cutover['commands_max_ms'])} at most"
        caption = f"<figcaption><b>{escape(name)}</b> {escape(facts)}</figcaption>"
        cards.append(f'<figure class="{to}">{caption}{picture}</figure>')
    intro = "Each bar is how many held requests waited so long. All cut-overs share one scale."
    return section("Cut-overs of writes", intro if cards else "", *cards)


def _stages(report: Report, scene: Scene, begin: float) -> str:
    rows = []
    for visit in report["stages"]:
        entered, left = _epoch(visit["entered_at"]) or begin, _epoch(visit["left_at"])
        took = "still on" if left is None else clock(left - entered)
        step = f' <span class="soft">{escape(str(visit["step"]))}</span>' if visit.get("step") else ""
        gate = visit["gate"]
        passed = sum(1 for kpi in gate["kpis"] if kpi["verdict"] == "pass")
        kpis = f"{passed} of {len(gate['kpis'])} KPIs pass" if gate["kpis"] else NOTHING
        verdict = _verdict(str(gate["verdict"])) if gate["kpis"] else '<span class="soft">no gate</span>'
        name = f"<b>{escape(str(visit['name']))}</b>{step}"
        left_by = escape(str(visit.get("left_by") or NOTHING))
        rows.append((name, _since(visit["entered_at"], begin), took, verdict, kpis, left_by))
    visits = table(("stage", "entered", "took", "gate", "evidence", "left by"), rows, numeric=(1, 2))
    return section("Stages", "Every visit in order; an extraction is in exactly one stage.", _timeline(scene), visits)


def _timeline(scene: Scene) -> str:
    if not scene.spans:
        return ""
    parts = "".join(
        f'<span style="flex-grow:{max(span.end - span.begin, scene.length / 200):.1f}" title="{escape(span.label)} '
        f'{clock(span.begin)} to {clock(span.end)}">{escape(span.label)}</span>'
        for span in scene.spans
    )
    return f'<div class="timeline" role="img" aria-label="Stages over time">{parts}</div>'


def badness(kpi: Report, value: Any) -> float | None:
    """A KPI's value over its threshold, so that 1 is the threshold and less is better; None for what has no scale."""
    threshold, kind = kpi["threshold"], kpi.get("kind", "rate below")
    if value is None or isinstance(value, bool) or isinstance(threshold, bool) or kind == "state":
        return None
    if kind in ("rate above", "share below limit"):
        return (1 - float(value)) / (1 - float(threshold)) if threshold < 1 else None
    if kind == "value at least":
        return float(threshold) / float(value) if value else None
    return float(value) / float(threshold) if threshold else None


def _share(kpi: Report, value: Any) -> str:
    if value is None or isinstance(value, bool) or str(kpi.get("kind", "")).startswith(("value", "state")):
        return say(value)
    return f"{number(float(f'{float(value) * 100:.6g}'))} %"


def _evidence(report: Report) -> str:
    blocks = []
    for visit in report["stages"]:
        kpis = visit["gate"]["kpis"]
        if not kpis:
            continue
        step = f" {visit['step']}" if visit.get("step") else ""
        items = "".join(_kpi(kpi) for kpi in kpis)
        verdict = _verdict(str(visit["gate"]["verdict"]))
        blocks.append(f'<div class="gate"><h3>{escape(str(visit["name"]) + step)} {verdict}</h3><ul>{items}</ul></div>')
    intro = (
        "The dot is what was seen, the bar its confidence bound, the line the threshold: it passes when the bar stays "
        "in the shaded half. Inconclusive never counts as a pass."
    )
    return section("Evidence against thresholds", intro, *blocks)


def _kpi(kpi: Report) -> str:
    observed, bound = badness(kpi, kpi["observed"]), badness(kpi, kpi["bound"])
    words = (
        f"{kpi['name']}: observed {_share(kpi, kpi['observed'])}, bound {_share(kpi, kpi['bound'])}, {kpi['verdict']}"
    )
    picture = charts.interval(observed, bound, title=words) if observed is not None else ""
    facts = [f"seen {_share(kpi, kpi['observed'])}"]
    if kpi["bound"] is not None:
        sure = f" at {say(round(kpi['confidence'] * 100, 2))} %" if kpi["confidence"] is not None else ""
        facts.append(f"bound {_share(kpi, kpi['bound'])}{sure}")
    if kpi["samples"] and kpi["bound"] is not None:
        facts.append(f"{say(kpi['samples'])} samples")
    if kpi["verdict"] == "inconclusive" and kpi.get("needed"):
        facts.append(f"{say(kpi['needed'])} more needed")
    if kpi["verdict"] != "pass" and kpi.get("reason"):
        facts.append(str(kpi["reason"]))
    loosened = f'<em class="loosened">loosened: {escape(str(kpi["loosened"]))}</em>' if kpi.get("loosened") else ""
    name, says = escape(str(kpi["name"]).replace("_", " ")), escape(str(kpi.get("says") or ""))
    return (
        f'<li><div class="what"><b>{name}</b> <span class="soft">{says}</span>{loosened}</div>'
        f'<div class="picture">{picture}</div><div class="facts">{escape(" · ".join(facts))}</div>'
        f"{_verdict(str(kpi['verdict']))}</li>"
    )


def _rollbacks(report: Report, begin: float) -> str:
    rows = []
    for back in report["rollbacks"]:
        how = "by itself" if back["automatic"] else "asked for"
        rows.append((_since(back.get("at"), begin), escape(str(back["stage"])), how, escape(str(back["cause"]))))
    taken = table(("when", "stage", "how", "cause"), rows, numeric=(0,))
    overrides = _plain(report["overrides"])
    refusals = _plain(report["refusals"])
    parts = [
        taken,
        f"<h3>Overridden by a person</h3>{overrides}" if overrides else "",
        f"<h3>Writes that the guards refused</h3>{refusals}" if refusals else "",
    ]
    return section("What was taken back or refused", "", *parts)


def _plain(rows: Sequence[Report]) -> str:
    head = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[escape(say(row.get(key))) for key in head] for row in rows]
    return table([key.replace("_", " ") for key in head], cells)


def _proof(report: Report) -> str:
    ledger, sync = report["ledger"], report["sync"]
    rows = []
    for key, words in (_LEDGER | (_COMMANDS if ledger.get("commands") else {})).items():
        value = ledger.get(key)
        sign = _verdict("inconclusive" if value is None else "pass" if value == 0 else "fail") if key in _ZEROS else ""
        rows.append((escape(words), escape(say(value)), sign))
    checks = [
        (
            escape(str(v.get("where") or f"comparison {i}")),
            escape(say(v["rows_compared"])),
            escape(say(v["differences"])),
            escape(f"{float(v['seconds']):.2f} s"),
            _verdict("pass" if v["differences"] == 0 else "fail"),
        )
        for i, v in enumerate(report["verification"], start=1)
    ]
    head = ("where", "rows compared", "differences", "took", "equal")
    copied = [(escape(key.replace("_", " ")), escape(say(value))) for key, value in sync.items()]
    return section(
        "Proof",
        "Every write of the load carried a unique key, and its answer was remembered; afterwards all were looked for.",
        table(("the ledger", "count", "must be zero"), rows, numeric=(1,)),
        "<h3>Row by row</h3>" + table(head, checks, numeric=(1, 2, 3)) if checks else "",
        "<h3>Copying</h3>" + table(("", "value"), copied, numeric=(1,)) if copied else "",
    )


def _decommission(report: Report) -> str:
    before, after = report["decommission"]["before"], report["decommission"]["after"]
    rows = []
    for key, old in before.items():
        new = after.get(key)
        if isinstance(old, bool) or not isinstance(old, (int, float)) or not isinstance(new, (int, float)):
            continue
        most = max(abs(old), abs(new)) or 1
        change = f"{(new - old) / old * 100:+.0f} %" if old else ""
        bars = _bar("old", old, "before", most) + _bar("new", new, "after", most)
        name = f'<b>{escape(key.replace("_", " "))}</b> <span class="soft">{change}</span>'
        rows.append(f"<li>{name}<div>{bars}</div></li>")
    listed = f'<ul class="bars">{"".join(rows)}</ul>' if rows else ""
    return section("What the monolith lost", "", listed)


def _bar(style: str, value: float, word: str, most: float) -> str:
    width = abs(value) / most * 62
    return f'<div class="{style}"><i style="width:{width:.1f}%"></i><span>{escape(say(value))} {word}</span></div>'


def _settings(report: Report) -> str:
    rows = [(escape(key.replace("_", " ")), escape(say(value))) for key, value in report["settings"].items()]
    return section("Settings of this run", "", table(("setting", "value"), rows))

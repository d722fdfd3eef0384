"""``choose.html``: the candidates for a log side by side, drawn from ``choose.json`` alone.

What to take for which need first; then latency and throughput as pictures, and the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from stranglerfig.report.charts import number
from stranglerfig.report.parts import NOTHING, document, figure, section, table
from stranglerfig.report.ranked import Bars, Range, bars, ranges

Choice = Mapping[str, Any]
_PERCENTILES = ("p50", "p90", "p99", "max")
_SIGNS = {"held": ("pass", "✓"), "broken": ("fail", "✕"), "not tested": ("inconclusive", "…")}


def choice_page(choice: Choice) -> str:
    """The whole page."""
    return document("Choosing a log", _head(choice), _pictures(choice), _side_by_side(choice), _around(choice))


def _measured(choice: Choice) -> list[Choice]:
    return [result for result in choice["results"] if result["measured"]]


def _head(choice: Choice) -> str:
    ask = choice["ask"]
    need = f"{number(ask['rate'])} events/s of {number(ask['size'])} B"
    items = "".join(
        f"<li><b>{escape(advice['need'])}</b><span class='pick'>{escape(_picked(advice))}</span>"
        f"<span class='soft'>{escape(advice['because'])}</span></li>"
        for advice in choice["advice"]
    )
    state = "passed" if _measured(choice) else "failed"
    return (
        f'<header class="{state}"><p class="kicker">Choosing a log · {escape(choice["at"][:16].replace("T", " "))} UTC'
        f" · {escape(choice['machine'])}</p><h1>Candidates for {escape(need)}</h1>"
        f'<ul class="advice">{items}</ul></header>'
    )


def _picked(advice: Choice) -> str:
    return " or ".join(advice["choice"]) or "none of them"


def _pictures(choice: Choice) -> str:
    if not _measured(choice):
        return ""
    ask = choice["ask"]
    waits = [_waits(result) for result in _measured(choice)]
    amounts = [_amounts(result) for result in _measured(choice)]
    parts = (
        figure(
            f"From append to read at {number(ask['rate'])}/s, log scale",
            [("dot m0", "p50"), ("dot m1", "p90"), ("dot m2", "p99"), ("end", "longest")],
            ranges(waits, unit="ms", title="Latency", about="; ".join(f"{one.name}: {one.note}" for one in waits)),
        ),
        figure(
            "As much as it takes, from this one client",
            [],
            bars(amounts, unit="/s", title="Throughput", about="Events per second, single and in batches of 1,000."),
        ),
    )
    intro = (
        "Latency runs from when an event was due, so that a log that stands still is late with all it had to take. "
        "Everything was seen from one client process on the machine named above, its own work included."
    )
    return section("What was measured", intro, *parts)


def _waits(result: Choice) -> Range:
    latency = result["measured"]["latency"]
    values = [(name, latency[name]) for name in _PERCENTILES if latency[name] is not None]
    name = result["name"] if latency["kept"] else f"{result['name']} (rate not kept)"
    return Range(name, values, _came(latency))


def _came(latency: Choice) -> str:
    """What of the asked rate came through."""
    if latency["kept"]:
        return f"kept: {number(round(latency['rate']))}/s came through"
    unseen = f", {number(latency['unseen'])} never" if latency["unseen"] else ""
    return f"not kept: {number(round(latency['rate']))}/s came through{unseen}"


def _amounts(result: Choice) -> Bars:
    values = [
        (f"batches of {number(one['batch'])}" if one["batch"] > 1 else "one by one", one["per_second"], style)
        for one, style in zip(result["measured"]["throughput"], ("light", ""), strict=True)
    ]
    return Bars(result["name"], values)


def _trial(trial: Choice) -> str:
    kind, sign = _SIGNS[trial["outcome"]]
    return (
        f'<span class="verdict {kind}"><b aria-hidden="true">{sign}</b> {escape(trial["outcome"])}</span>'
        f'<span class="soft says">{escape(trial["says"])}</span>'
    )


def _milliseconds(name: str) -> Callable[[Choice], str]:
    def read(result: Choice) -> str:
        value = result["measured"]["latency"][name]
        return NOTHING if value is None else f"{number(float(f'{value:.3g}'))} ms"

    return read


def _throughput(index: int) -> Callable[[Choice], str]:
    return lambda result: f"{number(round(result['measured']['throughput'][index]['per_second']))}/s"


def _of(part: str) -> Callable[[Choice], str]:
    return lambda result: _trial(result["measured"][part])


def _memory(result: Choice) -> str:
    seen = result["footprint"]
    if seen is None:
        return "not on this machine, or not ours to see"
    return f"{number(seen['processes'])} processes, {number(round(seen['memory_bytes'] / 1e6))} MB"


def _durability(result: Choice) -> str:
    settings = f'<span class="soft says">{escape(result["settings"])}</span>' if result["settings"] else ""
    return f"{escape(result['operation']['durability'])}{settings}"


FACTS: Sequence[tuple[str, bool, Callable[[Choice], str]]] = (
    ("one by one", True, _throughput(0)),
    ("in batches of 1,000", True, _throughput(1)),
    ("asked rate", True, lambda result: escape(_came(result["measured"]["latency"]))),
    *((f"latency {name}", True, _milliseconds(name)) for name in _PERCENTILES),
    ("durability, declared", False, _durability),
    ("durability, tried", False, lambda result: _trial(result["durability"])),
    ("order per key", True, _of("ordering")),
    ("replay from position", True, _of("replay_position")),
    ("replay from time", True, _of("replay_time")),
    ("largest event", True, _of("largest")),
    ("declares", True, lambda result: escape(", ".join(result["measured"]["capabilities"]))),
    ("further servers", False, lambda result: number(result["further"])),
    ("seen here", True, _memory),
    ("to run", False, lambda result: escape(result["operation"]["runs"])),
    ("to watch", False, lambda result: escape("; ".join(result["operation"]["watch"]) or NOTHING)),
    ("grows", False, lambda result: escape(result["operation"]["grows"])),
)
"""Each fact's name, whether it needs the measurement, and what it says of a result, as HTML."""


def _side_by_side(choice: Choice) -> str:
    results = choice["results"]
    head = ("", *(result["name"] for result in results))
    rows = [
        (f"<b>{escape(name)}</b>", *(NOTHING if measured and not one["measured"] else read(one) for one in results))
        for name, measured, read in FACTS
    ]
    if any(result["problem"] for result in results):
        rows.insert(0, ("<b>could not be measured</b>", *(escape(one["problem"] or NOTHING) for one in results)))
    intro = "Durability as declared, what is to be run, watched and how it grows are written facts; the rest was seen."
    return section("Side by side", intro, f'<div class="facts-of">{table(head, rows)}</div>')


def _around(choice: Choice) -> str:
    rows = [
        (escape(one["what"]), escape(one["where"]), escape(one["says"] or ("found" if one["found"] else "not found")))
        for one in choice["looked"]
    ]
    return section("Where candidates were looked for", "", table(("what", "where", "what was there"), rows))

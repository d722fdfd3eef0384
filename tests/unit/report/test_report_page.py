"""The page: well-formed, loads nothing, draws what there is, and stands an empty or hostile report."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from report_sample import sample

from stranglerfig.report import charts
from stranglerfig.report.build import build
from stranglerfig.report.charts import Frame, Scene, Trace
from stranglerfig.report.model import Cutover, Mark, Point, ReportInput, Visit
from stranglerfig.report.page import badness, page

HTML = page(build(sample()))


def body(html: str) -> ElementTree.Element:
    """The page's body, read as XML: it is written so that it is both."""
    return ElementTree.fromstring(re.search(r"<body>.*</body>", html, re.S).group(0).replace("&nbsp;", " "))  # type: ignore[union-attr]


def test_it_is_well_formed_and_loads_nothing() -> None:
    body(HTML)
    assert not re.search(r"<script|<link|@import|url\((?!#)|https?://|src=", HTML)


def test_every_picture_has_words_and_both_sizes() -> None:
    root = body(HTML)
    pictures = [svg for svg in root.iter("svg") if svg.get("role") == "img"]
    assert pictures and all(svg.find("title") is not None for svg in pictures)
    wide = [svg for svg in pictures if "wide" in (svg.get("class") or "")]
    narrow = [svg for svg in pictures if "narrow" in (svg.get("class") or "")]
    assert len(wide) == len(narrow) == 5
    assert all(svg.findtext("desc") for svg in wide)


def test_it_says_what_matters() -> None:
    for words in (
        "100,482&nbsp;requests",
        "Looser than the defaults",
        "loosened: below 0.005 instead of 0.0001",
        "rolled back by itself",
        "by itself",
        "49,700 more needed",
        "50,211",
        "What the monolith lost",
        "-26 %",
        "nightly",
        "83 requests held",
    ):
        assert words in HTML, words
    assert "≥" not in HTML and "None" not in HTML


def test_an_empty_report_is_drawn_too() -> None:
    html = page(build(ReportInput("inventory", "failed")))
    body(html)
    assert "Failed." in html and "What the traffic saw" not in html


def test_overrides_are_never_silent() -> None:
    html = page(build(replace(sample(), overrides=({"who": "Ann", "why": "demo day"},))))
    assert "overridden by a person: 1" in html and "demo day" in html


def test_hostile_words_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    visit = Visit(bad, now, now + timedelta(seconds=5), {"verdict": bad, "kpis": []}, bad, bad)
    found = ReportInput(bad, "completed", bad, stages=(visit,), marks=(Mark(now, bad, bad),), settings={bad: bad})
    found = replace(found, refusals=({bad: bad},), series=(Point(now), Point(now + timedelta(seconds=5))))
    html = page(build(found))
    body(html)
    assert "<script" not in html


def test_a_run_without_lag_or_waits_is_drawn() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = ReportInput(
        "inventory",
        "completed",
        series=tuple(Point(now + timedelta(seconds=i), rps={"monolith": 0}) for i in range(3)),
        cutovers=(Cutover("forward", 2, 0, None, None, None, 1.0), Cutover("back", 3, 1, 0.0, 0.0, 0.0, 1.0)),
        decommission={"before": {"tables": 0, "host": "a"}, "after": {"tables": 0}},
        verification=(),
    )
    html = page(build(found))
    body(html)
    assert "Lag from commit" not in html


@pytest.mark.parametrize(
    ("kind", "threshold", "value", "ratio"),
    [
        ("rate below", 0.01, 0.005, 0.5),
        ("share below limit", 0.99, 0.98, 2.0),
        ("rate above", 1.0, 0.98, None),
        ("no worse", 0.5, 0.25, 0.5),
        ("value at least", 0.9, 0.45, 2.0),
        ("value at least", 0.9, 0, None),
        ("value below", 10, 5, 0.5),
        ("value below", 0, 5, None),
        ("state", True, True, None),
        ("rate below", 0.01, None, None),
    ],
)
def test_badness_puts_every_kpi_on_one_scale(kind: str, threshold: Any, value: Any, ratio: float | None) -> None:
    found = badness({"kind": kind, "threshold": threshold}, value)
    assert found == (None if ratio is None else pytest.approx(ratio))


def test_thinning_keeps_peaks_and_gaps() -> None:
    points = [(float(i), 100.0 if i == 7 else None if 20 <= i < 30 else 1.0) for i in range(100)]
    thinned = charts.thin(points, 10, max)
    assert len(thinned) == 10 and thinned[0] == (0.0, 100.0) and thinned[2] == (20.0, None)
    assert charts.thin(points, 1000, max) == points


def test_paths_have_gaps_and_lonely_dots() -> None:
    frame = Frame(100, 100, 10, 0, 10)
    assert charts.path(frame, [(0, 1), (1, None), (2, 3), (3, 4)]).count("M") == 2
    assert "h.1" in charts.path(frame, [(0, 1), (1, None)])


@pytest.mark.parametrize(("high", "log"), [(0.4, False), (7, False), (880, False), (2.5, True), (90_000, True)])
def test_axes_have_few_readable_ticks(high: float, log: bool) -> None:
    trace = Trace("t", "service", [(0, high), (1, high / 2)])
    drawn = charts.lines(Scene(4000), [trace], unit="ms", title="t", about="a", log=log)
    assert 2 <= drawn.count('class="tick end"') / 2 <= 8


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (187, "3:07"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert charts.clock(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(1234, "1,234"), (1234.5, "1,234"), (12.34, "12.3"), (0.00213, "0.00213")])
def test_number(value: float, text: str) -> None:
    assert charts.number(value) == text


def test_commands_by_queue_are_told_where_there_were_any() -> None:
    found = build(sample())
    assert "commands waited" not in HTML and "Overtaken" not in HTML
    found["ledger"] |= {
        "commands": 1200,
        "misordered_commands": 0,
        "repeated_answers": 3,
        "contradicted_answers": 1,
    }
    found["cutovers"][0] |= {"held_commands": 12, "commands_max_ms": 340.0}
    html = page(found)
    assert "12 commands waited, 340 ms at most" in html
    text = ["".join(row.itertext()) for row in body(html).iter("tr")]
    assert any(line.startswith("Of the writes, commands by queue") and "1,200" in line for line in text)
    assert any(line.startswith("Overtaken") and "✓" in line for line in text)
    assert any(line.startswith("Answered again, differently") and "✕" in line for line in text)

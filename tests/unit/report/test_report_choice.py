"""The page of a choice: everything that was found is on it, nothing is loaded, names cannot break it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from stranglerfig.report.choice import choice_page
from stranglerfig.report.ranked import Bars, Range, bars, ranges
from tests.unit.eventlog.choice_sample import AWAY, KAFKA, POSTGRES, SLOW, choice

PAGE = choice_page(choice(POSTGRES, KAFKA, SLOW, AWAY))


@pytest.mark.parametrize(
    "words",
    [
        "Candidates for 5,000 events/s of 500 B",
        "2 cores, x86_64, Linux",
        "2,580 acknowledged events there",
        "not tested",
        "not declared",
        "it does not answer",
        "not kept: 2,000/s came through",
        "RabbitMQ &lt;streams&gt; (rate not kept)",
        "14 processes, 155 MB",
        "fsync on, synchronous_commit on",
        "controller elections",
        "nothing listens",
        "210,000/s",
    ],
)
def test_the_page_says(words: str) -> None:
    assert words in PAGE


def test_the_page_stands_alone() -> None:
    assert "<script" not in PAGE and "<streams>" not in PAGE
    assert not re.search(r"(?:src|href)=|url\((?!#)|@import", PAGE)


def test_every_picture_is_drawn_for_wide_screens_and_phones_and_is_well_formed() -> None:
    pictures = re.findall(r'<svg class="chart.*?</svg>', PAGE, re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_a_page_without_any_figure_says_so() -> None:
    page = choice_page(choice(AWAY))
    assert "none of them" in page and "it does not answer" in page and "What was measured" not in page


def x_of(picture: str, title: str) -> float:
    found = re.search(rf'<title>{re.escape(title)}</title><(?:circle|line)[^>]*?(?:cx|x1)="([\d.]+)"', picture)
    assert found is not None, title
    return float(found[1])


def test_marks_lie_where_their_values_are() -> None:
    picture = ranges([Range("a", [("p50", 1.0), ("p99", 10.0), ("max", 100.0)])], unit="ms", title="t", about="a")
    first, middle, last = (x_of(picture, f"a {words} ms") for words in ("p50 1", "p99 10", "max 100"))
    assert middle - first == pytest.approx(last - middle, abs=0.2)
    assert "because" in ranges([Range("a", [], "because")], unit="ms", title="t", about="a")


def test_bars_are_as_long_as_their_values() -> None:
    picture = bars([Bars("a", [("one", 50.0, "light"), ("many", 100.0, "")])], unit="/s", title="t", about="a")
    widths = [float(width) for width in re.findall(r'<rect[^>]*width="([\d.]+)"', picture)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2) and len(widths) == 4

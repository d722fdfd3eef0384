"""Flows drawn: each event and reaction once, what follows below what it follows from, nothing on top of another."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.sagas.flow_drawing import mermaid, svg
from stranglerfig.sagas.flows import Drawing, Reaction
from stranglerfig.sagas.shapes import HEIGHT, WIDTH

REFUND = Drawing(
    "refund",
    ("orders.RefundAsked",),
    ("money.Refunded", "orders.RefundRefused"),
    (
        Reaction("stock", "orders.RefundAsked", ("stock.Returned", "orders.RefundRefused")),
        Reaction("money", "stock.Returned", ("money.Refunded", "orders.RefundRefused")),
        Reaction("mail", "money.Refunded", (), may_stay_silent=True),
    ),
)
SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> list[tuple[str, float, float]]:
    """What stands in each box, and where its upper left corner is."""
    found = []
    for group in ElementTree.fromstring(text).findall(f"{SVG}g"):
        rect, words = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None and words is not None and words.text is not None
        found.append((words.text, float(rect.get("x", "")), float(rect.get("y", ""))))
    return found


def test_mermaid_says_who_reacts_and_how_often() -> None:
    text = mermaid(REFUND, {("stock.Returned", "money.Refunded"): 7})
    assert 's1["money"]' in text and "s1 -->|7| e" in text and text.startswith("flowchart LR")


def test_what_follows_stands_below_and_counts_stand_beside_their_ways() -> None:
    text = svg(REFUND, {("stock.Returned", "money.Refunded"): 7_000})
    y = {word: y for word, _, y in boxes(text)}
    assert [*sorted(y, key=y.__getitem__)][:5] == [
        "orders.RefundAsked", "stock", "stock.Returned", "money", "money.Refunded",
    ] or y["money.Refunded"] == y["orders.RefundRefused"]  # fmt: skip
    assert y["orders.RefundAsked"] < y["stock"] < y["stock.Returned"] < y["money"] < y["money.Refunded"] < y["mail"]
    assert y["orders.RefundRefused"] == y["money.Refunded"] and ">7,000<" in text
    assert text.count("<path class=") == 7 and "stroke-dasharray" in text


def test_a_circle_is_drawn_as_a_way_back() -> None:
    again = (Reaction("a", "x.A", ("x.B",)), Reaction("b", "x.B", ("x.A", "x.End")))
    text = svg(Drawing("loop", ("x.A",), ("x.End",), again, max_hops=4), {("x.B", "x.A"): 3})
    assert text.count('<path class="back"') == 1 and ">3<" in text


TYPES = st.sampled_from([f"x.{letter}" for letter in "ABCDEF"])


@given(st.lists(st.tuples(TYPES, st.lists(TYPES, max_size=3)), max_size=8))
def test_each_stands_once_and_nothing_on_another(reactions: list[tuple[str, list[str]]]) -> None:
    made = tuple(Reaction(f"s{n}", event, tuple(emits)) for n, (event, emits) in enumerate(reactions))
    drawing = Drawing("any", ("x.A",), ("x.F",), made)
    found = boxes(svg(drawing))
    assert sorted(word for word, _, _ in found) == sorted([*drawing.events, *(each.service for each in made)])
    for number, (_, x, y) in enumerate(found):
        assert not [o for o, ox, oy in found[number + 1 :] if abs(x - ox) < WIDTH and abs(y - oy) < HEIGHT]

"""The model as text: what is printed reads as the same model, and nothing is dropped."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.model import (
    TYPES,
    Aggregate,
    Area,
    Command,
    Comment,
    Context,
    Event,
    Field,
    Hotspot,
    Link,
    Model,
    Place,
    Policy,
    ReadModel,
    Signature,
    Sticky,
    Wall,
    missing_signatures,
    semantic_hash,
    sign,
    void_signatures,
)
from stranglerfig.storming.text import parse, show
from stranglerfig.storming.wall import KINDS

INVENTORY = """\
# The first context to leave.
context Inventory
  aggregate StockLevel(on_hand: int)
    # Corrections and deliveries.
    command AdjustStock(item_id: int, delta: int, reason: str)
    event StockAdjusted(item_id: int, delta: int, on_hand: int, reason: str) v1 key item_id
  policy "Reserve on order": Orders.OrderPlaced -> AdjustStock
  readmodel StockByWarehouse <- StockAdjusted

hotspot "Who may adjust below zero?" on AdjustStock answered "nobody"
signoff required: domain expert, architect

layout
  StockAdjusted 620 300
"""

names = st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True)
fields = st.lists(
    st.builds(
        Field,
        st.from_regex(r"[a-z][a-z_]{0,6}", fullmatch=True),
        st.sampled_from([*TYPES, *(f"list[{t}]" for t in TYPES)]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=3,
).map(tuple)
notes = st.lists(st.from_regex(r"# [a-z]{1,6}", fullmatch=True), max_size=2).map(tuple)
unknown = st.lists(st.from_regex(r"\? [a-z]{1,6}", fullmatch=True), max_size=2).map(tuple)
words = st.from_regex(r"[a-z]{1,5}( [a-z]{1,5})?", fullmatch=True)
some = st.lists(names, max_size=2).map(tuple)
commands = st.builds(Command, names, fields, notes)
events = st.builds(Event, names, fields, st.integers(0, 9), st.none() | names, notes)
aggregates = st.builds(
    Aggregate,
    names,
    st.lists(commands, max_size=2).map(tuple),
    st.lists(events, max_size=2).map(tuple),
    fields,
    unknown,
    notes,
)
contexts = st.builds(
    Context,
    names,
    st.lists(aggregates, max_size=2).map(tuple),
    st.lists(st.builds(Policy, words, some, some, notes), max_size=2).map(tuple),
    st.lists(st.builds(ReadModel, names, some, notes), max_size=2).map(tuple),
    unknown,
    notes,
)
said = st.from_regex(r"[ -!#-~]{0,12}", fullmatch=True)
place = st.integers(-999, 999)
walls = st.builds(
    Wall,
    st.lists(st.builds(Area, said, place, place, place, place), max_size=2).map(tuple),
    st.lists(st.builds(Sticky, st.sampled_from(KINDS), said, place, place, said, st.none() | said), max_size=3).map(
        tuple
    ),
    st.lists(st.builds(Link, said, said), max_size=2).map(tuple),
    st.lists(said, max_size=2).map(tuple),
    st.lists(st.builds(Comment, said, said, said), max_size=2).map(tuple),
)
models = st.builds(
    Model,
    st.lists(contexts, max_size=2).map(tuple),
    st.lists(st.builds(Hotspot, words, names, st.none() | words, notes), max_size=2).map(tuple),
    st.lists(words, max_size=2).map(tuple),
    st.lists(
        st.builds(Signature, words, words, st.dates(date(1000, 1, 1)), st.from_regex(r"[0-9a-f]{8}", fullmatch=True)),
        max_size=2,
    ).map(tuple),
    st.lists(st.builds(Place, names, st.integers(-9, 9), st.integers(-9, 9)), max_size=2).map(tuple),
    unknown,
    notes,
    walls,
)


@given(models)
def test_what_is_printed_reads_as_the_same_model(model: Model) -> None:
    text = show(model)
    assert parse(text) == model
    assert show(parse(text)) == text


@given(st.text(max_size=200))
def test_any_text_is_read_and_settles(text: str) -> None:
    once = show(parse(text))
    assert show(parse(once)) == once


@given(st.lists(st.sampled_from([*INVENTORY.splitlines(), "? what", "    ? this", "wall", "# a word", "  # two"])))
def test_printing_keeps_the_meaning_and_every_comment_and_strange_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    shown = show(parse(text))
    assert semantic_hash(parse(shown)) == semantic_hash(parse(text))
    kept = [line.strip() for line in shown.splitlines()]
    for line in lines:
        if line.strip().startswith(("#", "?")):
            assert kept.count(line.strip()) == [each.strip() for each in lines].count(line.strip())


def test_the_text_of_the_scenario_is_stable() -> None:
    model = parse(INVENTORY)
    assert show(model) == INVENTORY
    (context,) = model.contexts
    assert (context.slug, context.topic) == ("inventory", "events.inventory")
    (event,) = context.events()
    assert context.event_type(event) == "inventory.StockAdjusted" and event.key == "item_id" and event.line == 6
    assert model.context("INVENTORY") == context and model.context("orders") is None
    assert [c.name for _, _, c in model.commands()] == ["AdjustStock"]


@pytest.mark.parametrize(
    "line",
    [
        "sticker Blue",
        "event StockLost(broken field) v1",
        "    event StockLost(broken field) v1",
        '  signoff by "Ann" as architect on 2026-13-41 of abc',
        "command Outside",
        "policy Reserve -> X",
    ],
)
def test_lines_that_are_not_understood_survive(line: str) -> None:
    for text in (f"{line}\n{INVENTORY}", INVENTORY.replace("hotspot", f"{line}\nhotspot")):
        assert line.strip() in show(parse(text)).replace("  ", "") or line.strip() in show(parse(text))


def test_an_empty_model_is_empty_text() -> None:
    assert show(parse("\n\n")) == ""


def test_layout_and_comments_do_not_change_the_meaning() -> None:
    model = parse(INVENTORY)
    moved = INVENTORY.replace("620 300", "1 2").replace("# Corrections and deliveries.", "# Something else")
    moved = moved.replace('on AdjustStock answered "nobody"', "on AdjustStock") + "\n# the end\n"
    assert semantic_hash(parse(moved)) == semantic_hash(model)
    for meaning in (
        ("delta: int", "delta: int?"),
        ("v1", "v2"),
        ("key item_id", ""),
        ("StockLevel", "Stock"),
        ("#", "note"),
    ):
        assert semantic_hash(parse(INVENTORY.replace(*meaning))) != semantic_hash(model), meaning


def test_signing_binds_people_to_what_the_model_means() -> None:
    model = parse(INVENTORY)
    assert missing_signatures(model) == ("domain expert", "architect")
    signed = sign(sign(model, "Ann Lee", "architect", date(2026, 1, 2)), "Bo", "domain expert", date(2026, 1, 3))
    again = parse(show(sign(signed, "Bo", "domain expert", date(2026, 1, 4))))
    assert missing_signatures(again) == () and len(again.signatures) == 2 and void_signatures(again) == ()
    changed = parse(show(again).replace("delta: int,", "delta: decimal,"))
    assert missing_signatures(changed) == ("domain expert", "architect") and len(void_signatures(changed)) == 2
    with pytest.raises(FigError, match="asks nobody to sign as 'tester'") as refused:
        sign(model, "Ann", "tester", date(2026, 1, 2))
    assert refused.value.code == "role_not_required"
    with pytest.raises(FigError, match="cannot be written"):
        sign(model, 'A "B" C', "architect", date(2026, 1, 2))

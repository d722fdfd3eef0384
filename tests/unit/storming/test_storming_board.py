"""The board and the model, each made from the other: nothing that hangs on the wall is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stranglerfig.storming.board import SIZES, Band, Board, Boundary, Edge, Note, Said, to_board, to_model
from stranglerfig.storming.model import Model, semantic_hash
from stranglerfig.storming.text import parse, show

MODEL = Path("examples/shop/estate/contexts/inventory/model.storm").read_text(encoding="utf-8")

places = st.integers(-900, 900)
texts = st.sampled_from(["", "Placed", "Stock", "Orders.Placed", "who is it?", "Über", "Adjust", "event A.Placed"])
specs = st.sampled_from(["", "", "(item_id: int)", "(a: str? personal) v2 key a", "v3", "(what is this"])
notes = st.builds(
    Note,
    st.just(""),
    st.sampled_from(sorted(SIZES)),
    texts,
    places,
    places,
    st.sampled_from([None, "c0", "c0", "c1", "c2"]),
    st.just(""),
    st.just(None),
    st.booleans(),
)


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """Anything that people may hang, joined in any way."""
    found = {}
    for number, note in enumerate(draw(st.lists(notes, max_size=9))):
        spec = draw(specs) if note.kind in ("event", "command", "aggregate", "policy") else ""
        answer = draw(st.sampled_from([None, "nobody"])) if note.kind == "hotspot" else None
        # No two hang at one place: those could not be told apart, in a text or by people.
        found[f"n{number}"] = replace(note, id=f"n{number}", y=10 * note.y + number, spec=spec, answer=answer)
    names = draw(st.lists(st.sampled_from(["A", "B", "On hold", ""]), min_size=3, max_size=3))
    contexts = {f"c{i}": Boundary(f"c{i}", name, 10 * i, i, 300, 200 + i) for i, name in enumerate(names)}
    edges: dict[str, Edge] = {}
    comments: dict[str, Said] = {}
    if found:
        ends = st.sampled_from(sorted(found))
        for source, target in draw(st.lists(st.tuples(ends, ends), max_size=12)):
            if source != target:
                edge = Edge(source, target)
                edges[edge.id] = edge
        for number, note_id in enumerate(draw(st.lists(ends, max_size=2))):
            comments[f"s{number}"] = Said(f"s{number}", note_id, "Ann", f"words {number}", number)
    bands = draw(st.lists(st.tuples(texts, places, st.integers(80, 900)), max_size=3))
    lanes = {f"l{number}": Band(f"l{number}", *band) for number, band in enumerate(bands)}
    return Board(found, edges, contexts, comments, lanes)


def seen(board: Board) -> tuple[list[object], ...]:
    """All that a person sees, without the ids: those are new in a new wall."""

    def sticky(id_: str) -> tuple[object, ...]:
        n = board.notes[id_]
        # A hotspot is where it hangs; of all others the text says in which context.
        drawn = board.contexts.get(n.context or "") if n.kind != "hotspot" else None
        inside = (drawn.x, drawn.y) if drawn is not None else None
        return n.kind, n.text, n.x, n.y, inside, n.spec, n.answer, n.pivotal

    return (
        sorted((sticky(id_) for id_ in board.notes), key=repr),
        sorted(((sticky(e.source), sticky(e.target)) for e in board.edges.values()), key=repr),
        sorted(((c.x, c.y, c.width, c.height) for c in board.contexts.values()), key=repr),
        sorted(((sticky(c.note), c.by, c.words) for c in board.comments.values()), key=repr),
        sorted(((b.name, b.y, b.height) for b in board.lanes.values()), key=repr),
    )


@settings(max_examples=300, deadline=None)
@given(boards())
def test_wall_text_wall_keeps_every_sticky_arrow_context_and_place(board: Board) -> None:
    text = show(to_model(board, Model()))
    back = to_board(parse(text))
    assert seen(back) == seen(board), text
    assert show(to_model(back, Model())) == text


def test_a_model_that_nobody_touches_is_written_as_it_was_and_stays_signed() -> None:
    model = parse(MODEL)
    board = to_board(model)
    written = to_model(board, model)
    assert (written.contexts, written.hotspots, written.signatures) == (
        model.contexts,
        model.hotspots,
        model.signatures,
    )
    assert semantic_hash(written) == semantic_hash(model)
    assert {(p.name, p.x, p.y) for p in model.layout} <= {(p.name, p.x, p.y) for p in written.layout}
    assert to_board(parse(show(written)), board) == to_board(written, board)


def test_reading_the_same_text_again_keeps_ids_and_places() -> None:
    model = parse(MODEL)
    board = to_board(model)
    moved = {id_: replace(note, x=note.x + 1000) for id_, note in board.notes.items()}
    again = to_board(replace(model, layout=()), replace(board, notes=moved))
    assert set(again.notes) == set(board.notes)
    assert {n.id: n.x for n in again.notes.values() if n.id in moved} == {
        id_: n.x for id_, n in moved.items() if n.context is not None or n.kind == "hotspot"
    } | {n.id: again.notes[n.id].x for n in moved.values() if n.context is None and n.kind != "hotspot"}


def test_stickies_become_a_context_once_they_are_joined_and_drawn_around() -> None:
    board = Board(
        {
            "e": Note("e", "event", "StockAdjusted", 500, 100, "c", "(item_id: int) key item_id"),
            "k": Note("k", "command", "AdjustStock", 100, 100, "c"),
            "a": Note("a", "aggregate", "StockLevel", 300, 100, "c"),
            "u": Note("u", "actor", "Clerk", 0, 100),
        },
        {e.id: e for e in (Edge("u", "k"), Edge("k", "a"), Edge("a", "e"))},
        {"c": Boundary("c", "Inventory", 50, 50, 700, 300)},
    )
    assert show(to_model(board, Model())) == (
        "context Inventory\n"
        "  aggregate StockLevel\n"
        "    command AdjustStock\n"
        "    event StockAdjusted(item_id: int) v1 key item_id\n"
        "\n"
        "\n"
        "layout\n"
        "  AdjustStock 100 100\n"
        "  StockAdjusted 500 100\n"
        "  StockLevel 300 100\n"
        "\n"
        "wall\n"
        '  context "Inventory" 50 50 700 300\n'
        '  sticky actor "Clerk" 0 100\n'
        '  link "Clerk" -> "AdjustStock"\n'
    )


def test_a_command_outside_the_boundary_is_not_part_of_the_context() -> None:
    board = Board(
        {"k": Note("k", "command", "AdjustStock", 0, 0), "a": Note("a", "aggregate", "StockLevel", 300, 0, "c")},
        {"k>a": Edge("k", "a")},
        {"c": Boundary("c", "Inventory", 250, -50, 400, 300)},
    )
    model = to_model(board, Model())
    assert [c.commands for c in model.contexts[0].aggregates] == [()]
    assert [(s.kind, s.name) for s in model.wall.stickies] == [("command", "AdjustStock")]
    assert seen(to_board(model)) == seen(board)


def test_nothing_of_a_new_text_hangs_on_something_else() -> None:
    notes = list(to_board(parse(MODEL)).notes.values())
    for number, one in enumerate(notes):
        for other in notes[:number]:
            if "hotspot" not in (one.kind, other.kind):
                apart_x = max(one.x - other.x - SIZES[other.kind][0], other.x - one.x - SIZES[one.kind][0])
                apart_y = max(one.y - other.y - SIZES[other.kind][1], other.y - one.y - SIZES[one.kind][1])
                assert max(apart_x, apart_y) >= 0, (one.text, other.text)


def test_swimlanes_are_lines_of_the_text_and_keep_their_ids() -> None:
    board = Board(lanes={"a": Band("a", "Warehouse", 340, 260), "b": Band("b", 'The "shop"', 0, 300)})
    text = show(to_model(board, Model()))
    assert text == 'wall\n  lane "The \'shop\'" 0 300\n  lane "Warehouse" 340 260\n'
    moved = to_board(parse(text.replace("340", "500")), board)
    assert moved.lanes == {"a": Band("a", "Warehouse", 500, 260), "b": Band("b", "The 'shop'", 0, 300)}
    assert semantic_hash(parse(text)) == semantic_hash(Model())

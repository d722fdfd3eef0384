"""The board in a shared document, and the built page that belongs to the sources."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pycrdt import Doc, Map

from stranglerfig.console import shared
from stranglerfig.console.site import STATIC
from stranglerfig.storming.board import Board, to_board
from stranglerfig.storming.text import parse

MODEL = Path("examples/shop/estate/contexts/inventory/model.storm").read_text(encoding="utf-8")
WEB = Path("web")


def empty() -> Doc[Any]:
    return Doc()


def test_a_board_is_read_as_it_was_written() -> None:
    doc, board = empty(), to_board(parse(MODEL))
    assert shared.write(doc, board) == sum(map(len, (board.notes, board.edges, board.contexts, board.comments)))
    assert shared.read(doc) == board


def test_only_the_difference_is_written() -> None:
    doc, board = empty(), to_board(parse(MODEL))
    shared.write(doc, board)
    assert shared.write(doc, board) == 0
    id_, note = next(iter(board.notes.items()))
    state = doc.get_state()
    assert shared.write(doc, replace(board, notes={**board.notes, id_: replace(note, x=note.x + 1)})) == 1
    assert len(doc.get_update(state)) < 60
    assert shared.write(doc, Board()) > 10 and shared.read(doc) == Board()


def test_two_who_take_in_the_same_text_apart_have_one_board_together() -> None:
    one, other, board = empty(), empty(), to_board(parse(MODEL))
    shared.write(one, board)
    shared.write(other, board)
    one.apply_update(other.get_update())
    assert shared.read(one) == board


def test_what_is_no_sticky_is_left_out() -> None:
    doc = empty()
    notes = doc.get("notes", type=Map)
    notes["text"] = "not a map"
    notes["kind"] = Map({"kind": "poem", "text": "?"})
    notes["odd"] = Map({"kind": "event", "text": 7, "x": "left", "y": float("inf"), "pivotal": "yes"})
    doc.get("edges", type=Map)["one-sided"] = Map({"source": "odd"})
    board = shared.read(doc)
    assert list(board.notes) == ["odd"] and not board.edges
    note = board.notes["odd"]
    assert (note.text, note.x, note.y, note.pivotal) == ("", 0, 0, False)


def test_the_built_page_is_that_of_the_sources() -> None:
    names = [
        "console.html",
        "index.html",
        "offline.js",
        "package-lock.json",
        "package.json",
        "seams.html",
        "tsconfig.json",
    ]
    names += ["vite.config.ts", *(str(file.relative_to(WEB)) for file in (WEB / "src").rglob("*") if file.is_file())]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\n".encode())
        digest.update((WEB / name).read_bytes())
    assert (STATIC / "sources.sha256").read_text().strip() == digest.hexdigest(), "run: make web"
    assert f'"fig-wall-{digest.hexdigest()[:16]}"' in (STATIC / "offline.js").read_text()

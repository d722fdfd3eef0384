"""The board as clients share it: keyed maps in a Yjs document. Order comes from places, never from lists: two people
who seed one list each would double it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycrdt import Doc, Map

from stranglerfig.storming.board import SIZES, Band, Board, Boundary, Edge, Note, Said

MAPS = ("notes", "edges", "contexts", "comments", "lanes")
_FARTHEST = 1_000_000


def read(doc: Doc[Any]) -> Board:
    """The board of a document. What is not as it should be (anybody may write anything) is left out."""
    notes, edges, contexts, comments, lanes = ({k: v for k, v in _items(doc, name)} for name in MAPS)
    return Board(
        {id_: _note(id_, said) for id_, said in notes.items() if said.get("kind") in SIZES},
        {e.id: e for said in edges.values() if (e := _edge(said)) is not None},
        {id_: _boundary(id_, said) for id_, said in contexts.items()},
        {id_: _said(id_, said) for id_, said in comments.items()},
        {id_: _band(id_, said) for id_, said in lanes.items()},
    )


def write(doc: Doc[Any], board: Board) -> int:
    """Make the document say ``board``, as the difference to what it says; returns how many items that touched."""
    touched = 0
    with doc.transaction():
        for name, wanted in zip(MAPS, _values(board), strict=True):
            shared = doc.get(name, type=Map)
            for id_ in [id_ for id_ in shared.keys() if id_ not in wanted]:  # noqa: SIM118  not a dict
                del shared[id_]
                touched += 1
            for id_, values in wanted.items():
                touched += _put(shared, id_, values)
    return touched


def _put(shared: Map[Any], id_: str, values: Mapping[str, Any]) -> bool:
    item = shared.get(id_)
    if not isinstance(item, Map):
        shared[id_] = Map({key: value for key, value in values.items() if value is not None})
        return True
    now = item.to_py() or {}
    changed = {key: value for key, value in values.items() if now.get(key) != value}
    for key, value in changed.items():
        if value is not None:
            item[key] = value
        elif key in now:
            del item[key]
    return bool(changed)


def _values(board: Board) -> tuple[dict[str, dict[str, Any]], ...]:
    notes = {
        n.id: {
            "kind": n.kind,
            "text": n.text,
            "x": n.x,
            "y": n.y,
            "context": n.context,
            "spec": n.spec or None,
            "answer": n.answer,
            "pivotal": n.pivotal or None,
            "remarks": "\n".join(n.remarks) or None,
            "kept": "\n".join(n.kept) or None,
        }
        for n in board.notes.values()
    }
    edges = {
        e.id: {"source": e.source, "target": e.target, "written": e.written, "order": e.order}
        for e in board.edges.values()
    }
    contexts = {
        c.id: {
            "name": c.name,
            "x": c.x,
            "y": c.y,
            "width": c.width,
            "height": c.height,
            "remarks": "\n".join(c.remarks) or None,
            "kept": "\n".join(c.kept) or None,
        }
        for c in board.contexts.values()
    }
    comments = {c.id: {"note": c.note, "by": c.by, "words": c.words, "order": c.order} for c in board.comments.values()}
    lanes = {b.id: {"name": b.name, "y": b.y, "height": b.height} for b in board.lanes.values()}
    return notes, edges, contexts, comments, lanes


def _items(doc: Doc[Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    whole = doc.get(name, type=Map).to_py() or {}
    return [(id_, said) for id_, said in whole.items() if isinstance(said, dict)]


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _lines(said: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(line for line in _text(said, key).split("\n") if line.strip())


def _int(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key)
    if not isinstance(value, int | float) or not abs(value) <= _FARTHEST * _FARTHEST:
        return 0
    return round(value)


def _note(id_: str, said: Mapping[str, Any]) -> Note:
    return Note(
        id_,
        said["kind"],
        _text(said, "text"),
        _int(said, "x"),
        _int(said, "y"),
        _text(said, "context") or None,
        _text(said, "spec"),
        _text(said, "answer") or None,
        said.get("pivotal") is True,
        _lines(said, "remarks"),
        _lines(said, "kept"),
    )


def _edge(said: Mapping[str, Any]) -> Edge | None:
    source, target = _text(said, "source"), _text(said, "target")
    if not source or not target:
        return None
    return Edge(source, target, _text(said, "written") or None, _int(said, "order") if "order" in said else None)


def _boundary(id_: str, said: Mapping[str, Any]) -> Boundary:
    x, y, width, height = (_int(said, key) for key in ("x", "y", "width", "height"))
    return Boundary(id_, _text(said, "name"), x, y, width, height, _lines(said, "remarks"), _lines(said, "kept"))


def _band(id_: str, said: Mapping[str, Any]) -> Band:
    return Band(id_, _text(said, "name"), _int(said, "y"), _int(said, "height"))


def _said(id_: str, said: Mapping[str, Any]) -> Said:
    return Said(id_, _text(said, "note"), _text(said, "by"), _text(said, "words"), _int(said, "order"))

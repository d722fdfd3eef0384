"""Alters real messages: bytes, texts, JSON trees. Every choice comes from the generator given, so that a seed repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

INTERESTING = [
    b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01", b"\xff" * 8, b"\x00" * 8,
    b"\x7f" + b"\xff" * 7, b"\x80" * 12, b"\xc3\x28", b"\xed\xa0\x80", b"\n", b"\0", b"{", b"[", b'"', b"\\", b"/", b":",
]  # fmt: skip
"""Numbers at the ends of their ranges, texts that are not UTF-8, and what formats are made of."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63), 0.5, -0.0, 1e308, "", "0", "m", "c",
    "t", "x" * 300, "é\U0001f600\u2028", "\0", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+23:59", "NaN", [], [[]], {}, {"": None}, [None, False, "a"], [0, 1, 2, 3, 4, 5, 6],
]  # fmt: skip
"""Values that a document did not expect at a place."""

_DEEP = [b"[" * 3000, b'{"a":' * 3000, b"(" * 400]


def of_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """``data`` with one to four alterations of its bytes; now and then with a part of one of ``others``."""
    out = bytearray(data)
    below = rng.random
    for _ in range(1 + int(below() * below() * 4)):
        size = len(out)
        at = int(below() * (size + 1))
        kind = int(below() * 10)
        if kind < 2 and at < size:
            out[at] ^= 1 << int(below() * 8)
        elif kind < 3 and at < size:
            out[at] = int(below() * 256)
        elif kind < 5:
            new = INTERESTING[int(below() * len(INTERESTING))]
            out[at : at + len(new)] = new
        elif kind < 6:
            del out[at : at + 1 + int(below() * below() * 32)]
        elif kind < 7:
            out[at:at] = out[at : at + 1 + int(below() * below() * 64)]
        elif kind < 8:
            out[at:at] = INTERESTING[int(below() * len(INTERESTING))]
        elif kind < 9 and others:
            other = others[int(below() * len(others))]
            begin = int(below() * (len(other) + 1))
            out[at : at + int(below() * 16)] = other[begin : begin + int(below() * 64)]
        elif below() < 0.002:
            out[at:at] = _DEEP[int(below() * len(_DEEP))]
        elif at < size:
            # A length or a count, a little wrong.
            out[at] = (out[at] + (1 if below() < 0.5 else -1)) & 0xFF
        else:
            del out[at // 2 :]
    return bytes(out)


def of_tree(rng: Random, document: Any) -> Any:
    """A JSON document with one to three of its places changed; the document given is altered."""
    for _ in range(1 + int(rng.random() * rng.random() * 3)):
        document = _one(rng, document)
    return document


def _one(rng: Random, document: Any) -> Any:
    below = rng.random
    parent: Any = None
    place: Any = None
    node = document
    while isinstance(node, list | dict) and node and (parent is None or below() < 0.8):
        parent = node
        place = int(below() * len(node)) if isinstance(node, list) else list(node)[int(below() * len(node))]
        node = node[place]
    if parent is None:
        return _odd(rng)
    kind = int(below() * 6)
    if kind < 3:
        parent[place] = _odd(rng)
    elif kind < 4:
        del parent[place]
    elif isinstance(parent, list):
        parent.insert(place, parent[int(below() * len(parent))])
    elif kind < 5:
        parent[ODD_NAMES[int(below() * len(ODD_NAMES))]] = node
    else:
        other = list(parent)[int(below() * len(parent))]
        parent[place] = parent[other]
    return document


ODD_NAMES = ["", "x", "__class__", "id", "0", "é", "on", "type", "name"]


def _odd(rng: Random) -> Any:
    value = ODD[int(rng.random() * len(ODD))]
    return deepcopy(value) if isinstance(value, list | dict) else value  # the next step may alter it


def of_text(rng: Random, text: str, words: Sequence[str]) -> str:
    """A text with lines or words taken out, doubled, moved, exchanged, or another of ``words`` put in."""
    below = rng.random
    for _ in range(1 + int(below() * below() * 5)):
        lines = text.split("\n")
        at = int(below() * len(lines))
        line = lines[at]
        kind = int(below() * 9)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(int(below() * len(lines)), line)
        elif kind == 2:
            lines[at] = " " * int(below() * 9) + line.lstrip()
        elif kind < 6:
            parts = line.split(" ")
            parts[int(below() * len(parts))] = words[int(below() * len(words))]
            lines[at] = " ".join(parts)
        elif kind == 6:
            cut = int(below() * (len(line) + 1))
            lines[at] = line[:cut] + words[int(below() * len(words))] + line[cut:]
        elif kind == 7:
            cut = int(below() * (len(line) + 1))
            lines[at] = line[:cut] + line[cut + 1 + int(below() * 4) :]
        else:
            cut = int(below() * (len(line) + 1))
            lines[at] = line[:cut] + chr(int(below() * 0x3000)) + line[cut:]
        text = "\n".join(lines)
    return text

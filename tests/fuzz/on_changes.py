"""The change stream's bytes and the records of a change topic."""

from __future__ import annotations

import json
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import orjson

from stranglerfig.capture.decode import Aside, Decoder, Drifted, Loose, Part, types_in
from stranglerfig.changes import frames
from stranglerfig.changes.envelope import expand
from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Column,
    Item,
    Message,
    Relation,
    SnapshotChunk,
    SnapshotEdge,
    Transaction,
)
from stranglerfig.foundation.errors import FigError
from tests.fuzz import mutate
from tests.fuzz.harness import Target

WANTED = ("public.item", "public.whole", "public.Odd name")


@cache
def recorded() -> tuple[dict[tuple[int, int], str], list[list[bytes]]]:
    """Names of types, and what PostgreSQL sent: one list of messages a transaction (``record``)."""
    found = json.loads(Path(__file__).with_name("corpus").joinpath("pgoutput.json").read_text())
    streams: list[list[bytes]] = [[]]
    for message in map(bytes.fromhex, found["messages"]):
        if message[:1] == b"B" and streams[-1]:
            streams.append([])
        streams[-1].append(message)
    return {(oid, modifier): name for oid, modifier, name in found["types"]}, streams


def whole_streams() -> list[list[bytes]]:
    """The transactions, each after the descriptions of its tables, of which PostgreSQL sends each once in a stream."""
    described: dict[bytes, bytes] = {}
    found = []
    for stream in recorded()[1]:
        described |= {message[1:5]: message for message in stream if message[:1] == b"R"}
        own = {message[1:5] for message in stream if message[:1] in (b"I", b"U", b"D")}
        own |= {message[at : at + 4] for message in stream if message[:1] == b"T" for at in range(6, len(message), 4)}
        here = {message[1:5] for message in stream if message[:1] == b"R"}
        found.append([described[oid] for oid in sorted(own - here)] + stream)
    return found


def values(message: bytes) -> list[tuple[int, int]]:
    """Where the values sent as text begin and end in a message about a row."""
    found = []
    if message[:1] in (b"I", b"U", b"D"):
        at = 6 + 2
        while at < len(message):
            if message[at : at + 1] == b"t":
                end = at + 5 + int.from_bytes(message[at + 1 : at + 5], "big")
                found.append((at + 5, end))
                at = end
            else:  # a null, an unchanged value, or the mark of the second row and its count
                at += 3 if message[at : at + 1] == b"N" else 1
    return found


def fresh() -> Decoder:
    """A decoder as capture makes it."""
    return Decoder(
        types=recorded()[0], tables=WANTED, aside="public.outbox", drop_origin="fig_x_reverse", most_changes=4
    )


def transactions(decoder: Decoder, messages: list[bytes]) -> list[Transaction]:
    return [found.transaction for found in decoder.feed(messages) if isinstance(found, Part)]


def decoder() -> Target:
    """Streams of one or two transactions with messages altered, lost, doubled or moved."""
    streams = whole_streams()
    every = sorted({message for stream in streams for message in stream})
    places = {message: values(message) for message in every}

    def make(rng: Random) -> list[bytes]:
        below = rng.random
        messages: list[bytes] = []
        for _ in range(1 + (below() < 0.3)):
            messages += streams[int(below() * len(streams))]
        for _ in range(1 + int(below() * below() * 3)):
            if not messages:
                break
            at = int(below() * len(messages))
            kind = int(below() * 16)
            if kind < 6 and places.get(messages[at]):
                begin, end = rng.choice(places[messages[at]])
                value = mutate.INTERESTING[int(below() * len(mutate.INTERESTING))] * int(below() * below() * 9)
                messages[at] = messages[at][: begin - 4] + len(value).to_bytes(4, "big") + value + messages[at][end:]
            elif kind < 12:
                messages[at] = mutate.of_bytes(rng, messages[at], every)
            elif kind < 13:
                del messages[at]
            elif kind < 14:
                messages.insert(int(below() * (len(messages) + 1)), messages[at])
            elif kind < 15:
                messages.insert(at, every[int(below() * len(every))])
            else:
                messages.append(messages.pop(at))
        return messages

    def take(messages: list[bytes]) -> bool:
        it = fresh()
        try:
            found = it.feed(messages)
        except FigError as error:
            assert error.code == "bad_stream"
            _named(messages)
            return False
        next_ordinal: dict[int, int] = {}
        for each in found:
            if isinstance(each, Part):
                _transaction(each.transaction)
                lsn, first = each.transaction.lsn, each.transaction.first
                assert first == 1 or first == next_ordinal.get(lsn), "an ordinal is missing, or there twice"
                next_ordinal[lsn] = first + len(each.transaction.items)
            else:
                assert isinstance(each, Loose | Aside | Drifted)
        if len(messages) % 3 == 0:
            again = fresh()
            singly = [each for message in messages for each in again.feed([message])]
            assert singly == found, "what comes out depends on how the stream was cut"
        return True

    def _named(messages: list[bytes]) -> None:
        for message in messages:
            if message[:1] == b"R":
                try:
                    types_in(message)
                except FigError as error:
                    assert error.code == "bad_stream"

    return Target("decoder", make, take, lambda messages: "\n".join(message.hex() for message in messages))


# What an item must be, whatever it was made of.


def _transaction(it: Transaction) -> None:
    assert type(it.lsn) is int and type(it.xid) is int and type(it.committed_at) is int and type(it.first) is int
    assert type(it.end) is bool and (it.trace is None or type(it.trace) is str) and type(it.items) is tuple
    for item in it.items:
        if isinstance(item, Message):
            assert type(item.prefix) is str and type(item.content) is str
            continue
        assert isinstance(item, Change) and item.op in "cudrt"
        _relation(item.relation)
        for row in (item.before, item.after):
            if row is not None:
                assert type(row) is tuple and len(row) == len(item.relation.columns)
                assert all(value is None or value is UNCHANGED or type(value) is str for value in row)


def _relation(it: Relation) -> None:
    assert type(it.schema) is str and type(it.name) is str and type(it.columns) is tuple
    for column in it.columns:
        assert type(column.name) is str and type(column.type) is str and type(column.key) is bool


def _item(item: Item) -> None:
    if isinstance(item, Transaction):
        _transaction(item)
        return
    assert type(item.lsn) is int and type(item.ordinal) is int
    if isinstance(item, SnapshotChunk):
        _relation(item.relation)
        assert type(item.rows) is int and type(item.copy) is bytes
    elif isinstance(item, SnapshotEdge):
        assert type(item.generation) is int and type(item.begins) is bool and type(item.total_rows) is int
        assert type(item.tables) is tuple and all(type(table) is str for table in item.tables)
    else:
        assert isinstance(item, Barrier) and type(item.partitions) is int and type(item.closes) is bool
        assert type(item.generation) is int


def _again(items: list[Item]) -> list[Item]:
    """The items, written and read once more."""
    [first, *_] = items
    if isinstance(first, SnapshotChunk):
        return frames.decode(frames.CHUNK, frames.encode_chunk(first))
    if isinstance(first, SnapshotEdge):
        return frames.decode(frames.EDGE, frames.encode_edge(first))
    if isinstance(first, Barrier):
        return frames.decode(frames.BARRIER, frames.encode_barrier(first))
    whole = [item for item in items if isinstance(item, Transaction)]
    return frames.decode(frames.STREAM, frames.encode(whole))


def envelope() -> Target:
    """Frames, chunks, edges and barriers: their JSON trees and their bytes altered."""
    _, streams = recorded()
    made = fresh()
    found = transactions(made, [message for stream in streams for message in stream])
    item = Relation("public", "item", (Column("id", "integer", True), Column("sku", "text")))
    corpus: list[tuple[str, bytes]] = [(frames.STREAM, frames.encode([each])) for each in found]
    corpus += [(frames.STREAM, frames.encode(found[at : at + 3])) for at in range(0, len(found), 3)]
    corpus += [
        (frames.CHUNK, frames.encode_chunk(SnapshotChunk(5, 1, item, 2, b"1\tA\\tB\n2\t\\N\n"))),
        (frames.EDGE, frames.encode_edge(SnapshotEdge(5, 0, 1, True, ("public.item",), 2))),
        (frames.BARRIER, frames.encode_barrier(Barrier(5, 1, 4, True, 2))),
    ]
    weights = list(accumulate([1] * (len(corpus) - 3) + [6, 6, 6]))
    every = [data for _, data in corpus]
    kinds = [*frames.KINDS, "application/json", "", "text/plain;part=1/2"]

    def make(rng: Random) -> tuple[str, bytes]:
        below = rng.random
        kind, data = rng.choices(corpus, cum_weights=weights)[0]
        if below() < 0.01:
            kind = kinds[int(below() * len(kinds))]
        if below() < 0.5:
            return kind, mutate.of_bytes(rng, data, every)
        head, newline, rest = data.partition(b"\n")
        return kind, _dumped(mutate.of_tree(rng, orjson.loads(head))) + newline + rest

    def take(given: tuple[str, bytes]) -> bool:
        kind, data = given
        try:
            items = frames.decode(kind, data)
        except FigError as error:
            assert error.code == "not_a_frame"
            return False
        for each in items:
            _item(each)
        if items:
            assert _again(items) == items, "written and read again it is another"
        try:
            for _ in expand(items, name="n", db="d"):
                pass
        except FigError as error:
            assert error.code == "not_a_frame" and kind == frames.CHUNK
            return False
        return True

    return Target("envelope", make, take)


def _dumped(document: Any) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:  # a key that is no text
        return b"{}"

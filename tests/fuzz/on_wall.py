"""What a browser sends to the wall: the Yjs protocol's messages, altered, from one who writes and one who reads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import orjson
from pycrdt import Array, Doc, Encoder, Map, Text, create_awareness_message, create_sync_message, create_update_message

from stranglerfig.console.room import Client, Room, Storage
from stranglerfig.foundation.errors import FigError
from tests.fuzz import mutate
from tests.fuzz.harness import Target


def _messages() -> list[bytes]:
    """Of a page that has drawn a little."""
    doc: Doc[Any] = Doc()
    updates: list[bytes] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    notes = doc.get("notes", type=Map)
    notes["a"] = Map({"kind": "event", "text": Text("StockAdjusted"), "x": 1.5, "y": -2})
    notes["b"] = Map({"kind": "command", "tags": Array(["x", 1, None])})
    notes["a"]["x"] = 7
    del notes["b"]
    doc.unobserve(subscription)
    encoder = Encoder()
    encoder.write_var_uint(1)
    encoder.write_var_uint(doc.client_id)
    encoder.write_var_uint(3)
    encoder.write_var_string(orjson.dumps({"user": {"name": "Ada"}}).decode())
    return [create_sync_message(doc), *map(create_update_message, updates), create_update_message(doc.get_update()),
            create_awareness_message(encoder.to_bytes()), b"\x00\x01" + create_update_message(doc.get_update())[2:]]  # fmt: skip


def wall() -> Target:
    """A room that many such messages come to; it is made anew now and then, for what is kept grows as it should."""
    corpus = _messages()
    folder = tempfile.TemporaryDirectory(prefix="fig-fuzz-wall-")
    state: dict[str, Any] = {"taken": 0, "folder": folder}

    def opened() -> None:
        if "room" in state:
            state["room"].storage.close()
        state["room"] = Room(Storage(Path(folder.name, f"{state['taken']}.sqlite")))
        state["clients"] = [Client(reads_only=False), Client(reads_only=True), Client(reads_only=False)]
        for client in state["clients"]:
            state["room"].join(client)

    def make(rng: Random) -> tuple[int, bytes]:
        return int(rng.random() * 2.3) % 2, mutate.of_bytes(rng, corpus[int(rng.random() * len(corpus))], corpus)

    def take(given: tuple[int, bytes]) -> bool:
        who, message = given
        if state["taken"] % 300 == 0:
            opened()
        state["taken"] += 1
        room, clients = state["room"], state["clients"]
        try:
            room.take(clients[who], message)
        except FigError as error:
            assert error.code in ("wall_message", "wall_reads_only")
            return False
        finally:
            for client in clients:
                while not client.waiting.empty():
                    client.waiting.get_nowait()
                client.gone = False
        return True

    return Target("wall", make, take)

"""What a browser sends to the wall: the Yjs protocol's messages, altered, from one who writes and one who reads.

The inside of an update is left as it is. yrs 0.28, below pycrdt, takes some crafted updates and later reads outside its
memory because of them, which ends the process and which nothing in Python can catch: whoever has the link that writes
can end ``fig storm`` (what was kept before is kept). Whoever has the link that only reads sends no updates.
"""

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
    asking = [message for message in corpus if message[:2] == b"\x00\x00" or message[:1] == b"\x01"]
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
        message = corpus[int(rng.random() * len(corpus))]
        who = int(rng.random() * 2.3) % 2
        if message[:1] == b"\x01" or message[:2] == b"\x00\x00":
            return who, mutate.of_bytes(rng, message, asking)
        if rng.random() < 0.5:
            return who, message[: int(rng.random() * (len(message) + 1))]
        return who, message if rng.random() < 0.2 else mutate.of_bytes(rng, message[:2]) + message[2:]

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

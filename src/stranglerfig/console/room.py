"""A shared document: the Yjs protocol for any number of clients, each update in SQLite before anybody else sees it.

Protocol: y-protocols, ``sync`` (0) and ``awareness`` (1), see https://github.com/yjs/y-protocols. A message is taken
whole without awaiting, so that no two clients wait for each other, however many come at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import orjson
from pycrdt import Decoder, Doc, Encoder, YMessageType, YSyncMessageType
from pycrdt import create_awareness_message as awareness_message
from pycrdt import create_sync_message as step_one
from pycrdt import create_update_message as update_message
from pycrdt import handle_sync_message as handle

from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)
SYNC, AWARENESS = YMessageType.SYNC, YMessageType.AWARENESS
_NOTHING = b"\x00\x00"
_WAITING = 2000
_SQUASH = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS updates (number INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Storage:
    """A document's updates and a few facts about it, in one SQLite file that one process holds.

    Raises:
        FigError: ``wall_open_already``, ``wall_unreadable``.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = file.with_suffix(".lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.touch(mode=0o600)
            self._db = sqlite3.connect(file, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            # An update survives the death of this process; a power cut may take the last ones.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_TABLES)
        except BlockingIOError as error:
            self._lock.close()
            raise FigError(
                "wall_open_already", f"{file} is open in another fig storm", "Use the link that it printed, or end it."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise FigError(
                "wall_unreadable", f"the wall {file} cannot be used: {error}", "Check its rights and its disk."
            ) from error

    def load(self, doc: Doc[Any]) -> None:
        """Bring the document to where it was; many small updates become one."""
        updates = [data for (data,) in self._db.execute("SELECT data FROM updates ORDER BY number")]
        with doc.transaction():
            for data in updates:
                doc.apply_update(data)
        if len(updates) > _SQUASH:
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM updates")
            self.add(doc.get_update())
            self._db.execute("COMMIT")

    def add(self, update: bytes) -> None:
        """Keep an update."""
        self._db.execute("INSERT INTO updates (data) VALUES (?)", (update,))

    def fact(self, name: str) -> str | None:
        """What was last said by :meth:`say`."""
        found = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else None

    def say(self, name: str, value: str) -> None:
        """Keep a fact."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def secret(self, name: str) -> str:
        """A random token that stays the same."""
        if (found := self.fact(name)) is None:
            self.say(name, found := secrets.token_urlsafe(18))
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._lock.close()


class Client:
    """Somebody in the room. ``waiting`` is what goes to them; None in it ends the connection."""

    def __init__(self, *, reads_only: bool) -> None:
        self.reads_only = reads_only
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self.here: dict[int, int] = {}  # whom this connection spoke for, with the clock of what it said last
        self.gone = False

    def tell(self, message: bytes) -> None:
        """Send, unless they read too slowly: then they are let go, and come back for the whole."""
        if self.gone:
            return
        try:
            self.waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.let_go()

    def let_go(self) -> None:
        """End the connection; a page comes back by itself."""
        if self.gone:
            return
        self.gone = True
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


class Room:
    """One document and who is in it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.doc: Doc[Any]
        self.clients: set[Client] = set()
        self._speaking: Client | None = None
        self._behind = False  # the document has what the storage has not
        self._present: dict[int, tuple[int, str]] = {}
        self._open()

    def _open(self) -> None:
        self.doc = Doc()
        self.storage.load(self.doc)
        self._subscription = self.doc.observe(self._updated)

    def _updated(self, event: Any) -> None:
        update: bytes = event.update
        if update == _NOTHING:
            return
        try:
            self.storage.add(update)
        except sqlite3.Error as error:
            # Nobody is told what is not kept. All are let go: their pages keep what they have, and bring it again.
            self._behind = True
            log.error("an update of %s was not kept: %s", self.storage.file, error, extra={"action": "wall_not_kept"})
            for client in self.clients:
                client.let_go()
            return
        message = update_message(update)
        for client in self.clients:
            if client is not self._speaking:
                client.tell(message)

    def join(self, client: Client) -> None:
        """Let somebody in: they are asked what they have, and told who is here."""
        self.clients.add(client)
        if not client.reads_only:
            client.tell(step_one(self.doc))
        if self._present:
            client.tell(_awareness(self._present))

    def leave(self, client: Client) -> None:
        """Somebody has gone; the others see it at once."""
        self.clients.discard(client)
        gone = {id_: (clock + 1, "null") for id_, clock in client.here.items()}
        for id_ in gone:
            self._present.pop(id_, None)
        if gone:
            self._tell_others(client, _awareness(gone))

    def take(self, client: Client, message: bytes) -> None:
        """Handle a message.

        Raises:
            FigError: ``wall_reads_only`` for an update by a link that only reads; ``wall_message`` for anything
                that is not the protocol's.
        """
        kind = message[:1]
        try:
            if kind == bytes([SYNC]):
                self._sync(client, message[1:])
            elif kind == bytes([AWARENESS]):
                self._awareness(client, message[1:])
        except FigError:
            raise
        except Exception as error:  # the decoder raises whatever it meets
            raise _not_understood(error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            # The document's library panicked, which is no Exception and would end the server, and what it left of the
            # document is not known: what was kept before is read anew.
            self._open()
            raise _not_understood(error) from error

    def _sync(self, client: Client, message: bytes) -> None:
        if client.reads_only and message[0] != YSyncMessageType.SYNC_STEP1:
            raise FigError("wall_reads_only", "this link only reads", "Ask for the link that writes.")
        if self._behind:
            self.storage.add(self.doc.get_update())
            self._behind = False
        self._speaking = client
        try:
            reply = handle(message, self.doc)
        finally:
            self._speaking = None
        if reply is not None:
            client.tell(reply)

    def _awareness(self, client: Client, message: bytes) -> None:
        states = _states(message)
        for id_, (clock, state) in states.items():
            if state == "null":
                self._present.pop(id_, None)
                client.here.pop(id_, None)
            else:
                orjson.loads(state)
                self._present[id_] = (clock, state)
                client.here[id_] = clock
        self._tell_others(client, _awareness(states))

    def _tell_others(self, client: Client, message: bytes) -> None:
        for other in self.clients:
            if other is not client:
                other.tell(message)


def _not_understood(error: BaseException) -> FigError:
    return FigError("wall_message", f"a message was not understood: {error}", "Load the page again.")


def _states(message: bytes) -> dict[int, tuple[int, str]]:
    body = Decoder(message).read_message() or b"\x00"
    decoder = Decoder(body)
    found = {}
    for _ in range(decoder.read_var_uint()):
        id_, clock = decoder.read_var_uint(), decoder.read_var_uint()
        found[id_] = (clock, decoder.read_var_string())
    return found


def _awareness(states: dict[int, tuple[int, str]]) -> bytes:
    encoder = Encoder()
    encoder.write_var_uint(len(states))
    for id_, (clock, state) in states.items():
        encoder.write_var_uint(id_)
        encoder.write_var_uint(clock)
        encoder.write_var_string(state)
    return awareness_message(encoder.to_bytes())

"""The keys of a service's subjects, in its own database: made when they are first needed, remembered for a minute.

Who writes asks the database each time, in the transaction of what is written: so nothing is sealed under a key that was
destroyed before. Who reads may take a key that is remembered, so that one destroyed elsewhere opens what it has sealed
for ``REMEMBERED`` seconds more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from stranglerfig.foundation import clock, postgres, sql
from stranglerfig.kit.sealing import Destroyed, Key, cipher

queries = sql.load(__package__ or "")

REMEMBERED: Final = 60.0
"""Seconds for which a process takes a key as it found it."""
MOST: Final = 10_000
"""How many it remembers."""


class KeyStore:
    """What reads and makes a service's keys.

    Args:
        remembered: seconds for which a key is taken as it was found.
    """

    def __init__(self, *, remembered: float | None = None) -> None:
        self._remembered = REMEMBERED if remembered is None else remembered
        # By id, the oldest first; None: there is none here, or it was destroyed.
        self._known: dict[str, tuple[float, Key | None]] = {}

    async def of_ids(self, conn: postgres.Connection, ids: Iterable[str]) -> dict[str, Key]:
        """Those of these keys that there are, by id. Without a question where none is asked for, or all are remembered.

        Raises:
            FigError: ``backend_not_installed``.
        """
        now = clock.monotonic()  # before the question: an answer is not younger than that
        found: dict[str, Key | None] = {}
        missing = []
        for id in set(ids):
            until, key = self._known.get(id, (0.0, None))
            if until > now:
                found[id] = key
            else:
                missing.append(id)
        if missing:
            rows: dict[str, bytes] = dict(await postgres.fetch(conn, queries.personal_keys_of_ids, {"ids": missing}))
            for id in missing:
                found[id] = Key(id, cipher(rows[id])) if id in rows else None
                self._remember(id, found[id], now)
        return {id: key for id, key in found.items() if key is not None}

    async def of_subjects(self, conn: postgres.Connection, subjects: Collection[str]) -> dict[str, Key]:
        """A key for each of these, by subject, made within the transaction that is open on the session.

        They are not remembered: who made one may still be rolled back.

        Raises:
            Destroyed: one of them was destroyed.
            FigError: ``backend_not_installed``.
        """
        there: dict[str, tuple[str, bytes | None]] = {}
        while lacking := [each for each in subjects if each not in there]:
            for subject, id, key in await postgres.fetch(conn, queries.personal_keys, {"subjects": lacking}):
                there[subject] = id, key
        for subject, (_, key) in there.items():
            if key is None:
                raise Destroyed(
                    "personal_key_destroyed",
                    f"personal data of '{subject}' were to be written, and its key was destroyed",
                    "Write what is left to say about it without them; somebody new takes another name.",
                    subject=subject,
                )
        return {subject: Key(id, cipher(key)) for subject, (id, key) in there.items() if key is not None}

    def drop(self, id: str) -> None:
        """It was destroyed."""
        self._known.pop(id, None)

    def _remember(self, id: str, key: Key | None, now: float) -> None:
        self._known.pop(id, None)
        self._known[id] = now + self._remembered, key
        while len(self._known) > MOST or next(iter(self._known.values()))[0] <= now:
            del self._known[next(iter(self._known))]

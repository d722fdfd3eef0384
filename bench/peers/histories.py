"""``histories.py DATABASE HOST PORT USER STREAMS EVENTS THREADS``: aggregates of the eventsourcing library.

With its own PostgreSQL module, configured by the environment as its documentation advises. Each event is a transaction
of its own; then each aggregate is read back. Prints JSON: events a second written and read, and the configuration.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from uuid import UUID

STREAMS, EVENTS, THREADS = map(int, sys.argv[5:8])
CONFIG = {
    "PERSISTENCE_MODULE": "eventsourcing.postgres",
    "POSTGRES_POOL_SIZE": "10",
    "POSTGRES_MAX_OVERFLOW": "10",
    "POSTGRES_MAX_WAITING": "100",
    "POSTGRES_CONN_MAX_AGE": "3600",
}
os.environ |= CONFIG | dict(
    zip(("POSTGRES_DBNAME", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER"), sys.argv[1:5], strict=True),
    POSTGRES_PASSWORD=os.environ.get("PGPASSWORD", ""),
)

from eventsourcing.application import Application  # noqa: E402
from eventsourcing.domain import Aggregate, event  # noqa: E402


class Account(Aggregate):
    @event("Opened")
    def __init__(self) -> None:
        self.on_hand = 0

    @event("Moved")
    def move(self, delta: int, reason: str) -> None:
        self.on_hand += delta


class Accounts(Application[UUID]):
    pass


REASON = "x" * 180
accounts = Accounts()


def opened() -> UUID:
    account = Account()
    accounts.save(account)
    return account.id


ids = [opened() for _ in range(STREAMS)]


def grow(id: UUID) -> None:
    """As an application does: it takes the aggregate, has it decide, and keeps what came of it."""
    for _ in range(EVENTS):
        account: Account = accounts.repository.get(id)
        account.move(1, REASON)
        accounts.save(account)


def look(id: UUID) -> None:
    account: Account = accounts.repository.get(id)
    assert account.on_hand == EVENTS


def timed(work: Callable[[UUID], None]) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, ids))
    return STREAMS * EVENTS / (time.perf_counter() - begun)


written, read = timed(grow), timed(look)
shown = f"eventsourcing {version('eventsourcing')}, {THREADS} threads, {CONFIG}"
print(json.dumps({"written": written, "read": read, "configuration": shown}))

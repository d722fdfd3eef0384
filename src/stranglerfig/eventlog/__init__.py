"""The log: append, read, subscribe, positions."""

from __future__ import annotations

from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation.errors import FigError


def open_log(url: str) -> EventLog:
    """The log at ``url``: ``postgres://…`` (or ``postgresql://…``) or ``memory://``.

    A PostgreSQL log's tables are made by its ``migrate()``.

    Raises:
        FigError: ``unknown_log_backend``.
    """
    scheme = url.partition(":")[0]
    if scheme in ("postgres", "postgresql"):
        from stranglerfig.eventlog.postgres import PostgresLog

        return PostgresLog(url)
    if scheme == "memory":
        from stranglerfig.eventlog.memory import MemoryLog

        return MemoryLog()
    raise FigError(
        "unknown_log_backend",
        f"there is no log backend named '{scheme}'",
        "Use postgres://… (or memory:// in tests).",
        backend=scheme,
        known=["postgres", "memory"],
    )

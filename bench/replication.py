"""The peer: PostgreSQL's own logical replication of the same table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench.context import until

NAME = "peer"


@contextmanager
def subscription(source: str, target: str, table: str, *, copy: bool = True) -> Iterator[float]:
    """Replicate ``table``; yields when it was asked for (``time.perf_counter``). Dropped afterwards."""
    with psycopg.connect(source, autocommit=True) as conn:
        conn.execute(f"CREATE PUBLICATION {NAME} FOR TABLE {table}")
        with psycopg.connect(target, autocommit=True) as other:
            address = source.replace("'", "''")
            begun = time.perf_counter()
            other.execute(
                f"CREATE SUBSCRIPTION {NAME} CONNECTION '{address}' PUBLICATION {NAME}"
                f" WITH (copy_data = {str(copy).lower()})"
            )
            try:
                yield begun
            finally:
                other.execute(f"DROP SUBSCRIPTION {NAME}")
                conn.execute(f"DROP PUBLICATION {NAME}")


def await_copied(target: str, timeout: float) -> float:
    """Wait until the initial copy is in; returns when that was seen."""
    return await_true(
        target, "SELECT bool_and(srsubstate IN ('f', 's', 'r')) FROM pg_subscription_rel", "the peer's copy", timeout
    )


def await_true(target: str, query: str, what: str, timeout: float) -> float:
    """Wait until a query is true; returns when that was seen."""
    with psycopg.connect(target, autocommit=True) as conn:

        def seen() -> bool:
            row = conn.execute(query).fetchone()
            return bool(row and row[0])

        return until(seen, timeout, what, every=0.02)


def enable(target: str, on: bool) -> float:
    """Stop or go on applying; returns when (``time.perf_counter``)."""
    with psycopg.connect(target, autocommit=True) as conn:
        conn.execute(f"ALTER SUBSCRIPTION {NAME} {'ENABLE' if on else 'DISABLE'}")
    return time.perf_counter()

"""Something done by others between two statements of sync: how the order of two writers is fixed in a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

Do = Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]


class Once:
    """Whether it was done."""

    done = False


@contextmanager
def before(statement: str, do: Do, *, session: str = "sync inventory") -> Iterator[Once]:
    """Before the first statement in which ``statement`` occurs, on a session whose name begins with ``session``: what
    was sent earlier has been done by the server, then ``do`` runs; then the statement is sent."""
    once = Once()
    execute = psycopg.AsyncConnection.execute

    async def interleaved(conn: psycopg.AsyncConnection[Any], query: Any, *args: Any, **kwargs: Any) -> Any:
        name = conn.info.get_parameters().get("application_name", "")
        if not once.done and name.removeprefix("fig:").startswith(session) and statement in str(query):
            once.done = True
            if conn.info.pipeline_status == psycopg.pq.PipelineStatus.ON:
                async with conn.pipeline() as pipeline:
                    await pipeline.sync()
            await do(conn)
        return await execute(conn, query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", interleaved)
        yield once

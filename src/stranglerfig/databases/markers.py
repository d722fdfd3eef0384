"""Markers: transactional messages in a database's change stream that say "all before this is in"."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from stranglerfig.databases.ownership import durable, read
from stranglerfig.foundation import clock, ids, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "transitions.sql")


async def emit_marker(
    conn: Connection, context: str, direction: str, *, nonce: str | None = None, **content: Any
) -> str:
    """Write a marker into the change stream of ``conn``'s database; returns its nonce (a new one unless given).

    ``direction`` is that of the stream it is meant for; ``content`` (JSON-able) travels with it.
    """
    nonce = nonce or ids.nonce()
    body = json.dumps({"context": context, "direction": direction, "nonce": nonce} | content)
    await conn.execute(_sql.marker, {"content": body})
    return nonce


async def emit_fence_marker(conn: Connection, context: str, direction: str, *, epoch: int, nonce: str) -> None:
    """Write the marker of a fence, in a transaction that checks that the fence of this epoch and nonce stands.

    Raises:
        FigError: ``ownership_changed`` when it does not; ``ownership_unknown``.
    """
    async with durable(conn, context):
        found = await read(conn, context, shared=True)
        if found is None or (found.state, found.epoch, found.nonce) != ("fenced", epoch, nonce):
            raise FigError(
                "ownership_changed",
                f"the fence of '{context}' at epoch {epoch} does not stand: no marker is written for it",
                "Another participant acted; the next fig advance reads the rows and goes on from there.",
                context=context,
                found=found.as_dict() if found else None,
            )
        await emit_marker(conn, context, direction, nonce=nonce, epoch=epoch)


async def marker_applied(conn: Connection, context: str, direction: str, nonce: str) -> bool:
    """Whether the target ``conn`` has applied everything before the marker ``nonce``."""
    try:
        return bool(
            await postgres.value(
                conn,
                "SELECT true FROM fig.marker WHERE (context, direction, nonce) = (%s, %s, %s)",
                (context, direction, nonce),
            )
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False


async def await_marker(conn: Connection, context: str, direction: str, nonce: str, *, timeout: float) -> float:
    """Wait until the target ``conn`` has applied the marker, looking every 2 ms; returns the seconds waited.

    Raises:
        FigError: ``marker_not_applied`` after ``timeout`` seconds.
    """

    async def applied() -> bool:
        return await marker_applied(conn, context, direction, nonce)

    return await until_applied(applied, context, direction, timeout=timeout)


async def until_applied(
    applied: Callable[[], Awaitable[bool]], context: str, direction: str, *, timeout: float
) -> float:
    """As :func:`await_marker`, whoever answers whether the marker is applied."""
    begun = clock.monotonic()
    try:
        await clock.until(applied, timeout=timeout, what="a marker to be applied", every=0.002, at_most=0.004)
    except FigError as error:
        raise FigError(
            "marker_not_applied",
            f"the {direction} stream of '{context}' has not applied a marker within {timeout:g} s",
            "See fig status for the lag of capture and sync; start them if they do not run.",
            context=context,
            direction=direction,
        ) from error
    return clock.monotonic() - begun

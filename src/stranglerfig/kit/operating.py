"""A service's parked events and projections as an operator sees them, in its database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import psycopg

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.model import shown as shown_position
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.kit.consumer import digest
from stranglerfig.kit.states import queries

_LETTER = (
    "id", "subscription", "tenant", "key", "type", "event", "topic", "partition", "position", "error", "attempts",
    "parked_at", "retry", "behind",
)  # fmt: skip
_PROJECTION = ("name", "version", "generation", "state", "begun_at", "served_at", "positions")


async def is_kept_here(conn: Connection) -> bool:
    """Whether the database is one of a service of the kit's."""
    return await postgres.value(conn, "SELECT to_regclass('fig.dead_letter')") is not None


async def parked(
    conn: Connection,
    *,
    subscription: str | None = None,
    cause: str | None = None,
    number: int | None = None,
    last: int = 100,
) -> list[dict[str, Any]]:
    """What could not be handled, oldest first, and how many events of its key wait behind it.

    Args:
        cause: words that its error contains.
        number: of this id alone.
    """
    params = {"subscription": subscription, "cause": cause, "number": number, "last": last}
    rows = [dict(zip(_LETTER, row, strict=True)) for row in await postgres.fetch(conn, queries.letters, params)]
    for row in rows:
        row["position"] = shown_position(int(row["position"]))
    return rows


async def inspect(conn: Connection, number: int) -> dict[str, Any]:
    """One parked event, whole: its attributes, its data (JSON where it is), its error.

    Raises:
        FigError: ``unknown_letter``.
    """
    row = await postgres.one(conn, queries.letter, (number,))
    if row is None:
        raise unknown(number)
    id, subscription, key, topic, partition, position, event, data, error, attempts, at, retry = row
    try:
        told: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        told = {"hex": bytes(data).hex()}
    return {
        "id": id, "subscription": subscription, "key": key, "topic": topic, "partition": partition,
        "position": shown_position(int(position)), "error": error, "attempts": attempts, "parked_at": at,
        "retry": retry, "attributes": event, "data": told,
    }  # fmt: skip


async def retry(conn: Connection, number: int) -> None:
    """Have a parked event tried again, and what waits behind it after it; a running consumer does it.

    Raises:
        FigError: ``unknown_letter``, ``missing_privilege``.
    """
    await _decided(conn, queries.retry_letter, number)


async def discard(conn: Connection, number: int) -> None:
    """Leave a parked event out, knowingly; what waits behind it follows.

    Raises:
        FigError: ``unknown_letter``, ``missing_privilege``.
    """
    await _decided(conn, queries.discard_letter, number)


async def subscriptions(conn: Connection) -> list[str]:
    """The names of all of the service's."""
    return [name for (name,) in await postgres.fetch(conn, "SELECT name FROM fig.subscription ORDER BY name")]


async def forget(conn: Connection, subscription: str, events: Iterable[Event], *, dry_run: bool = False) -> int:
    """Have a subscription handle events anew when its group reads them again; not those that are parked.

    Returns:
        How many of them it has handled, or would have to forget.

    Raises:
        FigError: ``missing_privilege``.
    """
    # A command that was asked for again has the mark of its first time; which are commands is the service's affair.
    digests = list({digest(event, command=is_command) for event in events for is_command in (False, True)})
    statement = queries.handled if dry_run else queries.forget_handled
    try:
        return int(await postgres.value(conn, statement, {"name": subscription, "events": digests}))
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.inbox, fig.reply", error) from error


async def _decided(conn: Connection, statement: Any, number: int) -> None:
    try:
        if await postgres.one(conn, statement, (number,)) is None:
            raise unknown(number)
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.dead_letter", error) from error


async def projections(conn: Connection) -> list[dict[str, Any]]:
    """Every build of every projection, and how far it is."""
    return [dict(zip(_PROJECTION, row, strict=True)) for row in await postgres.fetch(conn, queries.projections)]


async def rebuild(conn: Connection, name: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Have a projection built anew beside the build that serves; the service's processes do it, and swap.

    Returns:
        Its name, version and generation; with ``dry_run`` those that it would have.

    Raises:
        FigError: ``unknown_projection``, ``projection_building``, ``missing_privilege``.
    """
    known = [row for row in await projections(conn) if row["name"] == name]
    if not known:
        raise FigError("unknown_projection", f"there is no projection '{name}'", "See fig projection list.", name=name)
    if any(row["state"] == "building" for row in known):
        raise FigError(
            "projection_building",
            f"a build of '{name}' is on its way",
            "Wait until it serves: fig projection list.",
            name=name,
        )
    version = max(row["version"] for row in known)
    if dry_run:
        generation = 1 + max(row["generation"] for row in known if row["version"] == version)
        return {"name": name, "version": version, "generation": generation}
    try:
        generation = await postgres.value(conn, queries.projection_begin, {"name": name, "version": version})
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.projection", error) from error
    return {"name": name, "version": version, "generation": generation}


async def keeps_keys(conn: Connection) -> bool:
    """Whether the database is one of a service of the kit's that may have personal data."""
    return await postgres.value(conn, "SELECT to_regclass('fig.personal_key')") is not None


async def personal_key(conn: Connection, subject: str) -> dict[str, Any] | None:
    """When the key of a subject's personal data was made, and destroyed; None where there is none. Not the key.

    Raises:
        FigError: ``missing_privilege``.
    """
    try:
        row = await postgres.one(conn, queries.personal_key, (subject,))
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.personal_key", error) from error
    return None if row is None else {"subject": subject, "made_at": row[0], "destroyed_at": row[1]}


async def destroy_key(conn: Connection, subject: str) -> dict[str, Any]:
    """Destroy the key of a subject's personal data; processes that remember it open with it for a minute more.

    Returns:
        What :func:`personal_key` says then.

    Raises:
        FigError: ``missing_privilege``.
    """
    try:
        await conn.execute(queries.destroy_personal_key, {"subject": subject})
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.personal_key", error) from error
    found = await personal_key(conn, subject)
    assert found is not None
    return found


def unknown(number: int) -> FigError:
    """There is no such parked event."""
    return FigError("unknown_letter", f"no event is parked under the number {number}", "See fig events parked.")


def missing_privilege(table: str, error: Exception) -> FigError:
    """The operator's role may not do it."""
    return FigError(
        "missing_privilege",
        f"the role may not change {table}: {str(error).strip()}",
        f"Grant it: GRANT SELECT, INSERT, UPDATE, DELETE ON {table}.",
    )

"""What waits for a person, wherever it lies: events that a service could not handle, changes that sync could not apply.

Both are looked at, tried again or left out; what that would do is said in words before it is done.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

import orjson

from stranglerfig.changes.model import Direction
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.kit import operating
from stranglerfig.runtime import parked, services
from stranglerfig.runtime.settings import Project

Kind = Literal["event", "change"]
Word = Literal["retry", "discard"]


class Parked(NamedTuple):
    """One event or change that could not be handled.

    Attributes:
        of: the service, or the context and the direction: ``inventory/forward``.
        what: the event's type, or the change's table and operation.
        key: what it is about.
        behind: how many later ones of its key wait for it; None where everything after it does.
        state: ``waiting`` for a person, ``retry`` when somebody has asked, ``tripwire`` when it can only be looked at.
    """

    kind: Kind
    of: str
    number: int
    what: str
    key: str
    error: str
    at: datetime
    attempts: int
    behind: int | None
    state: Literal["waiting", "retry", "tripwire"]


class Decided(NamedTuple):
    """What a decision does, or would do."""

    consequence: str
    done: bool


async def listed(project: Project, *, last: int = 200) -> tuple[list[Parked], list[str]]:
    """All that is parked, the newest first, at most ``last`` of each service; and what could not be asked, in words."""
    found: list[Parked] = []
    away: list[str] = []
    for name in services.databases(project):
        try:
            async for conn in _of_service(project, name):
                found += [_event(name, row) for row in await operating.parked(conn, last=last)]
        except FigError as error:
            away.append(f"{name}: {error.message}")
    for context in project.extractions:
        try:
            found += [_change(context, row) for row in (await parked.listed(project, context))[:last]]
        except FigError as error:
            away.append(f"{context}: {error.message}")
    return sorted(found, key=lambda each: each.at, reverse=True), away


async def inspected(project: Project, kind: Kind, of: str, number: int) -> tuple[Parked, dict[str, Any]]:
    """One of them, and it whole: attributes, data and error of an event, rows and statement of a change.

    Raises:
        FigError: ``unknown_letter``, ``unknown_parked``, ``unknown_service``, ``unknown_context``.
    """
    if kind == "event":
        async for conn in _of_service(project, of):
            whole = await operating.inspect(conn, number)
            for row in await operating.parked(conn, number=number):
                return _event(of, row), whole
        raise operating.unknown(number)
    context, direction = _place(of)
    row = await parked.found(project, context, direction, number)
    return _change(context, row), row


async def decide(project: Project, kind: Kind, of: str, number: int, word: Word, *, dry_run: bool) -> Decided:
    """Have one tried again, or left out.

    Raises:
        FigError: as :func:`inspected`; ``tripwire_stays``, ``missing_privilege``.
    """
    if kind == "change":
        context, direction = _place(of)
        how: Literal["skip", "retry"] = "retry" if word == "retry" else "skip"
        row = await parked.decide(project, context, direction, number, how, dry_run=dry_run)
        return Decided(_of_change(_change(context, row), word), not dry_run)
    one, _ = await inspected(project, kind, of, number)
    act: Callable[[Connection, int], Awaitable[None]] = operating.retry if word == "retry" else operating.discard
    if not dry_run:
        async for conn in _of_service(project, of):
            await act(conn, number)
    return Decided(_of_event(one, word), not dry_run)


def _of_event(one: Parked, word: Word) -> str:
    behind = one.behind or 0
    after = (
        f" The {behind:,} later event(s) of {one.key} that wait behind it follow, in their order."
        if behind
        else f" Nothing waits behind it; later events of {one.key} are handled as they come."
    )
    if word == "retry":
        return (
            f"A running process of {one.of} handles {one.what} of {one.key} once more."
            f" If it fails again, it is parked again.{after}"
        )
    return (
        f"{one.of} never handles {one.what} of {one.key}: what it would have changed there stays unchanged, for good."
        f" The event itself stays in the log.{after}"
    )


def _of_change(one: Parked, word: Word) -> str:
    if word == "retry":
        return (
            f"Sync applies {one.what} of {one.key} once more, and goes on with what waits after it."
            " If it fails again, it is parked again: correct the target first."
        )
    return (
        f"Sync goes on without {one.what} of {one.key}: the two databases differ in this row until somebody repairs it."
        " Verification will name the difference."
    )


async def _of_service(project: Project, name: str) -> AsyncIterator[Connection]:
    """A session with the service's database, where it is one of the kit's; else nothing."""
    try:
        async for _, conn in services.each(project, name, operating.is_kept_here):
            yield conn
    except FigError as error:
        if error.code != "nothing_kept":
            raise


def _event(of: str, row: dict[str, Any]) -> Parked:
    state: Literal["waiting", "retry"] = "retry" if row["retry"] else "waiting"
    of_tenant = f" ({row['tenant']})" if row["tenant"] else ""
    return Parked(
        "event", of, row["id"], row["type"], f"{row['key']}{of_tenant}", row["error"], row["parked_at"],
        row["attempts"], row["behind"], state,
    )  # fmt: skip


def _change(context: str, row: dict[str, Any]) -> Parked:
    change = row["change"] if isinstance(row["change"], dict) else cast(dict[str, Any], orjson.loads(row["change"]))
    source = change.get("source", change)
    table = str(source.get("table", "?"))
    verb = {"c": "insert into", "r": "insert into", "u": "update of", "d": "delete from", "t": "truncate of"}
    document = change.get("after") or change.get("before") or {}
    state: Literal["waiting", "tripwire"] = "tripwire" if row["reason"] == "tripwire" else "waiting"
    return Parked(
        "change", f"{context}/{row['direction']}", row["id"], f"{verb.get(change.get('op', ''), 'change of')} {table}",
        _key(document), row["error"] or "written behind the owner's back", row["at"], 1, None, state,
    )  # fmt: skip


def _key(document: dict[str, Any]) -> str:
    """The first field of a row, by which people know it."""
    for name, value in document.items():
        return f"{name} {value}"
    return "a row"


def _place(of: str) -> tuple[str, Direction]:
    """``inventory/forward``.

    Raises:
        FigError: ``unknown_parked``.
    """
    context, _, direction = of.rpartition("/")
    try:
        return context, Direction(direction)
    except ValueError:
        raise FigError(
            "unknown_parked", f"'{of}' is no context and direction", "fig sync parked CONTEXT lists them."
        ) from None

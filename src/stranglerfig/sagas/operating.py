"""Sagas of a service as an operator sees them: read from its database, decided on by a word left there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

import psycopg

from stranglerfig.foundation import postgres, sql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection
from stranglerfig.kit.operating import missing_privilege
from stranglerfig.sagas import flows
from stranglerfig.sagas.drawing import Counts, Drawing

queries = sql.load(__package__ or "")
_PAGE = 1000
"""How many flows are looked at together, for those in a state."""

_COLUMNS = ("id", "name", "version", "tenant", "key", "status", "blocked", "begun_at", "ended_at", "due_at", "asked")
_WHOLE = (
    "id", "name", "version", "key", "status", "blocked", "flow", "trace", "data", "course", "history", "lock",
    "begun_at", "ended_at", "due_at", "revision", "asked", "asked_by", "tenant",
)  # fmt: skip


async def has_sagas(conn: Connection) -> bool:
    """Whether the database keeps sagas."""
    return await postgres.value(conn, "SELECT to_regclass('fig.saga')") is not None


async def listed(
    conn: Connection, *, status: str | None = None, name: str | None = None, key: str | None = None, last: int = 50
) -> list[dict[str, Any]]:
    """The newest ones first."""
    params = {"status": status, "name": name, "key": key, "last": last}
    return [dict(zip(_COLUMNS, row, strict=True)) for row in await postgres.fetch(conn, queries.listed, params)]


async def counted(conn: Connection) -> dict[str, dict[str, int]]:
    """By name and status, how many there are."""
    found: dict[str, dict[str, int]] = {}
    for name, status, count in await postgres.fetch(conn, queries.counted):
        found.setdefault(name, {})[status] = count
    return found


async def settled(conn: Connection) -> datetime:
    """Up to when the ends of sagas are known: a moment ago, by the database's clock, since they are said by
    transactions that may not have ended yet."""
    return cast(datetime, await postgres.value(conn, "SELECT clock_timestamp() - interval '3 seconds'"))


async def ends(
    conn: Connection, names: Sequence[str], *, begun: datetime, since: datetime, until: datetime, within: float
) -> list[tuple[float, int, int]]:
    """Of the sagas that began after ``begun``, those whose verdict falls between ``since`` and ``until``.

    One that ends ``within`` so many seconds has its verdict then; any other one when that time is up.

    Returns:
        By the second (epoch), how many, and how many of them had not ended in time.
    """
    params = {"names": [*names], "begun": begun, "since": since, "until": until, "within": timedelta(seconds=within)}
    return [(float(at), int(n), int(late)) for at, n, late in await postgres.fetch(conn, queries.ends, params)]


class Standing(NamedTuple):
    """Of a kind's sagas that have not ended, how many run (stuck ones included), need an operator, are stuck."""

    running: int
    blocked: int
    stuck: int


async def standing(conn: Connection, within: Mapping[str, float | None]) -> dict[str, Standing]:
    """By kind, how those stand that have not ended.

    Args:
        within: the seconds that a saga of a kind may take; None: it has no such time.
    """
    params = {"names": [*within], "within": [*within.values()]}
    return {name: Standing(*rest) for name, *rest in await postgres.fetch(conn, queries.standing, params)}


async def gone(conn: Connection, name: str, version: int, *, last: int) -> dict[str, dict[str, int]]:
    """How far a version's sagas are: those that have not ended, and those among the ``last`` that did.

    Returns:
        By step and phase, how many are there; by ``""`` and status, how many stand so.
    """
    found: dict[str, dict[str, int]] = {}
    params = {"name": name, "version": version, "last": last}
    for step, phase, count in await postgres.fetch(conn, queries.gone, params):
        found.setdefault(step, {})[phase] = count
    return found


async def shown(conn: Connection, id: str) -> dict[str, Any] | None:
    """One saga, whole, or None."""
    row = await postgres.one(conn, queries.shown, (id,))
    return None if row is None else dict(zip(_WHOLE, row, strict=True))


async def ask(conn: Connection, id: str, word: Literal["retry", "resolve"], by: str) -> dict[str, Any]:
    """Leave an operator's word for a saga that needs one; a worker that has its code takes it up.

    Raises:
        FigError: ``unknown_saga``; ``saga_not_blocked`` when it needs nobody; ``missing_privilege``.
    """
    try:
        row = await postgres.one(conn, queries.ask, {"id": id, "word": word, "by": by})
    except psycopg.errors.InsufficientPrivilege as error:
        raise missing_privilege("fig.saga", error) from error
    if row is not None:
        return dict(zip(("id", "name", "key", "blocked"), row, strict=True))
    known = await shown(conn, id)
    if known is None:
        raise FigError("unknown_saga", f"there is no saga {id}", "See fig saga list.", saga=id)
    refuse_unblocked(known)
    return {key: known[key] for key in ("id", "name", "key", "blocked")}


def refuse_unblocked(saga: dict[str, Any]) -> None:
    """Only what needs an operator can be decided on.

    Raises:
        FigError: ``saga_not_blocked``.
    """
    if saga["blocked"] is None:
        raise FigError(
            "saga_not_blocked",
            f"the saga {saga['id']} is '{saga['status']}': it needs nobody's word",
            "Only what needs an operator can be retried or resolved: fig saga list --status 'needs operator'.",
            saga=saga["id"],
            status=saga["status"],
        )


async def drawings(conn: Connection) -> list[tuple[Drawing, Counts]]:
    """Each version that the service has declared, with how many of its sagas are where."""
    found: list[tuple[Drawing, Counts]] = []
    for kind, version, drawing in await postgres.fetch(conn, queries.kinds):
        counts: dict[str, dict[str, int]] = {}
        for step, phase, count in await postgres.fetch(conn, queries.phases, {"name": kind, "version": version}):
            counts.setdefault(step, {})[phase] = count
        found.append((drawing, counts))
    return found


async def flow_drawings(conn: Connection) -> dict[str, flows.Drawing]:
    """The choreographed flows that are recorded here, by name."""
    rows = await postgres.fetch(conn, queries.flow_kinds)
    return {drawing.name: drawing for drawing in (flows.of_data(row[0]) for row in rows)}


async def courses(
    conn: Connection,
    drawing: flows.Drawing,
    *,
    correlation: str | None = None,
    state: str | None = None,
    last: int = 50,
) -> dict[str, flows.Course]:
    """What became of the flows that began last, the newest first; or of one, by its correlation id.

    Args:
        state: only those that are so, however long ago they began.
        last: how many at most.
    """
    now = float(await postgres.value(conn, "SELECT extract(epoch FROM clock_timestamp())::float8"))
    params = {"flow": drawing.name, "correlation": correlation, "starts": [*drawing.starts]}
    found: dict[str, flows.Course] = {}
    before = at = None
    while len(found) < last:
        seen: dict[str, list[flows.Happened]] = {}
        page = params | {"before": before, "before_at": at, "last": _PAGE if state else last}
        rows = await postgres.fetch(conn, queries.flow_events, page)
        for of, _, *event in rows:
            seen.setdefault(of, []).append(flows.Happened(*event))
        for of, events in seen.items():
            course = flows.course(drawing, events, now=now)
            if state in (None, course.state):
                found[of] = course
        if state is None or len(seen) < _PAGE:
            break
        before, at = rows[-1][:2]
    return dict(islice(found.items(), last))


async def ways(conn: Connection, name: str) -> dict[tuple[str, str], int]:
    """How often each type of event followed from each in a flow."""
    return {
        (before, after): count for before, after, count in await postgres.fetch(conn, queries.flow_ways, {"flow": name})
    }

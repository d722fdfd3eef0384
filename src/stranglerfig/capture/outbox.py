"""The outbox: events that a service wrote in the transaction of their state, taken to the log by capture.

A row is deleted once the log has it; the deletion itself is ignored in the stream. Appending is idempotent by the row's
id, so a row that is met twice is one event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from psycopg import sql as statements

from stranglerfig.capture.decode import Aside
from stranglerfig.capture.pack import at
from stranglerfig.changes.model import Value
from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError


def event(aside: Aside, *, source: str) -> tuple[str, Event]:
    """The topic and the event that an outbox row stands for.

    Raises:
        FigError: ``bad_outbox_row`` when a column is missing or null that an event cannot do without.
    """
    row = aside.row
    occurred = _text(row, "occurred_at")
    made = Event(
        _required(row, "id"),
        source,
        _required(row, "type"),
        at(aside.committed_at) if occurred is None else _time(occurred),
        _required(row, "data").encode(),
        subject=_text(row, "subject"),
        dataschema=_text(row, "dataschema"),
        partitionkey=_text(row, "key"),
        traceparent=_text(row, "traceparent"),
        correlationid=_text(row, "correlationid"),
        causationid=_text(row, "causationid"),
        tenantid=_text(row, "tenantid"),
    )
    return _required(row, "topic"), made


def _text(row: dict[str, Value], column: str) -> str | None:
    value = row.get(column)
    return value if isinstance(value, str) else None


def _required(row: dict[str, Value], column: str) -> str:
    value = _text(row, column)
    if value is None:
        raise FigError(
            "bad_outbox_row",
            f"a row of the outbox has no {column}",
            "The columns id, topic, type and data must be there and not null.",
            column=column,
        )
    return value


def _time(text: str) -> datetime:
    """PostgreSQL's ISO form, in UTC (``2026-01-02 03:04:05.6+00``)."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def publish(log: EventLog, events: Iterable[tuple[str, Event]]) -> None:
    """Append the events, each topic's in order; a topic that nobody has created yet is."""
    topics: dict[str, list[Event]] = {}
    for topic, made in events:
        topics.setdefault(topic, []).append(made)
    for topic, batch in topics.items():
        try:
            await log.append(topic, batch)
        except FigError as error:
            if error.code != "unknown_topic":
                raise
            await log.create_topic(topic)
            await log.append(topic, batch)


async def delete_published(conn: postgres.Connection, table: str, ids: Sequence[str]) -> None:
    """Delete rows that the log has."""
    await conn.execute(
        statements.SQL("DELETE FROM {} WHERE id = ANY (%s::uuid[])").format(
            statements.Identifier(*table.split(".", 1))
        ),
        (list(ids),),
    )

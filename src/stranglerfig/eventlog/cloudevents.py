"""Events as CloudEvents 1.0 in binary mode: attributes beside the data, each backend's binding adding its prefix.

Source: CloudEvents 1.0.2 and its bindings for Kafka (``ce_``), AMQP (``cloudEvents:``) and HTTP (``ce-``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from stranglerfig.eventlog.model import Event

CONTENT_TYPE = "content-type"
_OPTIONAL = ("subject", "dataschema", "partitionkey", "traceparent", "correlationid", "causationid")


def attributes(event: Event) -> list[tuple[str, str]]:
    """The context attributes of ``event`` without a prefix; its content type is the binding's own affair."""
    found = [
        ("specversion", "1.0"),
        ("id", event.id),
        ("source", event.source),
        ("type", event.type),
        ("time", event.time.isoformat()),
    ]
    for name in _OPTIONAL:
        value = getattr(event, name)
        if value is not None:
            found.append((name, value))
    return found


def event(
    found: Mapping[str, str], data: bytes, *, content_type: str | None, key: str | None, otherwise: str, at: datetime
) -> Event:
    """The event that attributes and data make.

    A message that is no CloudEvent (another program wrote it) is an event too, so that it can be looked at.

    Args:
        found: attributes by name, without prefix; unknown ones (extensions of others) are left out.
        key: the backend's own key, where the attributes have none.
        otherwise: the id of a message that has none: its place in the log.
        at: when the log took it, for a message that does not say when it happened.
    """
    time = found.get("time")
    return Event(
        found.get("id", otherwise),
        found.get("source", "/"),
        found.get("type", "message"),
        _instant(time) if time is not None else at,
        data,
        content_type or "application/octet-stream",
        found.get("subject"),
        found.get("dataschema"),
        found.get("partitionkey", key),
        found.get("traceparent"),
        found.get("correlationid"),
        found.get("causationid"),
    )


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

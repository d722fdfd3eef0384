"""Events as CloudEvents 1.0 in binary mode: attributes beside the data, each backend's binding adding its prefix.

Source: CloudEvents 1.0.2 and its bindings for Kafka (``ce_``), AMQP (``cloudEvents:``) and HTTP (``ce-``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from stranglerfig.eventlog.model import Event

CONTENT_TYPE = "content-type"
_OPTIONAL = ("subject", "dataschema", "partitionkey", "traceparent", "correlationid", "causationid")


def attributes(event: Event) -> list[tuple[str, str]]:
    """The context attributes of ``event`` without a prefix; its content type is the binding's own affair."""
    return [
        ("specversion", "1.0"),
        ("id", event.id),
        ("source", event.source),
        ("type", event.type),
        ("time", instant(event.time)),
        *optional(event),
    ]


def optional(event: Event) -> list[tuple[str, str]]:
    """Those of the attributes that an event need not have, and this one has."""
    return [(name, value) for name in _OPTIONAL if (value := getattr(event, name)) is not None]


def event(
    found: Mapping[str, str],
    data: bytes,
    *,
    prefix: str = "",
    content_type: str | None,
    key: str | None,
    otherwise: tuple[object, ...],
    at: datetime,
) -> Event:
    """The event that attributes and data make.

    A message that is no CloudEvent (another program wrote it) is an event too, so that it can be looked at.

    Args:
        found: attributes by name; unknown ones (extensions of others) are left out.
        prefix: what the binding puts before each name.
        key: the backend's own key, where the attributes have none.
        otherwise: the place in the log, which is the id of a message that has none.
        at: when the log took it, for a message that does not say when it happened.
    """
    get = found.get
    time = get(f"{prefix}time")
    return Event(
        get(f"{prefix}id") or "-".join(map(str, otherwise)),
        get(f"{prefix}source", "/"),
        get(f"{prefix}type", "message"),
        at if time is None else _instant(time),
        data,
        content_type or "application/octet-stream",
        get(f"{prefix}subject"),
        get(f"{prefix}dataschema"),
        get(f"{prefix}partitionkey", key),
        get(f"{prefix}traceparent"),
        get(f"{prefix}correlationid"),
        get(f"{prefix}causationid"),
    )


def instant(at: datetime) -> str:
    """``time`` as RFC 3339; three times as fast as ``isoformat``."""
    return orjson.dumps(at)[1:-1].decode()


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)

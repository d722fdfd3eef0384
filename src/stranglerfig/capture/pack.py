"""What goes into the log, and under which ids: transactions packed into frames, snapshots' chunks and edges, refusals.

Pure. Ids are the same for the same content, so that an append whose answer was lost can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby

import orjson

from stranglerfig.capture.decode import Loose, Part
from stranglerfig.changes import frames
from stranglerfig.changes.model import Barrier, Direction, Message, SnapshotChunk, SnapshotEdge, Transaction
from stranglerfig.eventlog.model import Event

MOST_CHANGES = 5000
MOST_BYTES = 1_000_000


def source_of(context: str, direction: Direction) -> str:
    """The CloudEvents source of what a flow's capture says."""
    return f"/fig/{context}/{direction}"


def at(microseconds: int) -> datetime:
    """A commit's time, microseconds since 1970."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def pack(parts: Iterable[Part], *, source: str, generation: int, partition: int = 0) -> list[Event]:
    """Frames of up to 5000 changes or about 1 MB, in order."""
    events: list[Event] = []
    group: list[Transaction] = []
    changes = size = 0
    for part in parts:
        count = len(part.transaction.items)
        if group and (changes + count > MOST_CHANGES or size + part.size > MOST_BYTES):
            events.append(_frame(group, source, generation, partition))
            group, changes, size = [], 0, 0
        group.append(part.transaction)
        changes += count
        size += part.size
    if group:
        events.append(_frame(group, source, generation, partition))
    return events


def mixed(
    items: Iterable[Part | Barrier], *, source: str, generation: int, partition: int, now: datetime
) -> list[Event]:
    """Frames and barriers of one partition, in order."""
    events: list[Event] = []
    for is_part, group in groupby(items, key=lambda item: isinstance(item, Part)):
        if is_part:
            parts = [item for item in group if isinstance(item, Part)]
            events += pack(parts, source=source, generation=generation, partition=partition)
        else:
            barriers = [item for item in group if isinstance(item, Barrier)]
            events += [
                barrier(item, source=source, generation=generation, partition=partition, now=now) for item in barriers
            ]
    return events


def barrier(found: Barrier, *, source: str, generation: int, partition: int, now: datetime) -> Event:
    """A record with a barrier; somebody waits for it."""
    number = f"{generation}-p{partition}-barrier-{found.lsn:x}-{found.ordinal}{'-end' if found.closes else ''}"
    return Event(
        number, source, "fig.Barrier", now, frames.encode_barrier(found), frames.BARRIER, subject=frames.URGENT
    )


def _frame(group: list[Transaction], source: str, generation: int, partition: int) -> Event:
    """A record; its subject is ``urgent`` when somebody waits for a message in it."""
    first, last = group[0], group[-1]
    until = last.first + len(last.items) - 1
    # Ids are unique in the topic, not in a partition only.
    where = f"p{partition}-" if partition else ""
    number = f"{generation}-{where}{first.lsn:x}-{first.first}-{last.lsn:x}-{until}{'' if last.end else '-part'}"
    urgent = frames.URGENT if any(messages(transaction) for transaction in group) else None
    return Event(
        number, source, "fig.Changes", at(last.committed_at), frames.encode(group), frames.STREAM, subject=urgent
    )


def messages(transaction: Transaction) -> bool:
    """Whether there is a marker or an activation in it."""
    return any([type(item) is Message for item in transaction.items])


def chunk(found: SnapshotChunk, *, source: str, generation: int, now: datetime) -> Event:
    """A record with rows of a snapshot."""
    number = f"{generation}-chunk-{found.ordinal}"
    return Event(number, source, "fig.SnapshotChunk", now, frames.encode_chunk(found), frames.CHUNK)


def edge(found: SnapshotEdge, *, source: str, now: datetime) -> Event:
    """A record that a snapshot begins or ends with."""
    number = f"{found.generation}-{'begin' if found.begins else 'end'}"
    return Event(number, source, "fig.SnapshotEdge", now, frames.encode_edge(found), frames.EDGE)


def context_of(content: str) -> str | None:
    """Which context a message of ours speaks of; None when it names none or is not JSON."""
    try:
        found = orjson.loads(content)
    except ValueError:
        return None
    context = found.get("context") if isinstance(found, dict) else None
    return context if isinstance(context, str) else None


def refusal(message: Loose, *, source: str, system: str, now: datetime) -> Event | None:
    """What a guard said of a write, as an event; None for what is no such message."""
    try:
        content = orjson.loads(message.content)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    kind = "fig.WriteRefused" if content.get("mode") == "refused" else "fig.WriterObserved"
    table = content.get("table")
    return Event(
        f"{system}-{message.lsn:x}",
        source,
        kind,
        now,
        orjson.dumps(content),
        subject=table if isinstance(table, str) else None,
    )

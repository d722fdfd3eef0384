"""The page of the log: its topics with who reads them and what may be in them, and its events as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import Field

from stranglerfig.changes import live, reading
from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.console.slowly import Slowly
from stranglerfig.eventlog.figures import Figures, Group, Held
from stranglerfig.eventlog.model import shown
from stranglerfig.eventlog.windows import Filter
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.wiring import is_ours
from stranglerfig.schemas.estate import topic_of
from stranglerfig.schemas.ports import Registry

LOOK = 0.25
"""Seconds between two messages of a view that is followed."""
SILENT = 5.0
"""Seconds after which a view in which nothing happens says so."""
PREVIEW = 400
"""Characters of an event's data that a view shows; it is fetched whole when somebody opens it."""
UNCOUNTED = ("kinesis",)
"""Logs whose positions are not counts."""


class LogPartition(Model):
    """``first`` is the oldest position that is kept, ``next`` where the next event goes."""

    first: int | str
    next: int | str


class LogReader(Model):
    """A consumer group of a topic; ``lag`` is in events, in all and by partition, null where they cannot be counted."""

    name: str
    committed: list[int | str]
    lag: int | None
    lags: list[int] | None


class TopicRow(Model):
    """A topic. ``rate`` is events appended a second over the last ten; ``kind`` is what its events are."""

    name: str
    kind: Literal["events", "changes", "fig", "other"]
    partitions: list[LogPartition]
    retention_seconds: float | None
    retained: int | None
    rate: float | None
    readers: list[LogReader]


class SchemaVersion(Model):
    """A version of a subject, as it was registered."""

    version: int
    id: int
    registered_at: datetime | None
    registered_by: str


class Subject(Model):
    """A schema's subject, the topic that its events travel on, and its versions in force, oldest first."""

    subject: str
    topic: str
    format: str
    compatibility: str
    versions: list[SchemaVersion]


class LogPage(Model):
    """The log as it stands. ``trouble`` says what could not be asked."""

    log: str
    topics: list[TopicRow]
    subjects: list[Subject]
    trouble: list[str]


class TailQuery(Model):
    """What to show of the events that come; none named is any. ``*`` in a type or key stands for anything."""

    topic: str = Field(default="", max_length=300)
    type: str = Field(default="", max_length=300)
    key: str = Field(default="", max_length=300)
    text: str = Field(default="", max_length=300)


class LogLine(Model):
    """An event or a change in a view; ``preview`` is the beginning of its data, as JSON where it is some."""

    topic: str
    partition: int
    position: int | str
    type: str
    key: str
    time: datetime | None
    preview: str


class LogSeen(Model):
    """What came since the message before.

    ``passed`` events came, of which ``unread`` were let go unread; ``matched`` of the others were asked for, and
    ``lines`` has the newest of those.
    """

    passed: int
    unread: int
    matched: int
    lines: list[LogLine]


class RecordQuery(Model):
    """A place in the log."""

    topic: str = Field(max_length=300)
    partition: int = Field(default=0, ge=0, le=100_000)
    position: int = Field(ge=0)


class LogRecord(Model):
    """A record whole: its event with its data, or each change of its frame."""

    topic: str
    partition: int
    position: int | str
    appended_at: datetime
    events: list[dict[str, Any]]


def routes(reads: Reading) -> list[Route]:
    """What the page asks."""
    counted = (reads.project.log_url or "").partition(":")[0] not in UNCOUNTED
    figures: list[Figures] = []

    async def topics() -> list[Held]:
        if not figures:
            figures.append(Figures(reads.log, counted=counted))
        return await figures[0].look()

    held = Slowly(topics, every=2.0)
    schemas = Slowly(lambda: subjects(reads.registry), every=10.0)

    async def page(_: Asked) -> LogPage:
        trouble: list[str] = []
        try:
            known = await schemas()
        except FigError as error:
            known = []
            trouble.append(f"The schema registry cannot be asked: {error.message}.")
        return LogPage(
            log=where(reads),
            topics=[topic_row(each) for each in await held()],
            subjects=known,
            trouble=trouble,
        )

    async def look(asked: Asked) -> LogSeen:
        return told(await live.Live(reads.log, wanted(asked.query), counted=counted).look())

    async def follow(asked: Asked) -> AsyncIterator[LogSeen]:
        view = live.Live(reads.log, wanted(asked.query), counted=counted)
        said = 0.0
        while True:
            seen = await view.look()
            if seen.passed or clock.monotonic() - said >= SILENT:
                said = clock.monotonic()
                yield told(seen)
            await asyncio.sleep(LOOK)

    async def whole(asked: Asked) -> LogRecord:
        return await record(reads, asked.query)

    return [
        Route("/api/log", LogPage, page, "Topics, their readers, and the schemas of their events.", live=True),
        Route(
            "/api/log/tail", LogSeen, look, "The newest events, and those that come.", query=TailQuery, stream=follow,
            statuses=(404,),
        ),
        Route("/api/log/record", LogRecord, whole, "One record, whole.", query=RecordQuery, statuses=(404,)),
    ]  # fmt: skip


def where(reads: Reading) -> str:
    """Which log it is, for people."""
    from stranglerfig.eventlog import describe

    url = reads.project.log_url
    return "PostgreSQL, in the control database" if url is None else describe(url)


def topic_row(held: Held) -> TopicRow:
    """A topic for the page."""
    topic = held.topic
    return TopicRow(
        name=topic.name,
        kind=_kind(topic.name),
        partitions=[
            LogPartition(first=shown(first), next=shown(end))
            for first, end in zip(held.first, topic.next_positions, strict=False)
        ],
        retention_seconds=topic.retention_seconds,
        retained=held.retained,
        rate=None if held.rate is None else round(held.rate, 1),
        readers=[_reader(group) for group in held.groups],
    )


def _kind(name: str) -> Literal["events", "changes", "fig", "other"]:
    if name.startswith("events."):
        return "events"
    if name.startswith("fig.changes."):
        return "changes"
    return "fig" if is_ours(name) else "other"


def _reader(group: Group) -> LogReader:
    return LogReader(
        name=group.name,
        committed=[*map(shown, group.committed)],
        lag=None if group.lag is None else sum(group.lag),
        lags=None if group.lag is None else [*group.lag],
    )


async def subjects(registry: Registry) -> list[Subject]:
    """Every subject that has versions in force."""
    await registry.prepare()
    found = []
    for name in await registry.subjects():
        versions = await registry.versions(name)
        if versions:
            found.append(
                Subject(
                    subject=name,
                    topic=topic_of(name),
                    format=versions[-1].schema.format.value,
                    compatibility=(await registry.level(name)).value,
                    versions=[
                        SchemaVersion(
                            version=each.version,
                            id=each.id,
                            registered_at=each.registered_at,
                            registered_by=each.registered_by,
                        )
                        for each in versions
                    ],
                )
            )
    return found


def wanted(query: TailQuery) -> live.Asked:
    """What is asked for."""
    return live.Asked(
        (query.topic,) if query.topic else (),
        Filter(_any(query.type), _any(query.key)),
        query.text,
    )


def _any(text: str) -> tuple[str, ...]:
    """``inventory.*, orders.*``: any of them."""
    return tuple(part for each in text.split(",") if (part := each.strip()))


def told(seen: live.Seen) -> LogSeen:
    """What came, as the page gets it."""
    return LogSeen(
        passed=seen.passed, unread=seen.unread, matched=seen.matched, lines=[_line(line) for line in seen.lines]
    )


def _line(line: dict[str, Any]) -> LogLine:
    place = {name: line[name] for name in ("topic", "partition", "position")}
    if "change" not in line:
        key = line.get("partitionkey") or line.get("subject") or ""
        return LogLine(**place, type=line["type"], key=key, time=line["time"], preview=_preview(line["data"]))
    change = line["change"]
    source = change.get("source") or {}
    rows = change.get("after") or change.get("before") or {}
    key = next((f"{name}={value}" for name, value in rows.items()), "")
    at = change.get("ts_ms")
    return LogLine(
        **place,
        type=f"{_VERBS.get(change.get('op'), 'change')} {source.get('table', '')}".strip(),
        key=key,
        time=None if at is None else datetime.fromtimestamp(at / 1000, UTC),
        preview=_preview(rows),
    )


_VERBS = {"c": "insert", "r": "snapshot", "u": "update", "d": "delete", "t": "truncate", "m": "message"}


def _preview(data: Any) -> str:
    text = data if isinstance(data, str) else orjson.dumps(data, default=str).decode()
    return text if len(text) <= PREVIEW else text[:PREVIEW] + "…"


async def record(reads: Reading, place: RecordQuery) -> LogRecord:
    """The record at a place.

    Raises:
        FigError: ``unknown_topic``, ``unknown_position``, ``position_expired``.
    """
    found = await reads.log.topic(place.topic)
    if found is None:
        raise FigError(
            "unknown_topic", f"the log has no topic '{place.topic}'", "fig events topics lists them.", topic=place.topic
        )
    beyond = place.partition < found.partitions and place.position >= found.next_positions[place.partition]
    records = () if beyond else await reads.log.read(place.topic, place.partition, place.position, max_records=1)
    if not records or records[0].position != place.position:
        raise FigError(
            "unknown_position",
            f"the topic '{place.topic}' has nothing at position {place.position} of partition {place.partition}",
            "fig events topics shows how far each topic goes.",
        )
    return LogRecord(
        topic=place.topic,
        partition=place.partition,
        position=shown(place.position),
        appended_at=records[0].appended_at,
        events=[_plain(line) for line in reading.lines(records[0])],
    )


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, dates and numbers of databases included."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(line, default=str))
    return {name: value for name, value in plain.items() if name not in ("topic", "partition", "position")}

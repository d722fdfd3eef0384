"""The log that takes only what is registered: each event is checked against its schema before anything is appended.

An event's subject is its type. Data with the five-byte header of Kafka's serializers names its schema by id, which must
be registered under the type or under ``<topic>-value``; JSON without the header is as ``dataschema`` says, else as the
latest version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from stranglerfig.eventlog.model import Event
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.eventlog.through import LogThrough
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import payloads
from stranglerfig.schemas.formats import Format
from stranglerfig.schemas.ports import Registry
from stranglerfig.schemas.subjects import Version, uri, version_of

log = logging.getLogger(__name__)

STALE = 1.0
"""Seconds before a subject in which something was not found is looked at again."""
FRESH = 60.0
"""Seconds after which what is known of a subject is read anew: by then a deletion elsewhere is seen."""

Name = tuple[str, str | bytes | None]
"""A subject with what its event says of the schema: a header, a ``dataschema``, or nothing."""


class EventCheck:
    """Whether events are as their schemas say. What was compiled is kept: a registered version never changes.

    Args:
        registry: where the schemas are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[Name, tuple[Version, payloads.Check]] = {}
        self._compiled: dict[int, payloads.Check] = {}
        self._read: dict[str, float] = {}

    async def events(self, events: Sequence[Event], *, topic: str = "") -> None:
        """Check all of them; those whose schema is known cost no await.

        Raises:
            FigError: ``schema_missing``, ``schema_violation`` (with the path of what is wrong).
        """
        too_old = clock.monotonic() - FRESH
        by_topic = f"{topic}-value" if topic else None
        if by_topic is not None and self._read.get(by_topic, clock.monotonic()) <= too_old:
            await self._freshen(by_topic)
        for event in events:
            if self._read.get(event.type, too_old) <= too_old:
                await self._freshen(event.type)
            if (error := self._judge(event, topic)) is None:
                continue
            if not await self._again(event.type, by_topic):
                raise error
            if (error := self._judge(event, topic)) is not None:
                raise error

    async def event(self, event: Event, *, topic: str = "") -> Version:
        """Check one event; returns the version that it is."""
        await self.events((event,), topic=topic)
        found = self.find(event, topic)
        assert found is not None
        return found[0]

    def find(self, event: Event, topic: str = "") -> tuple[Version, payloads.Check] | None:
        """The event's schema among those known here: what every event pays."""
        data = event.data
        if data.startswith(b"\0"):
            header = data[: payloads.HEADER]
            return self._known.get((event.type, header)) or self._known.get((f"{topic}-value", header))
        found = self._known.get((event.type, event.dataschema))
        if found is None and event.dataschema is not None and version_of(event.dataschema) is None:
            # What others mean by a dataschema of theirs is not known here.
            return self._known.get((event.type, None))
        return found

    def _judge(self, event: Event, topic: str) -> FigError | None:
        found = self.find(event, topic)
        id = payloads.framed_id(event.data)
        if found is None:
            return _missing(event, id)
        version, check = found
        said = payloads.FORMATS.get(event.datacontenttype, Format.JSON)
        if said is not version.schema.format:
            return _violation(event, version, "$", f"'{event.datacontenttype}' is not {version.schema.format}")
        if id is None and said is not Format.JSON:
            return _violation(event, version, "$", "it lacks the five bytes that name its schema")
        problem = check(event.data if id is None else event.data[payloads.HEADER :])
        return None if problem is None else _violation(event, version, *problem)

    async def _freshen(self, subject: str) -> None:
        try:
            await self._refresh(subject)
        except FigError as error:
            if subject not in self._read:
                raise
            # A version that was registered still is what it was: events go on while the registry is away.
            log.warning("the registry cannot be asked for %s: %s", subject, error, extra={"action": "registry_away"})
            self._read[subject] = clock.monotonic() - FRESH + STALE

    async def _again(self, *subjects: str | None) -> bool:
        """Read subjects anew, unless that was done a moment ago; whether one was."""
        done = False
        for subject in subjects:
            if subject is not None and clock.monotonic() - self._read.get(subject, -STALE) >= STALE:
                await self._refresh(subject)
                done = True
        return done

    async def _refresh(self, subject: str) -> None:
        versions = await self._registry.versions(subject)
        known: dict[Name, tuple[Version, payloads.Check]] = {}
        for version in versions:
            check = self._compiled.get(version.id)
            if check is None:
                check = self._compiled[version.id] = payloads.check(await self._registry.text(version.schema))
            for name in (payloads.framed(version.id, b""), uri(subject, version.version), None):
                known[subject, name] = (version, check)
        self._known = {name: each for name, each in self._known.items() if name[0] != subject} | known
        self._read[subject] = clock.monotonic()


def _missing(event: Event, id: int | None) -> FigError:
    wanted = version_of(event.dataschema)
    which = "no schema" if wanted is None else f"no schema of version {wanted}"
    if id is not None:
        which = f"no schema with the id {id}"
    return FigError(
        "schema_missing",
        f"there is {which} for events of type {event.type}",
        "Generate the schemas from the model and register them before producing.",
        subject=event.type,
        version=wanted,
        id=id,
    )


def _violation(event: Event, version: Version, path: str, words: str) -> FigError:
    return FigError(
        "schema_violation",
        f"the event {event.id} is not as version {version.version} of {event.type} says: {words} (at {path})",
        "Mend the producer, or register a version of the schema that allows it.",
        subject=event.type,
        version=version.version,
        event=event.id,
        path=path,
    )


class CheckedLog(LogThrough):
    """A log that takes only business events that are as their schemas say; changes and our own records have none.

    ``governed`` says by its name whether a topic holds business events.
    """

    def __init__(self, log: EventLog, registry: Registry, governed: Callable[[str], bool] = lambda topic: True) -> None:
        self._log = log
        self._check = EventCheck(registry)
        self._governed = governed

    def log_of(self, topic: str) -> EventLog:
        """The one beneath."""
        return self._log

    @property
    def logs(self) -> tuple[EventLog, ...]:
        """The one beneath."""
        return (self._log,)

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """As the port's; all events are checked before any is appended.

        Raises:
            FigError: ``schema_missing``, ``schema_violation``, and the port's.
        """
        if self._governed(topic):
            await self._check.events(events, topic=topic)
        return await self._log.append(topic, events, partition=partition)

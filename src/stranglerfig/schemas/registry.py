"""The registry of event schemas, in the control database: an event without a schema, or unlike it, is not produced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import jsonschema
import orjson
from psycopg.types.json import Jsonb

from stranglerfig.eventlog.model import Capabilities, Event, Record, Topic
from stranglerfig.eventlog.ports import EventLog, Subscription
from stranglerfig.foundation import clock, postgres, sql
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.checking import Checker
from stranglerfig.schemas.model import Problem, Schema, Version, incompatibilities, schema_id, version_of

STALE = 1.0
"""Seconds before a subject that was not found is looked for again."""

_queries = sql.load(__package__ or "")


class SchemaRegistry:
    """Subjects and their versions. What was read is kept: a registered version never changes."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._known: dict[str, list[Version]] = {}
        self._looked: dict[str, float] = {}
        self._checkers: dict[tuple[str, int], Checker] = {}

    async def migrate(self) -> None:
        """Create or bring forward the tables."""
        async with postgres.session(self._dsn, what="schemas") as conn:
            await postgres.migrate(conn, "schemas", __package__ or "", ["tables.sql"])

    async def register(self, subject: str, schema: Schema, *, by: str, compatible: bool = True) -> Version:
        """Register ``schema`` for ``subject``; the same schema again is the version it already has.

        Raises:
            FigError: ``schema_invalid`` when it is no JSON Schema (2020-12); ``schema_incompatible`` when readers or
                writers of the latest version would break (unless ``compatible`` is False).
        """
        try:
            jsonschema.Draft202012Validator.check_schema(dict(schema))
        except jsonschema.SchemaError as error:
            raise FigError(
                "schema_invalid",
                f"the schema of {subject} is not a JSON Schema: {error.message} at {error.json_path}",
                "Mend it, or generate it anew from the model.",
                subject=subject,
            ) from error
        async with postgres.session(self._dsn, what="schemas", autocommit=False) as conn, conn.transaction():
            await conn.execute(_queries.lock_subject, {"subject": subject})
            history = await self._read(conn, subject)
            identity = schema_id(schema)
            for version in history:
                if version.id == identity:
                    return version
            if history and compatible and (problems := incompatibilities(history[-1].schema, schema)):
                raise _incompatible(history[-1], problems)
            values = {"subject": subject, "version": len(history) + 1, "id": identity, "by": by}
            await conn.execute(_queries.add, {**values, "schema": Jsonb(schema)})
        return next(version for version in await self.history(subject) if version.id == identity)

    async def compatible(self, subject: str, schema: Schema) -> list[Problem]:
        """Why ``schema`` could not be registered now; empty when it could."""
        latest = await self.latest(subject)
        return [] if latest is None else incompatibilities(latest.schema, schema)

    async def history(self, subject: str) -> list[Version]:
        """All versions of a subject, oldest first."""
        async with postgres.session(self._dsn, what="schemas") as conn:
            return await self._read(conn, subject)

    async def latest(self, subject: str) -> Version | None:
        """The newest version, or None."""
        history = await self.history(subject)
        return history[-1] if history else None

    async def subjects(self) -> list[str]:
        """All subjects, by name."""
        async with postgres.session(self._dsn, what="schemas") as conn:
            return [row[0] for row in await postgres.fetch(conn, _queries.subjects)]

    async def _read(self, conn: postgres.Connection, subject: str) -> list[Version]:
        found = [Version(*row) for row in await postgres.fetch(conn, _queries.versions, {"subject": subject})]
        self._known[subject] = found
        self._looked[subject] = clock.monotonic()
        return found

    async def check(self, event: Event) -> Version:
        """The version that ``event`` matches: the one its ``dataschema`` names, else the latest known here.

        A schema registered elsewhere a moment ago is found, too: what does not match is looked up again, at most once a
        second for each subject.

        Raises:
            FigError: ``schema_missing``, ``schema_violation`` (with the path of what is wrong).
        """
        try:
            return self._check(event)
        except FigError:
            if clock.monotonic() - self._looked.get(event.type, -STALE) < STALE and self._known.get(event.type):
                raise
        await self.history(event.type)
        return self._check(event)

    def _check(self, event: Event) -> Version:
        history = self._known.get(event.type, [])
        wanted = version_of(event.dataschema)
        version = next((v for v in reversed(history) if wanted in (None, v.version)), None)
        if version is None:
            which = "no schema" if wanted is None else f"no schema of version {wanted}"
            raise FigError(
                "schema_missing",
                f"there is {which} for events of type {event.type}",
                "Generate the schemas from the model and register them before producing.",
                subject=event.type,
                version=wanted,
            )
        key = (version.subject, version.version)
        checker = self._checkers.get(key)
        if checker is None:
            checker = self._checkers[key] = Checker(version.schema)
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError as error:
            raise _violation(event, version, "$", f"it is not JSON: {error}") from error
        if (problem := checker.problem(data)) is not None:
            raise _violation(event, version, *problem)
        return version


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


def _incompatible(latest: Version, problems: Sequence[Problem]) -> FigError:
    words = "; ".join(f"{problem.path}: {problem.words}" for problem in problems)
    return FigError(
        "schema_incompatible",
        f"the schema cannot follow version {latest.version} of {latest.subject}: {words}",
        "Add optional fields instead, or give the changed fact an event type of its own.",
        subject=latest.subject,
        problems=[{"path": problem.path, "words": problem.words} for problem in problems],
    )


class CheckedLog:
    """A log that takes only business events that are as their schemas say; changes and our own records have none.

    ``governed`` says by its name whether a topic holds business events.
    """

    def __init__(
        self, log: EventLog, registry: SchemaRegistry, governed: Callable[[str], bool] = lambda topic: True
    ) -> None:
        self._log = log
        self._registry = registry
        self._governed = governed

    @property
    def capabilities(self) -> Capabilities:
        """Those of the log beneath."""
        return self._log.capabilities

    async def append(self, topic: str, events: Sequence[Event], *, partition: int | None = None) -> list[int]:
        """As the port's; all events are checked before any is appended.

        Raises:
            FigError: ``schema_missing``, ``schema_violation``, and the port's.
        """
        if self._governed(topic):
            for event in events:
                await self._registry.check(event)
        return await self._log.append(topic, events, partition=partition)

    async def migrate(self) -> None:
        """As the port's."""
        await self._log.migrate()

    async def create_topic(self, name: str, *, partitions: int = 1, retention_seconds: float | None = None) -> None:
        """As the port's."""
        await self._log.create_topic(name, partitions=partitions, retention_seconds=retention_seconds)

    async def delete_topic(self, name: str) -> None:
        """As the port's."""
        await self._log.delete_topic(name)

    async def topic(self, name: str) -> Topic | None:
        """As the port's."""
        return await self._log.topic(name)

    async def topics(self) -> list[Topic]:
        """As the port's."""
        return await self._log.topics()

    async def read(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        max_records: int = 1000,
        max_bytes: int = 8_000_000,
        wait: float = 0.0,
    ) -> list[Record]:
        """As the port's."""
        return await self._log.read(topic, partition, position, max_records=max_records, max_bytes=max_bytes, wait=wait)

    async def position_at(self, topic: str, partition: int, time: datetime) -> int:
        """As the port's."""
        return await self._log.position_at(topic, partition, time)

    async def subscribe(self, topics: Sequence[str], group: str, *, lease: float = 5.0) -> Subscription:
        """As the port's."""
        return await self._log.subscribe(topics, group, lease=lease)

    async def groups(self, topic: str) -> list[str]:
        """As the port's."""
        return await self._log.groups(topic)

    async def committed(self, topic: str, group: str) -> tuple[int, ...]:
        """As the port's."""
        return await self._log.committed(topic, group)

    async def seek(self, topic: str, group: str, *, position: int | None = None, time: datetime | None = None) -> None:
        """As the port's."""
        await self._log.seek(topic, group, position=position, time=time)

    async def close(self) -> None:
        """Close the log beneath."""
        await self._log.close()

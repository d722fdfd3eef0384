"""The registry's store in the control database: reads, registrations, deletions, settings.

Several processes may serve one database: whoever changes a subject holds its row, a content is unique by its digest.
The rules of formats are elsewhere (``formats``), the dialect in which clients speak as well (``server``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from stranglerfig.foundation import postgres, sql
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import formats, succession
from stranglerfig.schemas.formats import Format, Level, Problem, Reference, Text
from stranglerfig.schemas.subjects import (
    Deleted,
    Effective,
    Given,
    Mode,
    Pointer,
    SubjectSettings,
    Version,
    digest,
    effective,
    unknown_subject,
    unknown_version,
)

LATEST = -1
"""A version's number that stands for the newest one in force."""
BUSY = 10.0
"""Seconds that a change waits for another one of the same subject."""
TABLES = postgres.Tables("schemas", __package__ or "", ("tables.sql", "subjects.sql"))

_queries = sql.load(__package__ or "")


class SchemaStore:
    """Subjects and their versions. One session reads, another one writes: a write that waits keeps nobody from reading.

    Args:
        dsn: the control database.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._reading = postgres.Kept(dsn, what="schemas")
        self._writing = postgres.Kept(dsn, what="schemas")
        # A content never changes and a version's number never comes to mean another one.
        self._texts: dict[int, Text] = {}

    async def prepare(self) -> None:
        """Create or bring forward the tables."""
        async with postgres.session(self._dsn, what="schemas") as conn:
            await postgres.migrate(conn, *TABLES)
            async with conn.transaction():
                await _digest_moved(conn)

    async def close(self) -> None:
        """End the sessions."""
        await self._reading.close()
        await self._writing.close()

    # --- reading

    async def find(
        self,
        *,
        subject: str | None = None,
        version: int | None = None,
        id: int | None = None,
        prefix: str | None = None,
        deleted: Deleted = Deleted.NOT,
    ) -> list[Version]:
        """Versions by subject and number, for which all that is given holds."""
        async with self._reading.session() as conn:
            return await _find(conn, subject=subject, version=version, id=id, prefix=prefix, deleted=deleted)

    async def versions(self, subject: str) -> list[Version]:
        """The versions in force, oldest first."""
        return await self.find(subject=subject)

    async def version(self, subject: str, version: int, *, deleted: bool = False) -> Version:
        """One version; ``LATEST`` is the newest in force.

        Raises:
            FigError: ``unknown_subject``, ``unknown_schema_version``.
        """
        kinds = Deleted.ALSO if deleted else Deleted.NOT
        async with self._reading.session() as conn:
            return await _version(conn, subject, version, kinds)

    async def subjects(self, *, prefix: str = "", deleted: Deleted = Deleted.NOT) -> list[str]:
        """Subjects by name; ``Deleted.ONLY`` are those without a version in force."""
        async with self._reading.session() as conn:
            rows = await postgres.fetch(conn, _queries.subjects, {"prefix": prefix, "deleted": deleted.value})
        return [row[0] for row in rows]

    async def greatest_id(self) -> int:
        """The greatest id that was given; 0 before the first."""
        async with self._reading.session() as conn:
            return int(await postgres.value(conn, _queries.greatest_id))

    async def referenced_by(self, subject: str, version: int, *, deleted: bool = False) -> list[int]:
        """Ids of the schemas that refer to a version (``unknown_subject``, ``unknown_schema_version``)."""
        found = await self.version(subject, version, deleted=True)
        async with self._reading.session() as conn:
            return await _referenced_by(conn, subject, found.version, deleted)

    async def lookup(
        self, subject: str, schema: Given, *, normalize: bool = False, deleted: bool = False
    ) -> Version | None:
        """The version of ``subject`` that has this content, or None (``schema_invalid`` when it is no schema)."""
        async with self._reading.session() as conn:
            normal = normalize or (await _settings(conn, subject)).normalize
            schema = await self._prepared(conn, schema, normal)
            kinds = Deleted.ALSO if deleted else Deleted.NOT
            found = await _find(conn, subject=subject, digest=digest(schema), deleted=kinds)
        return found[-1] if found else None

    async def text(self, schema: Given) -> Text:
        """The schema with the texts that it refers to (``schema_invalid`` when one is unknown)."""
        async with self._reading.session() as conn:
            return await self._text(conn, schema, deleted=True)

    async def problems(
        self, subject: str, schema: Given, *, version: int | None = None, normalize: bool = False
    ) -> list[Problem]:
        """Why ``schema`` cannot follow the versions that its subject's level names, or the one ``version``.

        Raises:
            FigError: ``schema_invalid``; ``unknown_subject`` or ``unknown_schema_version`` for a ``version`` given.
        """
        async with self._reading.session() as conn:
            holds = await _settings(conn, subject)
            schema = await self._prepared(conn, schema, normalize or holds.normalize)
            new = await self._text(conn, schema)
            if version is None:
                earlier = await _find(conn, subject=subject)
            else:
                earlier = [await _version(conn, subject, version, Deleted.NOT)]
            return succession.problems(new, [await self._text_of(conn, each) for each in earlier], holds.level)

    # --- settings

    async def settings(self, subject: str = "") -> Effective:
        """What holds for a subject, or for all where none is named."""
        async with self._reading.session() as conn:
            return await _settings(conn, subject)

    async def level(self, subject: str) -> Level:
        """The compatibility that a subject's next version must have."""
        return (await self.settings(subject)).level

    async def put_settings(self, subject: str, settings: SubjectSettings, *, force: bool = False) -> None:
        """Set what is set for a subject (all: ``""``).

        Raises:
            FigError: ``registry_closed`` for IMPORT where there are versions: the ids that come could not be kept.
        """
        async with self._changing() as conn:
            await conn.execute(_queries.begin_subject, {"subject": subject})
            await conn.execute(_queries.lock_subject, {"subject": subject})
            before = (await _settings(conn, subject)).own.mode
            if settings.mode is Mode.IMPORT and before is not Mode.IMPORT and not force:
                filled = await _find(conn, subject=subject or None, deleted=Deleted.ALSO)
                if filled:
                    raise FigError(
                        "registry_closed",
                        f"Cannot import since found existing subjects, such as '{filled[0].subject}'.",
                        "Import into an empty registry or subject, or set the mode with force=true.",
                        subject=subject,
                    )
            await conn.execute(
                _queries.set,
                {
                    "subject": subject,
                    "level": settings.level,
                    "mode": settings.mode,
                    "normalize": settings.normalize,
                },
            )

    # --- writing

    async def register(
        self,
        subject: str,
        schema: Given,
        *,
        by: str,
        normalize: bool = False,
        level: Level | None = None,
        version: int | None = None,
        id: int | None = None,
    ) -> Version:
        """As the port's. ``version`` and ``id`` are those of another registry, for a subject in IMPORT mode.

        Raises:
            FigError: ``schema_invalid``, ``schema_incompatible``, ``registry_closed``, ``schema_id_differs``.
        """
        if version is None and id is None:
            # Producers do this at each of their starts: what is there is found without waiting for anybody.
            known = await self.lookup(subject, schema, normalize=normalize)
            if known is not None:
                return known
        async with self._changing() as conn:
            await conn.execute(_queries.begin_subject, {"subject": subject})
            following = int(await postgres.value(conn, _queries.lock_subject, {"subject": subject}))
            holds = await _settings(conn, subject)
            schema = await self._prepared(conn, schema, normalize or holds.normalize)
            history = await _find(conn, subject=subject)
            same = await _find(conn, subject=subject, digest=digest(schema))
            if same and id in (None, same[-1].id) and version in (None, same[-1].version):
                return same[-1]
            _allowed(subject, holds.mode, importing=id is not None)
            if holds.mode is not Mode.IMPORT:
                if version not in (None, following):
                    raise FigError(
                        "schema_invalid",
                        f"The version {version} is not the one that follows: {following}.",
                        "Leave the version out, or set the subject's mode to IMPORT first.",
                    )
                if level is not None and holds.own.level is None:
                    own = {"level": level, "mode": holds.own.mode, "normalize": holds.own.normalize}
                    await conn.execute(_queries.set, {"subject": subject, **own})
                await self._agree(conn, subject, schema, history, holds.own.level or level or holds.level)
            number = following if version is None else version
            if version is not None and await _find(conn, subject=subject, version=version, deleted=Deleted.ALSO):
                raise FigError("schema_id_differs", f"Version {version} of '{subject}' is another schema.", _IMPORT)
            content = await self._content(conn, schema, id)
            await conn.execute(_queries.add_version, {"subject": subject, "version": number, "id": content, "by": by})
            await conn.execute(_queries.pass_version, {"subject": subject, "version": number})
            return (await _find(conn, subject=subject, version=number))[0]

    async def delete(self, subject: str, version: int | None = None, *, permanent: bool = False) -> list[int]:
        """Delete a subject or one version: softly, or for good what was deleted softly before. Returns the numbers.

        Raises:
            FigError: ``unknown_subject``, ``unknown_schema_version``, ``schema_soft_deleted`` (a second time),
                ``schema_not_soft_deleted`` (for good at once), ``schema_referenced``, ``registry_closed``.
        """
        async with self._changing() as conn:
            await conn.execute(_queries.lock_subject, {"subject": subject})
            _allowed(subject, (await _settings(conn, subject)).mode, importing=None)
            if version == LATEST:
                version = (await _version(conn, subject, LATEST, Deleted.NOT)).version
            chosen = await _find(conn, subject=subject, version=version, deleted=Deleted.ALSO)
            numbers = [each.version for each in _deletable(subject, version, chosen, permanent)]
            if version is not None and not chosen:
                known = await _find(conn, subject=subject, deleted=Deleted.ALSO)
                raise unknown_version(subject, version) if known else unknown_subject(subject)
            await conn.execute(_queries.lock_versions, {"subject": subject, "versions": numbers})
            for number in numbers:
                await _not_referenced(conn, subject, number, permanent)
            statement = _queries.delete_for_good if permanent else _queries.delete_softly
            await conn.execute(statement, {"subject": subject, "versions": numbers})
            if permanent and version is None:
                await conn.execute(_queries.forget_settings, {"subject": subject})
            return numbers

    # --- parts

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[postgres.Connection]:
        """A transaction that waits for another's for ``BUSY`` seconds at most (``registry_busy``)."""
        async with self._writing.session() as conn:
            try:
                async with conn.transaction():
                    await conn.execute(_queries.wait_at_most, {"milliseconds": str(int(BUSY * 1000))})
                    yield conn
            except psycopg.errors.LockNotAvailable as error:
                raise FigError(
                    "registry_busy",
                    f"another session has held what is to be changed in the registry for {BUSY:g} s",
                    "Try again; if it stays so, look for an open transaction in the control database.",
                ) from error

    async def _prepared(self, conn: postgres.Connection, schema: Given, normal: bool) -> Given:
        """The schema as it is kept: checked, its references with numbers, in canonical form where that is asked for."""
        pointers = tuple(
            [
                Pointer(each.name, each.subject, (await self._referenced(conn, each)).version)
                for each in schema.references
            ]
        )
        schema = Given(schema.format, schema.text, pointers)
        text = await self._text(conn, schema)
        formats.validate(text)
        return Given(schema.format, formats.normal(text), pointers) if normal else schema

    async def _text(self, conn: postgres.Connection, schema: Given, *, deleted: bool = False) -> Text:
        """With what it refers to, each name once, what is referred to before what refers."""
        found: dict[str, Reference] = {}
        for pointer in schema.references:
            target = await self._referenced(conn, pointer, deleted=deleted)
            for inner in (await self._text_of(conn, target)).references:
                found.setdefault(inner.name, inner)
            found.setdefault(pointer.name, Reference(pointer.name, target.schema.text))
        return Text(schema.format, schema.text, tuple(found.values()))

    async def _text_of(self, conn: postgres.Connection, version: Version) -> Text:
        known = self._texts.get(version.id)
        if known is None:
            known = self._texts[version.id] = await self._text(conn, version.schema, deleted=True)
        return known

    async def _referenced(self, conn: postgres.Connection, pointer: Pointer, *, deleted: bool = False) -> Version:
        try:
            kinds = Deleted.ALSO if deleted else Deleted.NOT
            return await _version(conn, pointer.subject, pointer.version, kinds)
        except FigError as error:
            raise FigError(
                "schema_invalid",
                f'No schema reference found for subject "{pointer.subject}" and version {pointer.version}, '
                f"which the schema calls '{pointer.name}'.",
                "Register what it refers to first.",
                reference=pointer.name,
                subject=pointer.subject,
                version=pointer.version,
            ) from error

    async def _agree(
        self, conn: postgres.Connection, subject: str, schema: Given, history: Sequence[Version], level: Level
    ) -> None:
        new = await self._text(conn, schema)
        found = succession.problems(new, [await self._text_of(conn, each) for each in history], level)
        if found:
            raise incompatible(subject, found, level, history[-1].version)

    async def _content(self, conn: postgres.Connection, schema: Given, id: int | None) -> int:
        """The id of the content, given now where it has none."""
        values: dict[str, Any] = {"digest": digest(schema), "format": schema.format.value, "text": schema.text}
        known = await postgres.value(conn, _queries.content_of, values)
        if id is not None and known != id:
            await self._import(conn, values, id)
            known = id
        elif known is None:
            known = await postgres.value(conn, _queries.add_content, values)
            if known is None:
                # Another subject's registration was faster by a moment; its transaction has ended.
                return int(await postgres.value(conn, _queries.content_of, values))
        else:
            await self._hold_references(conn, schema)
            return int(known)
        await self._hold_references(conn, schema)
        for ordinal, each in enumerate(schema.references):
            row = {"id": known, "ordinal": ordinal, "name": each.name, "subject": each.subject}
            await conn.execute(_queries.add_reference, {**row, "version": each.version})
        return int(known)

    async def _import(self, conn: postgres.Connection, values: dict[str, Any], id: int) -> None:
        taken = await postgres.value(conn, _queries.digest_of, {"id": id})
        elsewhere = await postgres.value(conn, _queries.content_of, values)
        if taken is not None or elsewhere is not None:
            has = f"the id {id} is another schema's" if taken is not None else f"the schema has the id {elsewhere}"
            raise FigError("schema_id_differs", f"It cannot be imported with the id {id}: {has}.", _IMPORT)
        await conn.execute(_queries.import_content, {**values, "id": id})
        await conn.execute(_queries.pass_imported, {"id": id})

    @staticmethod
    async def _hold_references(conn: postgres.Connection, schema: Given) -> None:
        for each in schema.references:
            place = {"subject": each.subject, "version": each.version}
            if await postgres.one(conn, _queries.lock_referenced, place) is None:
                raise FigError(
                    "schema_invalid",
                    f"Version {each.version} of '{each.subject}', which it calls '{each.name}', is being deleted.",
                    "Register what it refers to again.",
                )


_IMPORT = "Import into an empty registry, from one whose ids do not clash with those given here."


def incompatible(subject: str, found: Sequence[Problem], level: Level, latest: int) -> FigError:
    """A schema cannot follow the earlier ones of its subject."""
    words = "; ".join(f"{problem.path}: {problem.words}" for problem in found)
    return FigError(
        "schema_incompatible",
        f"the schema cannot follow version {latest} of {subject} ({level}): {words}",
        "Add optional fields instead, or give the changed fact an event type of its own.",
        subject=subject,
        level=level.value,
        problems=[{"path": problem.path, "words": problem.words, "kind": problem.kind} for problem in found],
    )


def _allowed(subject: str, mode: Mode, *, importing: bool | None) -> None:
    """Refuse what a subject's mode does not allow; ``importing`` is None for a deletion."""
    why = ""
    if mode is Mode.READONLY:
        why = f"Subject {subject} is in read-only mode"
    elif mode is Mode.IMPORT and importing is False:
        why = f"Subject {subject} is in import mode: a schema comes with its id"
    elif mode is Mode.READWRITE and importing:
        why = f"Subject {subject} is not in import mode: ids are given here"
    if why:
        raise FigError("registry_closed", why, "Change the mode of the subject or of all.", subject=subject, mode=mode)


def _deletable(subject: str, version: int | None, chosen: list[Version], permanent: bool) -> list[Version]:
    if version is None and not chosen:
        raise unknown_subject(subject)
    what = f"Subject '{subject}'" if version is None else f"Subject '{subject}' Version {version}"
    context = {"subject": subject} if version is None else {"subject": subject, "version": version}
    if not permanent:
        live = [each for each in chosen if not each.deleted]
        if chosen and not live:
            said = f"{what} was soft deleted. Set permanent=true to delete permanently."
            raise FigError("schema_soft_deleted", said, "Delete it for good, or register it anew.", **context)
        return live
    if any(not each.deleted for each in chosen):
        said = f"{what} was not deleted first before being permanently deleted."
        raise FigError(
            "schema_not_soft_deleted", said, "Delete it softly first; see whether anybody misses it.", **context
        )
    return chosen


async def _not_referenced(conn: postgres.Connection, subject: str, version: int, permanent: bool) -> None:
    # For good: what is softly deleted can still be read, and needs what it refers to.
    if ids := await _referenced_by(conn, subject, version, permanent):
        raise FigError(
            "schema_referenced",
            f"One or more references exist to version {version} of '{subject}': schemas with the ids {ids}.",
            "Delete what refers to it first.",
            subject=subject,
            version=version,
            ids=ids,
        )


async def _find(
    conn: postgres.Connection,
    *,
    subject: str | None = None,
    version: int | None = None,
    id: int | None = None,
    digest: bytes | None = None,
    prefix: str | None = None,
    deleted: Deleted = Deleted.NOT,
) -> list[Version]:
    asked = {"subject": subject, "version": version, "id": id, "digest": digest, "prefix": prefix}
    rows = await postgres.fetch(conn, _queries.versions, {**asked, "deleted": deleted.value})
    return [
        Version(name, number, key, Given(Format(format), text, tuple(Pointer(*each) for each in pointers)), *rest)
        for name, number, key, format, text, pointers, *rest in rows
    ]


async def _version(conn: postgres.Connection, subject: str, version: int, deleted: Deleted) -> Version:
    if version == LATEST:
        found = await _find(conn, subject=subject)
        if not found:
            raise unknown_subject(subject)
        return found[-1]
    found = await _find(conn, subject=subject, version=version, deleted=deleted)
    if not found:
        known = await _find(conn, subject=subject, deleted=deleted)
        raise unknown_version(subject, version) if known else unknown_subject(subject)
    return found[0]


async def _referenced_by(conn: postgres.Connection, subject: str, version: int, deleted: bool) -> list[int]:
    asked = {"subject": subject, "version": version, "deleted": deleted}
    return [row[0] for row in await postgres.fetch(conn, _queries.referenced_by, asked)]


async def _settings(conn: postgres.Connection, subject: str) -> Effective:
    rows = await postgres.fetch(conn, _queries.settings, {"subject": subject})
    found = {
        name: SubjectSettings(level and Level(level), mode and Mode(mode), normalize)
        for name, level, mode, normalize in rows
    }
    everywhere = found.get("", SubjectSettings())
    return effective(everywhere, everywhere if subject == "" else found.get(subject, SubjectSettings()))


async def _digest_moved(conn: postgres.Connection) -> None:
    """Give contents that an earlier release had kept their digest: the same schema again finds its id."""
    for id, format, text in await postgres.fetch(conn, _queries.undigested):
        schema = Given(Format(format), formats.normal(Text(Format(format), text)))
        values = {"id": id, "digest": digest(schema), "text": schema.text}
        other = await postgres.value(conn, _queries.content_of, values)
        if other is None:
            await conn.execute(_queries.digested, values)
        else:
            await conn.execute(_queries.same_content, {"id": id, "other": other})
            await conn.execute(_queries.drop_content, {"id": id})

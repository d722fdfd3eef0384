"""Routes of subjects, versions, schemas and compatibility: each asks the store once and shapes its answer."""

from __future__ import annotations

from aiohttp import web

from stranglerfig.schemas import dialect, http
from stranglerfig.schemas.formats import Format
from stranglerfig.schemas.protobuf import messages
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Deleted, Version, unknown_schema, unknown_subject


class SchemaRoutes:
    """What clients ask of schemas.

    Args:
        store: where they are.
    """

    def __init__(self, store: SchemaStore) -> None:
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """The routes, the more special ones first."""
        one, many = "/subjects/{subject}/versions/{version}", "/subjects/{subject}/versions"
        by_id, check = "/schemas/ids/{id}", "/compatibility/subjects/{subject}/versions"
        return [
            web.get("/subjects", self.subjects),
            web.post("/subjects/{subject}", self.lookup),
            web.delete("/subjects/{subject}", self.delete_subject),
            web.get(many, self.numbers),
            web.post(many, self.register),
            web.get(one, self.version),
            web.delete(one, self.delete_version),
            web.get(f"{one}/schema", self.version_text),
            web.get(f"{one}/referencedby", self.referenced_by),
            web.get("/subjects/{subject}/metadata", self.version),
            web.get("/schemas", self.schemas),
            web.get("/schemas/types", self.types),
            web.get(by_id, self.by_id),
            web.get(f"{by_id}/schema", self.text_by_id),
            web.get(f"{by_id}/subjects", self.subjects_by_id),
            web.get(f"{by_id}/versions", self.versions_by_id),
            web.post(check, self.compatible),
            web.post(f"{check}/{{version}}", self.compatible),
        ]

    # --- subjects and versions

    async def subjects(self, request: web.Request) -> web.Response:
        """Names; ``subjectPrefix`` may be written with the default context."""
        prefix = request.query.get("subjectPrefix", "").removeprefix(":.:").removeprefix(":*:")
        found = await self._store.subjects(prefix=prefix, deleted=http.deleted(request))
        return http.answer(http.page(request, found))

    async def numbers(self, request: web.Request) -> web.Response:
        """A subject's versions."""
        subject = http.subject(request)
        found = await self._store.find(subject=subject, deleted=http.deleted(request))
        if not found:
            raise unknown_subject(subject)
        return http.answer(http.page(request, [each.version for each in found]))

    async def version(self, request: web.Request) -> web.Response:
        """One version with its schema."""
        return http.answer(dialect.registered(await self._version(request)))

    async def version_text(self, request: web.Request) -> web.Response:
        """The schema alone."""
        return _text((await self._version(request)).schema.text)

    async def _version(self, request: web.Request) -> Version:
        return await self._store.version(
            http.subject(request), http.version(request), deleted=http.flag(request, "deleted")
        )

    async def referenced_by(self, request: web.Request) -> web.Response:
        """Ids of the schemas that refer to a version."""
        found = await self._store.referenced_by(
            http.subject(request), http.version(request), deleted=http.flag(request, "deleted")
        )
        return http.answer(http.page(request, found))

    async def register(self, request: web.Request) -> web.Response:
        """Register a schema, or find it registered."""
        subject, body = http.subject(request), await http.body(request)
        found = await self._store.register(
            subject,
            dialect.given(body),
            by=request.headers.get("User-Agent", "rest")[:200],
            normalize=http.flag(request, "normalize"),
            version=dialect.whole(body, "version"),
            id=dialect.whole(body, "id"),
        )
        return http.answer({"id": found.id})

    async def lookup(self, request: web.Request) -> web.Response:
        """The version that has this content."""
        subject, also = http.subject(request), http.flag(request, "deleted")
        schema = dialect.given(await http.body(request))
        found = await self._store.lookup(subject, schema, normalize=http.flag(request, "normalize"), deleted=also)
        if found is None:
            known = await self._store.find(subject=subject, deleted=Deleted.ALSO if also else Deleted.NOT)
            raise unknown_schema(f"under subject '{subject}'") if known else unknown_subject(subject)
        return http.answer(dialect.registered(found))

    async def delete_subject(self, request: web.Request) -> web.Response:
        """Delete all versions."""
        return http.answer(await self._store.delete(http.subject(request), permanent=http.flag(request, "permanent")))

    async def delete_version(self, request: web.Request) -> web.Response:
        """Delete one version."""
        subject, version = http.subject(request), http.version(request)
        found = await self._store.delete(subject, version, permanent=http.flag(request, "permanent"))
        return http.answer(found[0])

    # --- schemas

    async def schemas(self, request: web.Request) -> web.Response:
        """Versions of all subjects."""
        prefix = request.query.get("subjectPrefix", "").removeprefix(":.:").removeprefix(":*:")
        found = await self._store.find(prefix=prefix, deleted=http.deleted(request))
        if http.flag(request, "latestOnly"):
            found = list({each.subject: each for each in found}.values())
        return http.answer([dialect.registered(each) for each in http.page(request, found)])

    async def types(self, _: web.Request) -> web.Response:
        """The formats."""
        return http.answer([each.value for each in Format])

    async def _by_id(self, request: web.Request, deleted: Deleted = Deleted.ALSO) -> list[Version]:
        """What has an id; softly deleted versions, too: events written under them are still to be read."""
        id = http.schema_id(request)
        found = await self._store.find(id=id, deleted=Deleted.ALSO)
        if not found:
            raise unknown_schema(str(request.match_info["id"]))
        return found if deleted is Deleted.ALSO else [each for each in found if not each.deleted]

    async def by_id(self, request: web.Request) -> web.Response:
        """The schema that an id stands for."""
        found = (await self._by_id(request))[0]
        shown = dialect.content(found.schema)
        if request.query.get("format") == "serialized" and found.schema.format is Format.PROTOBUF:
            shown["schema"] = messages.serialized(await self._store.text(found.schema))
        if http.flag(request, "fetchMaxId"):
            shown["maxId"] = await self._store.greatest_id()
        return http.answer(shown)

    async def text_by_id(self, request: web.Request) -> web.Response:
        """Its text alone."""
        return _text((await self._by_id(request))[0].schema.text)

    async def subjects_by_id(self, request: web.Request) -> web.Response:
        """The subjects under which it is registered."""
        found = await self._by_id(request, http.deleted(request))
        return http.answer(http.page(request, sorted({each.subject for each in found})))

    async def versions_by_id(self, request: web.Request) -> web.Response:
        """The same with version numbers."""
        found = await self._by_id(request, http.deleted(request))
        places = [{"subject": each.subject, "version": each.version} for each in found]
        return http.answer(http.page(request, places))

    # --- compatibility

    async def compatible(self, request: web.Request) -> web.Response:
        """Whether a schema could follow; with ``verbose`` why not."""
        schema = dialect.given(await http.body(request))
        problems = await self._store.problems(
            http.subject(request),
            schema,
            version=http.version(request) if "version" in request.match_info else None,
            normalize=http.flag(request, "normalize"),
        )
        shown: dict[str, object] = {"is_compatible": not problems}
        if http.flag(request, "verbose"):
            shown["messages"] = [f"{problem.path}: {problem.words}" for problem in problems]
        return http.answer(shown)


def _text(text: str) -> web.Response:
    return web.Response(text=text, content_type=dialect.CONTENT_TYPE)

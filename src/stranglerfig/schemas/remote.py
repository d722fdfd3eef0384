"""Another registry, reached by its URL: the same dialect that ours serves, asked as a client."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import dialect
from stranglerfig.schemas.formats import Level, Problem, Reference, Text
from stranglerfig.schemas.subjects import DEFAULT_LEVEL, Given, Pointer, Version

PATIENCE = 10.0
"""Seconds for one answer."""


class RemoteRegistry:
    """A registry that others run. It keeps neither who registered nor when.

    Args:
        url: its base URL, without credentials.
        credentials: ``user:password``, sent as basic authentication.
    """

    def __init__(self, url: str, credentials: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": dialect.CONTENT_TYPE}
        if credentials is not None:
            self._headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        self._session: aiohttp.ClientSession | None = None
        self._referenced: dict[Pointer, Version] = {}

    async def prepare(self) -> None:
        """See that it answers."""
        await self._ask("GET", "/subjects?limit=1")

    async def close(self) -> None:
        """Let go of connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def register(
        self, subject: str, schema: Given, *, by: str, normalize: bool = False, level: Level | None = None
    ) -> Version:
        """As the port's; ``by`` is not kept there."""
        if level is not None and await self._own_level(subject) is None:
            await self._ask("PUT", f"/config/{_in_path(subject)}", {"compatibility": level.value})
        flags = f"?normalize={str(normalize).lower()}"
        await self._ask("POST", f"/subjects/{_in_path(subject)}/versions{flags}", dialect.body(schema))
        found = await self._ask("POST", f"/subjects/{_in_path(subject)}{flags}", dialect.body(schema))
        return dialect.parsed(found, subject)

    async def problems(self, subject: str, schema: Given) -> list[Problem]:
        """As the port's; the words are the other registry's, which names no paths of its own."""
        path = f"/compatibility/subjects/{_in_path(subject)}/versions?verbose=true"
        found = await self._ask("POST", path, dialect.body(schema))
        if found.get("is_compatible"):
            return []
        words = found.get("messages") or ["the registry says that it is not compatible, and not why"]
        return [Problem("$", str(each), "registry") for each in words]

    async def versions(self, subject: str) -> list[Version]:
        """As the port's."""
        try:
            numbers = await self._ask("GET", f"/subjects/{_in_path(subject)}/versions")
        except FigError as error:
            if error.code == "unknown_subject":
                return []
            raise
        return [await self._version(subject, int(number)) for number in numbers]

    async def _version(self, subject: str, number: int) -> Version:
        return dialect.parsed(
            await self._ask("GET", f"/subjects/{_in_path(subject)}/versions/{number}?deleted=true"), subject
        )

    async def subjects(self) -> list[str]:
        """As the port's."""
        return sorted(str(each) for each in await self._ask("GET", "/subjects"))

    async def level(self, subject: str) -> Level:
        """As the port's."""
        found = await self._ask("GET", f"/config/{_in_path(subject)}?defaultToGlobal=true")
        return Level(found.get("compatibilityLevel", DEFAULT_LEVEL))

    async def _own_level(self, subject: str) -> Level | None:
        try:
            found = await self._ask("GET", f"/config/{_in_path(subject)}")
        except FigError as error:
            if error.code in ("registry_setting_unset", "unknown_subject"):
                return None
            raise
        return Level(found.get("compatibilityLevel", DEFAULT_LEVEL))

    async def text(self, schema: Given) -> Text:
        """As the port's; what was referred to once is kept, it never changes."""
        found: dict[str, Reference] = {}
        for pointer in schema.references:
            target = self._referenced.get(pointer)
            if target is None:
                target = self._referenced[pointer] = await self._version(pointer.subject, pointer.version)
            for inner in (await self.text(target.schema)).references:
                found.setdefault(inner.name, inner)
            found.setdefault(pointer.name, Reference(pointer.name, target.schema.text))
        return Text(schema.format, schema.text, tuple(found.values()))

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE), headers=self._headers)
        data = None if body is None else orjson.dumps(body)
        headers = {} if data is None else {"Content-Type": dialect.CONTENT_TYPE}
        # Already encoded: a subject may hold slashes and per cent signs.
        url = URL(self._url + path, encoded=True)
        try:
            async with self._session.request(method, url, data=data, headers=headers) as response:
                status, said = response.status, await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        try:
            found = orjson.loads(said)
        except orjson.JSONDecodeError:
            raise self._unreachable(f"it answered {status} with something that is no JSON") from None
        if status >= 400:
            raise self._refused(status, found)
        return found

    def _refused(self, status: int, found: Any) -> FigError:
        body = found if isinstance(found, dict) else {}
        number, message = body.get("error_code"), str(body.get("message", found))
        code = dialect.code_of(number) if isinstance(number, int) else None
        if code is None or status >= 500:
            return self._unreachable(f"it answered {status}: {message}")
        return FigError(code, message, f"So the registry at {self._url} says.", registry=self._url, number=number)

    def _unreachable(self, why: str) -> FigError:
        return FigError(
            "registry_unreachable",
            f"the schema registry {self._url} does not answer as one: {why}",
            "Check 'schemas' in fig.yaml, and that the registry runs.",
            registry=self._url,
        )


def _in_path(subject: str) -> str:
    return quote(subject, safe="")

"""The console's API: each route is declared once, with Python models; its OpenAPI document and TypeScript types follow.

A page's module has a function that returns its :class:`Route`\\ s. A ``live`` route answers with JSON or, who accepts
``text/event-stream``, with its whole state each time it changes: who connects again has missed nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError

log = logging.getLogger(__name__)
EVERY = 0.5
"""Seconds between two readings of a live route, however many look at it and however fast things change."""
ALIVE = 10.0
"""Seconds after which a stream that has nothing new says so: a reader that hears less has lost it."""
EVENT_STREAM = "text/event-stream"
STATUSES = {
    "bad_request": 400,
    "console_link": 403,
    "console_session": 401,
    "database_unreachable": 503,
    "log_unreachable": 503,
    "missing_privilege": 403,
    "not_confirmed": 409,
    "own_request": 409,
    "position_expired": 404,
    "registry_unreachable": 503,
    "saga_not_blocked": 409,
    "tripwire_stays": 409,
    "unknown_command": 404,
    "unknown_context": 404,
    "unknown_flow": 404,
    "unknown_letter": 404,
    "unknown_parked": 404,
    "unknown_partition": 404,
    "unknown_position": 404,
    "unknown_saga": 404,
    "unknown_service": 404,
    "unknown_topic": 404,
}
"""HTTP statuses by the code of an error; 400 of others."""


class Model(BaseModel):
    """What every model of the API is: no field that nobody declared."""

    model_config = ConfigDict(extra="forbid")


class Refusal(Model):
    """What was refused, why, and what to do."""

    code: str
    message: str
    remedy: str
    context: dict[str, Any]


class Refused(Model):
    """The body of every answer that is not a success."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, checked: the parts of its path, its query, its body, and who asks.

    Attributes:
        origin: from which address.
        person: who stands behind ``by``, where ``fig.yaml`` says who may act.
        token: what commands are signed with, where ``fig.yaml`` says who may act; else None.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Any = None
    body: Any = None
    by: str = ""
    origin: str = ""
    token: str | None = field(default=None, repr=False)
    person: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that may be asked.

    Attributes:
        path: such as ``/api/extractions/{context}``; the parts in braces come as ``asked.path``.
        answer: the model of the answer.
        work: answers; of a route with ``stream``, what is there now.
        query, body: the models of what is asked with.
        live: may be followed; ``work`` is read again and again for all followers together.
        stream: follows in another way: each thing it yields is one message.
        public: may be asked without a session.
        statuses: those of its refusals, for the document.
    """

    path: str
    answer: type[BaseModel]
    work: Callable[[Asked], Awaitable[BaseModel]]
    summary: str
    method: Literal["GET", "POST"] = "GET"
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    live: bool = False
    stream: Callable[[Asked], AsyncIterator[BaseModel]] | None = None
    public: bool = False
    statuses: tuple[int, ...] = ()

    @property
    def streams(self) -> bool:
        """Whether it may be followed."""
        return self.live or self.stream is not None


async def checked(route: Route, request: web.Request, by: str, token: str | None = None) -> Asked:
    """The request of ``by`` as the route's models have it.

    Raises:
        FigError: ``bad_request``.
    """
    try:
        query = None if route.query is None else route.query.model_validate(dict(request.query))
        body = None if route.body is None else route.body.model_validate_json(await request.read(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FigError(
            "bad_request", f"{where or 'what was asked'}: {first['msg']}", "See /api/openapi.json.", where=where
        ) from error
    path = dict(request.match_info)
    if _has_nul([path, dict(request.query), None if body is None else body.model_dump()]):
        raise FigError("bad_request", "U+0000 stands in what was asked", "No text of ours has it: leave it out.")
    return Asked(path, query, body, by, request.remote or "", token)


def _has_nul(value: Any) -> bool:
    """Whether a text holds the one character that PostgreSQL's text cannot."""
    if isinstance(value, str):
        return "\0" in value
    found = [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return any(map(_has_nul, found))


def message(event: str, data: bytes) -> bytes:
    """One server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html); ``data`` on one line."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)


def trouble(error: FigError) -> bytes:
    """The event that says why there is no state now."""
    return message("trouble", orjson.dumps(error.as_dict(), default=str))


class _Reading:
    """One live thing, read while somebody follows it."""

    def __init__(self, read: Callable[[], Awaitable[BaseModel]]) -> None:
        self._read = read
        self._changed = asyncio.Condition()
        self.said = b""
        self.number = 0
        self.followers = 0
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            begun = clock.monotonic()
            try:
                said = message("state", (await self._read()).model_dump_json().encode())
            except FigError as error:
                said = trouble(error)
            except Exception as error:  # a page that shows nothing for ever would be worse than a word of it
                log.exception("a live page cannot be read", extra={"action": "console_read_failed"})
                said = trouble(FigError("unexpected", f"{type(error).__name__}: {error}", "Look at the console's log."))
            if said != self.said:
                async with self._changed:
                    self.said, self.number = said, self.number + 1
                    self._changed.notify_all()
            await asyncio.sleep(max(EVERY / 5, EVERY - (clock.monotonic() - begun)))

    async def after(self, number: int) -> None:
        """Wait for news, at most ``ALIVE`` seconds."""
        try:
            async with asyncio.timeout(ALIVE), self._changed:
                await self._changed.wait_for(lambda: self.number > number)
        except TimeoutError:
            return


class Live:
    """All live things that are followed now: each is read once, for all who follow it."""

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    async def follow(self, key: str, read: Callable[[], Awaitable[BaseModel]]) -> AsyncIterator[bytes]:
        """The state now and whenever it changes, as events; a comment where nothing is new."""
        reading = self._readings.get(key)
        if reading is None:
            reading = self._readings[key] = _Reading(read)
            reading.task = tasks.spawn(reading.run(), name=f"live {key}")
        reading.followers += 1
        seen = 0
        try:
            while True:
                await reading.after(seen)
                if reading.number > seen:
                    seen = reading.number
                    yield reading.said
                else:
                    yield b": alive\n\n"
        finally:
            reading.followers -= 1
            if not reading.followers:
                self._readings.pop(key, None)
                assert reading.task is not None
                reading.task.cancel()


async def stream(work: AsyncIterator[BaseModel]) -> AsyncIterator[bytes]:
    """A route's own stream as events; it ends with ``end``."""
    try:
        async for said in work:
            yield message("state", said.model_dump_json().encode())
        yield message("end", b"{}")
    except FigError as error:
        yield trouble(error)

"""The console's server: the built page, its API, and who may use it. What may be asked is in each page's module.

To add a page: a module here whose ``routes`` says what may be asked (named in :data:`PAGES`), and a file of the same
name in ``web/src/console/`` (named in its ``pages.ts``); ``make types-web`` writes the types, ``make web`` the page.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import orjson
from aiohttp import web

from stranglerfig.access.model import Role
from stranglerfig.console import access as accesses
from stranglerfig.console import acting, audit, estate, events, extraction, openapi, parked, sagas, site
from stranglerfig.console.access import TOKEN, ConsoleAccess
from stranglerfig.console.api import EVENT_STREAM, STATUSES, Asked, Live, Model, Route, checked, stream
from stranglerfig.console.entry import Entry
from stranglerfig.console.reading import Reading

log = logging.getLogger(__name__)
PAGES: tuple[Callable[[Reading], list[Route]], ...] = (
    estate.routes,
    extraction.routes,
    acting.routes,
    audit.routes,
    events.routes,
    parked.routes,
    sagas.routes,
)
"""What each page asks for; all routes of the console are theirs and the few below."""


class Link(Model):
    """What a link ends in."""

    token: str


class Session(Model):
    """What is sent as ``Authorization: Bearer`` from then on, and whose it is."""

    session: str
    by: str
    estate: str


class Ways(Model):
    """How one gets in: by a token or an OpenID provider, where the project says who may act; else by a link alone."""

    estate: str
    token: bool
    oidc: bool


def routes(reading: Reading, entry: Entry) -> list[Route]:
    """All that may be asked where links open the console; with :class:`ConsoleAccess` the first two are its own."""

    async def begin(asked: Asked) -> Session:
        session = entry.admit(asked.body.token)
        return Session(session=session, by=entry.who(session), estate=reading.project.estate.name)

    async def ways(_: Asked) -> Ways:
        return Ways(estate=reading.project.estate.name, token=False, oidc=False)

    known = Route("/api/login", Ways, ways, "How one gets in.", public=True)
    first = Route(
        "/api/session",
        Session,
        begin,
        "Begin a session with a link that fig printed; it is good for one.",
        method="POST",
        body=Link,
        public=True,
        statuses=(403,),
    )
    return [known, first, *(route for page in PAGES for route in page(reading))]


class ConsoleServer:
    """Serves one project; ``host`` and ``port`` say where once it has started.

    Args:
        access: who may act, where ``fig.yaml`` says so: then people log in, and links open nothing.
    """

    def __init__(self, reading: Reading, entry: Entry, *, access: ConsoleAccess | None = None, before: int = 0) -> None:
        self.entry = entry
        self._access = access
        self.host, self.port = "", 0
        self._reading = reading
        self._before = before
        self._live = Live()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; on ``port`` 0 where it listened before, if that is free, else on any free port.

        Raises:
            FigError: ``port_in_use``, ``database_unreachable``.
        """
        await self._reading.prepare()
        app = site.application("console.html", STATUSES | accesses.STATUSES)
        found = routes(self._reading, self.entry)
        if self._access is not None:
            self._access.attach(app)
            found = found[2:]
        for route in found:
            app.router.add_route(route.method, route.path, self._answering(route))
        document = orjson.dumps(openapi.document(found))

        async def described(_: web.Request) -> web.Response:
            return web.Response(body=document, content_type="application/json")

        app.router.add_get("/api/openapi.json", described)
        self._runner, self.port = await site.listen(app, host, port, self._before)
        self.host = host

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._access is not None:
            await self._access.close()
        await self._reading.close()

    def link(self, by: str) -> str:
        """What to give to ``by``: good for one use, or where to log in."""
        if self._access is not None:
            return site.address(self.host, self.port)
        return site.link(self.host, self.port, self.entry.link_token(by))

    def _answering(self, route: Route) -> site.Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            asked = await self._asked(route, request)
            if route.streams and EVENT_STREAM in request.headers.get("Accept", ""):
                return await _events(request, self._followed(route, request, asked))
            found = await route.work(asked)
            return web.Response(body=found.model_dump_json(), content_type="application/json")

        return answer

    async def _asked(self, route: Route, request: web.Request) -> Asked:
        """The request, checked, of whoever may ask that.

        Raises:
            FigError: ``console_elsewhere``, ``console_session``, ``not_permitted``, ``bad_request``.
        """
        if self._access is not None:
            who = accesses.require(request, Role.VIEWER if route.method == "GET" else Role.OPERATOR)
            return replace(await checked(route, request, who.name, request[TOKEN]), person=who.person)
        site.same_origin(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return await checked(route, request, "" if route.public else self.entry.who(token))

    def _followed(self, route: Route, request: web.Request, asked: Asked) -> AsyncIterator[bytes]:
        if route.stream is not None:
            return stream(route.stream(asked))
        return self._live.follow(request.path_qs, lambda: route.work(asked))


async def _events(request: web.Request, events: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "X-Accel-Buffering": "no"})
    await response.prepare(request)
    with suppress(ConnectionError):
        try:
            async for event in events:
                await response.write(event)
        finally:
            await events.aclose()  # type: ignore[attr-defined]  # a generator: whoever follows no longer is told so
    return response

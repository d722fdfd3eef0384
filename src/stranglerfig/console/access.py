"""Who asks, for the console's server: a principal on each request of its API, logins, sessions, CSRF, rate limits.

A session is a credential like a token, kept as its hash; the browser has it in a cookie that no script reads and no
other site sends. The pages themselves are public, for they hold nothing: everything under ``/api/`` wants a principal.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Middleware

from stranglerfig.access import audit, credentials
from stranglerfig.access.model import Principal, Role, login_failed, not_permitted
from stranglerfig.access.settings import AccessSettings, OidcSettings
from stranglerfig.console.limits import Limiter
from stranglerfig.console.site import Handler, same_origin
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Few

if TYPE_CHECKING:
    from stranglerfig.console.oidc import Attempt, Provider

log = logging.getLogger(__name__)
PRINCIPAL = web.RequestKey("principal", Principal)
TOKEN = web.RequestKey("token", str)
"""What a request was admitted with: commands that it asks for are signed with it."""
STATUSES = {
    "token_missing": 401,
    "token_refused": 401,
    "not_permitted": 403,
    "csrf": 403,
    "console_elsewhere": 403,
    "login_failed": 403,
    "outside_window": 409,
    "approvals_missing": 409,
    "plan_changed": 409,
    "oidc_unreachable": 502,
}
"""HTTP statuses by code, for the server's table."""
COOKIE, SECURE_COOKIE, ATTEMPT = "fig_session", "__Host-fig_session", "fig_login"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_ATTEMPTS, _ATTEMPT_LASTS = 1000, 600.0
"""Logins under way that are remembered, and for how many seconds."""
_KEPT = timedelta(days=90)
"""How long sessions that ended are kept: approvals and the audit trail speak of them."""


class ConsoleAccess:
    """Puts access in front of an application: ``attach`` it before it is served, ``close`` it after.

    Args:
        control_dsn: the control database, where tokens and sessions are.
        secret: the client's secret at the OpenID provider.
        estate: what the project is called, for the page of the login.
        public: paths under ``/api/`` that nobody has to be known for.
    """

    def __init__(
        self,
        settings: AccessSettings,
        control_dsn: str,
        *,
        secret: str | None = None,
        estate: str = "",
        public: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._database = Few(control_dsn, what="console access", most=4)
        self._provider = None if settings.oidc is None else _provider(settings.oidc, secret)
        self._estate = estate
        self._public = public | {"/api/login"}
        self._logins, self._api = Limiter(settings.rates.login), Limiter(settings.rates.api)
        self._attempts: OrderedDict[str, tuple[Attempt, float]] = OrderedDict()
        self._secure = settings.oidc is not None and settings.oidc.redirect.startswith("https://")

    def attach(self, app: web.Application) -> None:
        """Add the middleware, and the routes of logging in and out."""
        app.middlewares.append(self._middleware())
        app.router.add_get("/login", self._begin)
        app.router.add_get("/login/done", self._finish)
        app.router.add_get("/api/login", self._ways)
        app.router.add_post("/api/login", self._by_token)
        app.router.add_post("/api/logout", self._logout)
        app.router.add_get("/api/whoami", self._whoami)

    async def close(self) -> None:
        """Let go of the database."""
        await self._database.close()

    # -- each request ----------------------------------------------------------------------------------------------

    def _middleware(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            address, now = request.remote or "", clock.monotonic()
            attempts = request.path.startswith("/login") or (request.path == "/api/login" and request.method == "POST")
            if request.path.startswith("/api/") and (wait := self._api.spend(address, now)):
                return _too_many(wait)
            if attempts and (wait := self._logins.spend(address, now)):
                return _too_many(wait)
            if request.path.startswith("/api/"):
                same_origin(request)
                if request.path not in self._public:
                    try:
                        await self._admit(request)
                    except FigError as error:
                        # Guessing costs as much as logging in; without a credential there is nothing to guess.
                        if error.code == "token_refused" and (wait := self._logins.spend(address, now)):
                            return _too_many(wait)
                        raise
            return await handler(request)

        return guard

    async def _admit(self, request: web.Request) -> None:
        bearer, cookie = request.headers.get("Authorization", ""), self._cookie(request)
        text = bearer.removeprefix("Bearer ") if bearer else cookie
        if not text:
            raise FigError("token_missing", "nobody is logged in", "Log in at /login, or send a token as Bearer.")
        async with self._database.session() as conn:
            found = await credentials.identify(conn, text)
        if not bearer and request.method not in _SAFE_METHODS:
            given = request.headers.get("X-CSRF-Token", "")
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), csrf_token(text).encode()):
                raise FigError("csrf", "the request has not the page's own token", "Load the page again.")
        request[PRINCIPAL] = found.principal(request.remote or "")
        request[TOKEN] = text

    def _cookie(self, request: web.Request) -> str:
        return request.cookies.get(SECURE_COOKIE if self._is_secure(request) else COOKIE, "")

    def _is_secure(self, request: web.Request) -> bool:
        return self._secure or request.secure

    # -- in and out --------------------------------------------------------------------------------------------------

    async def _ways(self, _: web.Request) -> web.Response:
        """How one may log in here."""
        return web.json_response({"estate": self._estate, "token": True, "oidc": self._provider is not None})

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        if self._provider is None:
            raise login_failed("fig.yaml names no OpenID provider")
        attempt, address = await self._provider.begin()
        now = clock.monotonic()
        self._attempts[attempt.state] = (attempt, now)
        while len(self._attempts) > _ATTEMPTS or now - next(iter(self._attempts.values()))[1] > _ATTEMPT_LASTS:
            self._attempts.popitem(last=False)
        response = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
        # Lax: the provider sends the browser back here from its own site.
        response.set_cookie(
            ATTEMPT, attempt.state, path="/login", httponly=True, samesite="Lax", secure=self._is_secure(request),
            max_age=int(_ATTEMPT_LASTS),
        )  # fmt: skip
        return response

    async def _finish(self, request: web.Request) -> web.StreamResponse:
        # Each attempt serves once, and only the browser that began it.
        attempt, begun = self._attempts.pop(request.cookies.get(ATTEMPT, ""), (None, 0.0))
        try:
            if self._provider is None or attempt is None or clock.monotonic() - begun > _ATTEMPT_LASTS:
                raise login_failed("it was not begun here, or too long ago")
            person = await self._provider.finish(attempt, request.query)
        except FigError as error:
            log.warning("login refused: %s", error, extra={"action": "login_refused"})
            await self._record(Principal("?", "", Role.VIEWER, "unverified", request.remote or ""), "login", error)
            raise
        response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        response.del_cookie(ATTEMPT, path="/login")
        await self._log_in(request, response, person.name, person.name, person.role, "oidc", None)
        return response

    async def _by_token(self, request: web.Request) -> web.StreamResponse:
        """A session for who has a token: ``{"token": "fig_…"}``."""
        if request.content_type != "application/json":  # what a form of another site cannot send
            raise FigError("csrf", "the request is not JSON", "Load the page again.")
        try:
            text = (await request.json())["token"]
        except (ValueError, KeyError, TypeError):
            text = None
        try:
            if not isinstance(text, str):
                raise credentials.refused()
            async with self._database.session() as conn:
                found = await credentials.identify(conn, text)
        except FigError as error:
            await self._record(Principal("?", "", Role.VIEWER, "unverified", request.remote or ""), "login", error)
            raise
        response = web.json_response({"name": found.name, "role": found.role.value})
        await self._log_in(request, response, found.name, found.person, found.role, found.how, found.id)
        return response

    async def _log_in(
        self,
        request: web.Request,
        response: web.Response,
        name: str,
        person: str,
        role: Role,
        how: str,
        parent: str | None,
    ) -> None:
        limits = self._settings.sessions
        lasts = timedelta(milliseconds=limits.absolute)
        async with self._database.session() as conn, conn.transaction():
            await credentials.forget(conn, after=_KEPT)
            id_, text = await credentials.create(
                conn, kind="session", name=name, person=person, role=role, how=how, by=request.remote or "",
                lasts=lasts, idle=timedelta(milliseconds=limits.idle), parent=parent,
            )  # fmt: skip
            who = Principal(name, person, role, how, request.remote or "", id_)
            await audit.record(conn, audit.Entry(who, "login", "done", details={"session": id_}))
        secure = self._is_secure(request)
        response.set_cookie(
            SECURE_COOKIE if secure else COOKIE, text, path="/", httponly=True, samesite="Strict", secure=secure,
            max_age=int(lasts.total_seconds()),
        )  # fmt: skip

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        who = request[PRINCIPAL]
        async with self._database.session() as conn, conn.transaction():
            await credentials.log_out(conn, who.credential, by=who.name)
            await audit.record(conn, audit.Entry(who, "logout", "done"))
        response = web.Response(status=204)
        secure = self._is_secure(request)
        response.del_cookie(
            SECURE_COOKIE if secure else COOKIE, path="/", secure=secure, httponly=True, samesite="Strict"
        )
        return response

    async def _whoami(self, request: web.Request) -> web.Response:
        """Who is logged in, and what the page sends with all that changes something."""
        who = request[PRINCIPAL]
        found = {"name": who.name, "person": who.person, "role": who.role.value, "how": who.how}
        return web.json_response({**found, "csrf": csrf_token(request[TOKEN])}, headers={"Cache-Control": "no-store"})

    async def _record(self, who: Principal, action: str, error: FigError) -> None:
        entry = audit.Entry(who, action, "refused", code=error.code, details={"text": error.message})
        async with self._database.session() as conn:
            await audit.record(conn, entry)


def _provider(settings: OidcSettings, secret: str | None) -> Provider:
    try:
        from stranglerfig.console.oidc import Provider
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            f"the login by OpenID needs the package {error.name}",
            "Install stranglerfig[oidc].",
        ) from error
    return Provider(settings, secret)


def require(request: web.Request, role: Role) -> Principal:
    """Who asks, when the role covers ``role`` (``not_permitted``); for what does not go through the controller."""
    who = request[PRINCIPAL]
    if not who.role.covers(role):
        raise not_permitted(who, f"{request.method} {request.path}", role)
    return who


def csrf_token(session: str) -> str:
    """What a session's page sends back with each change: only who has read it from here knows it."""
    return hmac.new(session.encode(), b"csrf", hashlib.sha256).hexdigest()


def _too_many(wait: float) -> web.Response:
    error = FigError("too_many_requests", "too many requests from this address", "Wait as long as Retry-After says.")
    return web.json_response(
        {"error": error.as_dict()}, status=429, headers={"Retry-After": str(max(1, math.ceil(wait)))}
    )

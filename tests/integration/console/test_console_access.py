"""Access in front of a real server: logins by a provider that really signs, sessions, CSRF, rate limits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwk

from stranglerfig.access import audit, credentials
from stranglerfig.access.model import Role
from stranglerfig.access.settings import AccessSettings
from stranglerfig.console import access, site
from stranglerfig.console.access import PRINCIPAL, TOKEN, ConsoleAccess
from stranglerfig.extraction import commands
from stranglerfig.extraction.admission import identify
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from tests.conftest import Server
from tests.oidc_provider import Claims, OpenIdProvider

SECRET = "s3cret:/ of the client"
ANNA = {"email": "Anna@example.org", "email_verified": True, "groups": ["everybody", "leads", "ops"]}


class Site:
    """A console of one route that reads and one that changes, with access in front of it."""

    def __init__(self, control: str, conn: postgres.Connection, provider: OpenIdProvider) -> None:
        self.control, self.conn, self.provider = control, conn, provider
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def serve(self, **more: Any) -> None:
        settings = AccessSettings.model_validate(
            {
                "oidc": {
                    "issuer": self.provider.issuer,
                    "client_id": self.provider.client_id,
                    "client_secret": {"env": "CONSOLE_SECRET"},
                    "redirect": f"{self.address}/login/done",
                    "roles": {"ops": "operator", "leads": "approver", "everybody": "viewer"},
                },
                "rates": {"login": 1000},
                **more,
            }
        )
        app = site.application("index.html", {**access.STATUSES})
        guard = ConsoleAccess(settings, self.control, secret=self.provider.secret)
        guard.attach(app)
        app.router.add_get("/api/estate", self._read)
        app.router.add_post("/api/commands", self._change)
        runner, _ = await site.listen(app, "127.0.0.1", self.port, 0)
        self._closing = [runner.cleanup, guard.close]

    async def stop(self) -> None:
        for close in self._closing:
            await close()

    async def _read(self, request: web.Request) -> web.Response:
        who = request[PRINCIPAL]
        return web.json_response({"name": who.name, "role": who.role.value, "how": who.how, "origin": who.origin})

    async def _change(self, request: web.Request) -> web.Response:
        access.require(request, Role.OPERATOR)
        who = request[PRINCIPAL]
        number = await commands.submit(
            self.control, "things", "advance", {}, who.name, asked_from=who.origin, token=request[TOKEN]
        )
        return web.json_response({"command": number})

    async def token(self, name: str, role: Role) -> tuple[str, str]:
        return await credentials.create(
            self.conn, kind="token", name=name, person=name, role=role, how="token", by="test", lasts=None
        )

    async def trail(self) -> list[tuple[str, str, str, str]]:
        return [(row["name"], row["action"], row["outcome"], row["code"]) for row in await audit.lines(self.conn)]


@pytest.fixture
async def shown(postgres_b: Server) -> AsyncIterator[Site]:
    control = postgres_b.database()
    store = await Store.open(control)
    await store.close()
    provider = OpenIdProvider("the console", SECRET)
    provider.who = dict(ANNA)
    await provider.start()
    async with postgres.session(control, what="test") as conn:
        found = Site(control, conn, provider)
        yield found
        await found.stop()
    await provider.stop()


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    # Cookies of an address without a name are kept as well.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as found:
        yield found


async def get(browser: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, Any]:
    async with browser.get(url, **more) as response:
        json = response.content_type == "application/json"
        return response.status, await response.json() if json else await response.text()


async def post(browser: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, Any]:
    async with browser.post(url, **more) as response:
        return response.status, await response.json() if response.content_type == "application/json" else None


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


async def test_a_login_by_the_provider_and_what_it_may(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    assert code(await get(browser, f"{shown.address}/api/estate")) == (401, "token_missing")
    assert (await get(browser, f"{shown.address}/api/login"))[1] == {"estate": "", "token": True, "oidc": True}
    async with browser.get(f"{shown.address}/login") as response:
        assert response.status == 200 and str(response.url) == f"{shown.address}/", "sent there and back"
        (done,) = [step for step in response.history if step.url.path == "/login/done"]
    (cookie,) = [text for text in done.headers.getall("Set-Cookie") if text.startswith("fig_session=fig_")]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert (await get(browser, f"{shown.address}/api/estate"))[1] == {
        "name": "Anna@example.org", "role": "approver", "how": "oidc", "origin": "127.0.0.1",
    }  # fmt: skip
    who = (await get(browser, f"{shown.address}/api/whoami"))[1]
    assert who["person"] == "anna@example.org"

    change = f"{shown.address}/api/commands"
    assert code(await post(browser, change)) == (403, "csrf")
    assert code(await post(browser, change, headers={"X-CSRF-Token": "ü" + who["csrf"][1:]})) == (403, "csrf")
    mine = {"X-CSRF-Token": who["csrf"]}
    elsewhere = {**mine, "Origin": "https://evil.example.org"}
    assert code(await post(browser, change, headers=elsewhere)) == (403, "console_elsewhere")
    status, made = await post(browser, change, headers={**mine, "Origin": shown.address})
    assert status == 200

    # The controller finds out by the signature who asked, and from where.
    store = await Store.open(shown.control)
    (command,) = await store.pending()
    assert command.id == made["command"]
    found = await identify(command, store, access=True)
    assert (found.name, found.role, found.how, found.origin) == ("Anna@example.org", Role.APPROVER, "oidc", "127.0.0.1")
    secret = cookie.partition(";")[0].rpartition("_")[2]
    assert secret not in str(
        await postgres.fetch(shown.conn, "SELECT c::text, k::text FROM fig.command c, fig.credential k")
    )

    kept = {each.key: each.value for each in browser.cookie_jar}
    assert (await post(browser, f"{shown.address}/api/logout", headers=mine))[0] == 204
    assert code(await get(browser, f"{shown.address}/api/estate")) == (401, "token_missing")
    assert code(await get(browser, f"{shown.address}/api/estate", cookies=kept)) == (401, "token_refused")
    with pytest.raises(FigError, match="token_refused"):
        await identify(command, store, access=True)
    await store.close()
    assert await shown.trail() == [
        ("Anna@example.org", "login", "done", ""),
        ("Anna@example.org", "logout", "done", ""),
    ]


def other(**claims: Any) -> Callable[[OpenIdProvider], None]:
    def spoil(provider: OpenIdProvider) -> None:
        provider.spoil = lambda found: {name: value for name, value in {**found, **claims}.items() if value is not None}

    return spoil


def signed_by(how: Callable[[OpenIdProvider, Claims], str]) -> Callable[[OpenIdProvider], None]:
    def spoil(provider: OpenIdProvider) -> None:
        provider.sign = lambda claims: how(provider, claims)

    return spoil


STRANGER = jwk.RSAKey.generate_key(2048, parameters={"kid": "one"})


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(other(iss="https://another.example.org"), "iss", id="wrong issuer"),
        pytest.param(other(aud="another client"), "aud", id="wrong audience"),
        pytest.param(other(aud=["the console", "another"]), "another client", id="several audiences, no azp"),
        pytest.param(other(azp="another"), "another client", id="authorized party is another"),
        pytest.param(other(nonce="another login's"), "nonce", id="wrong nonce"),
        pytest.param(other(nonce=None), "nonce", id="no nonce"),
        pytest.param(other(exp=int(time.time()) - 3600), "exp", id="expired"),
        pytest.param(other(exp=None), "exp", id="never expires"),
        pytest.param(other(iat=int(time.time()) + 86400), "future", id="of tomorrow"),
        pytest.param(other(sub=None), "sub", id="nobody"),
        pytest.param(signed_by(lambda provider, claims: provider.unsigned(claims)), "not signed", id="alg none"),
        pytest.param(
            signed_by(lambda provider, claims: provider.with_public_key_as_secret(claims)), "not signed", id="alg HS256"
        ),
        pytest.param(
            signed_by(lambda provider, claims: provider.signed(claims, STRANGER)), "not signed", id="another's key"
        ),
        pytest.param(signed_by(lambda provider, claims: "a.b.c"), "not signed", id="no token at all"),
        pytest.param(other(email_verified=False), "not verified", id="address not verified"),
        pytest.param(other(email=None), "no claim", id="no name"),
        pytest.param(other(groups=["guests"]), "none of the roles", id="no role"),
        pytest.param(other(groups={"ops": True}), "none of the roles", id="groups of another shape"),
    ],
)
async def test_a_login_that_is_not_right_is_refused(
    shown: Site, browser: aiohttp.ClientSession, spoil: Callable[[OpenIdProvider], None], why: str
) -> None:
    spoil(shown.provider)
    await shown.serve()
    answer = await get(browser, f"{shown.address}/login")
    assert code(answer) == (403, "login_failed") and why in answer[1]["error"]["message"]
    assert code(await get(browser, f"{shown.address}/api/estate")) == (401, "token_missing")
    assert await shown.trail() == [("?", "login", "refused", "login_failed")]


async def test_an_answer_to_another_login_is_refused(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    async with browser.get(f"{shown.address}/login", allow_redirects=False) as response:
        go = response.headers["Location"]
    async with browser.get(go, allow_redirects=False) as response:
        back = response.headers["Location"]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as victim:
        # Who is made to open somebody else's answer is not logged in as them.
        assert code(await get(victim, back)) == (403, "login_failed")
    changed = back.replace("state=", "state=x")
    assert code(await get(browser, changed)) == (403, "login_failed")
    assert code(await get(browser, back)) == (403, "login_failed"), "an attempt serves once"
    assert (await get(browser, f"{shown.address}/login"))[0] == 200


async def test_the_wrong_client_secret_gets_no_token(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    shown.provider.secret = "another"
    answer = await get(browser, f"{shown.address}/login")
    assert code(answer) == (403, "login_failed") and "invalid_grant" in answer[1]["error"]["message"]


async def test_the_provider_may_change_its_key(
    shown: Site, browser: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shown.serve()
    monkeypatch.setattr("stranglerfig.console.oidc.AGAIN", 0.0)
    assert (await get(browser, f"{shown.address}/login"))[0] == 200
    new = jwk.RSAKey.generate_key(2048, parameters={"kid": "two"})
    shown.provider.keys.append(new)
    shown.provider.sign = lambda claims: shown.provider.signed(claims, new)
    assert (await get(browser, f"{shown.address}/login"))[0] == 200


async def test_a_provider_that_is_away_or_another_is_told(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    issuer, shown.provider.issuer = shown.provider.issuer, "https://another.example.org"
    assert code(await get(browser, f"{shown.address}/login")) == (502, "oidc_unreachable")
    shown.provider.issuer = issuer
    assert (await get(browser, f"{shown.address}/login"))[0] == 200


async def test_a_token_logs_in_and_its_end_ends_the_session(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    id_, text = await shown.token("vera", Role.VIEWER)
    url = f"{shown.address}/api/login"
    assert code(await post(browser, url, json={"token": text + "x"})) == (401, "token_refused")
    assert code(await post(browser, url, json=["no object"])) == (401, "token_refused")
    assert code(await post(browser, url, data={"token": text})) == (403, "csrf")
    assert await post(browser, url, json={"token": text}) == (200, {"name": "vera", "role": "viewer"})
    assert all(text not in each.value for each in browser.cookie_jar)
    csrf = (await get(browser, f"{shown.address}/api/whoami"))[1]["csrf"]
    refused = await post(browser, f"{shown.address}/api/commands", headers={"X-CSRF-Token": csrf})
    assert code(refused) == (403, "not_permitted")
    await credentials.end(shown.conn, id_, by="test")
    assert code(await get(browser, f"{shown.address}/api/estate")) == (401, "token_refused")


async def test_a_program_sends_its_token_and_needs_no_csrf_token(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve()
    _, text = await shown.token("robot", Role.OPERATOR)
    headers = {"Authorization": f"Bearer {text}"}
    assert (await post(browser, f"{shown.address}/api/commands", headers=headers))[0] == 200
    assert (await post(browser, f"{shown.address}/api/logout", headers=headers))[0] == 204
    assert (await get(browser, f"{shown.address}/api/estate", headers=headers))[0] == 200, "a token is not logged out"


@pytest.mark.parametrize("column", ["seen_at", "expires_at"])
async def test_a_session_ends_when_idle_and_in_any_case(
    shown: Site, browser: aiohttp.ClientSession, column: str
) -> None:
    await shown.serve(sessions={"idle": "30m", "absolute": "12h"})
    await get(browser, f"{shown.address}/login")
    back = "30 minutes" if column == "seen_at" else "12 hours"
    almost = f"UPDATE fig.credential SET {column} = {column} - interval '{back}' + interval '5 minutes'"
    await shown.conn.execute(almost)  # type: ignore[arg-type]
    assert (await get(browser, f"{shown.address}/api/estate"))[0] == 200
    past = f"UPDATE fig.credential SET {column} = {column} - interval '{back}'"
    await shown.conn.execute(past)  # type: ignore[arg-type]
    assert code(await get(browser, f"{shown.address}/api/estate")) == (401, "token_refused")


async def test_who_asks_too_often_waits(shown: Site, browser: aiohttp.ClientSession) -> None:
    await shown.serve(rates={"login": 2, "api": 5})
    _, text = await shown.token("vera", Role.VIEWER)
    good = {"Authorization": f"Bearer {text}"}
    url, bad = f"{shown.address}/api/estate", {"Authorization": "Bearer fig_0123456789abcdef_Z3Vlc3M"}
    assert [(await get(browser, url, headers=bad))[0] for _ in range(3)] == [401, 401, 429], "guesses are few"
    assert (await get(browser, f"{shown.address}/login"))[0] == 429
    assert [(await get(browser, url, headers=good))[0] for _ in range(3)] == [200, 200, 429]
    async with browser.get(url, headers=good) as response:
        assert response.status == 429 and 1 <= int(response.headers["Retry-After"]) <= 12
        assert (await response.json())["error"]["code"] == "too_many_requests"

"""A small OpenID provider on loopback that really signs: discovery, keys, authorization with PKCE, tokens.

It logs in whoever it is told to, at once; a test may have it answer wrongly.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from joserfc import jwk, jwt

Claims = dict[str, Any]


class OpenIdProvider:
    """``who`` is added to the claims; ``spoil`` may change them, ``sign`` how they are signed."""

    def __init__(self, client_id: str, secret: str | None) -> None:
        self.client_id, self.secret = client_id, secret
        self.key = jwk.RSAKey.generate_key(2048, parameters={"kid": "one"})
        self.keys = [self.key]
        self.who: Claims = {}
        self.spoil: Callable[[Claims], Claims] = lambda claims: claims
        self.sign: Callable[[Claims], str] = self.signed
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._jwks)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.issuer = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def signed(self, claims: Claims, key: jwk.RSAKey | None = None) -> str:
        key = key or self.key
        return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)

    def unsigned(self, claims: Claims) -> str:
        """As ``alg: none`` has it."""
        return _parts({"alg": "none"}, claims) + "."

    def with_public_key_as_secret(self, claims: Claims) -> str:
        """As ``alg: HS256`` whose secret is the provider's public key, which everybody knows."""
        text = _parts({"alg": "HS256", "kid": "one"}, claims)
        return f"{text}.{_base64(hmac.digest(self.key.as_pem(private=False), text.encode(), 'sha256'))}"

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        asked = dict(request.query)
        assert asked["response_type"] == "code" and asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer}
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        pair = f"{quote(self.client_id, safe='')}:{quote(self.secret or '', safe='')}"  # RFC 6749, section 2.3.1
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        if (
            asked is None
            or challenge.decode().rstrip("=") != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
            or (self.secret is not None and request.headers.get("Authorization") != basic)
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": self.client_id, "sub": "4711", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], **self.who,
        }  # fmt: skip
        return web.json_response(
            {"access_token": "x", "token_type": "Bearer", "id_token": self.sign(self.spoil(claims))}
        )


def _parts(header: Claims, claims: Claims) -> str:
    return f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

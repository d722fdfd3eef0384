"""Login by an OpenID provider: authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1; RFC 7636).

The provider's keys and endpoints are read from its discovery document; an ID token counts only when one of those keys
signed it with an asymmetric algorithm, for us, for this login, now.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from stranglerfig.access.model import Role, login_failed
from stranglerfig.access.settings import OidcSettings
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""What an ID token may be signed with: never ``none``, and no secret that we would share with the provider."""
LEEWAY = 60
"""Seconds by which the provider's clock may differ from ours."""
FRESH = 3600.0
"""Seconds for which what was discovered is used before it is read again."""
AGAIN = 10.0
"""Seconds within which the keys are read again only once, whatever tokens say who signed them."""
_LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login that was begun: what its answer must bring back (``state``, ``nonce``) and prove (``verifier``)."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who logged in."""

    name: str
    role: Role


class Provider:
    """One OpenID provider."""

    def __init__(self, settings: OidcSettings, secret: str | None = None) -> None:
        self._settings = settings
        self._secret = secret
        self._document: dict[str, Any] = {}
        self._read_at = float("-inf")
        self._keys: jwk.KeySet | None = None
        self._keys_at = float("-inf")

    async def begin(self) -> tuple[Attempt, str]:
        """Begin a login; returns what to remember of it and where to send the browser.

        Raises:
            FigError: ``oidc_unreachable``.
        """
        document = await self._discovered()
        attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect,
            "scope": " ".join(self._settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str(document["authorization_endpoint"])
        return attempt, f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}"

    async def finish(self, attempt: Attempt, answer: Mapping[str, str]) -> Person:
        """Who logged in, by the provider's ``answer`` (the query that it sent the browser back with).

        Raises:
            FigError: ``login_failed`` with the reason, ``oidc_unreachable``.
        """
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise login_failed("it answers another login")
        if "error" in answer or "code" not in answer:
            raise login_failed(f"the provider says {answer.get('error', 'nothing')[:100]!r}")
        if answer.get("iss", self._settings.issuer) != self._settings.issuer:  # RFC 9207
            raise login_failed("another provider answers")
        token = await self._exchange(answer["code"], attempt)
        return self.person(await self._claims(token, attempt))

    async def _exchange(self, code: str, attempt: Attempt) -> str:
        """The ID token for an authorization code (RFC 6749, section 4.1.3)."""
        document = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect,
            "client_id": self._settings.client_id,
            "code_verifier": attempt.verifier,
        }
        headers = {"Accept": "application/json"}
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret is not None and "client_secret_basic" in methods:
            # Both parts are form-encoded first: RFC 6749, section 2.3.1.
            pair = f"{quote(self._settings.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif self._secret is not None:
            form["client_secret"] = self._secret
        status, found = await _asked("POST", str(document["token_endpoint"]), data=form, headers=headers)
        if status != 200 or not isinstance(found.get("id_token"), str):
            raise login_failed(f"the token endpoint answers {status} {str(found.get('error', ''))[:100]}".strip())
        return str(found["id_token"])

    async def _claims(self, token: str, attempt: Attempt) -> dict[str, Any]:
        """The claims of an ID token that counts (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            decoded = jwt.decode(token, await self._signers(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            try:  # the provider may have begun to sign with another key
                decoded = jwt.decode(token, await self._signers(again=True), algorithms=ALGORITHMS)
            except (JoseError, ValueError) as error:
                raise login_failed(f"the ID token is not signed by the provider ({type(error).__name__})") from None
        claims = dict(decoded.claims)
        registry = jwt.JWTClaimsRegistry(
            now=int(clock.epoch()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": attempt.nonce},
        )
        try:
            registry.validate(claims)
        except (JoseError, ValueError) as error:
            raise login_failed(f"the ID token does not count: {error}") from None
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", self._settings.client_id) != self._settings.client_id or (several and "azp" not in claims):
            raise login_failed("the ID token was made for another client")
        return claims

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Who the claims name, and the highest role that they give.

        Raises:
            FigError: ``login_failed`` without a name, with an address that is not verified, or without a role.
        """
        name = claims.get(self._settings.person)
        if not isinstance(name, str) or not name.strip():
            raise login_failed(f"the ID token has no claim {self._settings.person}")
        if self._settings.person == "email" and claims.get("email_verified") in (False, "false"):
            raise login_failed(f"the address {name} is not verified at the provider")
        found: Any = claims
        for part in self._settings.claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        roles = [
            self._settings.roles[value] for value in values if isinstance(value, str) and value in self._settings.roles
        ]
        if not roles:
            raise login_failed(f"{name} has none of the roles here ({', '.join(self._settings.roles)})")
        return Person(name.strip(), max(roles, key=list(Role).index))

    async def _discovered(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, section 4)."""
        if clock.monotonic() - self._read_at < FRESH:
            return self._document
        address = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, found = await _asked("GET", address)
        if status != 200 or found.get("issuer") != self._settings.issuer:
            raise _unreachable(address, f"{status}, issuer {found.get('issuer')!r}")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            endpoint = urlsplit(str(found.get(name, "")))
            if endpoint.scheme != "https" and endpoint.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise _unreachable(address, f"{name} is not https")
        self._document, self._read_at = found, clock.monotonic()
        return found

    async def _signers(self, *, again: bool = False) -> jwk.KeySet:
        """The provider's keys; read again at most once in a while."""
        age = clock.monotonic() - self._keys_at
        if self._keys is None or age > FRESH or (again and age > AGAIN):
            address = str((await self._discovered())["jwks_uri"])
            status, found = await _asked("GET", address)
            if status != 200:
                raise _unreachable(address, str(status))
            # Keys of kinds that we do not know are not ours to refuse; symmetric ones must not verify anything.
            usable = [key for key in found.get("keys", []) if key.get("kty") in ("RSA", "EC", "OKP")]
            try:
                self._keys = jwk.KeySet.import_key_set({"keys": usable})
            except (JoseError, ValueError) as error:
                raise _unreachable(address, f"keys that cannot be read: {error}") from error
            self._keys_at = clock.monotonic()
        return self._keys


def _unreachable(address: str, why: str) -> FigError:
    return FigError(
        "oidc_unreachable",
        f"the OpenID provider does not answer as it should at {address}: {why}",
        "Check access.oidc.issuer in fig.yaml, and that the console reaches it.",
        address=address,
    )


async def _asked(method: str, address: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON object of an answer, which may not redirect; an object of nothing where it is none."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.request(method, address, allow_redirects=False, **more) as response,
        ):
            body, status = b"", response.status
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _LARGEST:
                    raise _unreachable(address, "an answer without end")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unreachable(address, type(error).__name__) from error
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    return status, found if isinstance(found, dict) else {}

"""``access:`` and ``policy:`` as users write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from stranglerfig.access.model import Role
from stranglerfig.access.windows import Window, parse
from stranglerfig.changes.settings import Milliseconds, Reference, Settings

Guarded = Literal["build", "sync", "reads", "writes", "decommission"]
"""The stages that a policy may guard: what guards one guards each step into and within it."""
Texts = Annotated[tuple[str, ...], BeforeValidator(lambda found: (found,) if isinstance(found, str) else found)]


class Policy(Settings):
    """What entering a stage wants beside its gate: other people's approval, and a time of the week."""

    approvals: dict[Guarded, Annotated[int, Field(ge=1, le=9)]] = Field(
        default_factory=dict,
        description="Stage → how many people other than the one who asks must approve each step into it. Needs access.",
    )
    approval_lasts: Milliseconds = Field(
        default=24 * 3_600_000.0, gt=0, description="How long an approval counts: 24h."
    )
    windows: dict[Guarded, Texts] = Field(
        default_factory=dict,
        description="Stage → when it may be entered: 'Mon-Fri 09:00-16:00 Europe/Berlin', or a list of such.",
    )

    @field_validator("windows")
    @classmethod
    def _readable(cls, value: dict[Guarded, tuple[str, ...]]) -> dict[Guarded, tuple[str, ...]]:
        for stage, texts in value.items():
            if not texts:
                raise ValueError(f"'{stage}' has no window; leave it out to allow it at any time")
            for text in texts:
                parse(text)
        return value


def wanted(policies: Iterable[Policy], stage: str) -> tuple[int, list[tuple[str, ...]], float]:
    """What several policies together want of ``stage``: none of them weakens another.

    Returns the number of approvals (the largest), a group of windows per policy that has some (each must have one
    open), and how many seconds an approval lasts (the least).
    """
    found = list(policies)
    approvals = max((count for policy in found for name, count in policy.approvals.items() if name == stage), default=0)
    groups = [texts for policy in found for name, texts in policy.windows.items() if name == stage]
    return approvals, groups, min((policy.approval_lasts for policy in found), default=0.0) / 1000


def parsed(groups: Iterable[Iterable[str]]) -> list[list[Window]]:
    """The windows of each group."""
    return [[parse(text) for text in group] for group in groups]


class SecretReference(Reference):
    """Where a secret is: never in the file itself."""


class OidcSettings(Settings):
    """The console's login by an OpenID provider: authorization code flow with PKCE."""

    issuer: str = Field(
        description="The provider's issuer, whose /.well-known/openid-configuration is read: https://id.example.org.",
        pattern=r"^https?://[^\s?#]+$",
    )
    client_id: str = Field(description="The console's name at the provider.", min_length=1)
    client_secret: SecretReference | None = Field(
        default=None, description="Its secret there: {env: NAME} or {file: path}; a public client has none."
    )
    redirect: str = Field(
        description="The console's own address as browsers see it, with the path /login/done.",
        pattern=r"^https?://[^\s?#]+/login/done$",
    )
    scopes: tuple[str, ...] = Field(default=("openid", "profile", "email"), description="What is asked for.")
    person: str = Field(default="email", description="The claim that names the person; approvals count by it.")
    claim: str = Field(default="groups", description="The claim that roles are read from; a.b is b within a.")
    roles: dict[str, Role] = Field(
        min_length=1, description="Value of that claim → role; of several the highest. Without one there is no login."
    )

    @field_validator("issuer", "redirect")
    @classmethod
    def _private(cls, value: str) -> str:
        host = value.partition("://")[2].partition("/")[0].rpartition("@")[2]
        name = host if host.endswith("]") else host.partition(":")[0] if host.count(":") == 1 else host
        if value.startswith("http://") and name not in ("127.0.0.1", "localhost") and not host.startswith("[::1]"):
            raise ValueError("only an address on loopback may be http://; allowed: https://…")
        return value


class SessionSettings(Settings):
    """How long a login to the console lasts."""

    idle: Milliseconds = Field(default=30 * 60_000.0, gt=0, description="Without a request: 30m.")
    absolute: Milliseconds = Field(default=12 * 3_600_000.0, gt=0, description="In all: 12h.")


class RateSettings(Settings):
    """How often one address may ask, in requests a minute."""

    login: int = Field(default=10, ge=1, description="Logins and refused tokens, a minute and address.")
    api: int = Field(default=600, ge=1, description="Requests of the console's API, a minute and address.")


class AccessSettings(Settings):
    """Who may act. Without it: whoever reaches the control database, and the console's one-time link."""

    oidc: OidcSettings | None = Field(default=None, description="Login to the console by an OpenID provider.")
    sessions: SessionSettings = Field(default_factory=SessionSettings, description="How long a login lasts.")
    rates: RateSettings = Field(default_factory=RateSettings, description="How often one may ask.")

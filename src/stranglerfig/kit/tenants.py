"""Tenants: customers of one service, each of which is never to see, change or be answered with what is another's.

A message and a transaction belong to one tenant at most. Where names of several tenants would share a table, a log or a
lock, they are written with the tenant before them (:func:`within`). Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

from stranglerfig.eventlog.model import Event
from stranglerfig.foundation.errors import FigError


class Within(NamedTuple):
    """What tells an instance apart whose class is kept by tenant."""

    tenant: str
    id: Any


def within(tenant: str | None, name: str) -> str:
    """A name that no other tenant's is equal to, nor one of no tenant, which stays as it is (``@`` before it aside)."""
    if tenant is None:
        return f"@/{name}" if name.startswith("@") else name
    return f"@{quote(tenant, safe='')}/{name}"


def tenant_of(event: Event) -> str | None:
    """Whose an event is; None: nobody's, or everybody's."""
    return event.tenantid or None


def checked(tenant: str | None) -> str | None:
    """A tenant as a caller names it.

    Raises:
        FigError: ``bad_tenant``.
    """
    if tenant is not None and not may_be(tenant):
        raise bad(tenant, "a tenant is a text that is not empty and has no control characters")
    return tenant


def may_be(tenant: str) -> bool:
    """Whether a text is a tenant."""
    return tenant != "" and min(tenant) >= " "


def bad(tenant: str, what: str) -> FigError:
    """There can be no such tenant."""
    return FigError("bad_tenant", f"{tenant!r} is no tenant: {what}", "Name the tenant as its rows do.", tenant=tenant)


def missing(what: str) -> FigError:
    """Something that is kept by tenant was to be touched in a transaction of no tenant."""
    return FigError(
        "tenant_missing",
        f"{what} is kept by tenant, and this transaction has none",
        "Say whose it is: service.execute(work, tenant=…); an event carries it as its attribute tenantid.",
    )


def differs(what: str, of: str, wanted: str | None) -> FigError:
    """Something of one tenant's was to be used in another's name."""
    return FigError(
        "tenant_differs",
        f"{what} is the tenant '{of}''s, and was to be used " + (f"by '{wanted}'" if wanted else "without a tenant"),
        "One transaction, one tenant: do it in a transaction of its own tenant's.",
        tenant=of,
    )

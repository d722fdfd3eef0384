"""Roles, principals, and which role a command wants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stranglerfig.foundation.errors import FigError


class Role(StrEnum):
    """What someone may do; each role may do all that those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"

    def covers(self, other: Role) -> bool:
        """Whether this role may do what ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts.

    Attributes:
        name: of the token or the login, as lists show it.
        person: who stands behind it: several tokens and a login of one person count as one.
        how: ``local`` (nobody asked for more), ``token``, ``oidc``, ``link`` (the console's one-time link) or ``fig``.
        origin: from where: ``user@host, pid 4711`` of a command line, an address of the console.
        credential: the id of the token or session; empty for ``local`` and ``fig``.
    """

    name: str
    person: str
    role: Role
    how: str
    origin: str = ""
    credential: str = ""


CONTROLLER = Principal("fig", "fig", Role.OPERATOR, "fig", "controller")
"""The controller itself, when it takes a switch back without being asked."""


def local(name: str, origin: str = "") -> Principal:
    """Someone whom nobody asked who they are: access is not configured, so who reaches the database may all."""
    return Principal(name, identity(name), Role.APPROVER, "local", origin)


def identity(person: str) -> str:
    """A person's name as it is compared: without outer blanks, in lower case."""
    return person.strip().casefold()


_VIEWS = frozenset({"plan"})
_APPROVES = frozenset({"approve", "decommission-drop", "retire"})


def needed(verb: str, args: Mapping[str, Any]) -> Role:
    """The role that a command to the controller wants.

    A dry run shows and changes nothing, so a viewer may. Passing a gate or a window, approving, the drop that cannot be
    undone, and the end of the monolith are an approver's.
    """
    if verb in _VIEWS or args.get("dry_run"):
        return Role.VIEWER
    if verb in _APPROVES or args.get("override") or args.get("override_window"):
        return Role.APPROVER
    return Role.OPERATOR


def permit(who: Principal, verb: str, args: Mapping[str, Any]) -> None:
    """Refuse a command that the principal's role does not cover.

    Raises:
        FigError: ``not_permitted``.
    """
    wanted = needed(verb, args)
    if not who.role.covers(wanted):
        raise not_permitted(who, verb, wanted)


def not_permitted(who: Principal, what: str, wanted: Role) -> FigError:
    """The refusal of ``what``, which wants another role."""
    return FigError(
        "not_permitted",
        f"{who.name} is {who.role.value}, and '{what}' wants the role {wanted.value}",
        f"Use the token of someone who is {wanted.value}, or ask one.",
        name=who.name,
        role=who.role.value,
        needed=wanted.value,
    )


def login_failed(why: str) -> FigError:
    """The refusal of a login; ``why`` is for the log and the audit trail as well."""
    return FigError("login_failed", f"the login did not succeed: {why}", "Begin again at the console.")

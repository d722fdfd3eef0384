"""Whether a command may be done: who asks, in which role, in which change window, with whose approval.

The controller asks this when it takes a command up, so that no other way of asking passes it by. Nothing here stands
in the way back: a rollback, asked for or automatic, knows neither windows nor approvals.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from stranglerfig.access import model, signing, windows
from stranglerfig.access.approvals import Approval
from stranglerfig.access.model import Principal
from stranglerfig.access.settings import parsed, wanted
from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Command, Standing, Store
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError

REFUSALS = frozenset(
    {"token_missing", "token_refused", "signature_wrong", "not_permitted", "outside_window", "approvals_missing"}
)
"""What is refused for who asks, when, and with whose approval; other errors are failures of what was asked."""


async def identify(command: Command, store: Store, *, access: bool) -> Principal:
    """Who asks; what the role allows is the caller's to look at (:func:`model.permit`).

    A signature that is there is always checked; with ``access`` there must be one.

    Raises:
        FigError: ``token_missing``, ``token_refused``, ``signature_wrong``.
    """
    if command.signature is None:
        if access:
            raise FigError(
                "token_missing",
                "this estate wants to know who asks, and the command is not signed",
                "Set FIG_TOKEN to your token; an approver makes one: fig token create NAME --role operator.",
            )
        return model.local(command.asked_by, command.asked_from)
    found = await store.credential(signing.credential_of(command.signature))
    asked = (command.context, command.verb, command.args, command.asked_from)
    if not signing.holds(command.signature, found.hash, *asked):
        raise FigError(
            "signature_wrong",
            f"the signature is not that of {found.name} over this command",
            "Ask again with fig; a command is not to be written or changed by hand.",
        )
    return found.principal(command.asked_from)


def unknown(command: Command) -> Principal:
    """Whom the audit trail names for a command that was not admitted: what it says of itself, and no role."""
    return Principal(command.asked_by, "", model.Role.VIEWER, "unverified", command.asked_from)


@dataclass(frozen=True, slots=True)
class Look:
    """What a policy wants of one step, and what of it there is."""

    context: str
    target: Place
    stage: str
    plan: str
    needed: int
    lasts: float
    approved: Sequence[Approval]
    groups: Sequence[Sequence[str]]
    is_open: bool
    opens: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """As results and errors show it."""
        return {
            "plan": self.plan,
            "approvals": {"needed": self.needed, "by": [each.person for each in self.approved]},
            "windows": [list(group) for group in self.groups],
            "open": self.is_open,
            "opens": self.opens,
        }


def guarded(target: Place) -> str:
    """The stage whose policy guards the step to ``target``: the drop is the last step of decommissioning."""
    return (Stage.DECOMMISSION if target.stage is Stage.DONE else target.stage).value


def plan_hash(
    settings: ExtractionSettings, parts: Parts, standing: Standing, target: Place, effects: Sequence[str]
) -> str:
    """SHA-256 (hex) of what is agreed to: one step of one visit, its effects, and the configuration it is done with.

    Databases stand in it without their passwords.
    """
    service = parts.contexts[standing.context].service_dsn
    monolith = mysql.describe if mysql.is_mysql(parts.monolith_dsn) else postgres.describe
    said = {
        "context": standing.context,
        "visit": standing.visit,
        "from": str(standing.place),
        "to": str(target),
        "effects": list(effects),
        "settings": settings.model_dump(mode="json", by_alias=True, exclude={"service": {"database"}, "policy": True}),
        "databases": [monolith(parts.monolith_dsn), postgres.describe(service)],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


async def look(
    parts: Parts, store: Store, standing: Standing, target: Place, effects: Sequence[str], *, asker: str
) -> Look:
    """What the policies of the estate and of the context want of going to ``target``, for the person ``asker``."""
    settings = parts.contexts[standing.context].settings
    stage = guarded(target)
    needed, texts, lasts = wanted((parts.policy, settings.policy), stage)
    plan = plan_hash(settings, parts, standing, target, effects)
    groups = parsed(texts)
    now = clock.now()
    is_open = all(windows.is_open(group, now) for group in groups)
    return Look(
        context=standing.context,
        target=target,
        stage=stage,
        plan=plan,
        needed=needed,
        lasts=lasts,
        approved=await store.approved(standing.context, plan, asker=asker),
        groups=texts,
        is_open=is_open,
        opens=None if is_open else windows.opens(groups, now),
    )


async def require(found: Look, store: Store, who: Principal, *, override_window: str) -> None:
    """Refuse the step that was looked at while its window is closed or approvals are missing.

    Raises:
        FigError: ``outside_window``, ``approvals_missing``.
    """
    if not found.is_open and not override_window:
        raise FigError(
            "outside_window",
            f"{found.target} may be entered {' and '.join('; '.join(group) for group in found.groups)} only",
            _opening(found) + _way_past(found),
            **found.as_dict(),
        )
    if len(found.approved) < found.needed:
        has = ", ".join(each.person for each in found.approved) or "nobody"
        may = ", ".join(await store.approvers(without=who.person)) or "nobody has such a token yet"
        raise FigError(
            "approvals_missing",
            f"{found.target} wants {found.needed} approvals of the plan {found.plan[:12]}, and has {has}",
            f"An approver other than {who.person} (by token: {may}): fig approve {found.context} {found.stage}.",
            **found.as_dict(),
        )


def _way_past(found: Look) -> str:
    if found.target.stage is Stage.DONE:
        return ""  # what cannot be undone waits
    return f" An approver may do it now: fig advance {found.context} --override-window REASON."


def _opening(found: Look) -> str:
    if found.opens is None:
        return "It does not open within 15 days."
    zone = found.groups[0][0].split()[-1]
    shown = found.opens.astimezone(ZoneInfo(zone))
    return f"It opens {shown:%a %Y-%m-%d %H:%M} {zone}."

"""The part of a command that is about other people: approvals, change windows, and what is kept of both."""

from __future__ import annotations

from typing import Any

from stranglerfig.extraction import admission
from stranglerfig.extraction.history import History
from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.stages import Place, ahead
from stranglerfig.extraction.steps import Steps
from stranglerfig.extraction.store import Command, Standing, Store
from stranglerfig.foundation.errors import FigError


class Agreement:
    """What policies say of the steps of one command."""

    def __init__(self, parts: Parts, history: History, store: Store, work: Steps, command: Command) -> None:
        self._parts = parts
        self._history = history
        self._store = store
        self._work = work
        self._command = command
        self._who = command.who or admission.unknown(command)
        self._override = str(command.args.get("override_window") or "").strip()

    async def look(self, standing: Standing, target: Place, *, require: bool) -> admission.Look:
        """What windows and approvals say of a step.

        Raises:
            FigError: ``outside_window``, ``approvals_missing`` where it is required that it may be taken.
        """
        effects = self._work.effects(standing, target)
        found = await admission.look(self._parts, self._store, standing, target, effects, asker=self._who.person)
        if require:
            await admission.require(found, self._store, self._who, override_window=self._override)
        return found

    async def keep(self, standing: Standing, found: admission.Look) -> None:
        """Say who approved a step that is now taken, and why it is taken outside its window."""
        context = self._command.context
        if found.needed:
            await self._history.say(context, "StepApproved", {"to": str(found.target), **found.as_dict()})
        if self._override and not found.is_open:
            said = {
                "by": self._who.name,
                "reason": self._override,
                "place": str(standing.place),
                "window": [list(group) for group in found.groups],
            }
            await self._store.milestone(context, "override", said)
            await self._history.say(context, "WindowOverridden", said)

    async def _decline(
        self, standing: Standing, found: admission.Look, plan: dict[str, Any], reason: str, *, dry: bool
    ) -> dict[str, Any]:
        """Say no to a plan: whoever agreed must agree anew, having read why."""
        context, who = self._command.context, self._who
        if not found.needed:
            raise _nothing_to_approve(found)
        if dry:
            text = f"the plan {found.plan[:12]} from {standing.place} to {found.target} would be declined"
            given = ", ".join(sorted({each.person for each in found.approved}))
            lost = f"approvals that no longer count: {given}" if given else "nobody has approved it yet"
            return {"text": text, **plan, "effects": [lost, "it waits for nobody until it is asked for again"]}
        said: dict[str, Any] = {"by": who.name, "to": str(found.target), "plan": found.plan, "reason": reason}
        said["void"] = await self._store.decline(context, found.plan, said)
        await self._history.say(context, "StepDeclined", said)
        return {"text": f"{who.person} declines the plan {found.plan[:12]}: {reason}", **plan}

    async def approve(self, standing: Standing, dry: bool) -> dict[str, Any]:
        """Agree, or no longer agree, or say no, to the step that comes next.

        Raises:
            FigError: ``not_the_next_step``, ``plan_changed``, ``nothing_to_approve``.
        """
        command, who = self._command, self._who
        target = ahead(standing.place, self._work.settings.gates.reads.steps)
        found = await self.look(standing, target, require=False)
        plan = {"plan": found.plan, "stage": found.stage, "effects": self._work.effects(standing, target)}
        if command.args.get("stage") != found.stage:
            raise FigError(
                "not_the_next_step",
                f"after {standing.place} comes {target}: what can be approved is {found.stage}",
                f"fig approve {command.context} {found.stage}",
            )
        seen = str(command.args.get("plan") or "")
        if not found.plan.startswith(seen):
            raise FigError(
                "plan_changed",
                f"the plan is {found.plan[:12]}, not {seen[:12]}: the place or the configuration is another one now",
                f"Look at it again: fig approve {command.context} {found.stage} --dry-run.",
                **plan,
            )
        reason = str(command.args.get("decline") or "").strip()
        if reason:
            return await self._decline(standing, found, plan, reason, dry=dry)
        if dry:
            return {"text": f"the plan {found.plan[:12]} goes from {standing.place} to {target}", **plan}
        if command.args.get("withdraw"):
            count = await self._store.withdraw(who, command.context, found.plan)
            return {"text": f"approvals of {who.person} withdrawn: {count}", **plan}
        if not found.needed:
            raise _nothing_to_approve(found)
        until = await self._store.approve(who, standing, found.stage, found.plan, found.lasts)
        said = {"by": who.person, "to": str(target), "plan": found.plan, "until": until}
        await self._history.say(command.context, "StepAgreed", said)
        return {"text": f"{who.person} approves the plan {found.plan[:12]} until {until:%Y-%m-%d %H:%M} UTC", **plan}


def _nothing_to_approve(found: admission.Look) -> FigError:
    return FigError("nothing_to_approve", f"no policy wants an approval of {found.target}", "Advance without one.")

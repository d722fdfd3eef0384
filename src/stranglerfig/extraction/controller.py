"""The controller: takes commands, watches gates, switches, and takes a switch back when its KPIs say so.

All it knows is in the control database, the ownership rows and the log: a controller that dies is replaced by another
that reads them. What each step does is in ``steps``; this is the loop around it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from stranglerfig.access.audit import Entry, Outcome
from stranglerfig.access.model import CONTROLLER, Principal, permit
from stranglerfig.databases import ownership
from stranglerfig.extraction import admission, made, steps
from stranglerfig.extraction.addresses import Addresses
from stranglerfig.extraction.agreement import Agreement
from stranglerfig.extraction.gauges import Gauges
from stranglerfig.extraction.history import History
from stranglerfig.extraction.observer import Observer
from stranglerfig.extraction.parts import Parts
from stranglerfig.extraction.passing import Passing
from stranglerfig.extraction.ports import Progress
from stranglerfig.extraction.retirement import ESTATE, VERBS, Retirement
from stranglerfig.extraction.stages import Place, Stage, ahead, behind
from stranglerfig.extraction.steps import Steps
from stranglerfig.extraction.store import Command, Standing, Store
from stranglerfig.extraction.vitals import Vitals
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.evidence import EvidenceStore
from stranglerfig.gates.model import GateVerdict, Verdict

log = logging.getLogger(__name__)

COOL_DOWN = 60.0
"""Seconds after a cut-over back within which no other one starts by itself."""
BESIDE = frozenset({"approve"})
"""What does not wait for the command that runs: it touches nothing but its own rows."""


async def run(parts: Parts) -> None:
    """Control the estate until cancelled; waits while another controller leads."""
    store = await Store.open(parts.control_dsn)
    evidence = EvidenceStore(parts.control_dsn)
    try:
        await parts.flows.migrate()
        await evidence.migrate()
        await clock.until(store.lead, timeout=float("inf"), what="the lead", every=0.5)
        log.info("leading", extra={"action": "controller_leads"})
        controller = Controller(parts, store, evidence)
        await controller.recover()
        async with controller, asyncio.TaskGroup() as group:
            group.create_task(controller.take_commands(), name="commands")
            group.create_task(Vitals(parts).run(), name="vitals")
            group.create_task(tasks.supervise(Addresses(parts).follow, name="addresses"))
            group.create_task(tasks.supervise(Passing(parts).follow, name="passing"))
            for context in parts.contexts:
                group.create_task(tasks.supervise(partial(controller.watch, context), name=f"watch {context}"))
    finally:
        await evidence.close()
        await store.close()


class _Judged(NamedTuple):
    """What a gate said of a visit, and when its evidence began to be read (:func:`clock.monotonic`)."""

    visit: int
    gate: GateVerdict
    looked: float


class Controller:
    """One leading controller. ``store`` is used by the command loop; each watch has one of its own."""

    def __init__(self, parts: Parts, store: Store, evidence: EvidenceStore) -> None:
        self._parts = parts
        self._store = store
        self._history = History(parts)
        self._evidence = evidence
        self._verdicts: dict[str, _Judged] = {}
        self._locks = {context: asyncio.Lock() for context in parts.contexts}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._beside: set[asyncio.Task[None]] = set()
        self._ending = False
        self._last_back: dict[str, float] = {}
        self._gauges = {context: Gauges(context) for context in parts.contexts}

    def _steps(self, context: str, store: Store, progress: Progress, *, seconds: float | None = None) -> Steps:
        return Steps(self._parts, store, self._evidence, context, progress, seconds=seconds)

    async def __aenter__(self) -> Controller:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave what runs to the next controller: commands are pending again, as if they had not been begun."""
        self._ending = True
        for task in (*self._running.values(), *self._beside):
            await tasks.stop(task)

    # -- start ---------------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Finish or undo what a controller before us left, then put the routes where the rows say they belong."""
        for context in self._parts.contexts:
            await tasks.supervise(partial(self._recover, context), name=f"recovery of {context}")
        await self._store.abandoned()

    async def _recover(self, context: str) -> None:
        standing = await self._store.standing(context)
        await self._steps(context, self._store, _quiet).recover(standing)

    # -- commands ------------------------------------------------------------------------------------------------------

    async def take_commands(self) -> None:
        """Take what is asked, in order; contexts do not wait for each other."""
        while True:
            for command in await self._store.pending():
                running = self._running.get(command.context)
                beside = command.verb in BESIDE
                if running is not None and not running.done() and not beside:
                    if command.verb in ("rollback", "abort") and not self._locks[command.context].locked():
                        if not await self._admitted(command):
                            continue
                        # A person who wants back does not wait for evidence to grow.
                        await tasks.stop(running)
                    else:
                        continue
                who = await self._admitted(command)
                if who is None:
                    continue
                place = Place.first()
                if command.context != ESTATE:
                    place = (await self._store.standing(command.context)).place
                claimed = await self._store.claim(command, place)
                task = tasks.spawn(
                    self._execute(replace(claimed, who=who, asked_by=who.name)),
                    name=f"{command.verb} {command.context}",
                )
                if beside:
                    self._beside.add(task)
                    task.add_done_callback(self._beside.discard)
                else:
                    self._running[command.context] = task
            await asyncio.sleep(0.1)

    async def _admitted(self, command: Command) -> Principal | None:
        """Who asks; None when the command was refused and is over. A refused one stops nothing that runs."""
        who: Principal | None = None
        try:
            who = await admission.identify(command, self._store, access=self._parts.access)
            permit(who, command.verb, command.args)
            if command.context not in self._parts.contexts and (command.context, command.verb in VERBS) != (
                ESTATE,
                True,
            ):
                raise _unknown(command.context, self._parts)
            return who
        except FigError as error:
            log.warning("%s refused: %s", command.verb, error, extra={"action": "refused", "context": command.context})
            await self._end(self._store, replace(command, who=who), "failed", *_refusal(error))
            return None

    async def _end(self, store: Store, command: Command, state: str, text: str, result: Mapping[str, Any]) -> None:
        """End a command, and say so in the audit trail."""
        code = "" if state == "done" else str(result.get("code", ""))
        outcome: Outcome = "done" if state == "done" else "refused" if code in admission.REFUSALS else "failed"
        details = {"command": command.id, "args": command.args, "text": text}
        who = command.who or admission.unknown(command)
        await store.end(
            command.id, state, text, result, Entry(who, command.verb, outcome, command.context, code, details)
        )

    async def _execute(self, command: Command) -> None:
        store = await Store.open(self._parts.control_dsn)
        try:
            estate = command.context == ESTATE
            result = await (Retirement(self._parts, store).do(command) if estate else self._dispatch(command, store))
            await self._end(store, command, "done", str(result.pop("text", "done")), result)
        except asyncio.CancelledError:
            if self._ending:
                await asyncio.shield(store.put_back(command))
                raise
            superseded = FigError("superseded", "a later command took this one's place", "")
            await asyncio.shield(self._end(store, command, "failed", *_refusal(superseded)))
            raise
        except FigError as error:
            log.warning("%s refused: %s", command.verb, error, extra={"action": "refused", "context": command.context})
            await self._end(store, command, "failed", *_refusal(error))
        except Exception as error:
            log.exception("%s failed", command.verb, extra={"action": "failed", "context": command.context})
            unexpected = FigError(
                "unexpected",
                f"{command.verb} failed: {type(error).__name__}: {error}",
                "Look at the controller's log, then repeat it.",
            )
            await self._end(store, command, "failed", *_refusal(unexpected))
        finally:
            await store.close()

    async def _dispatch(self, command: Command, store: Store) -> dict[str, Any]:
        async def progress(text: str, data: Mapping[str, Any]) -> None:
            await store.tell(command.id, "progress" if data else "note", text, data)

        work = self._steps(command.context, store, progress, seconds=command.args.get("seconds"))
        standing = await store.standing(command.context)
        dry = bool(command.args.get("dry_run"))
        await _require_same(work, standing, command.context)
        match command.verb:
            case "plan":
                return await work.plan(standing)
            case "verify":
                return await work.verify(standing, repair=bool(command.args.get("repair")) and not dry)
            case "advance":
                return await self._advance(command, standing, work, store, dry)
            case "rollback":
                return await self._rollback(command, standing, work, dry)
            case "abort":
                return await self._abort(command, standing, work, dry)
            case "approve":
                return await Agreement(self._parts, self._history, store, work, command).approve(standing, dry)
            case "resnapshot":
                return await work.resnapshot(standing, dry)
            case "decommission-drop":
                return await self._drop(command, standing, work, store, dry)
            case "decommission-restore":
                return await self._restore(command, standing, work, dry)
            case verb if verb.startswith("decommission-"):
                return await self._advance(
                    command, standing, work, store, dry, to=Place(Stage.DECOMMISSION, verb.partition("-")[2])
                )
            case verb:
                raise FigError("unknown_command", f"the controller knows no '{verb}'", "See fig --help.")

    async def _drop(self, command: Command, standing: Standing, work: Steps, store: Store, dry: bool) -> dict[str, Any]:
        """The last step of decommissioning, which ``advance`` does not take."""
        async with self._locks[command.context]:
            if not dry and standing.place == Place(Stage.DECOMMISSION, "report"):
                agreement = Agreement(self._parts, self._history, store, work, command)
                await agreement.keep(standing, await agreement.look(standing, Place(Stage.DONE), require=True))
            return await work.drop(standing, str(command.args.get("confirm", "")), by=command.asked_by, dry=dry)

    # -- forward -------------------------------------------------------------------------------------------------------

    async def _advance(
        self, command: Command, standing: Standing, work: Steps, store: Store, dry: bool, to: Place | None = None
    ) -> dict[str, Any]:
        begun = command.started_in or {}
        if (begun.get("stage"), begun.get("step")) != (standing.place.stage.value, standing.place.step):
            # An earlier attempt (its controller died) got there: asking again must not go one further.
            return {"text": f"the extraction is {standing.place}", "place": str(standing.place)}
        if (retired := await store.retired()) is not None:
            raise FigError(
                "monolith_retired",
                f"the monolith is retired since {retired['at']:%Y-%m-%d %H:%M} UTC: nothing can leave it",
                "Let it answer again first: fig retire --restore.",
            )
        target = ahead(standing.place, work.settings.gates.reads.steps)
        if to is not None and target != to:
            raise FigError(
                "not_the_next_step", f"after {standing.place} comes {target}, not {to}", "Take the steps in order."
            )
        if target.stage is Stage.DONE:
            raise FigError(
                "drop_is_explicit",
                "what comes next drops the monolith's tables for good",
                f"fig decommission drop {command.context} --confirm {command.context}",
            )
        agreement = Agreement(self._parts, self._history, store, work, command)
        policy = await agreement.look(standing, target, require=not dry)
        await work.ready_for(standing, target)
        gate = await self._pass_gate(command, standing, target, work, store, dry)
        if dry:
            return {
                "text": f"would go from {standing.place} to {target}",
                "effects": work.effects(standing, target),
                "gate": gate,
                "policy": policy.as_dict(),
            }
        async with self._locks[command.context]:
            now = await store.standing(command.context)
            if now.visit != standing.visit:
                raise await self._went_back(now)
            # Evidence may have grown for hours: what was open and approved then must be so now.
            await agreement.keep(standing, await agreement.look(standing, target, require=True))
            reached = await work.enter(standing, target, by=command.asked_by, gate=gate)
        await self._history.say(
            command.context, "StageEntered", {"stage": reached.place.stage.value, "step": reached.place.step}
        )
        return {"text": f"{command.context} is {reached.place}", "place": str(reached.place), "gate": gate}

    async def _pass_gate(
        self, command: Command, standing: Standing, target: Place, work: Steps, store: Store, dry: bool
    ) -> dict[str, Any] | None:
        override = str(command.args.get("override") or "").strip()
        wait = float(command.args.get("wait") or 0)
        deadline = clock.monotonic() + wait
        await work.gather(standing, target)
        first = True
        while True:
            found = self._verdicts.get(command.context)
            now = await store.standing(command.context)
            if now.visit != standing.visit:
                raise await self._went_back(now)
            if found is None or found.visit != standing.visit or first:
                # The watch judges once a second; the first verdict with the facts just gathered is worth waiting for.
                first = False
                await self._next_verdict(command.context, standing.visit)
                continue
            gate = found.gate
            if not gate.kpis:
                return None
            plain = gate.as_dict()
            if gate.verdict is Verdict.PASS:
                await self._history.say(command.context, "GateJudged", {"place": str(standing.place), "gate": plain})
                return plain
            if override and not dry:
                return await self._override(command, standing, override, plain)
            if gate.verdict is Verdict.FAIL:
                failed = ", ".join(f"{kpi.name}: {kpi.reason}" for kpi in gate.failed)
                raise FigError(
                    "gate_failed",
                    f"the gate of {standing.place} fails: {failed}",
                    "Mend it, then advance again; fig status shows each KPI.",
                    gate=plain,
                )
            short = [kpi for kpi in gate.kpis if kpi.verdict is Verdict.INCONCLUSIVE]
            if dry:
                return plain
            if clock.monotonic() >= deadline:
                needs = "; ".join(f"{kpi.name}: {kpi.reason or 'no evidence yet'}" for kpi in short)
                raise FigError(
                    "gate_inconclusive",
                    f"there is not enough evidence yet to leave {standing.place}: {needs}",
                    "Let traffic go on and advance again, or wait for it with --wait SECONDS.",
                    gate=plain,
                )
            slowest = max(short, key=lambda kpi: kpi.needed / max(1, kpi.needed + kpi.samples))
            await store.tell(
                command.id,
                "progress",
                f"evidence for {standing.place}: {', '.join(f'{kpi.name} {kpi.samples}' for kpi in short)}",
                {
                    "done": slowest.samples,
                    "total": slowest.samples + slowest.needed,
                    "kpi": slowest.name,
                    "gate": plain,
                },
            )
            await self._next_verdict(command.context, standing.visit)

    async def _next_verdict(self, context: str, visit: int, patience: float = 30.0) -> None:
        asked = clock.monotonic()

        async def judged() -> bool:
            found = self._verdicts.get(context)
            return found is not None and found.visit >= visit and found.looked >= asked

        await clock.until(judged, timeout=patience, what=f"the gate of {context} to be judged", at_most=0.2)

    async def _override(
        self, command: Command, standing: Standing, reason: str, gate: dict[str, Any]
    ) -> dict[str, Any]:
        said = {"by": command.asked_by, "reason": reason, "place": str(standing.place), "gate": gate}
        await self._store.milestone(command.context, "override", said)
        await self._history.say(command.context, "GateOverridden", said)
        return {**gate, "overridden": {"by": command.asked_by, "reason": reason}}

    async def _went_back(self, now: Standing) -> FigError:
        back = await self._store.milestones(now.context, "rollback")
        cause = back[-1]["cause"] if back else "another command"
        return FigError(
            "rolled_back",
            f"meanwhile the extraction went to {now.place}: {cause}",
            "Mend the cause, then advance again.",
            place=str(now.place),
        )

    # -- back ----------------------------------------------------------------------------------------------------------

    async def _restore(self, command: Command, standing: Standing, work: Steps, dry: bool) -> dict[str, Any]:
        """Take decommissioning back, and nothing that came before it."""
        if Stage.DECOMMISSION not in (standing.place.stage, (command.started_in or {}).get("stage")):
            raise FigError("nothing_behind", f"the extraction is in {standing.place}: nothing is retired", "")
        return await self._rollback(command, standing, work, dry)

    async def _rollback(self, command: Command, standing: Standing, work: Steps, dry: bool) -> dict[str, Any]:
        begun = command.started_in or {}
        if (begun.get("stage"), begun.get("step")) != (standing.place.stage.value, standing.place.step):
            return {"text": f"the extraction is {standing.place}", "place": str(standing.place)}
        target = behind(standing.place, work.settings.gates.reads.steps)
        if dry:
            return {
                "text": f"would go back from {standing.place} to {target}",
                "effects": work.effects(standing, target),
            }
        async with self._locks[command.context]:
            cause = str(command.args.get("reason") or f"asked by {command.asked_by}")
            reached = await self._go_back(standing, target, work, cause=cause, automatic=False, by=command.asked_by)
        return {"text": f"{command.context} is back: {reached.place}", "place": str(reached.place)}

    async def _go_back(
        self, standing: Standing, target: Place, work: Steps, *, cause: str, automatic: bool, by: str, gate: Any = None
    ) -> Standing:
        if standing.place.stage is Stage.WRITES:
            self._last_back[standing.context] = clock.monotonic()
        reached = await work.leave(standing, target, by=by, gate=gate)
        said = {
            "stage": standing.place.stage.value,
            "step": standing.place.step,
            "to": str(reached.place),
            "cause": cause,
            "automatic": automatic,
        }
        await work.store.milestone(standing.context, "rollback", said)
        await self._history.say(standing.context, "RolledBack", said)
        return reached

    async def _abort(self, command: Command, standing: Standing, work: Steps, dry: bool) -> dict[str, Any]:
        if standing.place.stage in (Stage.DONE, Stage.ABORTED):
            raise FigError("nothing_behind", f"the extraction is {standing.place}: there is nothing to abort", "")
        if dry:
            return {
                "text": f"would take back everything since {standing.place}",
                "effects": ["all of: fig rollback, until prepare"],
            }
        async with self._locks[command.context]:
            while standing.place.stage is not Stage.PREPARE:
                target = behind(standing.place, work.settings.gates.reads.steps)
                standing = await self._go_back(
                    standing, target, work, cause="aborted", automatic=False, by=command.asked_by
                )
            standing = await work.store.enter(standing, Place(Stage.ABORTED), by=command.asked_by)
        return {"text": f"{command.context} is aborted; nothing of it is left in the databases", "place": "aborted"}

    # -- watching ------------------------------------------------------------------------------------------------------

    async def watch(self, context: str) -> None:
        """Once a second: read what was seen, judge the gate, take a switch back that is confirmed to hurt."""
        store = await Store.open(self._parts.control_dsn)
        observer = Observer(self._parts, store, self._evidence, context)
        try:
            await observer.begin()
            while True:
                begun = clock.monotonic()
                await self._tick(context, store, observer)
                await asyncio.sleep(max(0.05, 1.0 - (clock.monotonic() - begun)))
        finally:
            await observer.close()
            await store.close()

    async def _tick(self, context: str, store: Store, observer: Observer) -> None:
        standing = await store.standing(context)
        await observer.look(standing)
        kpis = steps.kpis(self._parts.contexts[context].settings, standing.place)
        guard = steps.guard_samples(self._parts.contexts[context].settings, standing.place)
        looked = clock.monotonic()
        gate = await self._evidence.judge(
            context, standing.evidence, kpis, scope="guard" if guard else "gate", guard_samples=guard
        )
        await store.judged(standing.visit, gate.as_dict())
        self._verdicts[context] = _Judged(standing.visit, gate, looked)
        self._gauges[context].judged(gate)
        if gate.verdict is Verdict.FAIL and not self._locks[context].locked():
            await self._breach(context, standing, gate, store)
        if not self._locks[context].locked():
            await self._steps(context, store, _quiet).tend(standing)
        await self._gauges[context].looked(standing, self._steps(context, store, _quiet))

    async def _breach(self, context: str, standing: Standing, gate: GateVerdict, store: Store) -> None:
        """A switch whose KPIs are confirmed bad is taken back without asking, and loudly."""
        place = standing.place
        sampled = [kpi for kpi in gate.failed if kpi.planned]
        switched = (place.stage is Stage.READS and place.share > 0) or place.stage is Stage.WRITES
        if not switched or not sampled:
            return
        cause = "; ".join(f"{kpi.name} {kpi.says}: {kpi.reason}" for kpi in sampled)
        work = self._steps(context, store, _quiet)
        if place.stage is Stage.WRITES and not await self._may_go_back(context, work):
            await store.learn(context, warnings=[f"a breach that is not taken back by itself: {cause}"])
            return
        async with self._locks[context]:
            log.error("taking %s back: %s", context, cause, extra={"action": "automatic_rollback", "context": context})
            target = behind(place, work.settings.gates.reads.steps)
            self._gauges[context].taken_back()
            await self._go_back(standing, target, work, cause=cause, automatic=True, by="fig", gate=gate.as_dict())
            said = {"from": str(place), "to": str(target), "cause": cause}
            await store.record(Entry(CONTROLLER, "automatic-rollback", "done", context, details=said))

    async def _may_go_back(self, context: str, work: Steps) -> bool:
        """Writes go back by themselves once per cool-down, and only over a reverse stream that is healthy."""
        cooled = clock.monotonic() - self._last_back.get(context, -COOL_DOWN) >= COOL_DOWN
        return cooled and await work.reverse_healthy()


async def _quiet(text: str, data: Mapping[str, Any]) -> None:
    log.info("%s", text, extra={"action": "progress"})


async def _require_same(work: Steps, standing: Standing, context: str) -> None:
    """Refuse a configuration other than the service came to own with (``configuration_changed``)."""
    if standing.owner == "service":
        async with postgres.session(work.context.service_dsn, what="configuration") as conn:
            made.require_same(work.settings, await ownership.made_with(conn, context))


def _refusal(error: FigError) -> tuple[str, dict[str, Any]]:
    return error.message, error.as_dict()


def _unknown(context: str, parts: Parts) -> FigError:
    return FigError(
        "unknown_context",
        f"there is no context '{context}' (known: {', '.join(parts.contexts) or 'none'})",
        "Check the name, or write contexts/NAME/extraction.yaml; fig ps says when it cannot be taken up.",
    )

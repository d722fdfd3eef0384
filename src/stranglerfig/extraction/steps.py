"""What entering and leaving each step of an extraction does. Every effect can be repeated: a step that was interrupted
is entered again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from psycopg import sql

from stranglerfig.capture import capture, slot
from stranglerfig.changes.model import Direction, names
from stranglerfig.databases import ownership, preflight, sides
from stranglerfig.extraction import both, decommission, facts, messages, model_state, on_mariadb, writers
from stranglerfig.extraction.parts import ContextParts, Parts, Progress
from stranglerfig.extraction.proof import verify
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, Stage, ahead
from stranglerfig.extraction.store import Standing, Store
from stranglerfig.extraction.switch import CAUGHT_UP, Switch, apply_routes
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates.evidence import EvidenceStore
from stranglerfig.gates.model import Kind, Kpi
from stranglerfig.sync import derive, ends

SHADOW_KPIS = ("shadow_mismatch", "no_worse")
"""Before any user sees the service's answers, only these have evidence."""
_KEEPS_UP = 10.0
"""Seconds within which sync must be seen to keep up."""


def kpis(settings: ExtractionSettings, place: Place) -> tuple[Kpi, ...]:
    """The KPIs that are judged at ``place``."""
    if place.stage in (Stage.DONE, Stage.ABORTED):
        return ()
    if place.stage is Stage.DECOMMISSION:
        # Until the drop the switch of the writes is still guarded; the monolith's own checks are judged at the report.
        return settings.gates.kpis("decommission") if place.step == "report" else ()
    found = settings.gates.kpis(place.stage.value)
    if place.stage is Stage.READS and place.step == "shadow":
        return tuple(kpi for kpi in found if kpi.name in SHADOW_KPIS)
    return found


def guard_samples(settings: ExtractionSettings, place: Place) -> int | None:
    """Samples after which a step inside ``reads`` may be left; None where the whole gate is judged."""
    return settings.gates.reads.guard_samples if place.stage is Stage.READS and place.share < 100 else None


class Steps:
    """The effects of one context's steps."""

    def __init__(
        self,
        parts: Parts,
        store: Store,
        evidence: EvidenceStore,
        context: str,
        progress: Progress,
        *,
        seconds: float | None = None,
    ) -> None:
        self.parts = parts
        self.store = store
        self.context: ContextParts = parts.contexts[context]
        self.settings = self.context.settings
        self._progress = progress
        self._evidence = evidence
        self._seconds = seconds
        self._switch = Switch(parts, self.context, store, progress)

    # -- what is about to happen -------------------------------------------------------------------------------------

    def effects(self, standing: Standing, place: Place) -> list[str]:
        """What going to ``place`` does, in words; the same for ``--dry-run`` and ``fig plan``."""
        settings = self.settings
        tables = ", ".join(settings.sources)
        back = _order(place) < _order(standing.place)
        match place.stage, place.step, back:
            case Stage.SYNC, _, False:
                return [
                    f"install schema fig, ownership rows and observing guards on {tables} and on the service's tables",
                    *self._capture_effects(),
                    "create the reverse slot in the service's database when the copy is in",
                ]
            case Stage.READS, "shadow", False:
                return ["mirror declared reads to the comparator; users see the monolith's answers"]
            case Stage.READS, "shadow", True:
                return ["route all reads back to the monolith (one switch); comparison goes on"]
            case Stage.READS, share, False:
                return [f"route {share} % of reads to the service"]
            case Stage.WRITES, _, False:
                return [
                    "cut over: hold writes at the façade, fence the monolith's tables, prove that all is applied, "
                    "cede, activate the service, release",
                    "from then on "
                    + (
                        f"{tables} may be written directly as well; conflicts between the two sides go by their rules"
                        if settings.both_write
                        else f"the guards refuse direct writes of {tables}; the reverse stream keeps them equal"
                    ),
                ]
            case Stage.READS, _, True:
                return ["cut over back: the monolith owns the writes again; reads stay at the service"]
            case Stage.SYNC, _, True:
                return ["stop mirroring; the streams go on"]
            case Stage.BUILD, _, True:
                return [
                    "stop the streams, drop slots, publications and connectors, remove guards and what fig keeps of it",
                    f"empty {', '.join(settings.targets)}",
                ]
            case Stage.DECOMMISSION, step, _:
                return _DECOMMISSION[step]
            case Stage.WRITES, _, True:
                return ["give the tables their names back; capture changes of the monolith again"]
        return [f"mark the extraction as {place}"]

    def _capture_effects(self) -> tuple[str, ...]:
        if mysql.is_mysql(self.parts.monolith_dsn):
            return on_mariadb.capture_effects(self.settings)
        return (
            f"create publication and slot {names(self.settings.context, Direction.FORWARD).slot} in the monolith",
            "copy the tables under the slot's snapshot into the service's database, then follow every change",
        )

    async def ready_for(self, standing: Standing, place: Place) -> None:
        """Refuse, before anything is touched, what could not be completed or taken back.

        Raises:
            FigError: with the reason and its remedy.
        """
        if place.stage is Stage.DECOMMISSION:
            on_mariadb.refuse_decommission(self.parts.monolith_dsn)
        if self.settings.both_write and place.stage is Stage.DECOMMISSION:
            raise FigError(
                "writers_stay",
                "remaining_writers is bidirectional: the monolith's tables are still written, so they cannot leave",
                "Let the remaining writers call the API; then fig rollback, set remaining_writers: refuse without"
                " conflict rules, start fig again, and advance.",
            )
        if place.stage is Stage.SYNC:
            refused = [
                finding
                for finding in await facts.findings(self.parts, self.context, stage=standing.place.stage)
                if finding.severity == "refuse"
            ]
            if refused:
                raise FigError(
                    "preflight_refuses",
                    "; ".join(f"{finding.message} ({finding.code})" for finding in refused),
                    " ".join(dict.fromkeys(finding.remedy for finding in refused)),
                    findings=[finding.as_dict() for finding in refused],
                )
        if place.stage is Stage.WRITES:
            await self._switch.ready_forward()
            if not self.settings.both_write and (unexplained := await self._unexplained()):
                raise FigError(
                    "writers_remain",
                    "code of the monolith still writes the context's tables: "
                    + "; ".join(f"{w['application']} ({w['count']} times, {w['statement'][:80]})" for w in unexplained),
                    "Let it call the API, or name its application_name under writers.refused in extraction.yaml.",
                    writers=unexplained,
                )

    async def _unexplained(self) -> list[dict[str, Any]]:
        seen = await writers.seen(self.parts.log, self.settings)
        return [writer for writer in seen if writer["recent"] and not writer["explained"]]

    async def plan(self, standing: Standing) -> dict[str, Any]:
        """What stands in the way, what the next step would do, which rights are needed, who writes."""
        found = await facts.findings(self.parts, self.context, stage=standing.place.stage)
        done = standing.place.stage is Stage.DONE
        following = None if done else ahead(standing.place, self.settings.gates.reads.steps)
        return {
            "text": f"{self.settings.context} is {standing.place}" + (f"; next: {following}" if following else ""),
            "place": str(standing.place),
            "next": None if following is None else str(following),
            "effects": [] if following is None else self.effects(standing, following),
            "findings": [finding.as_dict() for finding in found],
            "grants": preflight.grants(found),
            "writers": await writers.seen(self.parts.log, self.settings),
            "write_routes": [
                f"{' '.join(route.methods)} {route.path}: its idempotency keys must be a table of the context, or a "
                "client's retry across the switch applies twice"
                for route in self.settings.routes.http_writes
            ]
            if not any("key" in table.key for table in self.settings.tables)
            else [],
            "commands": messages.warnings(self.settings),
            "fence_budget_seconds": self.settings.facade.fence.budget,
        }

    # -- facts for gates ---------------------------------------------------------------------------------------------

    async def gather(self, standing: Standing, place: Place) -> None:
        """Find out the facts that the gate of the current step asks for, and keep them as evidence."""
        for kpi in kpis(self.settings, standing.place):
            if kpi.kind in (Kind.STATE, Kind.VALUE_BELOW, Kind.VALUE_ABOVE):
                await self._note(standing, kpi)

    async def _note(self, standing: Standing, kpi: Kpi) -> None:
        context, parts = self.context, self.parts
        fact: facts.Fact
        match kpi.name:
            case "model_lint":
                fact = model_state.lint_fact(context.folder / self.settings.model)
            case "model_signed":
                fact = model_state.signed_fact(context.folder / self.settings.model)
            case "schemas_registered":
                fact = await self._register_schemas()
            case "preflight":
                refused = [
                    f.message
                    for f in await facts.findings(parts, context, stage=standing.place.stage)
                    if f.severity == "refuse"
                ]
                fact = (not refused, None, "; ".join(refused) or "nothing refused")
            case "service_healthy":
                fact = await facts.service_healthy(context)
            case "contract":
                fact = await facts.contract(context)
            case "checks_pass":
                log = parts.data / "logs" / f"checks-{self.settings.context}.log"
                fact, covered = await facts.run_checks(self.settings.service.checks, parts.project, log, self._progress)
                await self._evidence.note(
                    self.settings.context, standing.evidence, "coverage", value=covered[1], detail=covered[2]
                )
            case "coverage":
                return  # noted with checks_pass
            case "row_equality":
                found = await self.verify(standing)
                fact = (found["differences"] == 0, None, f"{found['rows_compared']} rows compared")
            case "apply_rate":
                fact = await self._apply_rate()
            case "monolith_checks":
                log = parts.data / "logs" / f"monolith-checks-{self.settings.context}.log"
                fact, _ = await facts.run_checks(self.settings.decommission.checks, parts.project, log, self._progress)
            case _:
                fact = await self._custom(standing, kpi)
        await self._evidence.note(
            self.settings.context, standing.evidence, kpi.name, fact=fact[0], value=fact[1], detail=fact[2]
        )

    async def _custom(self, standing: Standing, kpi: Kpi) -> facts.Fact:
        custom = getattr(self.settings.gates, standing.place.stage.value).custom[kpi.name]
        async with postgres.session(self.context.service_dsn, what="gate") as conn:
            found = await postgres.value(conn, custom.sql)
        return None, None if found is None else float(found), "sql in the service's database"

    async def _register_schemas(self) -> facts.Fact:
        await self.parts.registry.prepare()
        return await model_state.register_schemas(
            self.context.folder / self.settings.model,
            self.context.folder / self.settings.schemas,
            self.parts.registry,
            self.settings.context,
        )

    async def _apply_rate(self) -> facts.Fact:
        """Whether sync keeps up; one that was just started, or that another worker takes over, is waited for."""
        found: facts.Fact = None, None, "sync has not reported yet"

        async def keeps_up() -> bool:
            nonlocal found
            flow = await self.parts.flows.get(self.settings.context, Direction.FORWARD)
            if flow is None or not flow.sync:
                return False
            behind, state = int(flow.sync.get("behind") or 0), flow.sync.get("state")
            found = behind <= CAUGHT_UP, None, f"sync is {behind} records behind the end of the log"
            if state != "applying":
                found = None, None, f"sync is {state}"
            return found[0] is True

        try:
            await clock.until(keeps_up, timeout=_KEEPS_UP, what="sync to keep up", every=0.2)
        except FigError as error:
            if error.code != "timed_out":
                raise
        return found

    async def verify(self, standing: Standing, *, repair: bool = False) -> dict[str, Any]:
        """Compare all rows at a marker in the stream of whoever owns the data."""
        if _order(standing.place) < _order(Place(Stage.SYNC)) or standing.place.stage in (Stage.DONE, Stage.ABORTED):
            raise FigError(
                "nothing_to_verify",
                f"the extraction is {standing.place}: the sides are not joined",
                "Advance to sync first.",
            )
        result = await verify(self.parts, self.context, standing, self._progress, repair=repair)
        await self.store.milestone(self.settings.context, "verification", {**result, "place": str(standing.place)})
        return {"text": f"{result['rows_compared']} rows compared, {result['differences']} differences", **result}

    # -- entering ----------------------------------------------------------------------------------------------------

    async def enter(self, standing: Standing, place: Place, *, by: str, gate: Any = None) -> Standing:
        """Go forward to ``place``; returns where the extraction stands then."""
        context = self.settings.context
        match place.stage, place.step:
            case Stage.SYNC, _:
                await self._begin_sync()
                reached = await self.store.enter(standing, place, by=by, gate=gate)
                await self._await_snapshot()
                await self.tend(reached)
                return reached
            case Stage.WRITES, _:
                return await self._switch.forward(standing, by=by, gate=gate)
            case Stage.DECOMMISSION, "watch":
                return await self._enter_watch(standing, place, by, gate)
            case Stage.DECOMMISSION, "brownout":
                reached = await self.store.enter(standing, place, by=by, gate=gate)
                await self._brownout(reached)
                return reached
            case Stage.DECOMMISSION, "retire":
                await self._retire(standing)
            case Stage.DECOMMISSION, "report":
                await self._settle_after(standing)
        reached = await self.store.enter(standing, place, by=by, gate=gate)
        if place.stage is Stage.READS:
            await apply_routes(self.parts, self.store)
            await self.store.milestone(context, "switch", {"what": str(place)})
        return reached

    async def _begin_sync(self) -> None:
        settings, parts = self.settings, self.parts
        context = settings.context
        # Guards before capture: what is made here is no news to it.
        await ends.prepare(parts.monolith_dsn)
        async with sides.session(parts.monolith_dsn, what="install") as side:
            await side.install(context, side="monolith", owner=True, tables=settings.sources, enforcing=False)
        await ends.prepare(self.context.service_dsn)
        async with sides.session(self.context.service_dsn, what="install") as side:
            await side.install(context, side="service", owner=False, tables=settings.targets, enforcing=True)
        for direction in Direction:
            topic = names(context, direction).topic
            if await parts.log.topic(topic) is None:  # it may have been given partitions since
                await parts.log.create_topic(
                    topic, partitions=settings.partitions if direction is Direction.FORWARD else 1
                )
        await parts.log.create_topic(f"events.{context}")
        await parts.log.create_topic(writers.topic(context))
        await parts.flows.want(context, Direction.FORWARD, capture=True, sync=True, snapshot=True)

    async def _await_snapshot(self, *, after: int = 0) -> None:
        """Follow the copy that comes after generation ``after`` until it is applied, saying how far it is."""
        context = self.settings.context
        begun = clock.monotonic()
        while True:
            flow = await self.parts.flows.get(context, Direction.FORWARD)
            report = flow.sync if flow else {}
            for part in (flow.capture, flow.sync) if flow else ():
                if (
                    part.get("state") in ("failed", "stopped", "paused")
                    and clock.monotonic() - begun > 10
                    and part.get("error")
                ):
                    raise FigError(part["error"]["code"], part["error"]["message"], part["error"].get("remedy", ""))
            copying = int(report.get("generation") or 0) > after
            if copying and report.get("snapshot_done"):
                return
            total = int(report.get("snapshot_total") or (flow.capture.get("snapshot_total") if flow else 0) or 0)
            done = int(report.get("snapshot_rows") or 0) if copying else 0
            rate = done / max(0.001, clock.monotonic() - begun)
            await self._progress(
                f"copying {total:,} rows" if total else "beginning the copy",
                {"done": done, "total": total, "rate": rate, "remaining": report.get("remaining_seconds")},
            )
            await asyncio.sleep(0.5)

    async def tend(self, standing: Standing) -> None:
        """What has to be so while a step is on, whoever died meanwhile."""
        context = self.settings.context
        if not _order(Place(Stage.SYNC)) <= _order(standing.place) < _order(Place(Stage.DONE)):
            return
        forward = await self.parts.flows.get(context, Direction.FORWARD)
        reverse = await self.parts.flows.get(context, Direction.REVERSE)
        if (reverse is None or not reverse.capture_on) and forward is not None and forward.sync.get("snapshot_done"):
            # The reverse slot cannot start in the past: it is there long before it is needed, but not under the copy.
            await self.parts.flows.want(context, Direction.REVERSE, capture=True, sync=True)
        lease = standing.facts.get("brownout")
        if lease and clock.epoch() >= float(lease["until"]):
            await self._end_brownout(lease)

    async def recover(self, standing: Standing) -> None:
        """After a start: finish or undo a cut-over that was under way, end brown-outs, set the routes."""
        if _order(Place(Stage.SYNC)) <= _order(standing.place) < _order(Place(Stage.DONE)):
            # Installed by an earlier version, perhaps: what comes now reads the rows as they are today.
            for dsn in (self.parts.monolith_dsn, self.context.service_dsn):
                async with sides.session(dsn, what="tables") as side:
                    await side.bring_forward()
            standing = await self._switch.recover(standing)
            await self.tend(standing)
        await apply_routes(self.parts, self.store)

    async def reverse_healthy(self) -> bool:
        """Whether the way back is open: the reverse stream runs and is not far behind."""
        flow = await self.parts.flows.get(self.settings.context, Direction.REVERSE)
        return flow is not None and flow.sync.get("state") == "applying" and flow.capture.get("state") == "streaming"

    # -- going back --------------------------------------------------------------------------------------------------

    async def leave(self, standing: Standing, place: Place, *, by: str, gate: Any = None) -> Standing:
        """Go back to ``place``."""
        match standing.place.stage, place.stage:
            case Stage.WRITES, _:
                return await self._switch.back(standing, place, by=by, gate=gate)
            case Stage.READS, _:
                reached = await self.store.enter(standing, place, by=by, gate=gate)
                await apply_routes(self.parts, self.store)
                await self.store.milestone(self.settings.context, "switch", {"what": str(place)})
                return reached
            case Stage.SYNC, _:
                await self._end_sync()
            case Stage.DECOMMISSION, _:
                await self._restore(standing)
        return await self.store.enter(standing, place, by=by, gate=gate)

    async def _end_sync(self) -> None:
        """Undo what entering sync did: only rows that sync copied are removed, and only from tables it may write."""
        settings, parts = self.settings, self.parts
        context = settings.context
        for direction in Direction:
            await parts.flows.want(context, direction, capture=False, sync=False)
        await asyncio.gather(*(self._await_quiet(dsn) for dsn in (self.context.service_dsn, parts.monolith_dsn)))
        await both.end(parts.monolith_dsn, self.context)
        await capture.remove(parts.monolith_dsn, context, Direction.FORWARD, self.context.through)
        await capture.remove(self.context.service_dsn, context, Direction.REVERSE, self.context.through)
        async with (
            sides.session(parts.monolith_dsn, what="uninstall") as monolith,
            postgres.session(self.context.service_dsn, what="uninstall") as conn,
        ):
            owner, copy = await monolith.read(context), await ownership.read(conn, context)
            # "ceded": it has owned, and given back.
            if owner is not None and owner.state == "owner" and copy is not None and copy.state in ("standby", "ceded"):
                await conn.execute(
                    sql.SQL("TRUNCATE {}").format(
                        sql.SQL(", ").join(sql.Identifier(*t.split(".", 1)) for t in settings.targets)
                    )
                )
        for direction, dsn in ((Direction.REVERSE, parts.monolith_dsn), (Direction.FORWARD, self.context.service_dsn)):
            async with sides.session(dsn, what="uninstall") as side:
                await side.uninstall(context)
            await ends.forget(dsn, context, direction)
        for direction in Direction:
            await parts.log.delete_topic(names(context, direction).topic)
            await capture.forget(parts.log, context, direction)
        await derive.forget(parts.control_dsn, context)
        await parts.flows.forget(context)

    async def _await_quiet(self, dsn: str) -> None:
        """Wait until no sync of this context applies to a database any more, and none is about to begin."""
        quiet = 0

        async def free() -> bool:
            nonlocal quiet
            busy = await ends.busy(dsn, self.settings.context)
            # Sync looks twice a second at what is wanted; one that is between two sessions has none to be seen by.
            quiet = 0 if busy else quiet + 1
            return quiet >= 4

        await clock.until(free, timeout=20, what="sync to stop", every=0.2)

    async def resnapshot(self, standing: Standing, dry: bool) -> dict[str, Any]:
        """Copy everything again after a lost slot; only where no user reads the service's answers."""
        if standing.place != Place(Stage.SYNC):
            raise FigError(
                "resnapshot_needs_sync",
                f"the extraction is {standing.place}: users would see the copy half done",
                "fig rollback until the stage is sync, then repeat.",
            )
        if dry:
            return {
                "text": "would make the slot anew and copy all tables again",
                "effects": self.effects(standing, Place(Stage.SYNC)),
            }
        flow = await self.parts.flows.get(self.settings.context, Direction.FORWARD)
        before = int(flow.sync.get("generation") or 0) if flow is not None else 0
        await self.parts.flows.again(self.settings.context, Direction.FORWARD)
        await self._await_snapshot(after=before)
        return {"text": "copied again"}

    # -- decommissioning -----------------------------------------------------------------------------------------------

    async def _enter_watch(self, standing: Standing, place: Place, by: str, gate: Any) -> Standing:
        settings = self.settings
        seconds = self._seconds or settings.decommission.watch_seconds
        await self._progress(f"watching the old tables for {seconds:g} s", {})
        before = await decommission.sizes(self.parts.monolith_dsn, settings.sources)
        seen, load = await asyncio.gather(
            decommission.watch(self.parts.monolith_dsn, settings.sources, seconds),
            decommission.load(self.parts.monolith_dsn, min(seconds, 10)),
        )
        known = {"load_before": standing.facts.get("load_owned") or asdict(load)}
        await self.store.learn(settings.context, watch=seen, sizes_before=before, **known)
        return await self.store.enter(standing, place, by=by, gate=gate)

    async def _brownout(self, standing: Standing) -> None:
        settings = self.settings
        seconds = self._seconds or settings.decommission.brownout_seconds
        if standing.facts["watch"]["users"]:
            users = "; ".join(f"{u['application']} ({u['statement'][:60]})" for u in standing.facts["watch"]["users"])
            await self._progress(f"still seen at the old tables: {users}", {})
        taken = await decommission.take_away(self.parts.monolith_dsn, settings.sources)
        lease = {"until": clock.epoch() + seconds, "taken": taken}
        # A lease: whatever becomes of this process, the next look after its end gives everything back.
        await self.store.learn(settings.context, brownout=lease, routes_gone=True)
        self.parts.kill_point("brownout")
        await apply_routes(self.parts, self.store)
        await self._progress(f"brown-out: old routes answer 410, old tables are unreadable for {seconds:g} s", {})
        missed = await decommission.watch(self.parts.monolith_dsn, settings.sources, seconds)
        await self._end_brownout(lease)
        await self.store.learn(settings.context, brownout_users=missed["users"])

    async def _end_brownout(self, lease: Mapping[str, Any]) -> None:
        await decommission.give_back(self.parts.monolith_dsn, lease["taken"])
        await self.store.learn(self.settings.context, brownout=None, routes_gone=False)
        await apply_routes(self.parts, self.store)

    async def _retire(self, standing: Standing) -> None:
        """Put the tables aside; the reverse stream follows them, the forward pipeline goes."""
        settings, parts = self.settings, self.parts
        context = settings.context
        if standing.facts.get("brownout"):
            await self._end_brownout(standing.facts["brownout"])
        await parts.flows.want(context, Direction.FORWARD, capture=False, sync=False)
        await parts.flows.want(context, Direction.REVERSE, capture=True, sync=False)
        await self._await_quiet(parts.monolith_dsn)
        await decommission.retire(parts.monolith_dsn, context, settings.sources)
        await self.store.learn(context, retired=True)
        await parts.flows.want(context, Direction.REVERSE, capture=True, sync=True)
        await capture.remove(parts.monolith_dsn, context, Direction.FORWARD, self.context.through)

    async def _restore(self, standing: Standing) -> None:
        settings, parts = self.settings, self.parts
        context = settings.context
        if standing.facts.get("brownout"):
            await self._end_brownout(standing.facts["brownout"])
        if not standing.facts.get("retired"):
            return
        await parts.flows.want(context, Direction.REVERSE, capture=True, sync=False)
        await self._await_quiet(parts.monolith_dsn)
        await decommission.restore(parts.monolith_dsn, context, settings.sources)
        await self.store.learn(context, retired=False)
        await parts.flows.want(context, Direction.REVERSE, capture=True, sync=True)
        # A new slot: what it would have carried meanwhile was refused by the guards, so nothing is missing.
        await parts.flows.again(context, Direction.FORWARD)
        await parts.flows.want(context, Direction.FORWARD, capture=True, sync=True, snapshot=False)

    async def _settle_after(self, standing: Standing) -> None:
        """Measure what is left in the monolith's database."""
        load = await decommission.load(self.parts.monolith_dsn, min(self.settings.decommission.watch_seconds, 10))
        await self.store.learn(self.settings.context, load_after=asdict(load))

    async def drop(self, standing: Standing, confirm: str, *, by: str, dry: bool) -> dict[str, Any]:
        """Prove, archive, stop the reverse stream, drop. The only step without a way back."""
        settings, parts = self.settings, self.parts
        context = settings.context
        if standing.place != Place(Stage.DECOMMISSION, "report"):
            raise FigError(
                "not_the_next_step",
                f"the extraction is {standing.place}; the drop comes after decommission, report",
                "Take the steps in order.",
            )
        if confirm != context:
            raise FigError(
                "drop_not_confirmed",
                f"this drops {', '.join(settings.sources)} from the monolith for good",
                f"Repeat the name of what goes: fig decommission drop {context} --confirm {context}",
            )
        since = (await self.store.visits(context))[-1]["entered_at"]
        waited = (clock.now() - since).total_seconds()
        if waited < settings.decommission.grace_seconds:
            raise FigError(
                "grace_period",
                f"the tables have waited {waited:.0f} s of the {settings.decommission.grace_seconds:.0f} s agreed",
                "Come back later, or change decommission.grace_seconds.",
            )
        await self.gather(standing, Place(Stage.DONE))
        gate = await self._evidence.judge(context, standing.evidence, kpis(settings, standing.place))
        if gate.verdict.value != "pass":
            raise FigError(
                "gate_failed",
                "the monolith's own checks do not pass without the context: " + "; ".join(k.reason for k in gate.kpis),
                "Mend the monolith first; nothing was dropped.",
                gate=gate.as_dict(),
            )
        tables = self.context.sources(retired=True)
        directory = parts.data / "archive" / context
        if dry:
            return {
                "text": f"would archive {', '.join(tables)} to {directory}, then drop them",
                "effects": [f"drop {t}" for t in tables],
            }
        proof = await self.verify(standing)
        if proof["differences"]:
            raise FigError(
                "not_equal",
                f"the retired tables differ from the service in {proof['differences']} rows: nothing was dropped",
                "fig verify names them.",
            )
        await self._progress("writing the archive", {})
        archive = await decommission.archive(parts.monolith_dsn, tables, directory)
        await parts.flows.want(context, Direction.REVERSE, capture=False, sync=False)
        await self._await_quiet(parts.monolith_dsn)
        await decommission.drop(parts.monolith_dsn, context, tables)
        for dsn in (parts.monolith_dsn, self.context.service_dsn):
            async with postgres.session(dsn, what="uninstall") as conn:
                await ownership.uninstall(conn, context)
        summary = decommission.before_and_after(settings, parts.project, standing.facts)
        synced = await parts.flows.get(context, Direction.FORWARD)
        await self.store.learn(
            context, archive=archive, decommission=summary, sync=synced.sync if synced is not None else {}
        )
        for writer in await writers.seen(parts.log, settings):
            if writer["mode"] == "refused":
                await self.store.milestone(context, "refusal", writer)
        await parts.flows.forget(context)
        reached = await self.store.enter(standing, Place(Stage.DONE), by=by, gate=gate.as_dict())
        await self._keep_outbox()
        await apply_routes(self.parts, self.store)
        return {
            "text": f"{context} has left the monolith; the archive is in {directory}",
            "place": str(reached.place),
            "archive": archive,
            **summary,
        }

    async def _keep_outbox(self) -> None:
        """The reverse stream ends; the service's events go on being published."""
        context, outbox = self.settings.context, self.settings.service.outbox
        await capture.pause(context, Direction.REVERSE, self.context.through)
        await clock.until(self._capture_ended, timeout=20, what="the reverse capture to end", every=0.1)
        if outbox is None:
            await capture.remove(self.context.service_dsn, context, Direction.REVERSE, self.context.through)
            return
        await slot.narrow(self.context.service_dsn, context, Direction.REVERSE, outbox)
        await self.parts.flows.want(context, Direction.REVERSE, capture=True, sync=False)

    async def _capture_ended(self) -> bool:
        async with postgres.session(self.context.service_dsn, what="quiet") as conn:
            active = await postgres.value(
                conn,
                "SELECT active FROM pg_replication_slots WHERE slot_name = %s",
                (names(self.settings.context, Direction.REVERSE).slot,),
            )
        return not active


_DECOMMISSION = {
    "watch": ["watch who still uses the old tables; nothing changes"],
    "brownout": ["old routes answer 410 Gone and old tables are unreadable for a while, then both are given back"],
    "retire": [
        "move the tables into a holding schema, into which the reverse stream goes on",
        "remove the forward slot, publication and consumers",
    ],
    "report": ["measure code, tables and load, before and after"],
}


def _order(place: Place) -> int:
    """Where a place lies on the way, for comparison; steps within reads by their share."""
    stage = list(Stage).index(place.stage)
    steps = ("shadow", "watch", "brownout", "retire", "report")
    return stage * 1000 + (
        int(place.share) + 1
        if place.stage is Stage.READS and place.share
        else steps.index(place.step)
        if place.step in steps
        else 0
    )

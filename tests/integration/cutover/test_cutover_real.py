"""The cut-over on two real servers, with the real fence server's judgement, writers that remember each answer, and a
small applier in the place of capture and sync."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import conninfo
from psycopg.types.json import Jsonb

from stranglerfig.changes.model import Admission, admit
from stranglerfig.databases import ownership
from stranglerfig.databases.model import Side
from stranglerfig.extraction import cutover
from stranglerfig.extraction.cutover import CutoverPlan, Ports, SequencePair
from stranglerfig.extraction.journal import Journal
from stranglerfig.extraction.model import STEPS, CutoverDirection
from stranglerfig.extraction.ports import Entry, HoldStats
from stranglerfig.facade.fence import FenceContext, Gatekeeper, Refused
from stranglerfig.facade.settings import FenceSettings, Routes
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

CONTEXT = "inventory"
TABLE = "public.writes"
SIDES: tuple[Side, ...] = ("monolith", "service")
SCHEMA = """
CREATE TABLE writes (id bigserial PRIMARY KEY, key text NOT NULL, side text NOT NULL);
ALTER TABLE writes OWNER TO {app};
"""
TARGET = """
CREATE TABLE fig.marker (context text, direction text, nonce text, prefix text, content jsonb, lsn bigint,
    applied_at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (context, direction, nonce));
"""
APP = "cutover_app"


class Killed(BaseException):
    """Stands for kill -9."""


class Estate:
    """Two databases, their appliers, the fence server's gatekeeper, writers and what they were answered."""

    def __init__(self, dsns: dict[Side, str], control: str, budget: float) -> None:
        self.dsns = dsns
        self.journal = Journal(control)
        self.gate = Gatekeeper(
            FenceContext(
                CONTEXT,
                Routes.model_validate({"writes": [{"path": "/w", "methods": ["POST"]}]}),
                dsns["monolith"],
                dsns["service"],
                FenceSettings.model_validate({"budget": budget}),
            )
        )
        self.in_flight: Counter[Side] = Counter()
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.failures: list[str] = []
        self.steadied: list[Side] = []
        self.applying = True
        self.between_batches = {"forward": asyncio.Lock(), "reverse": asyncio.Lock()}
        self.ending = False
        self.batches = 0
        self.activated: Counter[str] = Counter()
        self.proof_error: FigError | None = None
        self.lag_of: dict[str, float | None] = {"forward": 0.0, "reverse": 0.0}
        self.parked_changes = 0
        self.on_append: Callable[[Entry], Any] | None = None

    # --- FacadePort

    async def close(self, context: str, epoch: int, *, timeout: float) -> None:
        await self.gate.close(epoch, timeout=timeout)

        async def quiet() -> bool:
            return not sum(self.in_flight.values())

        await clock.until(quiet, timeout=timeout, what="writes in flight", every=0.001)

    async def steady(self, context: str, owner: Side) -> None:
        self.steadied.append(owner)

    async def holds(self, context: str, epoch: int) -> HoldStats:
        async def ended() -> bool:
            return any(report.epoch == epoch for report in self.gate.holds)

        await clock.until(ended, timeout=30, what="the hold to end")
        report = next(report for report in self.gate.holds if report.epoch == epoch)
        return HoldStats(report.held_requests, report.hold_p50_ms, report.hold_p99_ms, report.hold_max_ms)

    # --- ProofPort

    async def rehearse(self) -> None:
        if self.proof_error:
            raise self.proof_error

    async def prove(self, nonce: str) -> None:
        monolith, service = await self.keys("monolith"), await self.keys("service")
        assert monolith == service, "the sides differ behind the fence's marker"

    # --- FlowsPort

    async def lag(self, direction: str) -> float | None:
        return self.lag_of[direction]

    async def connected(self, direction: str) -> bool:
        return self.lag_of[direction] is not None

    async def parked(self, direction: str) -> int:
        return self.parked_changes

    # --- JournalPort, with a hook that may hold a controller up

    async def append(self, entries: Any) -> None:
        await self.journal.append(entries)
        if self.on_append is not None:
            await self.on_append(entries[-1])

    async def entries(self, context: str, epoch: int | None = None) -> list[Entry]:
        return await self.journal.entries(context, epoch)

    # --- what the tests do

    def plan(self, direction: CutoverDirection = "forward", **options: Any) -> CutoverPlan:
        return replace(
            CutoverPlan(
                CONTEXT,
                direction,
                self.dsns["monolith"],
                self.dsns["service"],
                (TABLE,),
                (TABLE,),
                # Generous: the machine that tests may be busy.
                budget=8.0,
                drain=6.0,
                canary=20.0,
                sequences=(SequencePair("public.writes_id_seq", "public.writes_id_seq"),),
            ),
            **options,
        )

    @property
    def ports(self) -> Ports:
        return Ports(self, self, self, self)

    async def cut_over(self, direction: CutoverDirection = "forward", **options: Any) -> cutover.CutoverResult:
        kill_point = options.pop("kill_point", lambda _: None)
        return await cutover.cut_over(self.plan(direction, **options), self.ports, kill_point=kill_point)

    async def recover(self, direction: CutoverDirection = "forward", **options: Any) -> cutover.Recovery:
        return await cutover.recover(self.plan(direction, **options), self.ports)

    async def keys(self, side: Side) -> Counter[str]:
        async with postgres.session(self.dsns[side], what="count") as conn:
            return Counter(row[0] for row in await postgres.fetch(conn, "SELECT key FROM writes"))

    async def row(self, side: Side) -> tuple[str, int]:
        async with postgres.session(self.dsns[side], what="look") as conn:
            row = await ownership.read(conn, CONTEXT)
        assert row is not None
        return row.state, row.epoch

    async def app(self, side: Side) -> Connection:
        dsn = conninfo.make_conninfo(self.dsns[side], user=APP, application_name="app")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async def write(self, sessions: dict[Side, Connection]) -> None:
        """One request through the façade."""
        key = str(uuid.uuid4())
        try:
            side = await self.gate.ask()
        except Refused:
            return  # nothing was sent
        self.in_flight[side] += 1
        try:
            await sessions[side].execute("INSERT INTO writes (key, side) VALUES (%s, %s)", (key, side))
            self.acknowledged.append(key)
        except psycopg.Error as error:
            self.refused.append(key)
            self.failures.append(f"{side}: {error}")
        finally:
            self.in_flight[side] -= 1

    async def writer(self) -> None:
        sessions = {side: await self.app(side) for side in SIDES}
        try:
            while not self.ending:
                await self.write(sessions)
                await asyncio.sleep(0.008)
        finally:
            for session in sessions.values():
                await session.close()

    @asynccontextmanager
    async def traffic(self, writers: int = 4) -> AsyncIterator[None]:
        running = [asyncio.ensure_future(self.writer()) for _ in range(writers)]
        try:
            await self.progress(20)
            yield
            await self.progress(20)
        finally:
            self.ending = True
            await asyncio.gather(*running)

    async def progress(self, count: int) -> None:
        goal = len(self.acknowledged) + count

        async def reached() -> bool:
            return len(self.acknowledged) >= goal

        await clock.until(reached, timeout=60, what="writes to be acknowledged")

    async def settled(self, owner: Side, *, failures: int = 0) -> None:
        """Every acknowledged write exactly once on both sides, no refused one anywhere, one owner."""
        states = {side: (await self.row(side))[0] for side in SIDES}
        assert [side for side, state in states.items() if state == "owner"] == [owner], states
        acknowledged = Counter(self.acknowledged)

        async def equal() -> bool:
            return await self.keys("monolith") == await self.keys("service")

        await clock.until(equal, timeout=60, what="both sides to be equal")
        assert await self.keys(owner) == acknowledged
        assert len(self.failures) == failures, self.failures

    # --- the applier in the place of capture and sync

    async def stand_still(self) -> None:
        """Apply nothing more until ``applying`` is set again; the batches under way are in."""
        self.applying = False
        for lock in self.between_batches.values():
            async with lock:
                pass

    async def apply(self, direction: str) -> None:
        source, target = SIDES if direction == "forward" else SIDES[::-1]
        slot, origin, peer = (
            f"{self.slot}_{direction}",
            f"{self.slot}_{direction}",
            f"{self.slot}_" + ("reverse" if direction == "forward" else "forward"),
        )
        async with (
            postgres.session(self.dsns[source], what="applier") as out,
            postgres.session(self.dsns[target], what="applier") as into,
        ):
            await into.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
            while True:
                async with self.between_batches[direction]:
                    if self.applying:
                        await self._batch(out, into, direction, slot, peer)
                await asyncio.sleep(0.004)

    async def _batch(self, out: Connection, into: Connection, direction: str, slot: str, peer: str) -> None:
        rows = await postgres.fetch(
            out,
            "SELECT lsn, data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
            " 'publication_names', 'writes', 'messages', 'true')",
            (slot,),
        )
        if not rows:
            return
        async with into.transaction():
            state, epoch = (
                await postgres.fetch(
                    into, "SELECT state, epoch FROM fig.ownership WHERE context = %s FOR SHARE", (CONTEXT,)
                )
            )[0]
            ours = False
            for _, data in rows:
                kind, body = chr(data[0]), bytes(data[1:])
                if kind == "B":
                    ours = False
                elif kind == "O":
                    ours = body[8:].rstrip(b"\0").decode() == peer
                elif kind == "M" and not ours:
                    await self._message(into, direction, body)
                elif kind == "I" and not ours:
                    admission = admit(state, epoch, self.activated[direction])
                    assert admission is not Admission.PARK, "a change of the peer reached an owner"
                    if admission is Admission.APPLY:
                        values = columns(body)
                        await into.execute(
                            "INSERT INTO writes (id, key, side) VALUES (%s, %s, %s)", (values[0], values[1], values[2])
                        )
        await out.execute("SELECT pg_replication_slot_advance(%s, %s)", (slot, rows[-1][0]))
        self.batches += 1
        if self.batches % 25 == 0:
            # Lets the slot forget what it has sent; otherwise each look decodes everything again.
            await out.execute("SELECT pg_log_standby_snapshot()")

    async def _message(self, into: Connection, direction: str, body: bytes) -> None:
        prefix, rest = body[9:].split(b"\0", 1)
        if prefix not in (b"fig.marker", b"fig.activated"):
            return
        content = json.loads(rest[4:])
        if prefix == b"fig.activated":
            self.activated[direction] = max(self.activated[direction], content["epoch"])
        elif content["direction"] == direction:
            await into.execute(
                "INSERT INTO fig.marker VALUES (%s, %s, %s, %s, %s, 0) ON CONFLICT DO NOTHING",
                (CONTEXT, direction, content["nonce"], prefix.decode(), Jsonb(content)),
            )

    slot = ""


def columns(body: bytes) -> list[str]:
    count, at, values = int.from_bytes(body[5:7]), 7, []
    for _ in range(count):
        length = int.from_bytes(body[at + 1 : at + 5])
        values.append(body[at + 5 : at + 5 + length].decode())
        at += 5 + length
    return values


async def prepare(estate: Estate) -> None:
    for side in SIDES:
        async with postgres.session(estate.dsns[side], what="prepare") as conn:
            await conn.execute(SCHEMA.format(app=APP))
            await conn.execute("CREATE PUBLICATION writes FOR TABLE writes")
            await ownership.install(
                conn, CONTEXT, side=side, owner=side == "monolith", tables=[TABLE], enforcing=side == "service"
            )
            await conn.execute(TARGET)
            direction = "forward" if side == "monolith" else "reverse"
            await conn.execute(
                "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"{estate.slot}_{direction}",)
            )
            other = "reverse" if side == "monolith" else "forward"
            await conn.execute("SELECT pg_replication_origin_create(%s)", (f"{estate.slot}_{other}",))
            if side == "service":
                await conn.execute("SELECT setval('writes_id_seq', 1)")


@pytest.fixture
async def estate(postgres: Any, postgres_b: Any) -> AsyncIterator[Estate]:
    for server in (postgres, postgres_b):
        server.role(APP)
    estate = Estate({"monolith": postgres.database(), "service": postgres_b.database()}, postgres.database(), 10.0)
    estate.slot = f"c_{uuid.uuid4().hex[:10]}"
    await estate.journal.migrate()
    await prepare(estate)
    running = [
        asyncio.ensure_future(estate.apply("forward")),
        asyncio.ensure_future(estate.apply("reverse")),
        asyncio.ensure_future(estate.gate.run()),
    ]
    yield estate
    broken = [task for task in running if task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await estate.journal.close()
    async with psycopg_session(estate) as sessions:
        for session in sessions:
            await clock.until(partial(appliers_ended, session), timeout=20, what="the appliers' sessions to end")
            await session.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE %s",
                (estate.slot + "%",),
            )
            await session.execute(
                "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname LIKE %s",
                (estate.slot + "%",),
            )
    for task in broken:
        task.result()


async def appliers_ended(session: Connection) -> bool:
    """Whether the server has ended them: it does some time after they were closed."""
    return not await postgres.fetch(session, "SELECT FROM pg_stat_activity WHERE application_name = 'fig:applier'")


@asynccontextmanager
async def psycopg_session(estate: Estate) -> AsyncIterator[list[Connection]]:
    sessions = [await postgres.connect(estate.dsns[side], what="clean") for side in SIDES]
    yield sessions
    for session in sessions:
        await session.close()


async def test_forward_back_and_forward_under_traffic(estate: Estate) -> None:
    steps: list[str] = []

    async def progress(text: str, _: Any) -> None:
        steps.append(text)

    async with estate.traffic():
        plan = estate.plan("forward")
        first = await cutover.cut_over(plan, estate.ports, progress=progress)
        await estate.progress(20)
        second = await estate.cut_over("back")
        await estate.progress(20)
        third = await estate.cut_over("forward")
    await estate.settled("service")
    assert [result.epoch for result in (first, second, third)] == [1, 2, 3]
    assert estate.steadied == ["service", "monolith", "service"]
    assert first.hold.max_ms < 8000
    assert set(first.steps) >= {"intend", "hold", "fence", "mark", "prove", "cede", "activate", "release", "marker"}
    assert first.as_dict()["direction"] == "forward"
    assert steps == ["rehearsing the cut-over to the service", "the service owns the writes, epoch 1"]
    written = [(entry.step, entry.phase) for entry in await estate.journal.entries(CONTEXT, 1)]
    assert written == [(str(step), phase) for step in STEPS for phase in ("before", "after")]
    with pytest.raises(FigError) as again:
        await estate.cut_over("forward")
    assert again.value.code == "already_owner"


@pytest.mark.parametrize("points", [cutover.KILL_POINTS[::2], cutover.KILL_POINTS[1::2]], ids=["before", "after"])
async def test_killed_at_every_point_in_both_directions_then_recovered(estate: Estate, points: tuple[str, ...]) -> None:
    async with estate.traffic(2):
        for point in points:

            def kill(name: str, point: str = point) -> None:
                if name == point:
                    raise Killed(name)

            for direction, opposite, winner in (("forward", "back", "service"), ("back", "forward", "monolith")):
                with pytest.raises(Killed):
                    await estate.cut_over(direction, kill_point=kill)  # type: ignore[arg-type]
                recovered = await estate.recover(direction)  # type: ignore[arg-type]
                past = cutover.KILL_POINTS.index(point) >= cutover.KILL_POINTS.index("after:cede")
                assert (recovered.owner == winner) is past, point
                again = await estate.recover(opposite)  # type: ignore[arg-type]
                assert again.outcome == "nothing", "recovery is idempotent"
                if not past:
                    await estate.cut_over(direction)  # type: ignore[arg-type]
                await estate.progress(2)
    await estate.settled("monolith")


async def test_a_transaction_left_open_across_the_fence(estate: Estate) -> None:
    """One that the budget can wait for is waited for; one that it cannot ends the cut-over, and nothing is lost."""
    async with estate.traffic():
        session = await estate.app("monolith")
        key = str(uuid.uuid4())
        ending: list[asyncio.Future[None]] = []

        async def open_transaction() -> None:
            await session.execute("BEGIN")
            await session.execute("INSERT INTO writes (key, side) VALUES (%s, 'monolith')", (key,))

        def later(point: str) -> None:
            if point == "before:fence":
                ending.append(asyncio.ensure_future(end()))

        async def end() -> None:
            await asyncio.sleep(0.1)
            await session.execute("COMMIT")
            estate.acknowledged.append(key)

        await open_transaction()
        result = await estate.cut_over("forward", kill_point=later)
        assert result.steps["fence"] > 90
        await estate.cut_over("back")

        key = str(uuid.uuid4())
        await open_transaction()
        with pytest.raises(FigError) as given_up:
            await estate.cut_over("forward", drain=5.0)
        assert given_up.value.code == "cutover_aborted"
        assert given_up.value.context["cause"]["code"] == "fence_not_drained"
        assert await estate.row("monolith") == ("owner", 3)
        with pytest.raises(FigError) as too_old:
            await estate.cut_over("forward", drain=1.0)
        assert too_old.value.code == "transaction_too_old"
        assert too_old.value.context["transactions"][0]["application"] == "app"
        await session.execute("ROLLBACK")
        await session.close()
        await estate.cut_over("forward")
    await estate.settled("service")


async def test_an_old_snapshot_cannot_write_behind_the_fence(estate: Estate) -> None:
    session = await estate.app("monolith")
    await session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await session.execute("SELECT count(*) FROM writes")
    async with estate.traffic():
        await estate.cut_over("forward")
        with pytest.raises(psycopg.errors.SerializationFailure):
            await session.execute("INSERT INTO writes (key, side) VALUES ('late', 'monolith')")
    await session.close()
    await estate.settled("service")


async def test_a_budget_that_runs_out_gives_the_writes_back(estate: Estate) -> None:
    async with estate.traffic():
        # The marker does not arrive: the applier stands still from before it is written.
        async def stand_still(entry: Entry) -> None:
            if (entry.step, entry.phase) == ("mark", "before"):
                await estate.stand_still()

        estate.on_append = stand_still
        with pytest.raises(FigError) as given_up:
            await estate.cut_over("forward", budget=5.0)
        assert given_up.value.code == "cutover_aborted"
        assert given_up.value.context["cause"]["code"] == "marker_not_applied"
        assert await estate.row("monolith") == ("owner", 1)
        assert estate.steadied == ["monolith"]
        estate.on_append = None
        await estate.progress(10)
        estate.applying = True
        assert (await estate.cut_over("forward")).epoch == 2
    await estate.settled("service")


async def test_the_fence_server_gives_up_for_a_controller_that_stands_still(estate: Estate) -> None:
    """A controller stopped longer than every budget goes on with what it knew: each of its steps is refused."""
    impatient = FenceContext(
        CONTEXT,
        estate.gate.settings.routes,
        estate.dsns["monolith"],
        estate.dsns["service"],
        FenceSettings.model_validate({"budget": 0.3}),
    )
    patient = estate.gate.settings
    stopped, go_on = asyncio.Event(), asyncio.Event()

    async def stand_still(entry: Entry) -> None:
        if (entry.step, entry.phase, entry.epoch) == ("cede", "before", 1):
            stopped.set()
            await go_on.wait()

    async with estate.traffic():
        estate.on_append = stand_still
        zombie = asyncio.ensure_future(estate.cut_over("forward"))
        assert await clock.signalled(stopped, timeout=60)
        assert await estate.row("monolith") == ("fenced", 1)
        estate.gate.settings = impatient
        with pytest.raises(FigError) as busy:
            await estate.recover("forward", takeover=60.0)
        assert busy.value.code == "cutover_under_way"

        async def given_up() -> bool:
            return await estate.row("monolith") == ("owner", 1)

        await clock.until(given_up, timeout=60, what="the fence server to give up")
        await estate.progress(10)
        estate.on_append = None
        estate.gate.settings = patient
        # Another controller takes over, and gets to the very same step under the zombie's feet.
        second = await estate.cut_over("forward", takeover=0.0)
        assert second.epoch == 2
        await estate.cut_over("back", takeover=0.0)
        go_on.set()
        with pytest.raises(FigError) as refused:
            await zombie
        assert refused.value.code == "cutover_overtaken"
        assert await estate.row("monolith") == ("owner", 3)
    await estate.settled("monolith")


async def test_a_controller_whose_attempt_was_given_up_says_so(estate: Estate) -> None:
    async def give_up(entry: Entry) -> None:
        if (entry.step, entry.phase) == ("cede", "before"):
            async with postgres.session(estate.dsns["monolith"], what="fence") as conn:
                await ownership.abort(conn, CONTEXT, epoch=1)

    async with estate.traffic():
        estate.on_append = give_up
        with pytest.raises(FigError) as given_up:
            await estate.cut_over("forward")
        assert given_up.value.code == "cutover_aborted"
    await estate.settled("monolith")


@pytest.mark.parametrize(
    ("step", "owner"),
    [
        ("intend", "monolith"),
        ("fence", "monolith"),
        ("mark", "monolith"),
        ("cede", "monolith"),
        ("activate", "service"),
    ],
)
async def test_a_session_that_is_lost_at_a_step(estate: Estate, step: str, owner: Side) -> None:
    """The server ends our sessions just before the step: its outcome is unknown, the rows are read again."""

    async def end_sessions(entry: Entry) -> None:
        if (entry.step, entry.phase) == (step, "before"):
            estate.on_append = None
            for side in SIDES:
                async with postgres.session(estate.dsns[side], what="fault") as conn:
                    await conn.execute(
                        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                        " WHERE application_name = 'fig:cutover:inventory' AND datname = current_database()"
                    )

    async with estate.traffic():
        estate.on_append = end_sessions
        try:
            await estate.cut_over("forward")
        except FigError as error:
            assert error.code in ("cutover_aborted", "cutover_undecided"), error
        recovered = await estate.recover("forward")
        assert recovered.owner == owner
    await estate.settled(owner)


async def test_a_ceded_row_is_finished_by_whoever_finds_it(estate: Estate) -> None:
    def kill(point: str) -> None:
        if point == "after:cede":
            raise Killed(point)

    async with estate.traffic():
        with pytest.raises(Killed):
            await estate.cut_over("forward", kill_point=kill)
        assert await estate.row("monolith") == ("ceded", 1)
        # A retry finds W the owner already, in either direction of asking.
        with pytest.raises(FigError) as done:
            await estate.cut_over("forward")
        assert done.value.code == "already_owner"
        assert (await estate.cut_over("back")).epoch == 2
    await estate.settled("monolith")


async def test_a_sequence_that_was_never_used_is_moved_apart_as_well(estate: Estate) -> None:
    """Where writers stay in the monolith, the first key of either side must not be the same."""
    await estate.cut_over("forward", margin=1_000_000_000, shared=True)
    first = []
    for side in SIDES:
        async with postgres.session(estate.dsns[side], what="test") as conn:
            first.append(await postgres.value(conn, "SELECT nextval('writes_id_seq')"))
    assert first[0] == 1
    assert first[1] > 1_000_000_000


async def test_an_open_conflict_bars_the_way_back(estate: Estate) -> None:
    await estate.cut_over("forward", shared=True)
    estate.parked_changes = 1
    with pytest.raises(FigError) as barred:
        await estate.cut_over("back", shared=True)
    assert barred.value.code == "changes_parked"
    assert "in either direction" in barred.value.remedy
    assert await estate.row("service") == ("owner", 1)
    estate.parked_changes = 0
    assert (await estate.cut_over("back", shared=True)).epoch == 2


async def test_a_way_back_with_another_configuration_is_refused(estate: Estate) -> None:
    was, now = {"remaining_writers": "bidirectional", "tables": {}}, {"remaining_writers": "refuse"}
    await estate.cut_over("forward", shared=True, made_with=was)
    with pytest.raises(FigError) as refused:
        await estate.cut_over("back", made_with=now)
    assert refused.value.code == "configuration_changed"
    assert await estate.row("service") == ("owner", 1)
    async with postgres.session(estate.dsns["monolith"], what="test") as conn:
        assert await postgres.value(conn, "SELECT shared FROM fig.ownership"), "its writers are refused already"
    await estate.cut_over("back", shared=True, made_with=was)
    # Who owns again may be configured anew.
    await estate.cut_over("forward", made_with=now)
    async with postgres.session(estate.dsns["service"], what="test") as conn:
        assert await ownership.made_with(conn, CONTEXT) == now


async def test_what_the_rehearsal_refuses(estate: Estate) -> None:
    async def refused(**options: Any) -> str:
        with pytest.raises(FigError) as error:
            await estate.cut_over("forward", **options)
        assert await estate.row("monolith") == ("owner", 0)
        return error.value.code

    estate.lag_of["forward"] = 3.0
    assert await refused() == "lag_too_large"
    estate.lag_of = {"forward": 0.0, "reverse": None}
    assert await refused() == "stream_not_live"
    estate.lag_of["reverse"] = 0.0
    estate.parked_changes = 2
    assert await refused() == "changes_parked"
    estate.parked_changes = 0
    estate.proof_error = FigError("rows_differ", "3 rows differ")
    assert await refused() == "rows_differ"
    estate.proof_error = None
    await estate.stand_still()
    assert await refused(canary=0.05) == "marker_not_applied"
    estate.applying = True
    async with postgres.session(estate.dsns["service"], what="fault") as conn:
        await conn.execute("DROP TRIGGER fig_guard_inventory ON writes")
    assert await refused() == "guard_missing"
    async with postgres.session(estate.dsns["service"], what="fault") as conn:
        await ownership.install(conn, CONTEXT, side="service", owner=False, tables=[TABLE], enforcing=True)
    await cutover.rehearse(estate.plan(), estate.ports)
    async with postgres.session(estate.dsns["service"], what="fault") as conn:
        await conn.execute("DELETE FROM fig.ownership")
    assert await refused() == "not_installed"


async def test_rows_that_nobody_can_explain_are_reported(estate: Estate) -> None:
    async with postgres.session(estate.dsns["monolith"], what="fault") as conn:
        await conn.execute("UPDATE fig.ownership SET state = 'standby'")
    with pytest.raises(FigError) as nobody:
        await estate.recover()
    assert nobody.value.code == "no_owner"
    unreachable = conninfo.make_conninfo(estate.dsns["service"], port=1)
    with pytest.raises(FigError) as gone:
        await estate.recover(service_dsn=unreachable)
    assert gone.value.code == "database_unreachable"


async def test_a_proof_that_breaks_gives_up(estate: Estate) -> None:
    async def broken(nonce: str) -> None:
        raise ZeroDivisionError

    async with estate.traffic():
        estate.prove = broken  # type: ignore[method-assign]
        with pytest.raises(FigError) as given_up:
            await estate.cut_over("forward")
        assert given_up.value.context["cause"]["code"] == "step_failed"
    await estate.settled("monolith")


async def test_a_proof_that_takes_too_long_or_a_lost_way_back_gives_up(estate: Estate) -> None:
    async def slow(nonce: str) -> None:
        await asyncio.sleep(60)

    async def lost(nonce: str) -> None:
        estate.lag_of["reverse"] = None

    async with estate.traffic():
        for prove, code, budget in ((slow, "budget_exhausted", 5.0), (lost, "stream_not_live", 8.0)):
            estate.prove = prove  # type: ignore[method-assign]
            with pytest.raises(FigError) as given_up:
                await estate.cut_over("forward", budget=budget)
            assert given_up.value.context["cause"]["code"] == code
    await estate.settled("monolith")


async def test_writes_that_do_not_end_stop_the_cut_over_before_the_fence(estate: Estate) -> None:
    async with estate.traffic():
        estate.in_flight["monolith"] += 1
        with pytest.raises(FigError) as slow:
            await estate.cut_over("forward", budget=3.0)
        assert slow.value.code == "cutover_aborted"
        estate.in_flight["monolith"] -= 1
    await estate.settled("monolith")

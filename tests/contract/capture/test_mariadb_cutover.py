"""A cut-over with the monolith on a MariaDB: there, back, and there again, while writers write; streams are the real
ones, the façade is a flag."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from stranglerfig.capture.capture import remove
from stranglerfig.changes.mapping import Mapping, compile_mapping
from stranglerfig.changes.model import Direction, names
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, ownership
from stranglerfig.databases.mariadb import catalogue as mariadb_catalogue
from stranglerfig.databases.mariadb import ownership as mariadb_ownership
from stranglerfig.databases.model import Side
from stranglerfig.extraction import cutover
from stranglerfig.extraction.cutover import CutoverPlan, Ports, SequencePair
from stranglerfig.extraction.journal import Journal
from stranglerfig.extraction.model import CutoverDirection
from stranglerfig.extraction.ports import HoldStats
from stranglerfig.foundation import clock, mysql, tasks
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync import apply
from stranglerfig.sync.target import SyncJob, prepare
from stranglerfig.verification import across, across_repair
from stranglerfig.verification.across import AcrossJob
from tests.captures import Running
from tests.conftest import MonolithOnMariaDB, Server
from tests.contract.capture.conftest import Farm
from tests.contract.capture.mariadb_source import captured

pytestmark = pytest.mark.timeout(400)

APP = "cutover_app"
MONOLITH = "CREATE TABLE part (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(60) NOT NULL UNIQUE)"
SERVICE = f"CREATE TABLE part (id bigserial PRIMARY KEY, name text NOT NULL); ALTER TABLE part OWNER TO {APP}"


@dataclass
class Estate:
    """Both sides, the flows between them, writers and what they were answered; façade, proof and flows as well."""

    context: str
    dsns: dict[Side, str]
    apps: dict[Side, str]
    table: str
    journal: Journal
    mapping: Mapping
    owner: Side = "monolith"
    holding: bool = False
    in_flight: int = 0
    acknowledged: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: Counter[Side] = field(default_factory=Counter)

    # --- FacadePort

    async def close(self, context: str, epoch: int, *, timeout: float) -> None:
        self.holding = True

        async def quiet() -> bool:
            return self.in_flight == 0

        await clock.until(quiet, timeout=timeout, what="writes in flight", every=0.002)

    async def steady(self, context: str, owner: Side) -> None:
        self.owner, self.holding = owner, False

    async def holds(self, context: str, epoch: int) -> HoldStats:
        return HoldStats()

    # --- ProofPort

    async def rehearse(self) -> None:
        pass

    async def prove(self, nonce: str) -> None:
        there, here = await self.rows("monolith"), await self.rows("service")
        assert there == here, "the sides differ behind the fence's marker"

    # --- FlowsPort

    async def lag(self, direction: str) -> float | None:
        return 0.0 if await self.connected(direction) else None

    async def connected(self, direction: str) -> bool:
        return self.told.get(direction, {}).get("state") == "applying"

    async def both_apply(self) -> bool:
        """Whether sync has begun with what comes after the copy, in both directions."""
        return all([await self.connected(str(direction)) for direction in Direction])

    async def parked(self, direction: str) -> int:
        return int(self.told[direction]["parked"])

    # --- writers

    async def write(self, number: int, stop: asyncio.Event) -> None:
        async with (
            mysql.session(self.apps["monolith"], what="app") as monolith,
            sessions.session(self.apps["service"], what="app") as service,
        ):
            for turn in range(1_000_000):
                if stop.is_set():
                    return
                if not self.holding:
                    self.in_flight += 1
                    name = f"{number}-{turn}"
                    try:
                        if self.owner == "monolith":
                            await monolith.execute("INSERT INTO part (name) VALUES (%s)", (name,))
                        else:
                            await service.execute("INSERT INTO part (name) VALUES (%s)", (name,))
                        self.acknowledged.append(name)
                        self.written[self.owner] += 1
                    except (FigError, psycopg.Error) as error:
                        self.failures.append(str(error))
                    finally:
                        self.in_flight -= 1
                await asyncio.sleep(0.02)

    async def rows(self, side: Side) -> list[tuple[Any, ...]]:
        if side == "monolith":
            async with mysql.session(self.dsns[side], what="test") as conn:
                return sorted(await conn.fetch("SELECT id, name FROM part"))
        async with sessions.session(self.dsns[side], what="test") as service:
            return sorted(await sessions.fetch(service, "SELECT id::text, name FROM part"))

    async def further(self, side: Side) -> None:
        """Wait until writers have written to a side again."""
        before = self.written[side]

        async def more() -> bool:
            return self.written[side] >= before + 20

        await clock.until(more, timeout=30, what=f"writes to the {side}")

    # --- cut-overs

    def plan(self, direction: CutoverDirection) -> CutoverPlan:
        return CutoverPlan(
            self.context, direction, self.dsns["monolith"], self.dsns["service"], (self.table,), ("public.part",),
            budget=20, drain=5, canary=30, sequences=(SequencePair(f"{self.table}.id", "public.part_id_seq"),),
        )  # fmt: skip

    async def cut(self, direction: CutoverDirection, **options: Any) -> cutover.CutoverResult:
        return await cutover.cut_over(self.plan(direction), Ports(self, self.journal, self, self), **options)


@asynccontextmanager
async def estate(mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server) -> AsyncIterator[Estate]:
    postgres.role(APP)
    service_dsn, control = postgres.database(), postgres.database()
    journal = Journal(control)
    await journal.migrate()
    async with (
        captured(mariadb, farm.through, ("part",), MONOLITH, "INSERT INTO part (name) VALUES ('first')") as (
            there, monolith,
        ),
        sessions.session(service_dsn, what="test") as service,
    ):  # fmt: skip
        context, [table] = there.job.context, there.job.tables
        database = mysql.parse(there.job.dsn).database
        await service.execute(SERVICE)  # type: ignore[call-overload]
        user = f"a{database[-8:]}"
        await monolith.execute(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'x'")
        await monolith.execute(f"GRANT ALL ON {database}.* TO {user}@'127.0.0.1'")
        columns = {"name": "name"}
        mapped = {"from": table, "to": "part", "key": {"id": "id"}, "columns": columns, "reverse": columns}
        mapping = compile_mapping(
            [TableMapping.model_validate(mapped)],
            await mariadb_catalogue.tables(monolith, [table]),
            await catalogue.tables(service, ["public.part"]),
        )
        await prepare(service)
        await ownership.install(service, context, side="service", owner=False, tables=["public.part"], enforcing=True)
        await mariadb_ownership.install(monolith, context, side="monolith", owner=True, tables=[table], enforcing=False)
        back = Running(service_dsn, tables=("public.part",), direction=Direction.REVERSE, snapshot=False)
        back.job = replace(back.job, context=context)
        made = Estate(
            context,
            {"monolith": there.job.dsn, "service": service_dsn},
            {
                "monolith": mariadb.server.url(database, user=user, password="x"),
                "service": conninfo.make_conninfo(service_dsn, user=APP),
            },
            table,
            journal,
            mapping,
        )
        back.start()
        running = []
        for run, way, dsn in ((there, Direction.FORWARD, service_dsn), (back, Direction.REVERSE, there.job.dsn)):
            origin = names(context, way).origin
            job = SyncJob(context, way, dsn, run.topic, origin, mapping, evaluator=service_dsn)

            async def told(said: dict[str, Any], way: str = str(way), run: Running = run) -> None:
                made.told[way] = said
                shown = ("state", "error", "applied_lsn", "log_position", "log_end", "parked", "transactions")
                print(way, run.report.get("state"), run.report.get("error"), [said[name] for name in shown])

            running.append(tasks.spawn(apply.run(job, run.log, told), name=f"sync {way}"))
        stop = asyncio.Event()
        try:
            await there.streaming()
            await back.streaming()
            running += [tasks.spawn(made.write(number, stop), name=f"writer {number}") for number in range(3)]
            await clock.until(made.both_apply, timeout=60, what="both streams")
            yield made
        finally:
            stop.set()
            for task in running:
                await tasks.stop(task)
            await back.stop()
            await remove(service_dsn, context, Direction.REVERSE)
            await journal.close()
            await mariadb_ownership.uninstall(monolith, context)


async def both_hold(made: Estate) -> None:
    """Wait until both sides hold the same, and every acknowledged write once."""
    made.holding = True

    async def equal() -> bool:
        return made.in_flight == 0 and await made.rows("monolith") == await made.rows("service")

    await clock.until(equal, timeout=60, what="both sides to be equal", at_most=1.0)
    assert sorted(name for _, name in await made.rows("service")) == sorted([*made.acknowledged, "first"])
    assert made.failures == []


async def test_there_back_and_there_again_under_traffic(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    async with estate(mariadb, farm, postgres) as made:
        await made.further("monolith")
        first = await made.cut("forward")
        await made.further("service")
        async with mysql.session(made.apps["monolith"], what="app") as app:
            with pytest.raises(FigError, match="owned by the service"):
                await app.execute("INSERT INTO part (name) VALUES ('late')")
        second = await made.cut("back")
        await made.further("monolith")
        third = await made.cut("forward")
        await made.further("service")
        assert [result.epoch for result in (first, second, third)] == [1, 2, 3]
        with pytest.raises(FigError) as again:
            await made.cut("forward")
        assert again.value.code == "already_owner"
        await both_hold(made)
        print([round(result.duration_ms) for result in (first, second, third)], dict(made.written))


@pytest.mark.parametrize("direction", list(Direction))
async def test_rows_are_compared_and_repaired(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server, direction: Direction
) -> None:
    async with (
        estate(mariadb, farm, postgres) as made,
        mysql.session(made.dsns["monolith"], what="test") as monolith,
        sessions.session(made.dsns["service"], what="test") as service,
    ):
        await made.further("monolith")
        damaged: mysql.Connection | sessions.Connection = service
        if direction is Direction.REVERSE:
            await made.cut("forward")
            await made.further("service")
            damaged = monolith
        job = AcrossJob(made.context, *made.dsns.values(), made.mapping, direction, marker_seconds=60)
        assert not (await across.verify(job)).differences
        for statement in (
            "UPDATE part SET name = 'damaged' WHERE id = 1",
            "DELETE FROM part WHERE id = 2",
            "INSERT INTO part (id, name) VALUES (900000, 'extra')",
        ):
            await damaged.execute(statement)  # type: ignore[arg-type]
        found = await across.verify(job)
        assert {(each.key["id"], each.kind) for each in found.differences} == {
            ("1", "differs"), ("2", "missing"), ("900000", "extra"),
        }  # fmt: skip
        assert found.direction == direction.value
        assert await across_repair.repair(job, found.differences) == 3
        assert not (await across.verify(job)).differences
        await both_hold(made)


class Killed(BaseException):
    """Stands for kill -9."""


async def test_killed_around_the_point_of_no_return_then_recovered(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    async with estate(mariadb, farm, postgres) as made:
        for point in ("after:fence", "after:prove", "after:cede", "before:release"):

            def kill(name: str, point: str = point) -> None:
                if name == point:
                    raise Killed(name)

            for direction, winner in (("forward", "service"), ("back", "monolith")):
                if winner == made.owner:
                    continue
                with pytest.raises(Killed):
                    await made.cut(direction, kill_point=kill)  # type: ignore[arg-type]
                found = await cutover.recover(
                    made.plan(direction),  # type: ignore[arg-type]
                    Ports(made, made.journal, made, made),
                )
                print(point, direction, found)
                if found.outcome == "nothing":
                    await made.steady(made.context, found.owner)  # as the controller does after each start
                past = cutover.KILL_POINTS.index(point) >= cutover.KILL_POINTS.index("after:cede")
                assert (found.owner == winner) is past, (point, direction)
                assert made.owner == found.owner and not made.holding
                await made.further(made.owner)
        await both_hold(made)


async def test_a_transaction_that_is_open_for_long_is_named_before_anything_is_held(
    mariadb: MonolithOnMariaDB, farm: Farm, postgres: Server
) -> None:
    async with estate(mariadb, farm, postgres) as made:
        async with mysql.session(made.apps["monolith"], what="app") as app, app.transaction():
            await app.execute("INSERT INTO part (name) VALUES ('slow')")
            made.acknowledged.append("slow")
            with pytest.raises(FigError) as old:
                await cutover.cut_over(replace(made.plan("forward"), drain=1.0), Ports(made, made.journal, made, made))
            assert old.value.code == "transaction_too_old" and not made.holding
        assert old.value.context["transactions"][0]["application"].startswith("a")
        async with cutover._alone(made.plan("forward")):
            with pytest.raises(FigError) as other:
                await made.cut("forward")
            assert other.value.code == "cutover_under_way"
        await made.cut("forward")
        await both_hold(made)

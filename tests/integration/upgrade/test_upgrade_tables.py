"""What earlier versions left, in every stage: taken up by this one with all that was in it, or left alone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from examples.shop.estate import Estate
from stranglerfig.databases import ownership, versions
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import service
from stranglerfig.runtime import tables
from stranglerfig.sagas import instances
from stranglerfig.sync import target
from tests import upgrade_frozen
from tests.conftest import Server
from tests.upgrade_frozen import Moment

MOMENTS = upgrade_frozen.moments()
WRITES = next(moment for moment in MOMENTS if moment.name.endswith("/writes"))
EVIDENCE = {
    **dict.fromkeys(("samples", "shadow_samples", "latency_samples", "lag_samples", "no_worse_samples"), 60),
    **dict.fromkeys(("margin", "guard_samples", "quiet_seconds", "brownout_seconds", "watch_seconds"), 10),
    **dict.fromkeys(("error_below", "shadow_below", "latency_share", "lag_share"), 0.3),
    "shadow_share": 100,
}
"""What the templates of the shop's project leave open."""
BEFORE_ACCESS = next(moment for moment in MOMENTS if moment.steps("control").get("extraction") == 1)
"""Two steps behind; the first of them changes a table that is in use."""

FIG = str(Path(sys.executable).with_name("fig"))


@pytest.fixture
def thawed(postgres: Server) -> Callable[..., str]:
    """One database of a moment, as it was left."""

    def restored(moment: Moment, database: str = "control") -> str:
        for role in ("fig", *re.findall(r'OWNER TO "(\w+)"', text := moment.sql(database))):
            postgres.role(role)
        for role in {*re.findall(r'^GRANT .* TO "(\w+)"', text, flags=re.MULTILINE)}:
            postgres.role(role)
        dsn = postgres.database()
        upgrade_frozen.restore(text, dsn, {})
        return dsn

    return restored


class Asker:
    """The installed command on a project whose control database is ``dsn``; no ``fig up`` runs."""

    def __init__(self, root: Path, dsn: str) -> None:
        estate = Estate(root)
        self.project = estate.write_project(EVIDENCE)
        file = self.project / "fig.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"control": {"env": "CONTROL"}}))
        self.environment = dict(os.environ) | estate.environment() | {"CONTROL": dsn}
        estate.stop()

    def __call__(self, *arguments: str) -> tuple[int, Any]:
        """Exit status, and what it said: its answer, or its error."""
        done = subprocess.run(
            [FIG, "--project", str(self.project), "--json", *arguments],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        try:
            # A process of fig's writes its log before its refusal.
            said = done.stdout if done.returncode == 0 else done.stderr[done.stderr.index("{\n") :]
            return done.returncode, json.loads(said)
        except ValueError:
            return done.returncode, {"error": {"code": "unknown", "message": done.stdout + done.stderr}}


def rows(dsn: str) -> dict[str, int]:
    """How many rows each of our tables has, but for the record of what has run."""
    with psycopg.connect(dsn) as conn:
        names = conn.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'fig'::regnamespace AND relkind = 'r'"
        ).fetchall()
        return {
            name: conn.execute(f'SELECT count(*) FROM fig."{name}"'.encode()).fetchone()[0]  # type: ignore[index]
            for (name,) in names
            if name != "migration"
        }


def steps(dsn: str) -> dict[str, int]:
    """The last step of each room."""
    with psycopg.connect(dsn) as conn:
        return dict(conn.execute("SELECT room, max(step) FROM fig.migration GROUP BY 1").fetchall())


def known(found: dict[str, int]) -> dict[str, int]:
    """The same, with the control database's rooms as this version wants them."""
    return {room: tables.ROOMS[room][1] if room in tables.ROOMS else step for room, step in found.items()}


def within(old: Any, new: Any) -> bool:
    """Whether ``new`` says all that ``old`` says; a mapping may say more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and within(value, new[key]) for key, value in old.items())
    return bool(old == new)


# --- upwards


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
async def test_every_stage_is_taken_up_with_all_that_was_in_it(
    moment: Moment, thawed: Callable[..., str], tmp_path: Path
) -> None:
    dsn = thawed(moment)
    before, made = rows(dsn), steps(dsn)
    assert made == moment.steps("control") != known(made), "an earlier version made it"
    asker = Asker(tmp_path, dsn)
    status, said = asker("status")
    # Somebody who only asks leaves the tables to the fig that may run on them.
    assert (status, said["error"]["code"]) == (2, "older_schema") and "fig up" in said["error"]["remedy"]
    assert (steps(dsn), rows(dsn)) == (made, before)

    await tables.bring_forward(dsn)
    assert steps(dsn) == known(made)
    after = rows(dsn)
    assert {name: after[name] for name in before} == before
    with ThreadPoolExecutor(2) as pool:
        (status, now), (trail_status, trail) = pool.map(
            lambda asked: asker(*asked), (["status"], ["audit", "--last", "1000"])
        )
    assert (status, trail_status) == (0, 0), (now, trail)
    [now] = now["extractions"]
    then = moment.said["status"]
    for key in ("context", "stage", "step", "since", "owner", "epoch", "milestones"):
        assert within(then[key], now[key]), (key, then[key], now[key])
    assert (now["stage"], now["step"]) == tuple(moment.said["place"])
    missing = [line for line in moment.said["audit"] if not any(within(line, found) for found in trail)]
    assert not missing and len(trail) >= len(moment.said["audit"])


@pytest.mark.parametrize("moment", [m for m in MOMENTS if m.whole], ids=lambda moment: moment.name)
async def test_what_was_brought_forward_is_what_is_made_anew(
    moment: Moment, thawed: Callable[..., str], postgres: Server
) -> None:
    """An edited step, a forgotten default: the two ways to this version would part."""
    sides = (ownership.TABLES, versions.TABLES, target.TABLES, service.TABLES, instances.TABLES)
    for database in ("control", "monolith", "service"):
        old, new = thawed(moment, database), postgres.database()
        here = steps(old)
        rooms = [*sides] if database != "control" else [tables.tables_of(room) for room in tables.ROOMS]
        rooms = [room for room in rooms if room.room in here]
        async with sessions.session(old, what="test") as conn, sessions.session(new, what="test") as fresh:
            await sessions.bring_forward(conn, rooms)
            assert await sessions.bring_forward(conn, rooms) == []
            for room in rooms:
                await sessions.migrate(fresh, *room)
        assert rooms and schema(old) == schema(new), database


def schema(dsn: str) -> list[str]:
    """The statements that would make our tables and functions, without owners and grants."""
    text = upgrade_frozen.dump(dsn, {}, "--schema-only", "--schema", "fig", "--no-owner", "--no-privileges")
    return text.split(";\n")


# --- dying, and meeting others, on the way

_DIES = """
import asyncio, sys
import psycopg
from stranglerfig.runtime import tables

execute = psycopg.AsyncConnection.execute

async def until_a_step_is_done(self, query, params=None, **options):
    found = await execute(self, query, params, **options)
    if params and "asked.sql" in params:
        print("one is done", flush=True)
        await asyncio.sleep(600)
    return found

psycopg.AsyncConnection.execute = until_a_step_is_done
asyncio.run(tables.bring_forward(sys.argv[1]))
"""


async def test_who_dies_between_two_steps_leaves_all_as_it_was(thawed: Callable[..., str]) -> None:
    dsn = thawed(BEFORE_ACCESS)
    before, made = rows(dsn), steps(dsn)
    with subprocess.Popen([sys.executable, "-c", _DIES, dsn], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "one is done\n"
            assert steps(dsn) == made  # nobody sees a half
        finally:
            process.kill()
    assert (steps(dsn), rows(dsn)) == (made, before)
    await tables.bring_forward(dsn)
    assert steps(dsn) == known(made)


async def test_a_step_that_fails_leaves_all_as_it_was(
    thawed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = thawed(BEFORE_ACCESS)
    made = steps(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE fig.passing ()")  # what a step is about to create
    with pytest.raises(psycopg.errors.DuplicateTable):
        await tables.bring_forward(dsn)
    assert steps(dsn) == made
    with psycopg.connect(dsn) as conn:
        conn.execute("DROP TABLE fig.passing")
    await tables.bring_forward(dsn)
    assert steps(dsn) == known(made)


async def test_many_that_start_at_once_bring_forward_once(thawed: Callable[..., str]) -> None:
    dsn = thawed(BEFORE_ACCESS)
    before, made = rows(dsn), steps(dsn)

    async def opened() -> None:
        await (await Store.open(dsn)).close()

    await asyncio.gather(*(tables.bring_forward(dsn) for _ in range(6)), *(opened() for _ in range(3)))
    assert steps(dsn) == known(made) | {"access": 1}  # which each opening makes
    assert {name: count for name, count in rows(dsn).items() if name in before} == before


async def test_nobody_waits_long_behind_one_that_waits(thawed: Callable[..., str]) -> None:
    """A transaction that stays open on a table keeps the step waiting, not everybody who only reads the table."""
    dsn = thawed(BEFORE_ACCESS)
    made = steps(dsn)
    holder = psycopg.connect(dsn)
    holder.execute("SELECT count(*) FROM fig.command")
    served = 0
    forward = asyncio.create_task(tables.bring_forward(dsn))
    try:
        async with sessions.session(dsn, what="test") as conn:
            while served < 20 and not forward.done():
                await sessions.value(conn, "SELECT count(*) FROM fig.command")
                served += 1
                await asyncio.sleep(0.1)
        assert served == 20 and not forward.done() and steps(dsn) == made
        with pytest.raises(FigError) as kept:
            async with sessions.session(dsn, what="test") as conn:
                behind = [tables.tables_of(room) for room in made if room in tables.ROOMS]
                await sessions.bring_forward(conn, behind, patience=1)
        assert kept.value.code == "upgrade_blocked" and "pg_stat_activity" in kept.value.remedy
    finally:
        holder.close()
    await forward
    assert steps(dsn) == known(made)


async def test_guards_that_an_earlier_version_installed_are_brought_forward(thawed: Callable[..., str]) -> None:
    """Without being installed anew: the row stays, the guards do what they do today."""
    moment = next(m for m in MOMENTS if m.whole and m.steps("monolith").get("ownership") == 2)
    dsn = thawed(moment, "monolith")
    async with sessions.session(dsn, what="test") as conn:
        found = await ownership.read(conn, "inventory")
        assert found is not None
        assert await sessions.bring_forward(conn, [ownership.TABLES]) == ["ownership"]
        assert await ownership.read(conn, "inventory") == found
        body = await sessions.value(conn, "SELECT prosrc FROM pg_proc WHERE oid = 'fig.guard'::regproc")
        assert "traceparent=" in body


# --- downwards

ASKING = (
    ("status",),
    ("audit",),
    ("approvals",),
    ("advance", "inventory"),
    ("rollback", "inventory"),
    ("abort", "inventory", "--confirm", "inventory"),
    ("verify", "inventory"),
    ("decommission", "watch", "inventory"),
    ("retire",),
    ("token", "list"),
    ("events", "topics"),
    ("events", "tail", "events.inventory"),
    ("schema", "history", "inventory.StockAdjusted"),
    ("report", "inventory"),
    ("console",),
    ("run", "controller"),
    ("run", "capture"),
    ("run", "sync"),
    ("run", "console"),
)


@pytest.mark.parametrize(("room", "asking"), [("extraction", ASKING), ("eventlog", ASKING[:3])])
async def test_every_command_refuses_what_a_later_version_wrote(
    room: str, asking: tuple[tuple[str, ...], ...], thawed: Callable[..., str], tmp_path: Path
) -> None:
    dsn = thawed(WRITES)
    await tables.bring_forward(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "INSERT INTO fig.migration (room, step, file) SELECT room, max(step) + 1, 'later.sql' FROM fig.migration"
            " WHERE room = %s GROUP BY room",
            (room,),
        )
    before = upgrade_frozen.dump(dsn, {})
    asker = Asker(tmp_path, dsn)
    with ThreadPoolExecutor(3) as pool:
        for command, (status, said) in zip(asking, pool.map(lambda asked: asker(*asked), asking), strict=True):
            error = said["error"] if status else said
            assert (status, error.get("code")) == (2, "newer_schema"), (command, said)
            assert room in error["message"] and "version of stranglerfig" in error["remedy"]
    assert upgrade_frozen.dump(dsn, {}) == before


async def test_a_service_that_a_later_kit_upgraded_is_left_alone(thawed: Callable[..., str], tmp_path: Path) -> None:
    control = thawed(BEFORE_ACCESS)
    await tables.bring_forward(control)
    dsn = thawed(BEFORE_ACCESS, "service")
    asker = Asker(tmp_path, control)
    asker.environment["INVENTORY_FIG_DSN"] = dsn
    asking = (("saga", "list", "--service", "inventory"), ("events", "parked", "--service", "inventory"))
    status, said = asker(*asking[1])
    assert status == 0, said
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO fig.migration (room, step, file) VALUES ('kit', 9, 'later.sql')")
    for command in asking:
        status, said = asker(*command)
        assert (status, said["error"]["code"]) == (2, "newer_schema") and "kit" in said["error"]["message"], command


async def test_a_process_refuses_a_later_room_before_it_touches_an_earlier_one(thawed: Callable[..., str]) -> None:
    dsn = thawed(WRITES)
    made = steps(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO fig.migration (room, step, file) VALUES ('gates', 2, 'later.sql')")
    with pytest.raises(FigError) as refused:
        await tables.bring_forward(dsn)
    assert refused.value.code == "newer_schema" and refused.value.context == {"room": "gates", "found": 2, "known": 1}
    assert steps(dsn) == made | {"gates": 2}

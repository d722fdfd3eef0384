"""Both sides write: each rule on real databases, what no rule settles, and nothing applied twice."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psycopg
import pytest
from both_estate import SYNCS, Both, both

from stranglerfig.changes.flows import Flows
from stranglerfig.changes.model import Direction
from stranglerfig.databases import versions
from stranglerfig.eventlog import open_log
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation import postgres as pg
from stranglerfig.sync import apply
from tests.conftest import Server

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE
RULES = ["service wins", "monolith wins", "later commit wins"]


async def begun(estate: Both, *statements: str) -> None:
    """Rows that both sides have; then the syncs stand still, so that what is written crosses."""
    await estate.start(*SYNCS)
    await estate.run("monolith", *statements)
    await estate.settled()
    await estate.stop(*SYNCS)


async def crossed(estate: Both) -> dict[str, list[object]]:
    """Let what was written cross; what both sides hold then."""
    await estate.start(*SYNCS)
    await estate.settled()
    return await estate.equal()


@pytest.mark.parametrize("rule", RULES)
async def test_a_row_changed_on_both_sides_ends_as_the_rule_says(
    postgres: Server, postgres_b: Server, rule: str
) -> None:
    async with both((postgres, postgres_b), rule) as estate:
        await begun(estate, *(f"INSERT INTO labels VALUES ('{c}', 'first', 1, 'b')" for c in "abcde"))
        # Not in conflict: only one side, another row, the same row again by its own side.
        await estate.run("monolith", "UPDATE labels SET title = 'monolith', size = 2 WHERE code IN ('a', 'b', 'c')")
        await estate.run("service", "UPDATE label SET title = 'service' WHERE code IN ('b', 'd')")
        await estate.run("monolith", "DELETE FROM labels WHERE code = 'd'")
        await estate.run("service", "DELETE FROM label WHERE code IN ('c', 'e')")
        await estate.run(
            "monolith", "DELETE FROM labels WHERE code = 'e'", "INSERT INTO labels VALUES ('n', 'm', 5, 'm')"
        )
        await estate.run("service", "INSERT INTO label VALUES ('n', 's', 6, 's')")
        found = (await crossed(estate))["label"]
        a, service, monolith = ("a", "monolith", 2, "b"), ("service", 1), ("monolith", 2)
        b = ("b", *(monolith if rule == "monolith wins" else service), "b")
        expected = {
            "service wins": [a, b, ("d", "service", 1, "b"), ("n", "s", 6, "s")],
            "monolith wins": [a, b, ("c", "monolith", 2, "b"), ("n", "m", 5, "m")],
            "later commit wins": [a, b, ("n", "s", 6, "s")],
        }[rule]
        assert found == expected
        at_service, at_monolith = await estate.conflicts("service"), await estate.conflicts("monolith")
        # b, c, d, n, and e, which both sides removed: the same conflicts are seen by either side.
        assert {tuple(c[1]) for c in at_service} == {tuple(c[1]) for c in at_monolith} == {(c,) for c in "bcden"}
        [seen] = [c for c in at_service if c[1] == ["b"]]
        assert seen[0] == "public.label" and seen[2] == rule
        assert seen[3] == ("theirs" if rule == "monolith wins" else "ours")
        assert (seen[4]["before"]["title"], seen[4]["after"]["title"]) == ("first", "monolith")
        assert seen[5]["title"] == "service"
        assert estate.told["sync", FORWARD]["parked"] == 0

        async def counted() -> bool:
            return bool(estate.told["sync", FORWARD]["conflicts"] == 5)

        await clock.until(counted, timeout=5, what="the conflicts to be counted")


@pytest.mark.parametrize("rule", [*RULES, None])
async def test_differences_of_counters_all_count(postgres: Server, postgres_b: Server, rule: str | None) -> None:
    async with both((postgres, postgres_b), rule) as estate:
        await begun(estate, "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n'), (2, 'other', 50, 5, NULL)")
        for number in range(5):
            await estate.run("monolith", "UPDATE inventory SET reserved = reserved + 3 WHERE item_id = 1")
            await estate.run(
                "service",
                f"UPDATE stock SET on_hand = on_hand - {number}, reserved = reserved + 1 WHERE item_id = 1",
            )
        found = await crossed(estate)
        assert found["stock"] == [(1, 90, 20), (2, 50, 5)]
        assert {c[3] for c in await estate.conflicts("service")} == {"added"}


async def test_without_a_rule_the_row_stops_and_a_rule_lets_it_go_on(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate, "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.run("monolith", "UPDATE labels SET title = 'monolith'")
        await estate.run("service", "UPDATE label SET title = 'service'")
        await estate.start(*SYNCS)
        for direction, side in ((FORWARD, "service"), (REVERSE, "monolith")):
            assert "no rule says" in (await estate.stopped(direction))["message"]
            [conflict] = await estate.conflicts(side)
            assert conflict[3] == "stopped"
        assert await estate.rows("service", "SELECT title FROM label") == [("service",)]
        assert await estate.rows("monolith", "SELECT title FROM labels") == [("monolith",)]
        # Retried without a rule, it stops again; with one it goes on.
        [parked] = [row[0] for row in await estate.rows("service", "SELECT id FROM fig.parked")]
        await apply.retry(estate.dsns[FORWARD], "inventory", FORWARD, parked)

        async def again() -> bool:
            return bool(await estate.rows("service", "SELECT 1 FROM fig.parked WHERE resolution IS NULL"))

        await clock.until(again, timeout=10, what="the row to stop again")
        await estate.stop(*SYNCS)
        ruled = Both.__new__(Both)
        ruled.__dict__.update(estate.__dict__)
        for direction in Direction:
            rules = {
                pair: type(settled)(pair, "service wins", settled.delta, settled.existence)
                for pair, settled in (estate.jobs[direction].rules or {}).items()
            }
            job = estate.jobs[direction]
            estate.jobs[direction] = apply.SyncJob(
                job.context, job.direction, job.dsn, job.topic, job.origin, job.mapping, rules=rules
            )
            side = "service" if direction is FORWARD else "monolith"
            [(waiting,)] = await estate.rows(side, "SELECT id FROM fig.parked WHERE resolution IS NULL")
            await apply.retry(job.dsn, "inventory", direction, waiting)
        assert (await crossed(estate))["label"] == [("a", "service", 1, "b")]
        assert [c[3] for c in await estate.conflicts("service")] == ["ours"]


async def test_a_change_that_is_left_out_counts_as_seen(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await begun(estate, "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.run("monolith", "UPDATE labels SET title = 'monolith'")
        await estate.run("service", "UPDATE label SET title = 'service'")
        await estate.start(*SYNCS)
        for direction, side in ((FORWARD, "service"), (REVERSE, "monolith")):
            await estate.stopped(direction)
            [(parked,)] = await estate.rows(side, "SELECT id FROM fig.parked")
            await apply.skip(estate.dsns[direction], "inventory", direction, parked)

        async def going() -> bool:
            return all(estate.told["sync", d]["state"] == "applying" for d in Direction)

        await clock.until(going, timeout=10, what="both to go on")
        await estate.settled()
        # Whoever writes next has been told of all there is: no conflict.
        await estate.run("service", "UPDATE label SET title = 'agreed'")
        await estate.settled()
        assert (await estate.equal())["label"] == [("a", "agreed", 1, "b")]


async def test_what_no_rule_settles_stops(postgres: Server, postgres_b: Server) -> None:
    """A row that was removed on one side while something of it was counted on the other."""
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate, "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n')")
        await estate.run("monolith", "DELETE FROM inventory WHERE item_id = 1")
        await estate.run("service", "UPDATE stock SET on_hand = on_hand - 1")
        await estate.start(*SYNCS)
        for direction in Direction:
            assert "no rule settles" in (await estate.stopped(direction))["message"]
        assert await estate.rows("service", "SELECT on_hand FROM stock") == [(99,)]
        assert len(await estate.rows("service", "SELECT 1 FROM item")) == 1, "half of the row is gone"


async def test_a_truncate_stops(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate, "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.run("monolith", "TRUNCATE labels")
        await estate.start(*SYNCS)
        assert "was truncated" in (await estate.stopped(FORWARD))["message"]
        assert len(await estate.rows("service", "SELECT 1 FROM label")) == 1


async def test_keys_that_move_and_values_that_were_not_sent(postgres: Server, postgres_b: Server) -> None:
    long = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n)"
    async with both((postgres, postgres_b), "later commit wins") as estate:
        await begun(estate, f"INSERT INTO labels SELECT c, 'first', 1, {long} FROM unnest(ARRAY['a', 'b', 'c']) c")
        await estate.run("monolith", "UPDATE labels SET code = 'z' WHERE code = 'a'")
        await estate.run("service", "UPDATE label SET title = 'service' WHERE code = 'a'")  # later: the row stays
        await estate.run("service", "UPDATE label SET size = 2 WHERE code = 'b'")  # the body is not sent
        await estate.run("service", "DELETE FROM label WHERE code = 'c'")
        await estate.run("monolith", "UPDATE labels SET size = 7 WHERE code = 'c'")  # later: the row comes back whole
        found = (await crossed(estate))["label"]
        assert [(r[0], r[1], r[2], len(r[3])) for r in found] == [
            ("a", "service", 1, 9600),
            ("b", "first", 2, 9600),
            ("c", "first", 7, 9600),
            ("z", "first", 1, 9600),
        ]


async def test_a_new_row_of_several_tables_goes_either_way(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'm', 10, 1, NULL)")
        await estate.run("service", "INSERT INTO item VALUES (2, 's', 'x')", "INSERT INTO stock VALUES (2, 20, 2)")
        await estate.settled()
        await estate.run("service", "UPDATE stock SET on_hand = 11 WHERE item_id = 1")
        await estate.run("monolith", "UPDATE inventory SET name = 'sm', reserved = 3 WHERE item_id = 2")
        await estate.settled()
        found = await estate.equal()
        assert found["item"] == [(1, "m", None), (2, "sm", "x")]
        assert found["stock"] == [(1, 11, 1), (2, 20, 3)]
        await estate.run("service", "DELETE FROM stock WHERE item_id = 1", "DELETE FROM item WHERE item_id = 1")
        await estate.run("monolith", "DELETE FROM inventory WHERE item_id = 2")
        await estate.settled()
        assert (await estate.equal())["stock"] == []
        assert await estate.conflicts("service") == await estate.conflicts("monolith") == []


async def test_sync_gives_way_to_a_writer_that_holds_a_row(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), None) as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'm', 10, 1, NULL), (2, 'm', 10, 1, NULL)")
        await estate.settled()
        async with pg.session(estate.app["service"], what="app") as conn, conn.transaction():
            await conn.execute("UPDATE stock SET on_hand = on_hand + 1 WHERE item_id = 2")
            await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 5")
            await asyncio.sleep(1.5)  # longer than sync waits for a row, and than deadlocks are looked for
            await conn.execute("UPDATE stock SET on_hand = on_hand + 1 WHERE item_id = 1")
        await estate.settled()
        assert (await estate.equal())["stock"] == [(1, 6, 1), (2, 6, 1)]
        assert estate.told["sync", FORWARD]["error"] is None


async def test_a_transaction_of_many_parts_is_settled_as_one(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await estate.run(
            "monolith", "INSERT INTO labels SELECT n::text, 'first', n, 'b' FROM generate_series(1, 6000) n"
        )
        await estate.start(*SYNCS)
        await estate.settled(60)
        await estate.stop(*SYNCS)
        await estate.run("monolith", "UPDATE labels SET title = 'monolith'")
        await estate.run("service", "UPDATE label SET title = 'service' WHERE size <= 2")
        found = (await crossed(estate))["label"]
        assert sum(row[1] == "monolith" for row in found) == 5998
        assert len(await estate.conflicts("service")) == 2


async def test_a_change_past_the_triggers_stops(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate, "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        async with pg.session(estate.dsns[REVERSE], what="test") as conn:
            await conn.execute("UPDATE labels SET title = 'by our own role'")
        await estate.start(*SYNCS)
        assert "does not say its version" in (await estate.stopped(FORWARD))["message"]


async def test_changes_from_before_the_triggers_go_along_with_those_after(postgres: Server, postgres_b: Server) -> None:
    """The triggers come while the monolith is written: one commit brings changes with and without a version."""
    async with both((postgres, postgres_b), None) as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", "INSERT INTO labels VALUES ('a', 'first', 1, 'b')")
        await estate.settled()
        await estate.stop(*SYNCS)
        await estate.rows("service", "UPDATE fig.ownership SET state = 'standby' RETURNING 1")
        async with pg.session(estate.dsns[REVERSE], what="test") as conn:
            await versions.remove(conn, "inventory")
            await versions.remove(conn, "inventory")  # once is enough
            await estate.run("monolith", "TRUNCATE labels")
            await estate.run("monolith", "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n'), (2, 'x', 0, 0, 'n')")
            await estate.run(
                "monolith", "UPDATE inventory SET quantity = quantity - 1, name = 'before' WHERE item_id = 1"
            )
            await estate.run("monolith", "DELETE FROM inventory WHERE item_id = 2")
            await versions.install(conn, "inventory", estate.versioned["monolith"])
            await versions.install(conn, "inventory", estate.versioned["monolith"])  # as it stands
        await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 1, name = 'after'")
        await estate.start(*SYNCS)
        await estate.settled()
        found = await estate.equal()
        assert (found["label"], found["item"], found["stock"]) == ([], [(1, "after", "n")], [(1, 98, 0)])
        assert await estate.conflicts("service") == []


async def test_a_row_that_is_not_there_stops(postgres: Server, postgres_b: Server) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        await begun(estate, "INSERT INTO inventory VALUES (1, 'thing', 100, 0, 'n')")
        async with pg.session(estate.dsns[FORWARD], what="test") as conn:
            await conn.execute("DELETE FROM stock")
        await estate.run("monolith", "UPDATE inventory SET quantity = 90")
        await estate.start(*SYNCS)
        assert "is not there" in (await estate.stopped(FORWARD))["message"]


async def test_a_value_that_the_other_side_does_not_take_stops_and_is_tried_again(
    postgres: Server, postgres_b: Server
) -> None:
    async with both((postgres, postgres_b), "service wins") as estate:
        async with pg.session(estate.dsns[FORWARD], what="test") as conn:
            await conn.execute("ALTER TABLE stock ADD CHECK (on_hand >= 0)")
        await begun(estate, "INSERT INTO inventory VALUES (1, 'thing', 10, 0, 'n'), (2, 'thing', 10, 0, 'n')")
        # Each side has enough; both together have not.
        await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 1 WHERE item_id = 2")
        await estate.run("monolith", "UPDATE inventory SET quantity = quantity - 8 WHERE item_id = 1")
        await estate.run("service", "UPDATE stock SET on_hand = on_hand - 7 WHERE item_id = 1")
        await estate.start(*SYNCS)
        assert "stock_on_hand_check" in (await estate.stopped(FORWARD))["message"]
        assert await estate.rows("service", "SELECT on_hand FROM stock ORDER BY 1") == [(3,), (9,)]
        await estate.run("service", "UPDATE stock SET on_hand = on_hand + 20 WHERE item_id = 1")
        [(parked,)] = await estate.rows("service", "SELECT id FROM fig.parked")
        await apply.retry(estate.dsns[FORWARD], "inventory", FORWARD, parked)

        async def going() -> bool:
            return bool(estate.told["sync", FORWARD]["state"] == "applying")

        await clock.until(going, timeout=10, what="sync to go on")
        await estate.settled()
        assert (await estate.equal())["stock"] == [(1, 15, 0), (2, 9, 0)]


def _made_or_gone(table: str, key: str, columns: dict[str, str], gone: bool) -> str:
    """A row is removed, or made, or changed where it is there."""
    name = "code" if table.startswith("label") else "id"
    if gone:
        return f"DELETE FROM {table} WHERE {name} = {key}"
    sets = ", ".join(f"{c} = excluded.{c}" for c in columns)
    return (
        f"INSERT INTO {table} ({name}, {', '.join(columns)}) VALUES ({key}, {', '.join(columns.values())})"
        f" ON CONFLICT ({name}) DO UPDATE SET {sets}"
    )


def _references(side: str, rng: random.Random, number: int) -> list[str]:
    """One transaction on rows that refer to others: those under shelves that stay are made, changed and removed on both
    sides; the monolith makes shelves, points what is on them elsewhere and removes them, and gives their names anew."""
    row, shelf, gone = rng.randrange(1, 6), rng.randrange(1, 3), rng.random() < 0.3
    columns = {"shelf": str(shelf), "note": f"'{side} {number}'"}
    place, tag = ("places", "tags") if side == "monolith" else ("place", "tag")
    shared = [_made_or_gone(rng.choice([place, tag]), str(row), columns, gone)]
    if side == "service":
        return shared
    old, new = 100 + number - 1, 100 + number
    if number % 2 == 0:
        return [
            *shared,
            f"INSERT INTO shelves VALUES ({new}, 'shelf {new}')",
            f"INSERT INTO places VALUES ({new}, {new}, 'on {new}')",
            f"INSERT INTO tags VALUES ({new}, {new}, NULL, 'stays'), ({1000 + new}, {new}, NULL, 'goes along')",
        ]
    if number % 4 == 1:
        return [
            f"UPDATE places SET shelf = {shelf} WHERE shelf = {old}",
            f"UPDATE tags SET shelf = {shelf} WHERE id = {old}",
            f"DELETE FROM shelves WHERE id = {old}",
            *shared,
        ]
    return [
        f"INSERT INTO shelves VALUES ({new}, NULL)",
        f"UPDATE places SET shelf = {new} WHERE shelf = {old}",
        f"UPDATE tags SET shelf = {new} WHERE id = {old}",
        f"DELETE FROM shelves WHERE id = {old}",
        f"UPDATE shelves SET name = 'shelf {old}' WHERE id = {new}",
    ]


async def _insistently(conn: pg.Connection, transaction: Iterable[str]) -> None:
    """As applications do: again, where the server ended it in a circle (sync that was kept out for ten seconds waits so
    long that it may)."""
    while True:
        try:
            async with conn.transaction():
                for statement in transaction:
                    await conn.execute(statement.encode())
            return
        except psycopg.errors.DeadlockDetected:
            print("an application's transaction was ended in a circle")


async def _traffic(estate: Both, side: str, rng: random.Random, rounds: int) -> int:
    """Random transactions; returns what was added to all counters."""
    added = 0
    async with pg.session(estate.app[side], what="app") as conn:
        for number in range(rounds):
            item, by = rng.randrange(1, 6), rng.randrange(-5, 6)
            label = "labels" if side == "monolith" else "label"
            statements = [
                _made_or_gone(label, f"'{item}'", {"title": f"'{side}'", "size": str(by)}, abs(by) > 3),
                *(
                    (
                        f"UPDATE inventory SET quantity = quantity + {by} WHERE item_id = {item}",
                        f"UPDATE inventory SET name = 'm{rng.random()}' WHERE item_id = {6 - item}",
                    )
                    if side == "monolith"
                    else (
                        f"UPDATE stock SET on_hand = on_hand + {by} WHERE item_id = {item}",
                        f"UPDATE item SET name = 's{rng.random()}' WHERE item_id = {item}",
                    )
                ),
            ]
            for transaction in (statements, _references(side, rng, number)):
                await _insistently(conn, transaction)
            added += by
            await asyncio.sleep(rng.random() / 100)
    return added


FIRST = (
    "INSERT INTO inventory SELECT n, 'x', 1000, 0, NULL FROM generate_series(1, 5) n",
    "INSERT INTO labels SELECT n::text, 'x', 0, 'b' FROM generate_series(1, 5) n",
    "INSERT INTO shelves VALUES (1, 'one'), (2, 'two')",
)


@pytest.mark.parametrize("rule", RULES)
async def test_traffic_on_both_sides_with_syncs_stopped_at_random_ends_equal(
    postgres: Server, postgres_b: Server, rule: str
) -> None:
    rng = random.Random(rule)
    async with both((postgres, postgres_b), rule) as estate:
        await estate.start(*SYNCS)
        await estate.run("monolith", *FIRST)
        await estate.settled()
        traffic = [tasks.spawn(_traffic(estate, s, random.Random(s), 150), name=s) for s in ("monolith", "service")]
        while not all(task.done() for task in traffic):
            part = rng.choice(SYNCS)
            await estate.stop(part)
            await asyncio.sleep(rng.random() / 5)
            await estate.start(part)
            await asyncio.sleep(rng.random() / 3)
        added = sum([await task for task in traffic])
        await estate.settled()
        found = await estate.equal()
        assert sum(row[1] for row in found["stock"]) == 5000 + added
        assert len(found["shelf"]) > 20 and any(row[3] == "stays" for row in found["tag"])
        assert {"public.label", "public.item", "public.place", "public.tag"} <= {
            conflict[0] for side in ("monolith", "service") for conflict in await estate.conflicts(side)
        }, "hardly anything crossed: the test tried nothing"


async def test_a_killed_sync_applies_no_difference_twice(postgres: Server, postgres_b: Server, tmp_path: Path) -> None:
    control = postgres.database()
    log = open_log(control)
    await log.migrate()
    await Flows(control).migrate()
    rng = random.Random(5)
    async with both((postgres, postgres_b), "service wins", log) as estate:
        worker = Path(__file__).with_name("sync_worker.py")

        async def start(direction: Direction) -> asyncio.subprocess.Process:
            file = tmp_path / str(direction)
            file.write_bytes(pickle.dumps((estate.jobs[direction], control, control)))
            return await asyncio.create_subprocess_exec(
                sys.executable, str(worker), str(file), stdout=asyncio.subprocess.DEVNULL, env=dict(os.environ)
            )

        running = {direction: await start(direction) for direction in Direction}
        traffic: list[asyncio.Task[int]] = []
        try:
            await estate.run("monolith", *FIRST)
            await estate.settled()
            traffic = [tasks.spawn(_traffic(estate, s, random.Random(s), 250), name=s) for s in ("monolith", "service")]
            kills = 0
            while not all(task.done() for task in traffic):
                await asyncio.sleep(0.3 + rng.random())
                direction = rng.choice(list(Direction))
                running[direction].send_signal(signal.SIGKILL)
                await running[direction].wait()
                running[direction] = await start(direction)
                kills += 1
            added = sum([await task for task in traffic])
            await estate.settled(60)
            assert kills >= 2
            assert sum(row[1] for row in (await estate.equal())["stock"]) == 5000 + added
        finally:
            for task in traffic:
                await tasks.stop(task)
            for process in running.values():
                process.terminate()
                await process.wait()
    await log.close()

"""Ownership and guards on a real MariaDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from stranglerfig.databases.mariadb import catalogue, ownership
from stranglerfig.databases.mariadb.side import MariaDBSide
from stranglerfig.foundation import clock, mysql, tasks
from stranglerfig.foundation.errors import FigError
from tests.conftest import MonolithOnMariaDB

Open = Callable[[], Awaitable[mysql.Connection]]


class Place:
    """A guarded table, a session of ours, and as many of the application's as a test opens."""

    def __init__(self, name: str, ours: mysql.Connection, open_app: Open, watching: mysql.Connection) -> None:
        self.context = name.replace("_", "-")
        self.table = f"{name}.item"
        self.ours = ours
        self.app = open_app
        self.watching = watching

    async def install(self, *, enforcing: bool = True) -> None:
        await ownership.install(
            self.ours, self.context, side="monolith", owner=True, tables=[self.table], enforcing=enforcing
        )


@pytest.fixture
async def place(mariadb: MonolithOnMariaDB) -> AsyncIterator[Place]:
    name = mariadb.database()
    user = f"a{name[-8:]}"
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(mysql.session(mariadb.server.url(name), what="test"))
        await ours.execute("CREATE TABLE item (id int PRIMARY KEY, n int)")
        await ours.execute(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'x'")
        await ours.execute(f"GRANT ALL ON {name}.* TO {user}@'127.0.0.1'")

        async def app() -> mysql.Connection:
            url = mariadb.server.url(name, user=user, password="x")
            return await stack.enter_async_context(mysql.session(url, what="application"))

        watching = await stack.enter_async_context(mysql.session(mariadb.server.url(name), what="watching"))
        yield Place(name, ours, app, watching)


WRITES = (
    "INSERT INTO item VALUES (9, 9)",
    "UPDATE item SET n = 5",
    "DELETE FROM item",
    "REPLACE INTO item VALUES (1, 2)",
)


async def test_an_owner_s_application_writes_and_after_the_fence_nobody_but_us(place: Place) -> None:
    await place.install()
    await place.install()
    assert await ownership.guarded(place.ours, place.context) == [place.table]
    assert await catalogue.triggers(place.ours, [place.table]) == []  # ours are no users' triggers
    app = await place.app()
    await app.execute("INSERT INTO item VALUES (1, 1)")
    await ownership.intend(place.ours, place.context, epoch=1)
    await app.execute("UPDATE item SET n = 2")
    fenced = await ownership.fence(place.ours, place.context, epoch=1, nonce="n1", lock_timeout=1)
    assert (fenced.state, fenced.epoch, fenced.nonce, fenced.enforcing) == ("fenced", 1, "n1", True)
    for write in WRITES:
        with pytest.raises(FigError) as raised:
            await app.execute(write)
        assert mysql.refused(raised.value, ownership.REFUSED) and "being cut over" in raised.value.message
    await ownership.emit_fence_marker(place.ours, place.context, "forward", epoch=1, nonce="n1")
    with pytest.raises(FigError) as stale:
        await ownership.emit_fence_marker(place.ours, place.context, "forward", epoch=1, nonce="other")
    assert stale.value.code == "ownership_changed"
    ceded = await ownership.cede(place.ours, place.context, epoch=1, nonce="n1")
    assert ceded.state == "ceded"
    with pytest.raises(FigError, match="owned by the service"):
        await app.execute(WRITES[0])
    await place.ours.execute("UPDATE item SET n = 7")  # sync's user is admitted
    await ownership.uninstall(place.ours, place.context)
    await ownership.uninstall(place.ours, place.context)
    await app.execute(WRITES[0])
    assert await ownership.read(place.ours, place.context) is None


async def test_the_fence_waits_for_who_has_written_and_lets_nobody_in_behind_it(place: Place) -> None:
    await place.install()
    early, late = await place.app(), await place.app()
    await ownership.intend(place.ours, place.context, epoch=1)
    await early.execute("START TRANSACTION")
    await early.execute("INSERT INTO item VALUES (1, 1)")
    with pytest.raises(FigError) as busy:
        await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)
    assert busy.value.code == "fence_not_drained"
    assert (await ownership.read(place.ours, place.context)) is not None
    fencing = tasks.spawn(
        ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=20), name="the fence"
    )

    async def waiting() -> bool:
        asked = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        return await place.watching.value(asked) is not None

    await clock.until(waiting, timeout=10, what="the fence to wait")
    writing = tasks.spawn(late.execute("INSERT INTO item VALUES (2, 2)"), name="a late writer")
    await early.execute("UPDATE item SET n = 3 WHERE id = 1")  # who has written may go on to its end
    await early.execute("COMMIT")
    assert (await fencing).state == "fenced"
    with pytest.raises(FigError, match="being cut over"):
        await writing
    assert await place.ours.fetch("SELECT id, n FROM item") == [("1", "3")]


async def test_the_fence_waits_for_what_is_prepared(place: Place) -> None:
    """Preparing lets go of the guard's lock and keeps the row: it would be committed behind the cut-over."""
    await place.install()
    app = await place.app()
    await ownership.intend(place.ours, place.context, epoch=1)
    for statement in ("XA START 'x1'", "INSERT INTO item VALUES (1, 1)", "XA END 'x1'", "XA PREPARE 'x1'"):
        await app.execute(statement)
    with pytest.raises(FigError) as busy:
        await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)
    assert (busy.value.code, busy.value.context["prepared"]) == ("fence_not_drained", ["'x1'"])
    found = await MariaDBSide(place.ours).old_writers(place.context, [place.table], 0.2)
    assert [writer.application for writer in found] == ["XA RECOVER ('x1')"], "said before anything is held"
    fencing = tasks.spawn(
        ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=20), name="the fence"
    )
    await app.execute("XA COMMIT 'x1'")
    assert (await fencing).state == "fenced"
    assert await place.ours.fetch("SELECT id, n FROM item") == [("1", "1")]


async def test_an_old_snapshot_does_not_let_a_writer_through(place: Place) -> None:
    await place.install()
    app = await place.app()
    await app.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await app.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    await ownership.intend(place.ours, place.context, epoch=1)
    await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)
    with pytest.raises(FigError, match="being cut over"):
        await app.execute("INSERT INTO item VALUES (1, 1)")


async def test_a_fence_that_is_given_up_lets_writers_in_again_and_uses_its_epoch_up(place: Place) -> None:
    await place.install()
    app = await place.app()
    await ownership.intend(place.ours, place.context, epoch=3)
    await ownership.fence(place.ours, place.context, epoch=3, nonce="n", lock_timeout=1)
    back = await ownership.abort(place.ours, place.context, epoch=3)
    assert (back.state, back.epoch) == ("owner", 3)
    await app.execute("INSERT INTO item VALUES (1, 1)")
    for step in (
        ownership.intend(place.ours, place.context, epoch=3),
        ownership.cede(place.ours, place.context, epoch=3, nonce="n"),
    ):
        with pytest.raises(FigError) as raised:
            await step
        assert raised.value.code == "ownership_changed"


async def test_guards_that_only_observe_refuse_nobody_and_are_no_fence(place: Place) -> None:
    await place.install(enforcing=False)
    app = await place.app()
    await ownership.intend(place.ours, place.context, epoch=1)
    with pytest.raises(FigError) as raised:
        await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)
    assert raised.value.code == "ownership_changed"
    await app.execute("INSERT INTO item VALUES (1, 1)")
    await ownership.enforce(place.ours, place.context, True)
    assert (await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)).state == "fenced"


async def test_a_database_is_one_side_and_a_missing_table_is_named(place: Place) -> None:
    assert await ownership.read(place.ours, place.context) is None
    await place.install()
    for options, code in (
        ({"side": "service", "tables": []}, "ownership_elsewhere"),
        ({"side": "monolith", "tables": [f"{place.table}s"]}, "unknown_table"),
    ):
        with pytest.raises(FigError) as raised:
            await ownership.install(place.ours, place.context, owner=True, enforcing=True, **options)  # type: ignore[arg-type]
        assert raised.value.code == code


async def test_a_table_that_others_hold_is_asked_for_again_and_a_guard_that_stands_is_left_alone(place: Place) -> None:
    app = await place.app()
    await app.execute("START TRANSACTION")
    await app.fetch("SELECT * FROM item")
    with pytest.raises(FigError) as busy:
        await ownership.install(
            place.ours, place.context, side="monolith", owner=True, tables=[place.table], enforcing=True, timeout=0.1
        )
    assert busy.value.code == "table_busy" and busy.value.context["table"] == place.table
    asked = await _asked(place)
    installing = tasks.spawn(place.install(), name="install")
    await clock.until(lambda: _asked_since(place, asked + 5), timeout=10, what="the table to be asked for")
    await app.execute("UPDATE item SET n = n + 1")  # behind DDL that waits it would be ended as a deadlock
    await app.execute("COMMIT")
    await installing
    assert await ownership.guarded(place.ours, place.context) == [place.table]
    made = "SELECT trigger_name, created FROM information_schema.triggers ORDER BY 1"
    before = await place.ours.fetch(made)
    await app.execute("START TRANSACTION")
    await app.fetch("SELECT * FROM item")
    await place.install()  # nothing to do, so nobody is waited for
    assert await place.ours.fetch(made) == before
    with pytest.raises(FigError) as held:
        await ownership.uninstall(place.ours, place.context, timeout=0.1)
    assert held.value.code == "table_busy"


async def test_a_deadlock_of_writers_with_us_ends_ours_which_tries_again(place: Place) -> None:
    await place.ours.execute("INSERT INTO item VALUES (1, 0)")
    await place.install()
    first, second = await place.app(), await place.app()
    await first.execute("START TRANSACTION")
    await first.execute("INSERT INTO item VALUES (10, 0)")  # holds what guards ask
    await second.execute("START TRANSACTION")
    await second.fetch("SELECT * FROM item WHERE id = 1 FOR UPDATE")
    await ownership.intend(place.ours, place.context, epoch=1)
    fencing = tasks.spawn(
        ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=20), name="the fence"
    )
    await clock.until(lambda: _waiting(place, 1), timeout=10, what="us to wait for the first")
    behind = tasks.spawn(second.execute("INSERT INTO item VALUES (11, 0)"), name="second")
    await clock.until(lambda: _waiting(place, 2), timeout=10, what="the second to wait behind us")
    around = tasks.spawn(first.execute("UPDATE item SET n = 1 WHERE id = 1"), name="first")
    await behind
    await second.execute("COMMIT")
    await around
    assert not fencing.done()
    await first.execute("COMMIT")
    assert (await fencing).state == "fenced"
    assert await place.watching.fetch("SELECT id, n FROM item ORDER BY id") == [("1", "1"), ("10", "0"), ("11", "0")]


async def test_what_is_given_up_waits_for_no_writer(place: Place) -> None:
    await place.install()
    writer, refused = await place.app(), await place.app()
    await writer.execute("START TRANSACTION")
    await writer.execute("INSERT INTO item VALUES (1, 1)")
    await ownership.intend(place.ours, place.context, epoch=1)
    with pytest.raises(FigError) as busy:
        await ownership.fence(place.ours, place.context, epoch=1, nonce="n", lock_timeout=1)
    assert busy.value.code == "fence_not_drained"
    assert (await ownership.abort(place.ours, place.context, epoch=1, lock_timeout=1)).state == "owner"
    await writer.execute("INSERT INTO item VALUES (2, 2)")
    await ownership.enforce(place.ours, place.context, False)
    await ownership.enforce(place.ours, place.context, True)
    await writer.execute("COMMIT")
    # Who is refused and leaves its transaction open is in nobody's way either.
    await ownership.intend(place.ours, place.context, epoch=2)
    await ownership.fence(place.ours, place.context, epoch=2, nonce="n", lock_timeout=1)
    await refused.execute("START TRANSACTION")
    with pytest.raises(FigError, match="being cut over"):
        await refused.execute("INSERT INTO item VALUES (3, 3)")
    assert (await ownership.abort(place.ours, place.context, epoch=2, lock_timeout=1)).state == "owner"
    with pytest.raises(FigError) as again:
        await ownership.abort(place.ours, place.context, epoch=2, lock_timeout=1)
    assert again.value.code == "ownership_changed"
    await writer.execute("INSERT INTO item VALUES (4, 4)")


async def _waiting(place: Place, count: int) -> bool:
    asked = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    return int(await place.watching.value(asked) or 0) >= count


async def _asked(place: Place) -> int:
    """How often somebody tried to make a trigger."""
    [(_, count)] = await place.watching.fetch("SHOW GLOBAL STATUS LIKE 'Com_create_trigger'")
    return int(count or 0)


async def _asked_since(place: Place, count: int) -> bool:
    return await _asked(place) >= count

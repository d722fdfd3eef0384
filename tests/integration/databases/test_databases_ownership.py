"""The ownership row's transitions and the guards, on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from stranglerfig.databases import markers, ownership
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.postgres import Connection

App = Callable[[], Awaitable[Connection]]
CONTEXT = "inventory"
TABLES = ["public.inventory", "public.moves", "public.parts"]
SCHEMA = """
CREATE TABLE inventory (item_id bigint PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0));
CREATE TABLE moves (id bigserial PRIMARY KEY, item_id bigint REFERENCES inventory ON DELETE CASCADE, by text);
CREATE TABLE parts (id bigint, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us');
CREATE TABLE elsewhere (id bigint PRIMARY KEY);
INSERT INTO inventory SELECT n, 100 FROM generate_series(1, 50) n;
INSERT INTO parts VALUES (1, 'eu'), (2, 'us');
"""


@pytest.fixture(params=["postgres", "postgres_16"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def dsn(server: Any) -> str:
    server.role("shop_app")
    dsn: str = server.database()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(SCHEMA)
        conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO shop_app")
        conn.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO shop_app")
    return dsn


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[Connection]:
    async with postgres.session(dsn, what="test") as conn:
        yield conn


@pytest.fixture
async def app(dsn: str) -> AsyncIterator[Callable[[], Awaitable[Connection]]]:
    """Opens sessions of the monolith's own code."""
    opened: list[Connection] = []

    async def connect() -> Connection:
        address = conninfo.make_conninfo(dsn, user="shop_app", application_name="shop-web")
        opened.append(await psycopg.AsyncConnection.connect(address, autocommit=True))
        return opened[-1]

    yield connect
    for session in opened:
        await session.close()


async def installed(conn: Connection, *, enforcing: bool = True, owner: bool = True) -> None:
    await ownership.install(conn, CONTEXT, side="monolith", owner=owner, tables=TABLES, enforcing=enforcing)


async def fenced(conn: Connection) -> None:
    await ownership.intend(conn, CONTEXT, epoch=1)
    await ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=5)


async def slot(conn: Connection) -> str:
    if not await postgres.value(conn, "SELECT true FROM pg_publication WHERE pubname = 'nothing'"):
        await conn.execute("CREATE PUBLICATION nothing")  # before the slot: 16 looks it up as of each change
    name = f"peek_{(await postgres.value(conn, 'SELECT current_database()'))}"
    await conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    return name


async def messages(
    conn: Connection, name: str, prefix: str, *, decode: Callable[[bytes], Any] = json.loads
) -> list[Any]:
    """The logical messages with this prefix that a capture would see."""
    await conn.execute("SELECT pg_logical_emit_message(true, 'flush', '')")
    rows = await postgres.fetch(
        conn,
        "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1',"
        " 'publication_names', 'nothing', 'messages', 'true')",
        (name,),
    )
    marker = b"\x00"
    found = []
    for (data,) in rows:
        raw = bytes(data)
        if raw[:1] == b"M" and raw[10:].split(marker, 1)[0] == prefix.encode():
            found.append(decode(raw[10 + len(prefix) + 1 + 4 :]))
    await conn.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    return found


WRITES = {
    "insert": "INSERT INTO inventory VALUES (1000, 1)",
    "update": "UPDATE inventory SET quantity = 5 WHERE item_id = 1",
    "update of no row": "UPDATE inventory SET quantity = 5 WHERE item_id = -1",
    "delete": "DELETE FROM inventory WHERE item_id = 1",
    "cascade": "DELETE FROM inventory",
    "truncate": "TRUNCATE inventory CASCADE",
    "merge": "MERGE INTO inventory i USING (SELECT 1 AS id) s ON i.item_id = s.id"
    " WHEN MATCHED THEN UPDATE SET quantity = 7",
    "upsert": "INSERT INTO inventory VALUES (1, 1) ON CONFLICT (item_id) DO UPDATE SET quantity = 9",
    "partition root": "INSERT INTO parts VALUES (3, 'eu')",
    "partition leaf": "INSERT INTO parts_us VALUES (3, 'us')",
    "partition update": "UPDATE parts SET id = 9",
    "partition delete": "DELETE FROM parts_eu",
    "partition truncate": "TRUNCATE parts",
    "leaf truncate": "TRUNCATE parts_us",
    "move between partitions": "UPDATE parts SET region = 'us' WHERE id = 1",
}


async def test_a_fence_refuses_every_kind_of_write(conn: Connection, app: App) -> None:
    await installed(conn)
    assert await ownership.guarded(conn, CONTEXT) == sorted([*TABLES, "public.parts_eu", "public.parts_us"])
    writer = await app()
    await writer.execute(WRITES["update"])  # the owner's side accepts
    await fenced(conn)
    for name, statement in WRITES.items():
        with pytest.raises(psycopg.Error) as refused:
            await writer.execute(statement)
        assert refused.value.sqlstate in (ownership.REFUSED_WRITE, "42501"), name
        if "truncate" not in name:
            assert refused.value.sqlstate == ownership.REFUSED_WRITE, name
    with pytest.raises(psycopg.Error, match="being cut over") as refused:
        async with writer.cursor() as cursor, cursor.copy("COPY inventory FROM STDIN") as copy:
            await copy.write(b"777\t1\n")
    assert refused.value.diag.message_hint is not None
    assert "fig.owner('inventory')" in refused.value.diag.message_hint
    assert refused.value.diag.message_detail == "this side is monolith, state fenced, epoch 1"
    await writer.execute("INSERT INTO elsewhere VALUES (1)")
    await conn.execute(WRITES["update"])  # an admitted role passes
    await conn.execute("TRUNCATE inventory CASCADE")
    await conn.execute("INSERT INTO parts VALUES (5, 'eu')")
    assert await postgres.value(conn, "SELECT count(*) FROM parts") == 3


async def test_a_forged_role_does_not_pass(conn: Connection, app: App) -> None:
    await installed(conn)
    await fenced(conn)
    await conn.execute("GRANT postgres TO shop_app")
    try:
        writer = await app()
        await writer.execute("SET ROLE postgres")
        await writer.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error, match="being cut over"):
            await writer.execute(WRITES["update"])
    finally:
        await conn.execute("REVOKE postgres FROM shop_app")


async def test_a_side_that_does_not_own_refuses_and_says_who_does(conn: Connection, app: App) -> None:
    await installed(conn, owner=False)
    writer = await app()
    with pytest.raises(psycopg.Error, match="owned by the service"):
        await writer.execute(WRITES["update"])
    assert await postgres.value(writer, "SELECT fig.owner('inventory')") == "service"
    await conn.execute("DELETE FROM fig.ownership")
    with pytest.raises(psycopg.Error, match="unknown to this database"):
        await writer.execute(WRITES["update"])
    assert await postgres.value(writer, "SELECT fig.owner('inventory')") is None


async def test_twenty_writers_are_drained_and_none_gets_behind_the_fence(conn: Connection, app: App) -> None:
    await installed(conn)
    stop = asyncio.Event()
    written = 0

    async def write(number: int) -> None:
        nonlocal written
        writer = await app()
        try:
            while not stop.is_set():
                async with writer.transaction():
                    await writer.execute("INSERT INTO moves (item_id, by) VALUES (%s, %s)", (number, "w"))
                    await writer.execute("SELECT pg_sleep(0.01)")
                    await writer.execute("UPDATE inventory SET quantity = quantity WHERE item_id = %s", (number,))
                written += 1
        except psycopg.Error as error:
            assert error.sqlstate == ownership.REFUSED_WRITE

    writers = [asyncio.ensure_future(write(number + 1)) for number in range(20)]

    async def busy() -> bool:
        return written > 60

    await clock.until(busy, timeout=20, what="writers")
    await ownership.intend(conn, CONTEXT, epoch=1)
    begun = clock.monotonic()
    await ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=30)
    assert clock.monotonic() - begun < 20
    behind = await postgres.value(conn, "SELECT count(*) FROM moves")
    await asyncio.gather(*writers)
    stop.set()
    assert await postgres.value(conn, "SELECT count(*) FROM moves") == behind == written


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_old_snapshot_cannot_write_through_the_fence(conn: Connection, app: App, isolation: str) -> None:
    await installed(conn)
    early, late = await app(), await app()
    for session in (early, late):
        await session.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        await session.execute("SELECT count(*) FROM inventory")
    await early.execute("UPDATE inventory SET quantity = 1 WHERE item_id = 1")
    await ownership.intend(conn, CONTEXT, epoch=1)
    with pytest.raises(FigError, match="were still open") as kept_waiting:
        await ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=0.1)
    assert kept_waiting.value.code == "fence_not_drained"
    # An abort does not wait for the open transaction either.
    await ownership.abort(conn, CONTEXT, epoch=1, lock_timeout=0.1)
    await ownership.intend(conn, CONTEXT, epoch=2)
    await early.execute("COMMIT")
    await ownership.fence(conn, CONTEXT, epoch=2, nonce="n2", lock_timeout=5)
    with pytest.raises(psycopg.errors.SerializationFailure):
        await late.execute("UPDATE inventory SET quantity = 2 WHERE item_id = 2")


async def test_a_transaction_that_has_written_may_go_on_while_the_fence_waits(conn: Connection, app: App) -> None:
    await installed(conn)
    writer, newcomer = await app(), await app()
    await writer.execute("BEGIN")
    await writer.execute("UPDATE inventory SET quantity = 1 WHERE item_id = 1")
    await ownership.intend(conn, CONTEXT, epoch=1)
    fencing = asyncio.ensure_future(ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=30))

    async def waiting() -> bool:
        return bool(
            await postgres.value(
                newcomer,
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
        )

    await clock.until(waiting, timeout=30, what="the fence to wait")
    await writer.execute("INSERT INTO moves (item_id) VALUES (1)")
    with pytest.raises(psycopg.Error, match="being cut over"):
        await newcomer.execute("UPDATE inventory SET quantity = 1 WHERE item_id = 2")
    await writer.execute("COMMIT")
    assert (await fencing).state == "fenced"


async def test_observing_guards_record_each_writer_once_and_refuse_nobody(conn: Connection, app: App) -> None:
    await installed(conn, enforcing=False)
    name = await slot(conn)
    writer = await app()
    for number in range(1, 5):
        await writer.execute(f"UPDATE inventory SET quantity = {number} WHERE item_id = {number}")
    await writer.execute("DELETE FROM moves WHERE by = 'nobody'")
    await conn.execute(WRITES["update"])
    seen = await messages(conn, name, "fig.refused")
    assert [(entry["table"], entry["operation"], entry["mode"]) for entry in seen] == [
        ("public.inventory", "UPDATE", "observing"),
        ("public.moves", "DELETE", "observing"),
    ]
    assert seen[0]["application"] == "shop-web"
    assert seen[0]["user"] == "shop_app"
    assert seen[0]["statement"] == "UPDATE inventory SET quantity = ? WHERE item_id = ?"
    # A guard that only observes is no fence.
    await ownership.intend(conn, CONTEXT, epoch=1)
    with pytest.raises(FigError) as refused:
        await ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=1)
    assert refused.value.code == "ownership_changed"
    await ownership.enforce(conn, CONTEXT, True)
    await ownership.fence(conn, CONTEXT, epoch=1, nonce="n1", lock_timeout=1)


async def test_a_shared_side_refuses_nobody_whatever_it_is(conn: Connection, app: App) -> None:
    await installed(conn)
    await ownership.enforce(conn, CONTEXT, True, shared=True)
    writer = await app()
    await fenced(conn)
    await writer.execute(WRITES["update"])  # while the fence stands
    await ownership.cede(conn, CONTEXT, epoch=1, nonce="n1")
    await writer.execute(WRITES["update"])
    # The fence still waits for who has written, so that a side that is shared no longer has no writer behind it.
    await ownership.enforce(conn, CONTEXT, True)
    with pytest.raises(psycopg.Error, match="owned by the service"):
        await writer.execute(WRITES["update"])


async def test_a_refusal_is_recorded_although_its_transaction_rolls_back(conn: Connection, app: App) -> None:
    await installed(conn)
    await fenced(conn)
    name = await slot(conn)
    writer = await app()
    with pytest.raises(psycopg.Error):
        async with writer.transaction():
            await writer.execute("INSERT INTO elsewhere VALUES (1)")
            await writer.execute(WRITES["insert"])
    assert await messages(conn, name, "fig.refused") == [
        {
            "context": CONTEXT,
            "table": "public.inventory",
            "application": "shop-web",
            "user": "shop_app",
            "statement": WRITES["insert"],
            "mode": "refused",
            "operation": "INSERT",
        }
    ]
    assert await postgres.value(conn, "SELECT count(*) FROM elsewhere") == 0


async def test_the_trace_in_a_statements_comment_is_in_the_change_stream(conn: Connection, app: App) -> None:
    await installed(conn)
    name = await slot(conn)
    writer = await app()
    first, second, third = (f"00-{str(n) * 32}-{str(n) * 16}" for n in (1, 2, 3))
    async with writer.transaction():
        for _ in range(2):  # once per transaction
            await writer.execute(f"{WRITES['update']} /*db_driver='psycopg',traceparent='{first}-01'*/".encode())
        await writer.execute(f"/*traceparent=%27{second}-01%27*/ UPDATE parts SET id = id + 10".encode())
    await writer.execute(f"{WRITES['update']} /*traceparent='{first}-01'*/".encode())
    for not_one in (f"{third}-00", "00-nonsense-01", third):
        await writer.execute(f"{WRITES['update']} /*traceparent='{not_one}'*/".encode())
    await writer.execute(WRITES["update"])
    with pytest.raises(psycopg.Error):
        async with writer.transaction():
            await writer.execute(f"{WRITES['update']} /*traceparent='{third}-01'*/".encode())
            await writer.execute("SELECT 1 / 0")
    found = await messages(conn, name, "traceparent", decode=bytes.decode)
    assert found == [f"{first}-01", f"{second}-01", f"{first}-01"]


async def test_every_transition_compares_before_it_sets(conn: Connection) -> None:
    assert await ownership.read(conn, CONTEXT) is None
    assert not await markers.marker_applied(conn, CONTEXT, "reverse", "n1")
    await installed(conn)

    async def refused(work: Any) -> None:
        with pytest.raises(FigError) as error:
            await work
        assert error.value.code == "ownership_changed"

    await refused(ownership.intend(conn, CONTEXT, epoch=0))
    await ownership.intend(conn, CONTEXT, epoch=3)
    await refused(ownership.intend(conn, CONTEXT, epoch=4))
    await refused(ownership.fence(conn, CONTEXT, epoch=2, nonce="x", lock_timeout=1))
    await refused(markers.emit_fence_marker(conn, CONTEXT, "forward", epoch=3, nonce="n3"))
    await ownership.fence(conn, CONTEXT, epoch=3, nonce="n3", lock_timeout=1)
    await refused(ownership.cede(conn, CONTEXT, epoch=3, nonce="other"))
    await refused(ownership.cede(conn, CONTEXT, epoch=2, nonce="n3"))
    await refused(ownership.abort(conn, CONTEXT, epoch=2))
    assert (await ownership.abort(conn, CONTEXT, epoch=3)).as_dict()["epoch"] == 3
    await refused(ownership.abort(conn, CONTEXT, epoch=3))
    await refused(ownership.cede(conn, CONTEXT, epoch=3, nonce="n3"))
    await refused(ownership.intend(conn, CONTEXT, epoch=3))
    await ownership.intend(conn, CONTEXT, epoch=4)
    await ownership.fence(conn, CONTEXT, epoch=4, nonce="n4", lock_timeout=1)
    name = await slot(conn)
    await markers.emit_fence_marker(conn, CONTEXT, "forward", epoch=4, nonce="n4")
    await ownership.cede(conn, CONTEXT, epoch=4, nonce="n4")
    assert [found["nonce"] for found in await messages(conn, name, "fig.marker")] == ["n4"]
    await refused(ownership.abort(conn, CONTEXT, epoch=4))
    assert await postgres.value(conn, "SELECT fig.owner('inventory')") == "service"

    # And back: this side wins with epoch 5, once the marker of the peer's fence has been applied here.
    await conn.execute(
        "CREATE TABLE fig.marker (context text, direction text, nonce text, prefix text, content jsonb, lsn bigint,"
        " applied_at timestamptz DEFAULT now(), PRIMARY KEY (context, direction, nonce))"
    )
    activate = {"epoch": 5, "nonce": "n5", "direction": "reverse"}
    await refused(ownership.activate(conn, CONTEXT, **activate))  # type: ignore[arg-type]
    await conn.execute("INSERT INTO fig.marker VALUES ('inventory', 'reverse', 'n5', 'fig.marker', '{}', 1)")
    await refused(ownership.activate(conn, CONTEXT, epoch=4, nonce="n5", direction="reverse"))
    name = await slot(conn)
    owner = await ownership.activate(conn, CONTEXT, **activate)  # type: ignore[arg-type]
    assert (owner.state, owner.epoch, owner.writable) == ("owner", 5, True)
    assert await messages(conn, name, "fig.activated") == [{"context": CONTEXT, "epoch": 5, "nonce": "n5"}]
    assert await postgres.value(conn, "SELECT fig.owner('inventory')") == "monolith"
    await refused(ownership.activate(conn, CONTEXT, **activate))  # type: ignore[arg-type]
    assert await markers.await_marker(conn, CONTEXT, "reverse", "n5", timeout=10) < 10
    with pytest.raises(FigError) as late:
        await markers.await_marker(conn, CONTEXT, "reverse", "n6", timeout=0.02)
    assert late.value.code == "marker_not_applied"


async def test_a_lost_connection_leaves_the_outcome_unknown(conn: Connection, dsn: str) -> None:
    await installed(conn)
    other = await postgres.connect(dsn, what="doomed")
    pid = other.info.backend_pid
    await conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(FigError) as unknown:
        await ownership.intend(other, CONTEXT, epoch=1)
    assert unknown.value.code == "ownership_unknown"
    await other.close()


async def test_a_locked_row_is_not_waited_for_too_long(conn: Connection, dsn: str) -> None:
    await installed(conn)
    async with postgres.session(dsn, what="reader") as reader, reader.transaction():
        held = await ownership.read(reader, CONTEXT, shared=True)
        assert held is not None
        with pytest.raises(FigError) as busy:
            await ownership.intend(conn, CONTEXT, epoch=1, lock_timeout=0.05)
        assert busy.value.code == "ownership_busy"


async def test_ddl_waits_until_the_fence_is_gone(conn: Connection) -> None:
    await installed(conn)
    assert await ownership.ddl_guarded(conn)
    await conn.execute("ALTER TABLE inventory ADD COLUMN note text")
    await fenced(conn)
    for statement in ("ALTER TABLE inventory DROP COLUMN note", "DROP TABLE moves", "CREATE INDEX ON moves (by)"):
        with pytest.raises(psycopg.Error, match="being cut over") as refused:
            await conn.execute(statement)
        assert refused.value.sqlstate == ownership.REFUSED_DDL
    await conn.execute("CREATE TABLE unrelated (id int)")
    await conn.execute("DROP TABLE unrelated")
    await ownership.abort(conn, CONTEXT, epoch=1)
    await conn.execute("ALTER TABLE inventory DROP COLUMN note")


async def test_installing_twice_and_uninstalling(conn: Connection, app: App) -> None:
    await installed(conn)
    await installed(conn, enforcing=False)
    found = await ownership.read(conn, CONTEXT)
    assert found is not None
    assert found.enforcing, "what stands is kept"
    with pytest.raises(FigError) as elsewhere:
        await ownership.install(conn, CONTEXT, side="service", owner=False, tables=TABLES, enforcing=True)
    assert elsewhere.value.code == "ownership_elsewhere"
    with pytest.raises(FigError) as unknown:
        await ownership.install(conn, CONTEXT, side="monolith", owner=True, tables=["public.none"], enforcing=True)
    assert unknown.value.code == "unknown_table"
    await ownership.uninstall(conn, CONTEXT)
    await ownership.uninstall(conn, CONTEXT)
    assert await ownership.guarded(conn, CONTEXT) == []
    assert await ownership.read(conn, CONTEXT) is None
    writer = await app()
    await writer.execute(WRITES["partition leaf"])


async def test_a_guard_does_not_queue_for_ever_behind_an_open_transaction(conn: Connection, app: App) -> None:
    writer = await app()
    await writer.execute("BEGIN")
    await writer.execute(WRITES["update"])
    with pytest.raises(FigError) as busy:
        await ownership.install(conn, CONTEXT, side="monolith", owner=True, tables=TABLES, enforcing=False, timeout=0.2)
    assert busy.value.code == "table_busy"
    assert busy.value.context["blockers"][0]["application"] == "shop-web"
    await writer.execute("COMMIT")
    await installed(conn)


async def test_a_role_without_rights_is_told_so(conn: Connection, app: App) -> None:
    await ownership.migrate(conn)
    await conn.execute("GRANT ALL ON SCHEMA fig TO shop_app")
    await conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA fig TO shop_app")
    await conn.execute(
        "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO shop_app', current_database()); END $$"
    )
    poor = await app()
    with pytest.raises(FigError) as refused:
        await ownership.install(poor, CONTEXT, side="monolith", owner=True, tables=TABLES, enforcing=True)
    assert refused.value.code == "missing_privilege"
    await poor.execute("SELECT 1")
    await conn.execute("ALTER TABLE inventory OWNER TO shop_app")
    ddl = await ownership.install(
        poor, CONTEXT, side="monolith", owner=True, tables=["public.inventory"], enforcing=True
    )
    assert ddl.state == "owner"
    assert not await ownership.ddl_guarded(poor)


async def test_what_an_earlier_version_installed_is_brought_forward_where_it_is_enforced(
    conn: Connection, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extraction that is under way when fig is upgraded installs nothing any more; its next cut-over enforces."""

    async def earlier(conn: Connection) -> None:
        await postgres.migrate(conn, "ownership", "stranglerfig.databases", ["ownership.sql"])

    with monkeypatch.context() as before:
        before.setattr(ownership, "migrate", earlier)
        await installed(conn)
    assert await ownership.made_with(conn, CONTEXT) == {}
    made = {"remaining_writers": "bidirectional"}
    await ownership.enforce(conn, CONTEXT, True, shared=True, made_with=made)
    assert await ownership.made_with(conn, CONTEXT) == made
    await conn.execute("UPDATE fig.ownership SET state = 'ceded'")
    writer = await app()
    await writer.execute(WRITES["update"])  # a shared side refuses nobody, by the guard as it is now
    await ownership.enforce(conn, CONTEXT, True)
    with pytest.raises(psycopg.Error) as refused:
        await writer.execute(WRITES["update"])
    assert refused.value.sqlstate == ownership.REFUSED_WRITE

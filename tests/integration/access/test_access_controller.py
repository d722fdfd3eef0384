"""Who may do what, when, and with whose approval: decided by the controller, however a command came to its table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from stranglerfig.access import approvals, audit, credentials, signing
from stranglerfig.access.model import Role
from stranglerfig.access.settings import Policy
from stranglerfig.changes.flows import Flows
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.extraction import commands, requests
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, Stage, behind
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import clock, postgres, tasks
from stranglerfig.foundation.errors import FigError
from tests.conftest import Server
from tests.gateless import Gateless


def never() -> str:
    """A window that is closed for days from now on."""
    day = (clock.now() + timedelta(days=3)).strftime("%a")
    return f"{day} 10:00-10:01 UTC"


class Estate:
    """A control database with a controller on it."""

    def __init__(self, dsn: str, controller: Gateless, conn: postgres.Connection, store: Store) -> None:
        self.dsn, self.controller, self.conn, self.store = dsn, controller, conn, store

    async def token(self, name: str, role: Role, person: str | None = None, lasts: timedelta | None = None) -> str:
        _, text = await credentials.create(
            self.conn,
            kind="token", name=name, person=person or name, role=role, how="token", by="test", lasts=lasts,
        )  # fmt: skip
        return text

    async def ask(self, verb: str, token: str | None = None, **args: Any) -> dict[str, Any]:
        """A command's result.

        Raises:
            FigError: what it was refused with.
        """
        number = await commands.submit(
            self.dsn, "things", verb, args, "me@desk", asked_from="me@desk, pid 7", token=token
        )
        return await self.answer(number)

    async def answer(self, number: int) -> dict[str, Any]:
        async for event in commands.follow(self.dsn, number, patience=60):
            if event.kind == "failed":
                raise FigError(event.data["code"], event.data["message"], event.data["remedy"])
            if event.kind == "done":
                return {"text": event.text, **event.data}
        raise AssertionError("it ended without an end")

    async def refused(self, code: str, verb: str, token: str | None = None, **args: Any) -> FigError:
        with pytest.raises(FigError) as found:
            await self.ask(verb, token, **args)
        assert found.value.code == code, found.value
        return found.value

    async def place(self) -> Place:
        return (await self.store.standing("things")).place

    async def trail(self) -> list[tuple[str, str, str, str]]:
        return [(row["name"], row["action"], row["outcome"], row["code"]) for row in await audit.lines(self.conn)]


def settings(policy: dict[str, Any]) -> ExtractionSettings:
    return ExtractionSettings.model_validate(
        {
            "context": "things",
            "service": {"url": "http://127.0.0.1:1", "database": "postgresql://nobody@127.0.0.1/things"},
            "routes": {},
            "tables": [{"from": "public.thing", "to": "thing", "key": {"id": "id"}}],
            "policy": policy,
        }
    )


Begin = Callable[..., Awaitable[Estate]]


@pytest.fixture
async def begin(postgres_server: str) -> AsyncIterator[Begin]:
    running: list[asyncio.Task[None]] = []
    opened: list[Any] = []

    async def start(*, access: bool = True, estate: dict[str, Any] | None = None, **policy: Any) -> Estate:
        store, own = await Store.open(postgres_server), await Store.open(postgres_server)
        conn = await postgres.connect(postgres_server, what="test")
        opened.extend([store, own, conn])
        parts: Any = Parts(
            name="test", project=Path(), data=Path(), control_dsn=postgres_server,
            monolith_url="http://127.0.0.1:1", monolith_dsn="postgresql://nobody@127.0.0.1/monolith",
            contexts={"things": ContextParts(settings(policy), Path(), "postgresql://nobody@127.0.0.1/things")},
            log=MemoryLog(), registry=None, flows=None, envoy=None, fence=None,  # type: ignore[arg-type]
            access=access, policy=Policy.model_validate(estate or {}),
        )  # fmt: skip
        controller = Gateless(parts, store, None)  # type: ignore[arg-type]
        running.append(tasks.spawn(controller.take_commands(), name="controller"))
        return Estate(postgres_server, controller, conn, own)

    yield start
    for task in running:
        await tasks.stop(task)
    for each in opened:
        await each.close()


@pytest.fixture
def postgres_server(postgres_b: Server) -> str:
    return postgres_b.database()


async def test_the_role_of_the_token_decides(begin: Begin) -> None:
    estate = await begin()
    viewer, operator = await estate.token("vera", Role.VIEWER), await estate.token("otto", Role.OPERATOR)
    await estate.refused("token_missing", "advance")
    await estate.refused("token_refused", "advance", "fig_0123456789abcdef_bm90LWl0")
    error = await estate.refused("not_permitted", "advance", viewer)
    assert "vera is viewer" in error.message
    assert await estate.place() == Place(Stage.PREPARE)
    assert (await estate.ask("plan", viewer))["text"] == "planned"
    assert (await estate.ask("advance", viewer, dry_run=True))["policy"]["open"]
    await estate.refused("not_permitted", "advance", operator, override="I say so")
    await estate.ask("advance", operator)
    assert await estate.place() == Place(Stage.BUILD)
    assert [visit["left_by"] for visit in await estate.store.visits("things")] == ["otto", None], (
        "not what it says of itself"
    )
    assert await estate.trail() == [
        ("me@desk", "advance", "refused", "token_missing"),
        ("me@desk", "advance", "refused", "token_refused"),
        ("vera", "advance", "refused", "not_permitted"),
        ("vera", "plan", "done", ""),
        ("vera", "advance", "done", ""),
        ("otto", "advance", "refused", "not_permitted"),
        ("otto", "advance", "done", ""),
    ]
    assert {row["origin"] for row in await audit.lines(estate.conn)} == {"me@desk, pid 7"}


async def test_a_row_written_or_changed_by_hand_is_refused(begin: Begin) -> None:
    estate = await begin()
    operator = await estate.token("otto", Role.OPERATOR)
    signature = signing.sign(operator, "things", "plan", {}, "here")
    number = await estate.store.submit("things", "advance", {}, "otto", asked_from="here", signature=signature)
    with pytest.raises(FigError) as refused:
        await estate.answer(number)
    assert refused.value.code == "signature_wrong"
    with pytest.raises(psycopg.errors.UniqueViolation):
        await estate.store.submit("things", "plan", {}, "otto", asked_from="here", signature=signature)
    assert await estate.place() == Place(Stage.PREPARE)


async def test_a_token_that_was_revoked_or_has_expired_does_not_count(begin: Begin) -> None:
    estate = await begin()
    short = await estate.token("short", Role.OPERATOR, lasts=timedelta(microseconds=1))
    gone = await estate.token("gone", Role.OPERATOR)
    await credentials.end(estate.conn, credentials.split(gone)[0], by="test")
    for text in (short, gone):
        await estate.refused("token_refused", "advance", text)
    assert await estate.token("short", Role.OPERATOR), "its name is free again"


async def test_a_refused_rollback_stops_nothing_that_runs(begin: Begin) -> None:
    estate = await begin()
    viewer, operator = await estate.token("vera", Role.VIEWER), await estate.token("otto", Role.OPERATOR)
    entered, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        entered.set()
        await go.wait()

    estate.controller.hook = hold  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        advance = group.create_task(estate.ask("advance", operator))
        await entered.wait()
        await estate.refused("not_permitted", "rollback", viewer)
        go.set()
    assert advance.result()["place"] == "build"


async def test_outside_its_window_a_stage_is_not_entered_but_left(begin: Begin) -> None:
    estate = await begin(windows={"sync": never()})
    operator, approver = await estate.token("otto", Role.OPERATOR), await estate.token("anna", Role.APPROVER)
    await estate.ask("advance", operator)
    error = await estate.refused("outside_window", "advance", operator)
    assert never() in error.message and "It opens" in error.remedy
    await estate.refused("not_permitted", "advance", operator, override_window="mine")
    assert await estate.place() == Place(Stage.BUILD)
    await estate.ask("advance", approver, override_window="the vendor's deadline")
    assert await estate.place() == Place(Stage.SYNC)
    (kept,) = await estate.store.milestones("things", "override")
    assert (kept["by"], kept["reason"]) == ("anna", "the vendor's deadline")
    await estate.ask("rollback", operator)
    assert await estate.place() == behind(Place(Stage.SYNC), (10.0,))


async def test_windows_of_the_estate_and_of_the_context_must_both_be_open(begin: Begin) -> None:
    estate = await begin(
        access=False, estate={"windows": {"build": never()}}, windows={"build": "daily 00:00-24:00 UTC"}
    )
    await estate.refused("outside_window", "advance")
    await estate.ask("advance", override_window="who reaches the database may, where there is no access")
    assert await estate.place() == Place(Stage.BUILD)


async def test_other_people_must_approve_and_each_counts_once(begin: Begin) -> None:
    estate = await begin(approvals={"build": 2})
    otto = await estate.token("otto", Role.APPROVER)
    anna, laptop = await estate.token("anna", Role.APPROVER), await estate.token("anna-laptop", Role.APPROVER, "Anna ")
    bert, operator = await estate.token("bert", Role.APPROVER), await estate.token("olga", Role.OPERATOR)
    error = await estate.refused("approvals_missing", "advance", otto)
    assert "anna, bert" in error.remedy and "otto" not in error.remedy.partition("(")[2]
    await estate.refused("not_permitted", "approve", operator, stage="build")
    await estate.refused("not_the_next_step", "approve", anna, stage="writes")
    plan = (await estate.ask("approve", anna, stage="build", dry_run=True))["plan"]
    await estate.refused("plan_changed", "approve", anna, stage="build", plan="0" * 12)
    for token in (otto, anna, laptop, anna):
        await estate.ask("approve", token, stage="build", plan=plan[:12])
    error = await estate.refused("approvals_missing", "advance", otto)
    assert "has anna" in error.message, "of one person one, and the asker's own not"
    await estate.ask("approve", bert, stage="build")
    await estate.ask("approve", bert, stage="build", withdraw=True)
    await estate.refused("approvals_missing", "advance", otto)
    await estate.ask("approve", bert, stage="build")
    await estate.ask("advance", otto)
    assert await estate.place() == Place(Stage.BUILD)
    assert not any(row["counts"] for row in await approvals.listed(estate.conn, "things")), "they served once"
    await estate.ask("rollback", operator)
    await estate.refused("approvals_missing", "advance", otto)


@pytest.mark.parametrize("how", ["expires", "is withdrawn", "is of a token that is revoked"])
async def test_an_approval_that_goes_while_the_gate_is_waited_for_does_not_count(begin: Begin, how: str) -> None:
    estate = await begin(approvals={"build": 1})
    anna, operator = await estate.token("anna", Role.APPROVER), await estate.token("olga", Role.OPERATOR)
    await estate.ask("approve", anna, stage="build")

    async def goes() -> None:
        if how == "expires":
            await estate.conn.execute("UPDATE fig.approval SET expires_at = clock_timestamp()")
        elif how == "is withdrawn":
            await estate.ask("approve", anna, stage="build", withdraw=True)  # beside the command that runs
        else:
            await credentials.end(estate.conn, credentials.split(anna)[0], by="test")

    estate.controller.hook = goes  # type: ignore[method-assign]
    await estate.refused("approvals_missing", "advance", operator)
    assert await estate.place() == Place(Stage.PREPARE)


async def test_approvals_that_race_count_each_person_once(begin: Begin) -> None:
    estate = await begin(approvals={"build": 3})
    people = [await estate.token(f"p{number}", Role.APPROVER) for number in range(2)]
    operator = await estate.token("olga", Role.OPERATOR)
    async with asyncio.TaskGroup() as group:
        for token in people * 3:
            group.create_task(estate.ask("approve", token, stage="build"))
    error = await estate.refused("approvals_missing", "advance", operator)
    assert "has p" in error.message and error.message.count("p0") == 1 and error.message.count("p1") == 1
    third = await estate.token("p2", Role.APPROVER)
    async with asyncio.TaskGroup() as group:
        group.create_task(estate.ask("approve", third, stage="build"))
        group.create_task(estate.ask("approve", third, stage="build"))
    await estate.ask("advance", operator)
    assert await estate.place() == Place(Stage.BUILD)


async def test_who_declines_takes_everybodys_approval_back_and_says_why(begin: Begin) -> None:
    estate = await begin(approvals={"build": 1})
    anna, bert = await estate.token("anna", Role.APPROVER), await estate.token("bert", Role.APPROVER)
    operator = await estate.token("olga", Role.OPERATOR)
    visit = (await estate.store.standing("things")).visit
    assert await requests.waiting(estate.conn, "things", visit) is None
    await estate.refused("approvals_missing", "advance", operator)
    asked = await requests.waiting(estate.conn, "things", visit)
    assert asked is not None and (asked.name, asked.person, asked.declined) == ("olga", "olga", None)
    await estate.ask("approve", anna, stage="build", plan=asked.plan)
    await estate.refused("not_permitted", "approve", operator, stage="build", decline="no")
    looked = await estate.ask("approve", bert, stage="build", decline="not on a Friday", dry_run=True)
    assert "anna" in looked["effects"][0] and len(await approvals.of_plan(estate.conn, "things", asked.plan)) == 1
    await estate.ask("approve", bert, stage="build", decline="not on a Friday")
    assert await approvals.of_plan(estate.conn, "things", asked.plan) == []
    declined = await requests.waiting(estate.conn, "things", visit)
    assert declined is not None and declined.declined is not None
    assert (declined.declined[0], declined.declined[2]) == ("bert", "not on a Friday")
    await estate.refused("approvals_missing", "advance", operator)
    again = await requests.waiting(estate.conn, "things", visit)
    assert again is not None and again.declined is None, "who asks again is answered again"
    await estate.ask("approve", bert, stage="build")
    await estate.ask("advance", operator)
    assert await estate.place() == Place(Stage.BUILD)
    assert await requests.waiting(estate.conn, "things", (await estate.store.standing("things")).visit) is None
    assert ("bert", "approve", "done", "") in await estate.trail()


async def test_another_configuration_wants_other_approvals(begin: Begin) -> None:
    first = await begin(approvals={"build": 1})
    anna, operator = await first.token("anna", Role.APPROVER), await first.token("olga", Role.OPERATOR)
    await first.ask("approve", anna, stage="build")
    parts = first.controller._parts
    other = parts.contexts["things"].settings.model_copy(update={"accepted_findings": ("everything",)})
    object.__setattr__(
        parts, "contexts", {"things": ContextParts(other, Path(), "postgresql://nobody@127.0.0.1/things")}
    )
    await first.refused("approvals_missing", "advance", operator)


async def test_without_access_it_is_as_it_was_and_the_trail_is_kept(begin: Begin) -> None:
    estate = await begin(access=False)
    await estate.ask("advance")
    number = await commands.submit(estate.dsn, "nowhere", "advance", {}, "me@desk")
    with pytest.raises(FigError) as refused:
        await estate.answer(number)
    assert refused.value.code == "unknown_context"
    found = await audit.lines(estate.conn)
    assert [(row["name"], row["how"], row["outcome"]) for row in found] == [
        ("me@desk", "local", "done"),
        ("me@desk", "local", "failed"),
    ]


async def test_the_trail_is_only_added_to_and_shows_what_was_changed(begin: Begin) -> None:
    estate = await begin(access=False)
    for _ in range(3):
        await estate.ask("plan")
    assert (await audit.verify(estate.conn)).broken is None
    for statement in ("UPDATE fig.audit SET name = 'nobody'", "DELETE FROM fig.audit", "TRUNCATE fig.audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await estate.conn.execute(statement)
    # The owner can take the triggers away; the chain then shows what was done.
    await estate.conn.execute("ALTER TABLE fig.audit DISABLE TRIGGER USER")
    await estate.conn.execute("UPDATE fig.audit SET name = 'nobody' WHERE id = 2")
    found = await audit.verify(estate.conn)
    assert (found.lines, found.broken) == (3, 2)
    await estate.conn.execute("DELETE FROM fig.audit WHERE id = 2")
    assert (await audit.verify(estate.conn)).broken == 3


async def test_a_role_that_only_asks_can_neither_forge_nor_change(begin: Begin, postgres_b: Server) -> None:
    estate = await begin()
    operator = await estate.token("otto", Role.OPERATOR)
    role = postgres_b.role("fig_asker")
    await Flows(estate.dsn).migrate()
    sql = (Path(credentials.__file__).parent / "asker.sql").read_text()
    await estate.conn.execute(sql)  # type: ignore[arg-type]
    asker = psycopg.conninfo.make_conninfo(estate.dsn, user=role)
    number = await commands.submit(asker, "things", "advance", {}, "me", asked_from="afar", token=operator)
    async for event in commands.follow(asker, number, patience=60):
        last = event
    assert (last.kind, last.data["place"]) == ("done", "build")
    assert (await commands.status(asker, "things"))["extractions"][0]["stage"] == "build"
    async with postgres.session(asker, what="test") as conn:
        assert [row["name"] for row in await audit.lines(conn)] == ["otto"]
        for statement in (
            "SELECT hash FROM fig.credential",
            "INSERT INTO fig.credential (id, kind, name, person, role, how, hash, created_by)"
            " VALUES ('x', 'token', 'x', 'x', 'approver', 'token', sha256('x'), 'x')",
            "INSERT INTO fig.approval (context, visit, stage, plan, name, person, how, origin, credential, expires_at)"
            " VALUES ('things', 1, 'sync', 'x', 'x', 'x', 'x', 'x', 'x', now())",
            "INSERT INTO fig.audit (action, outcome, name, person, role, how, origin)"
            " VALUES ('x', 'done', 'x', 'x', 'x', 'x', 'x')",
            "UPDATE fig.command SET verb = 'abort'",
            "INSERT INTO fig.command (context, verb, args, asked_by, state)"
            " VALUES ('things', 'abort', '{}', 'x', 'done')",
            "UPDATE fig.extraction SET stage = 'writes'",
            "DELETE FROM fig.audit",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement)  # type: ignore[arg-type]
        made = await postgres.value(
            conn,
            "INSERT INTO fig.command (context, verb, args, asked_by)"
            " VALUES ('things', 'advance', %s, 'otto') RETURNING id",
            (Jsonb({}),),
        )
    with pytest.raises(FigError) as refused:
        await estate.answer(made)
    assert refused.value.code == "token_missing"

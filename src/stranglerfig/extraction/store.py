"""The extraction's rows in the control database: where it stands, its visits, commands, milestones and series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from stranglerfig.access import approvals, audit, credentials
from stranglerfig.access.credentials import Credential
from stranglerfig.access.model import Principal
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.foundation import postgres
from stranglerfig.foundation.sql import load

TABLES = postgres.Tables("extraction", __package__ or "", ("tables.sql", "asked.sql", "passing.sql"))
_queries = load(__package__ or "", "trail.sql")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an extraction stands.

    Attributes:
        visit: the current stay in the current step.
        evidence: the visit whose evidence counts here: this one, or an earlier stay at the same place that was left
            for a reason other than its KPIs and is now resumed.
        owner: who owns the writes, as last seen in the ownership rows (``monolith`` or ``service``).
        facts: what later steps need to know (table sizes before, archive paths, …).
    """

    context: str
    place: Place
    visit: int
    evidence: int
    owner: str
    epoch: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """Something asked of the controller.

    Attributes:
        asked_by, asked_from: what it says of itself; ``who`` is what the controller found out.
    """

    id: int
    context: str
    verb: str
    args: dict[str, Any]
    asked_by: str
    attempts: int
    started_in: dict[str, Any] | None
    asked_from: str = ""
    signature: dict[str, Any] | None = None
    who: Principal | None = None


_COMMAND = "id, context, verb, args, asked_by, attempts, started_in, asked_from, signature"


def _json(value: Any) -> Jsonb:
    return Jsonb(value, dumps=lambda found: orjson.dumps(found, default=str, option=orjson.OPT_NON_STR_KEYS))


class Store:
    """All of it, over one session; not for concurrent use by several tasks without the lock that psycopg has."""

    def __init__(self, conn: postgres.Connection) -> None:
        self._conn = conn

    @classmethod
    async def open(cls, dsn: str, *, what: str = "controller") -> Store:
        """Connect, and bring the tables forward."""
        conn = await postgres.connect(dsn, what=what)
        await postgres.migrate(conn, *TABLES)
        await credentials.migrate(conn)
        return cls(conn)

    async def close(self) -> None:
        """Let go of the session."""
        await self._conn.close()

    async def lead(self) -> bool:
        """Whether this session is the one controller (an advisory lock: the cut-over's safety does not rest on it)."""
        return bool(
            await postgres.value(self._conn, "SELECT pg_try_advisory_lock(hashtextextended('fig.controller', 0))")
        )

    # -- standing ------------------------------------------------------------------------------------------------

    async def standing(self, context: str) -> Standing:
        """Where ``context`` stands; a new one begins at ``prepare``."""
        found = await self.known(context)
        if found is None:
            async with self._conn.transaction():
                await self._conn.execute(
                    "INSERT INTO fig.extraction (context, stage) VALUES (%s, 'prepare') ON CONFLICT DO NOTHING",
                    (context,),
                )
                await self._visit(context, Place(Stage.PREPARE))
            return await self.standing(context)
        return found

    async def retired(self) -> dict[str, Any] | None:
        """Since when and by whom the monolith is retired: ``at``, ``by``; None while it is there."""
        row = await postgres.one(self._conn, "SELECT at, by FROM fig.retired")
        return None if row is None else {"at": row[0], "by": row[1]}

    async def retire(self, *, by: str, evidence: Mapping[str, Any]) -> None:
        """Keep that the monolith is retired, and what was seen then."""
        await self._conn.execute(
            "INSERT INTO fig.retired (by, evidence) VALUES (%s, %s) ON CONFLICT DO NOTHING", (by, _json(dict(evidence)))
        )

    async def unretire(self) -> None:
        """Keep that it is there again."""
        await self._conn.execute("DELETE FROM fig.retired")

    async def known(self, context: str) -> Standing | None:
        """Where ``context`` stands; None when it has not begun, and it does not begin by being asked."""
        row = await postgres.one(
            self._conn,
            "SELECT e.stage, e.step, e.visit, coalesce(v.evidence, v.id), e.owner, e.epoch, e.facts"
            " FROM fig.extraction e JOIN fig.visit v ON v.id = e.visit WHERE e.context = %s",
            (context,),
        )
        return None if row is None else Standing(context, Place(Stage(row[0]), row[1]), *row[2:])

    async def _visit(self, context: str, place: Place, evidence: int | None = None) -> int:
        visit = int(
            await postgres.value(
                self._conn,
                "INSERT INTO fig.visit (context, stage, step, evidence) VALUES (%s, %s, %s, %s) RETURNING id",
                (context, place.stage.value, place.step, evidence),
            )
        )
        await self._conn.execute(
            "UPDATE fig.extraction SET stage = %s, step = %s, visit = %s, updated_at = now() WHERE context = %s",
            (place.stage.value, place.step, visit, context),
        )
        return visit

    async def enter(
        self, standing: Standing, place: Place, *, by: str, gate: Any = None, resume: bool = False
    ) -> Standing:
        """Leave the current visit (with the gate's verdict, if one was judged) and begin one at ``place``.

        With ``resume`` it builds on the evidence of the last visit there: nothing spoke against it since.
        """
        evidence = None
        if resume:
            evidence = await postgres.value(
                self._conn,
                "SELECT coalesce(evidence, id) FROM fig.visit WHERE (context, stage, step) = (%s, %s, %s)"
                " ORDER BY id DESC LIMIT 1",
                (standing.context, place.stage.value, place.step),
            )
        async with self._conn.transaction():
            await self._conn.execute(
                "UPDATE fig.visit SET left_at = clock_timestamp(), left_by = %s, gate = coalesce(%s, gate)"
                " WHERE id = %s",
                (by, None if gate is None else _json(gate), standing.visit),
            )
            await self._visit(standing.context, place, evidence)
        return await self.standing(standing.context)

    async def owns(self, context: str, owner: str, epoch: int) -> None:
        """Remember what the ownership rows say, for those who only look here."""
        await self._conn.execute(
            "UPDATE fig.extraction SET owner = %s, epoch = %s WHERE context = %s", (owner, epoch, context)
        )

    async def learn(self, context: str, **facts: Any) -> None:
        """Keep facts for later steps."""
        await self._conn.execute(
            "UPDATE fig.extraction SET facts = facts || %s WHERE context = %s", (_json(facts), context)
        )

    async def judged(self, visit: int, gate: Any) -> None:
        """Keep the newest verdict of a visit."""
        await self._conn.execute("UPDATE fig.visit SET gate = %s WHERE id = %s", (_json(gate), visit))

    async def visit(self, number: int) -> dict[str, Any] | None:
        """One visit: ``entered_at`` and ``gate``."""
        row = await postgres.one(self._conn, "SELECT entered_at, gate FROM fig.visit WHERE id = %s", (number,))
        return None if row is None else {"entered_at": row[0], "gate": row[1]}

    async def visits(self, context: str) -> list[dict[str, Any]]:
        """All visits, oldest first."""
        rows = await postgres.fetch(
            self._conn,
            "SELECT id, stage, step, entered_at, left_at, gate, left_by FROM fig.visit WHERE context = %s ORDER BY id",
            (context,),
        )
        keys = ("id", "stage", "step", "entered_at", "left_at", "gate", "left_by")
        return [dict(zip(keys, row, strict=True)) for row in rows]

    # -- commands ------------------------------------------------------------------------------------------------

    async def submit(
        self,
        context: str,
        verb: str,
        args: Mapping[str, Any],
        by: str,
        *,
        asked_from: str = "",
        signature: Mapping[str, str] | None = None,
    ) -> int:
        """Ask something of the controller; returns the command's id."""
        number = await postgres.value(
            self._conn,
            "INSERT INTO fig.command (context, verb, args, asked_by, asked_from, signature)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            (context, verb, _json(dict(args)), by, asked_from, None if signature is None else _json(dict(signature))),
        )
        return int(number)

    async def pending(self) -> list[Command]:
        """What waits, oldest first."""
        rows = await postgres.fetch(
            self._conn,
            f"SELECT {_COMMAND} FROM fig.command WHERE state = 'pending' ORDER BY id",  # noqa: S608
        )
        return [Command(*row) for row in rows]

    async def claim(self, command: Command, place: Place) -> Command:
        """Begin a command, bound to the place where it was first begun."""
        row = await postgres.one(
            self._conn,
            "UPDATE fig.command SET state = 'running', attempts = attempts + 1, started_in = coalesce(started_in, %s)"  # noqa: S608
            f" WHERE id = %s RETURNING {_COMMAND}",
            (_json({"stage": place.stage.value, "step": place.step}), command.id),
        )
        assert row is not None
        return Command(*row)

    async def abandoned(self) -> int:
        """Make pending again what a controller that is gone left running; returns how many."""
        cursor = await self._conn.execute(
            "UPDATE fig.command SET state = CASE WHEN attempts < 6 THEN 'pending' ELSE 'failed' END,"
            " result = CASE WHEN attempts < 6 THEN result ELSE"
            ' \'{"code": "interrupted", "message": "the controller died six times at this command",'
            ' "remedy": "Look at its log."}\' END'
            " WHERE state = 'running'"
        )
        return cursor.rowcount

    async def tell(self, command: int, kind: str, text: str, data: Mapping[str, Any] | None = None) -> None:
        """Say something to whoever follows a command."""
        await self._conn.execute(
            "INSERT INTO fig.command_event (command, kind, text, data) VALUES (%s, %s, %s, %s)",
            (command, kind, text, _json(dict(data or {}))),
        )

    async def end(
        self, command: int, state: str, text: str, result: Mapping[str, Any], entry: audit.Entry | None = None
    ) -> None:
        """A command is ``done`` or ``failed``; its followers and the audit trail are told in the same commit."""
        async with self._conn.transaction():
            await self._conn.execute(
                "UPDATE fig.command SET state = %s, result = %s, ended_at = clock_timestamp() WHERE id = %s",
                (state, _json(dict(result)), command),
            )
            await self.tell(command, state, text, result)
            if entry is not None:
                await audit.record(self._conn, entry)

    # -- access ----------------------------------------------------------------------------------------------------

    async def credential(self, id_: str) -> Credential:
        """The token or session ``id_``, if it counts now (``token_refused``)."""
        return await credentials.find(self._conn, id_)

    async def record(self, entry: audit.Entry) -> None:
        """Add a line to the audit trail."""
        await audit.record(self._conn, entry)

    async def approve(self, who: Principal, standing: Standing, stage: str, plan: str, lasts: float) -> datetime:
        """Approve ``plan``, the step that is next, for ``lasts`` seconds; returns until when that counts."""
        return await approvals.give(
            self._conn, who, context=standing.context, visit=standing.visit, stage=stage, plan=plan, lasts=lasts
        )

    async def withdraw(self, who: Principal, context: str, plan: str) -> int:
        """Take ``who``'s approvals of ``plan`` back; returns how many there were."""
        return await approvals.withdraw(self._conn, who, context=context, plan=plan)

    async def approved(self, context: str, plan: str, *, asker: str) -> list[approvals.Approval]:
        """Who approves ``plan`` now, once per person, without the person ``asker``."""
        return approvals.counted(await approvals.of_plan(self._conn, context, plan), asker)

    async def approvers(self, *, without: str) -> list[str]:
        """The people whose tokens may approve, other than ``without``."""
        return await credentials.approvers(self._conn, without=without)

    async def asked(self, command: int) -> dict[str, Any] | None:
        """A command as it stands: ``context``, ``verb``, ``args``, ``asked_by``, ``asked_at``, ``state``."""
        keys = ("context", "verb", "args", "asked_by", "asked_at", "state")
        row = await postgres.one(
            self._conn,
            "SELECT context, verb, args, asked_by, asked_at, state FROM fig.command WHERE id = %s",
            (command,),
        )
        return None if row is None else dict(zip(keys, row, strict=True))

    async def told(self, command: int, *, last: int) -> list[tuple[datetime, str, str, dict[str, Any]]]:
        """What was said to the followers of a command, oldest first; only the newest ``last``."""
        rows = await postgres.fetch(
            self._conn,
            "SELECT at, kind, text, data FROM (SELECT id, at, kind, text, data FROM fig.command_event"
            " WHERE command = %s ORDER BY id DESC LIMIT %s) AS newest ORDER BY id",
            (command, last),
        )
        return [(at, kind, text, data) for at, kind, text, data in rows]

    async def under_way(self, context: str) -> list[dict[str, Any]]:
        """Commands that wait or are at work, oldest first: ``id``, ``verb``, ``by``, ``dry_run``."""
        rows = await postgres.fetch(
            self._conn,
            "SELECT id, verb, asked_by, coalesce((args ->> 'dry_run')::boolean, false) FROM fig.command"
            " WHERE context = %s AND state IN ('pending', 'running') ORDER BY id",
            (context,),
        )
        return [dict(zip(("id", "verb", "by", "dry_run"), row, strict=True)) for row in rows]

    async def trail(self, context: str | None, before: tuple[int, str, int] | None, limit: int) -> list[dict[str, Any]]:
        """Who did what and when, newest first, behind ``before`` (microseconds, kind, id)."""
        micros, kind, number = before or (None, None, None)
        values = {"context": context, "micros": micros, "kind": kind, "id": number, "limit": limit}
        keys = ("micros", "kind", "id", "at", "context", "what", "by", "text", "outcome", "data")
        rows = await postgres.fetch(self._conn, _queries.trail, values)
        return [dict(zip(keys, row, strict=True)) for row in rows]

    # -- milestones and series ------------------------------------------------------------------------------------

    async def milestone(self, context: str, kind: str, data: Mapping[str, Any]) -> None:
        """Keep something that the report lists."""
        await self._conn.execute(
            "INSERT INTO fig.milestone (context, kind, data) VALUES (%s, %s, %s)", (context, kind, _json(dict(data)))
        )

    async def milestones(
        self, context: str, kinds: str | Sequence[str] | None = None, *, last: int | None = None
    ) -> list[dict[str, Any]]:
        """Milestones (of some kinds), oldest first, each with ``at`` and ``kind``; or the ``last`` of them."""
        wanted = [kinds] if isinstance(kinds, str) else list(kinds) if kinds is not None else None
        rows = await postgres.fetch(
            self._conn,
            "SELECT at, kind, data FROM (SELECT id, at, kind, data FROM fig.milestone"
            " WHERE context = %s AND (%s::text[] IS NULL OR kind = ANY (%s)) ORDER BY id DESC LIMIT %s)"
            " AS newest ORDER BY id",
            (context, wanted, wanted, last),
        )
        return [{"at": at, "kind": found, **data} for at, found, data in rows]

    async def sample(self, context: str, at: datetime, data: Mapping[str, Any]) -> None:
        """Keep one second of what was seen."""
        await self._conn.execute(
            "INSERT INTO fig.series (context, at, data) VALUES (%s, %s, %s)"
            " ON CONFLICT (context, at) DO UPDATE SET data = excluded.data",
            (context, at, _json(dict(data))),
        )

    async def series(self, context: str, *, last: int | None = None) -> list[dict[str, Any]]:
        """Seconds, oldest first; only the newest ``last`` when given."""
        rows = await postgres.fetch(
            self._conn,
            "SELECT at, data FROM (SELECT at, data FROM fig.series WHERE context = %s ORDER BY at DESC LIMIT %s)"
            " AS newest ORDER BY at",
            (context, last),
        )
        return [{"at": at, **data} for at, data in rows]

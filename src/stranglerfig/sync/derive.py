"""Business events derived from the monolith's changes, until the service writes its own.

Deterministic: the same change gives the same event with the same id, so a worker that died appends nothing twice. What
sync writes into the monolith is not in its forward stream (it carries our origin), so at any source position exactly
one of the two sides publishes. A snapshot's rows give one opening balance each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg

from stranglerfig.changes import frames
from stranglerfig.changes.mapping import identifiers, quote
from stranglerfig.changes.model import (
    UNCHANGED,
    Barrier,
    Change,
    Item,
    Relation,
    Row,
    SnapshotChunk,
    SnapshotEdge,
    SourcePosition,
    Transaction,
    lsn_text,
)
from stranglerfig.changes.settings import DerivedEvent
from stranglerfig.eventlog.model import Event, Record, shown
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.sql import load
from stranglerfig.sync import barriers
from stranglerfig.sync.model import chunk_rows, copy_line, position_of, remaining
from stranglerfig.telemetry import traces

# Expressions come from the user's configuration; values travel by COPY.
# ruff: noqa: S608

Report = Callable[[dict[str, Any]], Awaitable[None]]

_sql = load(__package__ or "")
PAUSE = 0.05
"""Seconds between two rounds: nobody waits for a derived event but for those before a marker."""
SLICE = 500
"""Changes that are worked on at a time: rows are applied beside us by the same process, and shall not wait for long."""
TABLES = postgres.Tables(
    "sync_derived", __package__ or "", ("derived.sql", "wide_derived.sql", "derived_partitions.sql")
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeriveJob:
    """What is derived from one context's forward changes.

    Attributes:
        changes: the forward change topic.
        events: the topic that the events are appended to.
        rules: the declared events, in the order in which one change's events are appended.
        scratch_dsn: the control database, whose PostgreSQL evaluates the expressions.
        source: the events' CloudEvents source.
        schemas: event type → ``dataschema``.
        partition: of the change topic.
    """

    context: str
    changes: str
    events: str
    rules: tuple[DerivedEvent, ...]
    scratch_dsn: str
    source: str
    schemas: Mapping[str, str] = field(default_factory=dict)
    partition: int = 0


class Fact(NamedTuple):
    """A change with what its events need to be told apart."""

    change: Change
    at: SourcePosition
    row: int
    time: datetime
    trace: str | None = None


def event_id(fact: Fact, event: str, partition: int = 0) -> str:
    """The id of the event that ``fact`` gives: the same whenever it is derived.

    A change's ordinal counts within its partition.
    """
    row = f"-{fact.row}" if fact.row else ""
    where = f".{partition}" if partition else ""
    return f"{fact.at.lsn}{where}-{fact.at.ordinal}{row}-{event}"


def uses_old(rule: DerivedEvent) -> bool:
    """Whether an expression of the rule looks at the row as it was."""
    return any("old" in identifiers(e) for e in (rule.on.when or "", rule.key, *rule.data.values()))


def check_values(rule: DerivedEvent, fact: Fact) -> None:
    """Refuse to derive from values that the source did not send.

    Raises:
        FigError: ``derive_needs_full_identity``.
    """
    change = fact.change
    names = [c.name for c in change.relation.columns]
    words = frozenset().union(*(identifiers(e) for e in (rule.on.when or "", rule.key, *rule.data.values())))

    def lacks(row: Row | None) -> bool:
        return row is None or any(v is UNCHANGED and n in words for n, v in zip(names, row, strict=True))

    if (change.after is not None and lacks(change.after)) or (
        change.op in "ud" and uses_old(rule) and lacks(change.before)
    ):
        raise FigError(
            "derive_needs_full_identity",
            f"{rule.event} looks at values of {change.relation.qualified} that the database does not send",
            f"Run ALTER TABLE {change.relation.qualified} REPLICA IDENTITY FULL at the monolith,"
            " and take the snapshot again.",
            event=rule.event,
            table=change.relation.qualified,
        )


def facts_of(item: Item, tables: frozenset[str], time: datetime) -> Iterator[Fact]:
    """The changes of ``item`` in ``tables``; ``time`` is for rows of a snapshot, which have none of their own."""
    if isinstance(item, SnapshotChunk):
        if item.relation.qualified in tables:
            for placed in chunk_rows(item):
                yield Fact(placed.change, placed.at, placed.row, time)
    elif isinstance(item, Transaction):
        committed = datetime.fromtimestamp(item.committed_at / 1e6, UTC)
        for ordinal, part in enumerate(item.items, start=item.first):
            if isinstance(part, Change) and part.op != "t" and part.relation.qualified in tables:
                yield Fact(_filled(part), SourcePosition(item.lsn, ordinal), 0, committed, item.trace)


def _filled(change: Change) -> Change:
    """With unchanged values taken from the old row where it was sent."""
    before, after = change.before, change.after
    if before is None or after is None or UNCHANGED not in after:
        return change
    whole = tuple(b if a is UNCHANGED else a for a, b in zip(after, before, strict=True))
    return Change(change.op, change.relation, before, whole)


class Scratch:
    """A session of the control database in which expressions are evaluated over staged changes."""

    def __init__(self, conn: postgres.Connection) -> None:
        self._conn = conn
        self._stages: dict[Relation, tuple[str, str]] = {}

    async def events(self, job: DeriveJob, facts: Sequence[Fact]) -> list[Event]:
        """The events of some changes, in the order of the changes."""
        found: list[tuple[int, int, Event]] = []
        numbered = list(enumerate(facts))
        for relation in dict.fromkeys(f.change.relation for f in facts):
            mine = [(n, f) for n, f in numbered if f.change.relation == relation]
            rules = [(n, r) for n, r in enumerate(job.rules) if r.on.table == relation.qualified]
            for _, rule in rules:
                for _, fact in mine:
                    if fact.change.op in rule.on.op:
                        check_values(rule, fact)
            async with self._conn.transaction():
                new, old = await self._stage(relation, mine, old=any(uses_old(r) for _, r in rules))
                for place, rule in rules:
                    for number, key, data in await self._evaluate(rule, new, old):
                        found.append((number, place, _event(job, rule, facts[number], key, data)))
        found.sort(key=lambda one: one[:2])
        return [event for _, _, event in found]

    async def _stage(self, relation: Relation, facts: Sequence[tuple[int, Fact]], *, old: bool) -> tuple[str, str]:
        names = self._stages.get(relation)
        if names is None:
            number = len(self._stages)
            names = (f"fig_new_{number}", f"fig_old_{number}")
            types = [c.type for c in relation.columns]
            known = await postgres.value(self._conn, _sql.known_types, (types,))
            columns = "".join(
                f", {quote(c.name)} {c.type if there else 'text'}"
                for c, there in zip(relation.columns, known, strict=True)
            )
            for name in names:
                await self._conn.execute(
                    f'CREATE TEMP TABLE {name} (fig_number bigint, fig_op "char"{columns}) ON COMMIT DELETE ROWS'
                )
            self._stages[relation] = names
        none: Row = (None,) * len(relation.columns)
        await self._copy(names[0], [copy_line(f"{n}\t{f.change.op}\t", f.change.after or none) for n, f in facts])
        if old:
            lines = [copy_line(f"{n}\t{f.change.op}\t", f.change.before) for n, f in facts if f.change.before]
            await self._copy(names[1], lines)
        return names

    async def _copy(self, stage: str, lines: Sequence[str]) -> None:
        async with self._conn.cursor() as cursor, cursor.copy(f"COPY {stage} FROM STDIN") as copy:
            await copy.write("".join(lines))

    async def _evaluate(self, rule: DerivedEvent, new: str, old: str) -> list[tuple[int, str, str]]:
        fields = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', ({e})" for name, e in rule.data.items())
        ops = ", ".join(f"'{op}'" for op in rule.on.op)
        join = f" LEFT JOIN {old} AS old ON old.fig_number = new.fig_number" if uses_old(rule) else ""
        when = f" AND ({rule.on.when})" if rule.on.when else ""
        try:
            rows = await postgres.fetch(
                self._conn,
                f"SELECT new.fig_number, ({rule.key})::text, jsonb_build_object({fields})::text FROM {new} AS new{join}"
                f" WHERE new.fig_op IN ({ops}){when}",
            )
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in ("22", "42"):
                raise
            raise FigError(
                "derive_failed",
                f"{rule.event} cannot be derived from {rule.on.table}: {error.diag.message_primary}",
                "Correct its expressions under 'derive' in extraction.yaml.",
                event=rule.event,
            ) from error
        return [(row[0], row[1], row[2]) for row in rows]


def _event(job: DeriveJob, rule: DerivedEvent, fact: Fact, key: str, data: str) -> Event:
    same = [r for r in job.rules if (r.event, r.on.table) == (rule.event, rule.on.table)]
    suffix = f"-{same.index(rule) + 1}" if len(same) > 1 else ""
    return Event(
        id=event_id(fact, rule.event, job.partition) + suffix,
        source=job.source,
        type=rule.event,
        time=fact.time,
        data=data.encode(),
        subject=key,
        partitionkey=key,
        dataschema=job.schemas.get(rule.event),
        traceparent=fact.trace,
    )


async def run(job: DeriveJob, log: EventLog, report: Report, *, urgent: asyncio.Event | None = None) -> None:
    """Derive until cancelled; a mistake in a rule is reported and tried again, in case it was corrected.

    ``urgent`` ends the pause between two rounds: somebody waits for what comes next.
    """
    urgent = urgent or asyncio.Event()
    told: dict[str, Any] = {"state": "starting", "error": None, "events": 0}
    pause = 0.1
    while True:
        begun = clock.monotonic()
        try:
            # A place that a crash takes back is derived again, under the same ids: no commit need wait for the disk.
            async with postgres.session(
                job.scratch_dsn, what=f"derive {job.context}", options="-c synchronous_commit=off"
            ) as conn:
                await postgres.migrate(conn, *TABLES)
                await _follow(job, log, conn, told, report, urgent)
        except (FigError, psycopg.Error, OSError) as error:
            _log.warning("derivation starts again: %s", error, extra={"action": "derive_restart"})
            known = error if isinstance(error, FigError) else postgres.unreachable(job.scratch_dsn, error)
            waits = known.code.startswith("derive_") or known.code == "not_a_frame"
            told |= {"state": "stopped" if waits else "starting", "error": known.as_dict()}
            await report(dict(told))
        if clock.monotonic() - begun > 10:
            pause = 0.1
        await asyncio.sleep(pause)
        pause = min(pause * 2, 2.0)


async def _follow(
    job: DeriveJob,
    log: EventLog,
    conn: postgres.Connection,
    told: dict[str, Any],
    report: Report,
    urgent: asyncio.Event,
) -> None:
    following = _Following(job, log, conn)
    await following.begin()
    await log.create_topic(job.events)
    next_report = 0.0
    while True:
        urgent.clear()
        records = await _read(log, job, following.place)
        await following.take(records)
        if clock.monotonic() >= next_report:
            next_report = clock.monotonic() + 0.5
            told |= {"state": "deriving", "error": None, "events": following.count, **following.told()}
            await report(dict(told))
        if records and records[-1].event.subject != frames.URGENT:
            await clock.signalled(urgent, timeout=PAUSE)


class _Following:
    """How far a partition is derived, and what comes next."""

    def __init__(self, job: DeriveJob, log: EventLog, conn: postgres.Connection) -> None:
        self._job = job
        self._log = log
        self._conn = conn
        self._tables = frozenset(rule.on.table for rule in job.rules)
        self._scratch = Scratch(conn)
        self._assembler = frames.Assembler()
        self._generation = 0
        self._seen = SourcePosition(0, 0)
        self._facts: list[Fact] = []
        self.place = 0
        """Where the log is read next."""
        self.count = 0
        """Events since the beginning."""

    async def begin(self) -> None:
        """Go on where the last one was."""
        own = (self._job.context, self._job.partition)
        await self._conn.execute(_sql.begin_derived, own)
        row = await postgres.one(self._conn, _sql.read_derived, own)
        assert row is not None
        self._generation, self._seen = row[0], SourcePosition(row[1], row[2])
        self.place, self.count = int(row[3]), row[4]

    def told(self) -> dict[str, Any]:
        """Its place, for a report."""
        return {"lsn": lsn_text(self._seen.lsn), "position": shown(self.place)}

    async def take(self, records: Sequence[Record]) -> None:
        """Append the events that ``records`` give, and remember that it is done."""
        for frame in filter(None, map(self._assembler.take, records)):
            for item in frames.decode(frame.content_type, frame.data):
                await self._item(item, frame)
        await self._publish()
        if records:
            self.place = records[-1].position + 1
            await self._advance(self._assembler.resume_at(self.place))

    async def _item(self, item: Item, frame: frames.Frame) -> None:
        rest = remaining(item, self._generation, self._seen)
        if rest is None:
            return
        if isinstance(rest, Barrier):
            await self._barrier(rest, frame.ends + 1)
            return
        self._seen = position_of(rest)
        if isinstance(rest, SnapshotEdge) and rest.begins:
            self._generation = rest.generation
        for fact in facts_of(rest, self._tables, frame.event.time):
            self._facts.append(fact)
            if len(self._facts) == SLICE:
                await self._publish()

    async def _barrier(self, barrier: Barrier, after: int) -> None:
        """As sync does: events of a key keep their order over the barrier as well."""
        await self._publish()
        if await barriers.passed(barrier, self._job.partition, self._places):
            self._generation = max(self._generation, barrier.generation)
            self._seen = barrier.position
            await self._advance(after)

    async def _places(self) -> dict[int, barriers.Place]:
        rows = await postgres.fetch(self._conn, _sql.derived_places, (self._job.context,))
        return {row[0]: barriers.Place(row[1], SourcePosition(row[2], row[3])) for row in rows}

    async def _publish(self) -> None:
        facts, self._facts = self._facts, []
        events = await self._scratch.events(self._job, facts) if facts else []
        if events:
            spans = [traces.begin(f"derive {each.type}", each.traceparent, "producer") for each in events]
            await self._log.append(self._job.events, events)
            what = f"derive {self._job.context}: append"
            traces.end_together(what, [each for each in spans if each is not None], size=len(events))
        self.count += len(events)

    async def _advance(self, place: int) -> None:
        here = (self._generation, *self._seen)
        await self._conn.execute(
            _sql.advance_derived,
            (*here, place, self.count, self._job.context, self._job.partition, *here),
        )


async def _read(log: EventLog, job: DeriveJob, position: int) -> list[Record]:
    try:
        return await log.read(job.changes, job.partition, position, max_bytes=4_000_000, wait=1.0)
    except FigError as error:
        if error.code not in ("unknown_topic", "unknown_partition"):
            raise
        await asyncio.sleep(0.2)  # capture has not made it yet
        return []


async def forget(dsn: str, context: str) -> None:
    """Forget how far a context's events are derived: its topic of changes is gone, positions begin anew."""
    async with postgres.session(dsn, what=f"derive {context}") as conn:
        if await postgres.value(conn, "SELECT to_regclass('fig.derived')") is not None:
            await conn.execute("DELETE FROM fig.derived WHERE context = %s", (context,))

"""A service: what it reacts to, and the one way in which it changes its database.

Declared at import, run by :meth:`Service.run`: the relay of its outbox and a consumer for each of its subscriptions.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from importlib.resources import files
from typing import Final, LiteralString, TypeVar
from urllib.parse import quote

import orjson
from psycopg import sql

from stranglerfig.eventlog.model import LEASE
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import postgres, tasks
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.aggregates import Refused
from stranglerfig.kit.consumer import Consumer, Reaction
from stranglerfig.kit.messages import Message
from stranglerfig.kit.projections import Projection, Projector
from stranglerfig.kit.relay import Relay
from stranglerfig.kit.sealing import Destroyed
from stranglerfig.kit.states import Forms, Part, queries
from stranglerfig.kit.tenants import checked, differs, within
from stranglerfig.kit.transactions import Cause, Changed, Outbox, Transaction, Unit, commit, owning
from stranglerfig.telemetry import traces

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
P = TypeVar("P", bound=Projection)
T = TypeVar("T")
TABLES = postgres.Tables("kit", __package__ or "", ("tables.sql", "personal.sql", "tenants.sql"))
_BUILDS: Final = sql.SQL("GRANT USAGE, CREATE ON SCHEMA projections, public TO {role}")
"""Each build of a projection is a table, and what serves is a view."""
KEEP: Final = timedelta(days=14)
FORGETS: Final = 60
"""Seconds between two looks for what is old."""
FORGOTTEN: Final = 5000
"""Rows that are deleted at a time."""
ROUNDS: Final = 20
"""How often work is done again because others were faster, before that is an error."""


class Service:
    """A service with its own database.

    Args:
        name: the context's, ``inventory``; its consumers' groups begin with it.
        database: the DSN of its PostgreSQL database (15 or later).
        log: where its messages go and its events come from; None for one that only answers requests while the
            extraction's capture takes its outbox to the log.
        source: what its events name as their source; ``/<name>`` by default.
        outbox: the table that its messages are written to: the kit's own, which the relay empties, or one of the
            service's, which capture does.
        sessions: how many it has to its database at most.
        keep: for how long it is remembered which messages were handled and what was answered, longer than any of them
            can come again: one that does later is handled as if it were new. Also how long sagas that have ended, and
            what was seen of flows, can be looked at.
        lease: seconds after which a process that is not heard of loses its partitions to the others.
        linger: seconds for which what comes is let gather before it is handled, relayed, or told to sagas: fewer and
            larger transactions, which cost less, and as much later.
        kill_point: called with the name of each point at which a fault test may kill the process.
        tenant: the one that it is for, with a database of its own: what it says carries the tenant on, messages of
            others and of nobody are passed over, and its consumers' groups begin with ``<name>@<tenant>``. None: it is
            for nobody in particular; a transaction has the tenant of the message that it handles.

    Raises:
        FigError: ``bad_tenant``.
    """

    def __init__(
        self,
        name: str,
        *,
        database: str,
        log: EventLog | None = None,
        source: str | None = None,
        outbox: Outbox | None = None,
        sessions: int = 10,
        keep: timedelta = KEEP,
        lease: float = LEASE,
        linger: float = 0.0,
        kill_point: Callable[[str], None] = lambda name: None,
        tenant: str | None = None,
    ) -> None:
        self.name = name
        self.tenant = checked(tenant)
        self._group = name if tenant is None else f"{name}@{quote(tenant, safe='')}"
        self.source = source or f"/{name}"
        self._dsn = database
        self._lease = lease
        self.kill_point = kill_point
        self.linger = linger
        self._log = log
        self._outbox = outbox or Outbox()
        self._outbox.most_bytes = None if log is None else log.capabilities.max_event_bytes
        self._forms = Forms()
        # Named as the service's own, not as ours: a cut-over waits for its transactions.
        self._sessions = postgres.Few(database, what=name, most=sessions, application_name=name)
        self._reactions: dict[str, dict[str, list[Reaction]]] = defaultdict(lambda: defaultdict(list))
        self._keep = keep
        self._old = [queries.old_handled, queries.old_replies, queries.old_answers]
        self._tables: dict[str, tuple[str, Sequence[str]]] = {TABLES.room: (TABLES.package, TABLES.steps)}
        self._projections: list[type[Projection]] = []
        self._beside: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._fit: dict[str, list[Callable[[], Awaitable[None]]]] = defaultdict(list)
        self._relay = None
        if log is not None and outbox is None:
            self._relay = Relay(
                database,
                log,
                name=f"{name}:relay",
                source=self.source,
                linger=linger,
                kill_point=kill_point,
                tenant=tenant,
            )

    def on(
        self, *messages: type[M], subscription: str = "", emits: Iterable[type[Message]] | None = None
    ) -> Callable[[Callable[[M, Transaction], Awaitable[None]]], Callable[[M, Transaction], Awaitable[None]]]:
        """Declare what handles messages: ``@service.on(OrderPlaced)`` above ``async def reserve(event, tx)``.

        A handler does its work through ``tx`` alone: it may be run again. What it changes and sends is kept together
        with the mark that the message was handled.

        Args:
            subscription: handlers of one subscription share its progress; another name makes another group.
            emits: the messages that it may send; anything else is refused. None allows all.
        """
        declared = None if emits is None else frozenset(emits)

        def declare(
            handler: Callable[[M, Transaction], Awaitable[None]],
        ) -> Callable[[M, Transaction], Awaitable[None]]:
            for message in messages:
                self._reactions[subscription][message.__kind__.type].append(Reaction(message, handler, declared))
            return handler

        return declare

    def projection(self, cls: type[P]) -> type[P]:
        """Keep a projection: ``@service.projection`` above its class."""
        self._projections.append(cls)
        return cls

    def projectors(self) -> list[Projector]:
        """One for each projection.

        Raises:
            FigError: ``no_log``.
        """
        if self._log is None:
            if self._projections:
                raise self._no_log()
            return []
        return [
            Projector(
                cls, self._sessions, self._log, group=self._group, lease=self._lease, keys=self._forms.keys,
                tenant=self.tenant,
            )
            for cls in self._projections
        ]  # fmt: skip

    def _no_log(self) -> FigError:
        return FigError(
            "no_log", f"the service {self.name} reacts to events and has no log", "Give it one: Service(log=…)."
        )

    def consumers(self) -> list[Consumer]:
        """One for each subscription.

        Raises:
            FigError: ``no_log``.
        """
        if self._log is None:
            if self._reactions:
                raise self._no_log()
            return []
        return [
            Consumer(
                f"{self._group}.{name}" if name else self._group,
                reactions, self._sessions, self._log, self._forms, self._outbox, self.wrote,
                fit=self._fit[name], lease=self._lease, linger=self.linger, kill_point=self.kill_point,
                tenant=self.tenant,
            )
            for name, reactions in self._reactions.items()
        ]  # fmt: skip

    def keeps(self, room: str, package: str, tables: Sequence[str], old: Sequence[LiteralString] = ()) -> None:
        """Have :meth:`migrate` make tables of a part that comes on top, and :meth:`run` delete what is old in them.

        Args:
            package: where the files are; ``grants.sql`` among them, if there is one, says what ``{role}`` needs.
            old: statements that delete at most ``most`` rows each, of those older than ``keep``.
        """
        if room not in self._tables:
            self._old += old
        self._tables[room] = (package, tables)

    async def migrate(self, *, owner: str | None = None, users: Sequence[str] = ()) -> None:
        """Create or bring forward the kit's tables in the service's database, by a role that may.

        Args:
            owner: the role that they shall belong to, where that is not the one that connects.
            users: the roles that the service runs as, which are granted what it needs.
        """
        async with postgres.session(self._dsn, what="migrate", application_name=f"{self.name}:migrate") as conn:
            if owner is not None:
                await conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
            for room, (package, tables) in self._tables.items():
                await postgres.migrate(conn, room, package, tables)
                grants = files(package).joinpath("grants.sql")
                for user in users if grants.is_file() else ():
                    statements = sql.SQL(grants.read_text(encoding="utf-8"))
                    await conn.execute(statements.format(role=sql.Identifier(user)))
            for user in users if self._projections else ():
                await conn.execute(_BUILDS.format(role=sql.Identifier(user)))

    def unit(self, conn: postgres.Connection) -> Unit:
        """One transaction's work, for who opens and writes it: a worker of the service's own."""
        return Unit(conn, self._forms, self._outbox)

    def wrote(self) -> None:
        """Something may be in the outbox."""
        if self._relay is not None:
            self._relay.poke()

    def fit(self, subscription: str, is_fit: Callable[[], Awaitable[None]]) -> None:
        """Have a process join a subscription only when ``is_fit`` returns; until then it asks again."""
        self._fit[subscription].append(is_fit)

    def beside(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have :meth:`run` run this as well."""
        self._beside.append((f"{self.name} {name}", work))

    def session(self) -> AbstractAsyncContextManager[postgres.Connection]:
        """A session for reading."""
        return self._sessions.session()

    async def execute(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        key: str | None = None,
        known: Callable[[Transaction], Awaitable[T | None]] | None = None,
        cause: Cause | None = None,
        tenant: str | None = None,
    ) -> T:
        """Do work in one transaction; again, from the beginning, when others were faster.

        Args:
            work: through its transaction alone; returns the answer.
            key: an idempotency key: who comes with it again gets the first answer again, and nothing is done. The
                answer must be JSON then. Each tenant has keys of its own.
            known: for a service that keeps its answers itself, in a table with a unique key: finds the one that was
                given before. It is asked when the work could not be written, or is refused.
            cause: what the messages say they follow from; of ``key``, where none is given.
            tenant: for whom it is; the service's own, where it has one.

        Raises:
            Refused: a rule says no; nothing is kept, and the key may be used again.
            Destroyed: personal data were to be written of a subject whose key was destroyed; the same.
            FigError: ``contended`` when others were faster twenty times; ``database_unreachable`` (whether it was done
                is not known: with a key, ask again); ``not_owner`` while another side owns what was to be written;
                ``bad_tenant``; ``tenant_differs`` when the service or the cause is another's; ``tenant_missing`` when
                there is none and the work needs one.
        """
        why = self._of_tenant(cause or Cause(key, key), tenant)
        kept = None if key is None else within(why.tenant, key)
        async with self._sessions.session() as conn:
            with owning(self.name):
                return await self._execute(conn, work, kept, known, why)

    async def _execute(
        self,
        conn: postgres.Connection,
        work: Callable[[Transaction], Awaitable[T]],
        key: str | None,
        known: Callable[[Transaction], Awaitable[T | None]] | None,
        why: Cause,
    ) -> T:
        for round_ in range(ROUNDS):
            unit = Unit(conn, self._forms, self._outbox)
            tx = Transaction(unit, why)
            try:
                answer = await work(tx)
                tx.settle()
                if key is not None:
                    unit.write(Part(queries.put_answer, (key, orjson.dumps(answer).decode())))
                await commit(unit)
                traces.end_together(self.name, unit.spans, size=1)
            except (Refused, Destroyed, Changed) as error:
                if key is not None and (text := await postgres.value(conn, queries.answer, (key,))) is not None:
                    return orjson.loads(text)  # type: ignore[no-any-return]
                if known is not None:
                    before = await known(Transaction(Unit(conn, self._forms, self._outbox), why))
                    if before is not None:
                        return before
                if not isinstance(error, Changed):
                    raise
                last = error
                await asyncio.sleep(random.uniform(0, 0.002) * round_)  # noqa: S311  who meets again should not
                continue
            self.wrote()
            return answer
        raise FigError(
            "contended",
            f"others changed what {self.name} was about to change, {ROUNDS} times: {last}",
            "Ask again. When it stays so: too much goes through one aggregate, or an id is made twice.",
        ) from last

    def _of_tenant(self, cause: Cause, tenant: str | None) -> Cause:
        """A cause, for the tenant that the work, the cause or the service names: all that do name the same."""
        named = [each for each in (checked(tenant), checked(cause.tenant), self.tenant) if each is not None]
        if len({*named}) > 1:
            raise differs("the work", named[-1], named[0])
        return replace(cause, tenant=named[0]) if named else cause

    async def destroy_key(self, subject: str | int, *, tenant: str | None = None) -> None:
        """Destroy the key of a subject's personal data, which read as None from then on: in this process at once, in
        others a minute later at the latest (:data:`~stranglerfig.kit.keys.REMEMBERED`). What is still to be written
        about the subject must not have any, for no other key is made. It may be done again, and for a subject that has
        no key.

        Args:
            tenant: whose the subject is; the service's own, where it has one.

        Raises:
            FigError: ``bad_tenant``, ``tenant_differs``.
        """
        whose = self._of_tenant(Cause(), tenant).tenant
        async with self._sessions.session() as conn:
            params = {"subject": within(whose, str(subject))}
            id = await postgres.value(conn, queries.destroy_personal_key, params)
        if id is not None:
            self._forms.keys.drop(id)

    async def run(self) -> None:
        """Relay and consume until cancelled; what fails is begun again."""
        consumers, projectors = self.consumers(), self.projectors()
        async with asyncio.TaskGroup() as group:
            works = [*((each.name, each.run) for each in consumers), *self._beside]
            works += [(f"{self.name} forgets", self._forget), (f"{self.name} looks after others", self._look_after)]
            works += [(f"{self.name} {each.shape.name}", each.run) for each in projectors]
            if self._relay is not None:
                works.append((f"{self.name} relay", self._relay.run))
            for name, work in works:
                group.create_task(tasks.supervise(work, name=name), name=name)

    async def _look_after(self) -> None:
        """End the transactions of processes that stand still, for whoever takes their place waits for them."""
        async with postgres.session(self._dsn, what="watch", application_name=f"{self.name}:watch") as conn:
            while True:
                params = {"name": self.name, "seconds": postgres.STILL}
                if ended := await postgres.value(conn, queries.end_standing, params):
                    log.warning(
                        "%d transactions of %s stood still for more than %d s, and are ended",
                        ended, self.name, postgres.STILL, extra={"action": "standing_ended"},
                    )  # fmt: skip
                await asyncio.sleep(postgres.STILL / 4)

    async def _forget(self) -> None:
        """Delete what was kept for long enough, a little at a time."""
        while True:
            for statement in self._old:
                deleted = FORGOTTEN
                while deleted == FORGOTTEN:
                    async with self.session() as conn:
                        deleted = (await conn.execute(statement, {"keep": self._keep, "most": FORGOTTEN})).rowcount
            await asyncio.sleep(FORGETS * random.uniform(0.5, 1))  # noqa: S311  not all processes at once

    async def close(self) -> None:
        """Let go of the sessions."""
        await self._sessions.close()

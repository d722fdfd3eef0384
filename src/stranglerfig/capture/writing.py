"""What both engines of capture share: what a life begins with, and how what was read is written into the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stranglerfig.capture import outbox, pack
from stranglerfig.capture.decode import Aside, Loose, Outcome, Part
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.job import CaptureJob
from stranglerfig.capture.memory import Memory, Remembered
from stranglerfig.capture.model import State
from stranglerfig.capture.parting import Parting, Writer
from stranglerfig.changes.model import ACTIVATED, MARKER, REFUSED, VERSION, SourcePosition, lsn_text
from stranglerfig.changes.spread import Spread
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry import traces


def ours(context: str) -> Callable[[str, str], bool]:
    """Tells what is said of ``context``: everyone's messages are in every stream of the database."""

    def keep(prefix: str, content: str) -> bool:
        return prefix in (MARKER, ACTIVATED, VERSION) and pack.context_of(content) in (context, None)

    return keep


def _published(topic: str, event: Event) -> traces.Opened | None:
    return traces.since(
        f"publish {event.type}", event.traceparent, event.time.timestamp(), "producer",
        **{"messaging.destination.name": topic, "messaging.message.id": event.id},
    )  # fmt: skip


class Life(NamedTuple):
    """What one life of a flow begins with, whichever engine reads the source.

    Attributes:
        state: as it was remembered last.
        after: what the log has whole; what the source gives up to there is passed over.
        parting: how what is read is divided over the topic's partitions; None: all of it goes to the first.
    """

    job: CaptureJob
    memory: Memory
    facts: Facts
    state: State
    after: SourcePosition
    parting: Parting | None = None


class Writing:
    """Appends what a flow's decoder gave, and remembers which outbox rows may go."""

    def __init__(self, life: Life, kept: Remembered) -> None:
        self._life = life
        self._kept = kept
        self._generation, self._system = life.state.generation, life.state.system
        self._published: list[str] = []
        self._counted = clock.monotonic()
        self._partitions = 1 if life.parting is None else len(life.parting.durable)
        self._writer: Writer | None = None
        if life.parting is not None:
            self._writer = Writer(
                life.memory, self._generation, spreads=life.state.spreads, parting=life.parting, turned=self._turned
            )

    async def _turned(self, lsn: int, spread: Spread) -> None:
        await self._kept.become(lambda state: state.turning(lsn, spread))

    async def append(self, outcomes: Sequence[Outcome]) -> None:
        """Events first, changes last: what the log has of the changes tells what it has of everything."""
        memory, facts, context = self._life.memory, self._life.facts, self._life.job.context
        events = [outbox.event(o, source=memory.source) for o in outcomes if isinstance(o, Aside)]
        if events:
            await outbox.publish(memory.log, events)
            self._published += [event.id for _, event in events]
            said = [_published(topic, event) for topic, event in events]
            traces.end_together("publish", [each for each in said if each is not None], size=len(said))
        refusals = [
            event
            for o in outcomes
            if isinstance(o, Loose) and o.prefix == REFUSED and pack.context_of(o.content) == context
            if (event := pack.refusal(o, source=memory.source, system=self._system, now=clock.now()))
        ]
        if refusals:
            await outbox.publish(memory.log, [(f"fig.refusals.{context}", event) for event in refusals])
            facts.refusals += len(refusals)
        parts = [o for o in outcomes if isinstance(o, Part)]
        if parts:
            if self._writer is not None:
                await self._writer.append(parts)
            else:
                await memory.append(pack.pack(parts, source=memory.source, generation=self._generation))
            facts.transactions += sum(part.transaction.end for part in parts)
            facts.changes += sum(len(part.transaction.items) for part in parts)
            ended = [part.transaction for part in parts if part.transaction.end]
            spans = [
                traces.since(self._life.job.what, made.trace, made.committed_at / 1e6, lsn=lsn_text(made.lsn))
                for made in ended
                if made.trace is not None
            ]
            traces.end_together(
                f"{self._life.job.what}: append", [each for each in spans if each is not None], size=len(ended)
            )

    async def clean(self, conn: postgres.Connection) -> None:
        """Delete outbox rows whose events the log has."""
        if self._published and self._life.job.outbox is not None:
            ids, self._published = self._published, []
            await outbox.delete_published(conn, self._life.job.outbox, ids)

    async def count(self) -> None:
        """Now and then, look whether the topic was given partitions: another life takes them up.

        Raises:
            FigError: ``partitions_added``.
        """
        life = self._life
        if life.job.spread is None or clock.monotonic() - self._counted < life.job.pace.partitions:
            return
        self._counted = clock.monotonic()
        if await life.memory.partitions() > self._partitions:
            raise FigError(
                "partitions_added",
                f"the topic {life.memory.topic} has more partitions than are written",
                "Nothing: capture begins to use them.",
                topic=life.memory.topic,
            )

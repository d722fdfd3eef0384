"""What both engines of capture share: how what was read is written into the log, and how often what is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stranglerfig.capture import outbox, pack
from stranglerfig.capture.decode import Aside, Loose, Outcome, Part
from stranglerfig.capture.facts import Facts
from stranglerfig.capture.memory import Memory
from stranglerfig.capture.model import State
from stranglerfig.changes.model import ACTIVATED, MARKER, REFUSED, lsn_text
from stranglerfig.foundation import clock, postgres
from stranglerfig.telemetry import traces


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done that cost something; seconds, and bytes of WAL."""

    linger: float = 0.0
    """Between two appends, so that what commits meanwhile travels in one record; markers do not wait."""
    look: float = 1.0
    heartbeat: float = 10.0
    acknowledge: float = 5.0
    acknowledge_bytes: int = 64 * 1024 * 1024


def ours(context: str) -> Callable[[str, str], bool]:
    """Tells markers and activations of ``context``: everyone's messages are in every stream of the database."""

    def keep(prefix: str, content: str) -> bool:
        return prefix in (MARKER, ACTIVATED) and pack.context_of(content) in (context, None)

    return keep


class Writing:
    """Appends what a flow's decoder gave, and remembers which outbox rows may go.

    Args:
        what: how the flow names itself in traces.
        state: the flow's, for the generation and the source's identity.
    """

    def __init__(
        self, memory: Memory, facts: Facts, *, context: str, what: str, outbox_table: str | None, state: State
    ) -> None:
        self._memory = memory
        self._facts = facts
        self._context = context
        self._what = what
        self._outbox = outbox_table
        self._generation, self._system = state.generation, state.system
        self._published: list[str] = []

    async def append(self, outcomes: Sequence[Outcome]) -> None:
        """Events first, changes last: what the log has of the changes tells what it has of everything."""
        memory = self._memory
        events = [outbox.event(o, source=memory.source) for o in outcomes if isinstance(o, Aside)]
        if events:
            await outbox.publish(memory.log, events)
            self._published += [event.id for _, event in events]
        refusals = [
            event
            for o in outcomes
            if isinstance(o, Loose) and o.prefix == REFUSED and pack.context_of(o.content) == self._context
            if (event := pack.refusal(o, source=memory.source, system=self._system, now=clock.now()))
        ]
        if refusals:
            await outbox.publish(memory.log, [(f"fig.refusals.{self._context}", event) for event in refusals])
            self._facts.refusals += len(refusals)
        parts = [o for o in outcomes if isinstance(o, Part)]
        if parts:
            frames = pack.pack(parts, source=memory.source, generation=self._generation)
            await memory.append(frames)
            self._facts.transactions += sum(part.transaction.end for part in parts)
            self._facts.changes += sum(len(part.transaction.items) for part in parts)
            now = clock.epoch()
            for made in (part.transaction for part in parts):
                if made.trace is not None and made.end:
                    traces.record(self._what, made.trace, made.committed_at / 1e6, now, lsn=lsn_text(made.lsn))

    async def clean(self, conn: postgres.Connection) -> None:
        """Delete outbox rows whose events the log has."""
        if self._published and self._outbox is not None:
            ids, self._published = self._published, []
            await outbox.delete_published(conn, self._outbox, ids)

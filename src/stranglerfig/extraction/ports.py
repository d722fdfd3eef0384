"""What the cut-over needs from outside: the façade's fence, the journal, the proof, the flows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, Protocol

from stranglerfig.databases.model import Side

Progress = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Says what is being done: a line of text, and figures (``done``, ``total``, ``rate``, ``remaining``) where known."""


@dataclass(frozen=True, slots=True)
class HoldStats:
    """Requests that waited at the fence in one cut-over, and commands that waited in their queues; in milliseconds."""

    held_requests: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    waits_ms: Sequence[float] = ()
    held_commands: int = 0
    commands_p99_ms: float = 0.0
    commands_max_ms: float = 0.0

    def with_commands(self, held: int, p99_ms: float, max_ms: float) -> HoldStats:
        """The same requests, and these commands."""
        return replace(self, held_commands=held, commands_p99_ms=p99_ms, commands_max_ms=max_ms)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class FacadePort(Protocol):
    """The façade, as the cut-over sees it."""

    async def close(self, context: str, epoch: int, *, timeout: float) -> None:
        """Return when the fence server has seen ``intent(epoch)`` and holds writes, the fenced table is live on every
        Envoy, and no write is in flight; commands wait in their queues, and each that was passed on is done.

        Raises:
            FigError: ``writes_in_flight`` or ``commands_in_flight`` (with what does not end) or another code after
                ``timeout`` seconds.
        """
        ...

    async def steady(self, context: str, owner: Side) -> None:
        """Flip to the routes in which writes go straight to ``owner``; the fence server opens by itself."""
        ...

    async def holds(self, context: str, epoch: int) -> HoldStats:
        """What waited in the hold of ``epoch``; zeros when nothing did."""
        ...


Phase = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; ``id`` and ``at`` are given by the journal."""

    context: str
    epoch: int
    direction: str
    step: str
    phase: Phase
    detail: Mapping[str, Any]
    id: int | None = None
    at: datetime | None = None


class JournalPort(Protocol):
    """The durable record of a cut-over's steps."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append in order, in one transaction, on disk when it returns."""
        ...

    async def entries(self, context: str, epoch: int | None = None) -> list[Entry]:
        """The entries of a context (of one epoch), oldest first."""
        ...


class ProofPort(Protocol):
    """Both sides hold the same: by row verification, which the caller wires."""

    async def rehearse(self) -> None:
        """The full comparison, before anything is held; remembers where it stood on both sides.

        Raises:
            FigError: when it cannot be said that both sides are equal.
        """
        ...

    async def prove(self, nonce: str) -> None:
        """Rows touched since the rehearsal (chosen by ``xmin`` on both sides) and chunk counts are equal; L is fenced
        and W has applied the marker ``nonce``. Quick: requests are waiting.

        Raises:
            FigError: when they are not.
        """
        ...


class FlowsPort(Protocol):
    """The two streams, by direction (``forward``: monolith → service, ``reverse``)."""

    async def lag(self, direction: str) -> float | None:
        """Seconds that the target is behind; None when the stream does not run."""
        ...

    async def connected(self, direction: str) -> bool:
        """Whether capture streams and sync applies."""
        ...

    async def parked(self, direction: str) -> int:
        """How many changes wait because they could not be applied."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What a cut-over works with besides the two databases."""

    facade: FacadePort
    journal: JournalPort
    proof: ProofPort
    flows: FlowsPort

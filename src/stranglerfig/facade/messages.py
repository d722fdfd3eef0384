"""Where a message of an inbound queue goes, and when: by type and share, in order per key, never to both sides.

Pure. The router (``router``) tells what arrived, was confirmed and failed, and does what is said here.

Order per key holds because, unless told otherwise, one message of a key is on its way to the broker: a later one goes
when the earlier one is confirmed. So a message that the broker refuses can be sent again without being overtaken.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.databases.model import Side
from stranglerfig.facade.queues import Place, QueueSettings, place
from stranglerfig.facade.settings import Routes
from stranglerfig.foundation.errors import FigError

Kind = Literal["read", "write", "other"]
RETRY_FIRST, RETRY_MOST = 0.1, 5.0
"""Seconds before a message that the broker refused is sent again: the first pause, and what it grows to."""


# --- what is configured


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of what context a message type is, and whether it reads or writes."""

    context: str
    kind: Kind


@dataclass(frozen=True)
class QueuePlan:
    """One inbound queue: where its messages go on, how they are read, which types belong to which context.

    A type that no context names is ``other``: it passes to the monolith.
    """

    name: str
    targets: Mapping[Side, str]
    services: Mapping[str, str]
    types: Mapping[str, Meaning]
    type: Place
    key: Place | None
    command_id: Place | None
    prefetch: int
    window: int

    def queue(self, side: Side, context: str) -> str:
        """Where messages of ``context`` for ``side`` go on."""
        return self.services[context] if side == "service" else self.targets["monolith"]

    @property
    def outbound(self) -> tuple[str, ...]:
        """All the queues that it leads to."""
        return (self.targets["monolith"], *dict.fromkeys(self.services.values()))


def plans(contexts: Iterable[tuple[str, Routes, Mapping[str, QueueSettings]]]) -> dict[str, QueuePlan]:
    """One plan per inbound queue, joined over the contexts that take commands from it.

    Raises:
        FigError: ``queue_conflict`` when two contexts do not mean the same by it.
    """
    found: dict[str, QueuePlan] = {}
    for context, routes, queues in contexts:
        for name, settings in queues.items():
            types = {
                one: Meaning(context, kind)
                for kind, declared in _kinds(routes)
                for route in declared
                if route.queue == name
                for one in route.types
            }
            plan = QueuePlan(
                name,
                {"monolith": settings.monolith},
                {context: settings.service},
                types,
                place(settings.type),
                place(settings.key) if settings.key else None,
                place(settings.command_id) if settings.command_id else None,
                settings.prefetch,
                settings.window,
            )
            found[name] = _joined(found[name], plan) if name in found else plan
    return found


def _kinds(routes: Routes) -> tuple[tuple[Kind, Sequence[Any]], ...]:
    return (("read", routes.queue_reads), ("write", routes.queue_writes))


def _joined(one: QueuePlan, other: QueuePlan) -> QueuePlan:
    def conflict(what: str) -> FigError:
        return FigError(
            "queue_conflict",
            f"two contexts take commands from the queue '{one.name}' and differ in {what}",
            "Give both the same; what is the context's own is types and the service's queue.",
            queue=one.name,
        )

    for what in ("targets", "type", "key", "command_id"):
        if getattr(one, what) != getattr(other, what):
            raise conflict("monolith" if what == "targets" else what)
    if both := set(one.types) & set(other.types):
        raise conflict(f"whose {', '.join(sorted(both))} is")
    return QueuePlan(
        one.name,
        one.targets,
        {**one.services, **other.services},
        {**one.types, **other.types},
        one.type,
        one.key,
        one.command_id,
        min(one.prefetch, other.prefetch),
        min(one.window, other.window),
    )


# --- where the contexts stand


@dataclass(frozen=True, slots=True)
class ContextTable:
    """Where a context's messages go now: writes to a side, or nowhere while ``fenced``; reads to the service by share
    (percent)."""

    context: str
    writes: Side | Literal["fenced"] = "monolith"
    reads: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"context": self.context, "writes": self.writes, "reads": self.reads}


def in_flight_unknown(why: str) -> FigError:
    """Whether commands are in flight cannot be said."""
    return FigError(
        "in_flight_unknown",
        f"which commands are in flight cannot be known: {why}",
        "Enable the plugin rabbitmq_prometheus, name its address in broker.metrics, and let consumers share the queue "
        "(neither exclusive nor single active consumer).",
    )


def lot(text: str) -> float:
    """A number in [0, 100) that is always the same for ``text``: who was moved stays moved as a share grows."""
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=4).digest(), "big") / 2**32 * 100


# --- order


@dataclass(slots=True)
class Message:
    """A message in the router's hands; ``tag`` is its number at the inbound channel."""

    tag: int
    meaning: Meaning
    key: str
    lot: float
    arrived: float
    type: str = ""
    attempts: int = 0
    state: Literal["waiting", "sent", "held", "failed"] = "waiting"


@dataclass(frozen=True, slots=True)
class Send:
    """To be published now."""

    message: Message
    side: Side


Where = Callable[[Message], Side | None]
"""Where a message goes now; None while it has to wait."""


@dataclass(slots=True)
class _Line:
    """The messages of one key: those on their way (or refused by the broker), then those that wait for their turn."""

    going: deque[Message] = field(default_factory=deque)
    waiting: deque[Message] = field(default_factory=deque)
    side: Side | None = None
    failed: int = 0


@dataclass
class Lines:
    """The messages in hand, a line per key; whose turn it is goes, waits at the fence, or is tried again.

    Args:
        window: how many of a line may be on their way at once. With more than one, order holds where a queue that
            refuses one refuses those behind it too; not where it is full for a moment (``reject-publish``).
    """

    where: Where
    window: int = 1
    _lines: dict[str, _Line] = field(default_factory=dict)
    _messages: dict[int, Message] = field(default_factory=dict)
    _held: dict[str, _Line] = field(default_factory=dict)
    _failed: dict[str, float] = field(default_factory=dict)
    _order: deque[int] = field(default_factory=deque)
    _done: set[int] = field(default_factory=set)
    _settled: set[int] = field(default_factory=set)
    _sent: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._messages)

    def arrived(self, message: Message) -> list[Send]:
        """A message has come; what to send, if it is its turn."""
        self._messages[message.tag] = message
        self._order.append(message.tag)
        line = self._lines.get(message.key)
        if line is None:
            line = self._lines[message.key] = _Line()
        line.waiting.append(message)
        return self._advance(message.key, line)

    def confirmed(self, tag: int) -> list[Send]:
        """The broker has it; the next of its key, if they may go."""
        message = self._messages.pop(tag)
        self._sent[message.meaning.context] -= 1
        self._done.add(tag)
        line = self._lines[message.key]
        if line.going[0] is message:
            line.going.popleft()
        else:
            line.going.remove(message)
        if not line.going and not line.waiting:
            del self._lines[message.key]
            return []
        return self._mend(line) if line.failed else self._advance(message.key, line)

    def failed(self, tag: int, now: float) -> None:
        """The broker refused it, or there was no queue: it is tried again, and its line waits."""
        message = self._messages[tag]
        self._sent[message.meaning.context] -= 1
        message.state = "failed"
        message.attempts += 1
        self._lines[message.key].failed += 1
        pause = min(RETRY_MOST, RETRY_FIRST * 2 ** (message.attempts - 1))
        self._failed[message.key] = max(now + pause, self._failed.get(message.key, 0.0))

    def again(self, now: float) -> list[Send]:
        """What may go now of that which waited: at the fence, or for its next attempt."""
        found = []
        for key in [key for key, due in self._failed.items() if due <= now]:
            if any(message.state == "sent" for message in self._lines[key].going):
                continue  # what becomes of those is to be known first
            del self._failed[key]
            found += self._mend(self._lines[key])
        held, self._held = self._held, {}
        for key, line in held.items():
            found += self._advance(key, line)
        return sorted(found, key=lambda send: send.message.tag)

    def _mend(self, line: _Line) -> list[Send]:
        """The first of a line that was refused goes again, alone."""
        if any(message.state == "sent" for message in line.going):
            return []
        message = next(message for message in line.going if message.state == "failed")
        side = self.where(message)
        if side is None:
            # At the fence now: those that were refused are in no queue, so they wait with the others.
            line.waiting.extendleft(reversed(line.going))
            line.going.clear()
            line.failed = 0
            self._failed.pop(message.key, None)
            return self._advance(message.key, line)
        line.failed -= 1
        line.side = side
        self._failed.pop(message.key, None)
        return [self._go(message, side)]

    def _advance(self, key: str, line: _Line) -> list[Send]:
        found: list[Send] = []
        if line.failed:
            return found
        while line.waiting and len(line.going) < self.window:
            message = line.waiting[0]
            side = self.where(message)
            if side is None:
                message.state = "held"
                self._held[key] = line
                break
            if line.going and side != line.side:
                break  # toward another queue only when those before have arrived in theirs
            line.side = side
            line.going.append(line.waiting.popleft())
            found.append(self._go(message, side))
        return found

    def _go(self, message: Message, side: Side) -> Send:
        message.state = "sent"
        self._sent[message.meaning.context] = self._sent.get(message.meaning.context, 0) + 1
        return Send(message, side)

    def acks(self) -> list[tuple[int, bool]]:
        """What to acknowledge now: (tag, and all before it).

        Behind one that waits, each by itself: it could wait for long, and what is acknowledged comes to nobody again.
        """
        last = 0
        while self._order and self._order[0] in self._done:
            tag = self._order.popleft()
            self._done.discard(tag)
            if tag in self._settled:
                self._settled.discard(tag)
            else:
                last = tag
        found = [(last, True)] if last else []
        if self._order and self._done and self._messages[self._order[0]].state != "sent":
            single = sorted(self._done - self._settled)
            self._settled.update(single)
            found += [(tag, False) for tag in single]
        return found

    def sent(self, context: str | None = None) -> int:
        """How many are on their way to the broker, of one context or of all."""
        return sum(self._sent.values()) if context is None else self._sent.get(context, 0)

    def held(self, context: str) -> list[Message]:
        """Who waits at the fence, and who waits behind them in their lines."""
        return [
            message
            for line in self._held.values()
            if line.waiting[0].meaning.context == context
            for message in line.waiting
        ]

    def failing(self) -> int:
        """How many lines wait for their next attempt."""
        return len(self._failed)

    def next_attempt(self) -> float | None:
        """When the next attempt is due."""
        return min(self._failed.values(), default=None)

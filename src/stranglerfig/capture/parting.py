"""A stream of transactions over the partitions of its topic: who gets what, barriers, and what each has already.

:class:`Splitter` is pure; :class:`Writer` appends what it says, and turns from one spread to the next at a transaction
that is decided and remembered before anything of it is appended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from stranglerfig.capture import pack
from stranglerfig.capture.decode import WHOLE, Part
from stranglerfig.capture.memory import Memory
from stranglerfig.changes.model import Barrier, SourcePosition, Transaction
from stranglerfig.changes.spread import Router, Spread
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock

Divided = list[list[Part | Barrier]]
"""What each partition gets, by its number."""


class Splitter:
    """Divides transactions; passes over what a partition has already.

    Args:
        durable: the last position that each partition has.
    """

    def __init__(self, spread: Spread, durable: Sequence[SourcePosition]) -> None:
        self.spread = spread
        self._router = Router(spread)
        self._durable = list(durable)

    def split(self, parts: Sequence[Part]) -> Divided:
        """What each partition gets of ``parts``, in order."""
        found: Divided = [[] for _ in self._durable]
        for part in parts:
            transaction = part.transaction
            whole = transaction.end and transaction.first == 1
            if self.spread.partitions == 1:
                self._give(found, 0, part)
            elif whole and (divided := self._router.divide(transaction)) is not None:
                for number, items in divided.items():
                    own = transaction._replace(items=tuple(items))
                    self._give(found, number, Part(own, part.size * len(items) // len(transaction.items)))
            else:
                self._alone(found, part)
        return found

    def _alone(self, found: Divided, part: Part) -> None:
        """Between two barriers: what has to be applied by itself, of which ``part`` may be a piece."""
        transaction, partitions = part.transaction, self.spread.partitions
        if transaction.first == 1:
            self.fence(found, Barrier(transaction.lsn, 0, partitions))
        self._give(found, 0, part)
        if transaction.end:
            last = transaction.first + len(transaction.items) - 1
            self.fence(found, Barrier(transaction.lsn, last, partitions, closes=True), first=False)

    def _give(self, found: Divided, number: int, part: Part) -> None:
        if _last(part.transaction) > self._durable[number]:
            found[number].append(part)

    def fence(self, found: Divided, barrier: Barrier, *, first: bool = True) -> None:
        """Put a barrier into every partition that does not have it yet; into the first one unless told otherwise."""
        for number, durable in enumerate(self._durable):
            if barrier.position > durable and (number or first):
                found[number].append(barrier)


def _last(transaction: Transaction) -> SourcePosition:
    return SourcePosition(transaction.lsn, WHOLE if transaction.end else transaction.first + len(transaction.items) - 1)


def turn(lsn: int, partitions: int) -> tuple[Barrier, Barrier]:
    """The barrier behind which another spread holds, from the transaction at ``lsn`` on.

    Its place is a byte of WAL before that transaction's commit, where no other one can be.
    """
    return Barrier(lsn - 1, 0, partitions), Barrier(lsn - 1, 1, partitions, closes=True)


class Parting(NamedTuple):
    """What a stream over several partitions begins with: see :class:`Writer`."""

    wanted: Spread
    seen: int
    durable: tuple[SourcePosition, ...]

    @property
    def after(self) -> SourcePosition:
        """What every partition has whole; a transaction that only some have is decoded again."""
        return SourcePosition(min(self.durable).lsn - 1, WHOLE)


class Writer:
    """Appends a flow's transactions to the partitions of its topic.

    Args:
        spreads: from which commit LSN on which spread holds, as capture's state has it.
        parting: ``wanted``, the spread that shall hold from the first transaction beyond ``seen`` on (where the
            source's WAL ended when this life began: nothing beyond it is in the log); ``durable``, the last position
            that each partition has.
        turned: remembers durably that a spread holds from an LSN on.
    """

    def __init__(
        self,
        memory: Memory,
        generation: int,
        *,
        spreads: Sequence[tuple[int, Spread]],
        parting: Parting,
        turned: Callable[[int, Spread], Awaitable[None]],
    ) -> None:
        self._memory = memory
        self._generation = generation
        self._ahead = list(spreads or ((0, Spread()),))
        self._durable = parting.durable
        self._splitter = Splitter(self._ahead.pop(0)[1], self._durable)
        newest = self._ahead[-1][1] if self._ahead else self._splitter.spread
        self._wanted = parting.wanted if parting.wanted != newest else None
        self._seen = parting.seen
        self._turned = turned

    async def append(self, parts: Sequence[Part]) -> None:
        """Append ``parts``; durable in every partition when it returns."""
        rest = list(parts)
        while rest:
            count, boundary = self._until(rest)
            if count:
                await self._put(self._splitter.split(rest[:count]))
            rest = rest[count:]
            if boundary is not None:
                await self._turn(*boundary)

    def _until(self, parts: Sequence[Part]) -> tuple[int, tuple[int, Spread] | None]:
        """How many of ``parts`` the present spread holds for, and what holds after them."""
        if not self._ahead and self._wanted is None:
            return len(parts), None
        for number, part in enumerate(parts):
            lsn = part.transaction.lsn
            if self._ahead:
                if lsn >= self._ahead[0][0]:
                    return number, self._ahead[0]
            elif self._wanted is not None and lsn > self._seen and part.transaction.first == 1:
                return number, (lsn, self._wanted)
        return len(parts), None

    async def _turn(self, lsn: int, spread: Spread) -> None:
        if self._ahead:
            self._ahead.pop(0)
        else:
            self._wanted = None
            await self._turned(lsn, spread)
        former, self._splitter = self._splitter.spread, Splitter(spread, self._durable)
        found: Divided = [[] for _ in self._durable]
        for barrier in turn(lsn, former.partitions):
            self._splitter.fence(found, barrier)
        await self._put(found)

    async def _put(self, divided: Divided) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number, items in enumerate(divided):
                    if items:
                        group.create_task(self._memory.append(self._events(items, number), number))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def _events(self, items: Sequence[Part | Barrier], partition: int) -> list[Event]:
        return pack.mixed(
            items, source=self._memory.source, generation=self._generation, partition=partition, now=clock.now()
        )

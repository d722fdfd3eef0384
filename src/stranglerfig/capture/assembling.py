"""What the assemblers of raw topics share: records in, the parts of whole transactions out. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stranglerfig.capture.decode import Drifted, Outcome, Part
from stranglerfig.capture.model import compare
from stranglerfig.changes.model import TRACE, Change, Message, Relation, Row, SourcePosition, Transaction
from stranglerfig.foundation.errors import FigError

LIFE: Final = "fig.life"
"""Header by which a record says in which of a flow's lives its connector was told to send it."""
_LEAST = 40
"""Bytes that a change counts for at least."""


class Raw(NamedTuple):
    """A record of the raw topic; ``moved`` says that it is the first of the two that a change of key becomes."""

    offset: int
    value: bytes
    moved: bool = False


def broken(what: str) -> FigError:
    """The raw topic does not hold whole transactions in order: the connector begins again at the slot."""
    return FigError(
        "raw_topic_broken",
        f"the connector's records do not make a whole transaction: {what}",
        "Capture makes the connector begin again where the slot stands. If it stays, take a new snapshot of this flow.",
    )


@dataclass(slots=True)
class OpenTransaction:
    """The transaction whose records are being read.

    Attributes:
        order: the number that the connector gave the change that was read last.
        ordinal, first: the numbers of the last item that was kept, and of the first of the next part.
        items, size: the part's, in bytes.
        moved: the old row of a change of key whose second half is still to come.
    """

    xid: int
    lsn: int = 0
    order: int = 0
    committed_at: int = 0
    ordinal: int = 0
    first: int = 1
    items: list[Change | Message] = field(default_factory=list)
    size: int = 0
    trace: str | None = None
    moved: Row | None = None


class Assembling(ABC):
    """The state of one reading of a raw topic.

    Args:
        keep_message: whether a transactional message (prefix, content) is kept.
        after: what is at or below this position is durable already, and is passed over.
        baseline: the shapes that tables had at ``after``.
        about: bytes by which each record says where it is from, which are in no frame.
        most_changes, most_bytes: where a large transaction is cut into parts.
    """

    def __init__(
        self,
        *,
        keep_message: Callable[[str, str], bool],
        after: SourcePosition,
        baseline: Mapping[str, Relation] | None,
        about: int,
        most_changes: int,
        most_bytes: int,
    ) -> None:
        self._keep_message = keep_message
        self._after = after
        self.baseline: dict[str, Relation] = dict(baseline or {})
        self._about = about
        self._most_changes = most_changes
        self._most_bytes = most_bytes
        self._out: list[Outcome] = []
        self.drifted = False
        self.next_offset = 0
        self.again: int | None = None
        """The offset to read on from, when a large transaction is to be read once more; the caller takes it back."""
        self.acknowledge = 0
        """Where the last transaction that ended has its end at the source."""

    @property
    def offset(self) -> int:
        """Where to read on after a death, once all that came out is durable."""
        return self.next_offset

    @property
    def _stopped(self) -> bool:
        """Whether what follows is not to be read now."""
        return self.drifted or self.again is not None

    def feed(self, records: Iterable[Raw]) -> list[Outcome]:
        """What these records complete, in order.

        Raises:
            FigError: ``raw_topic_broken``, ``bad_raw_record``.
        """
        out = self._out = []
        for raw in records:
            if self._stopped:
                break
            try:
                self._take(raw)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise FigError(
                    "bad_raw_record",
                    f"a record of the raw topic cannot be read (offset {raw.offset}): {type(error).__name__}: {error}",
                    "Nothing but the connector that fig made may write there, and its settings are fig's; "
                    "take a new snapshot of this flow.",
                    offset=raw.offset,
                ) from error
            if not self._stopped:
                self.next_offset = raw.offset + 1
        self._out = []
        return out

    @abstractmethod
    def _take(self, raw: Raw) -> None:
        """One record."""

    def _message(self, current: OpenTransaction, prefix: str, content: str, size: int) -> None:
        if prefix == TRACE:
            current.trace = content
        elif self._keep_message(prefix, content):
            self._add(current, Message(prefix, content), size)

    def _add(self, current: OpenTransaction, item: Change | Message, size: int) -> None:
        """The transaction's next item, whose record has ``size`` bytes; what came before goes out when it is enough."""
        if current.items and (len(current.items) >= self._most_changes or current.size >= self._most_bytes):
            self._cut(current, end=False)
        current.ordinal += 1
        if (current.lsn, current.ordinal) <= self._after:
            current.first = current.ordinal + 1
            return
        current.items.append(item)
        current.size += max(size - self._about, _LEAST)

    def _cut(self, current: OpenTransaction, *, end: bool) -> None:
        """Let the items so far go out as a part."""
        items = tuple(current.items)
        part = Transaction(
            current.lsn, current.xid, current.committed_at, current.first, items, end=end, trace=current.trace
        )
        self._out.append(Part(part, current.size))
        current.items = []
        current.first = current.ordinal + 1
        current.size = 0

    def _is_taken(self, name: str, relation: Relation, lsn: int) -> bool:
        """Whether rows of this shape go on where those of the shape before ended; else the table has drifted."""
        known = self.baseline.get(name)
        drift = None if known is None else compare(known, relation)
        if drift is not None and not drift.compatible:
            self._out.append(Drifted(lsn, drift))
            self.drifted = True
            return False
        self.baseline[name] = relation
        return True

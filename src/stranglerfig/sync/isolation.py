"""Which one of many changes is it that a target refuses: halves of transactions, then the source's own order.

Pure but for what it is given to try with; for any kind of target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stranglerfig.sync.model import Placed, Rows


class Trying(Protocol):
    """What a target does for it."""

    async def attempt(self, changes: Sequence[Placed], *, new_first: bool = False) -> bool:
        """Apply changes together, or nothing of them; whether they are in."""
        ...

    async def in_order(self, changes: Sequence[Placed]) -> None:
        """Apply one change after the other; raises ``Culprit`` at the one that is refused."""
        ...


async def carefully(target: Trying, groups: Sequence[Rows]) -> None:
    """Apply what was refused as a whole.

    Rows are first pointed elsewhere before what they pointed to goes, for that is a whole transaction's usual trouble.

    Raises:
        Culprit: with the change that is refused.
    """
    changes = [placed for group in groups for placed in group.placed()]
    if await target.attempt(changes):
        return
    if len(groups) > 1:
        half = len(groups) // 2
        await carefully(target, groups[:half])
        await carefully(target, groups[half:])
    elif not await target.attempt(changes, new_first=True):
        await target.in_order(changes)

"""The shards of a stream: which may be read, in what order, and where an append to a given one goes. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stranglerfig.foundation.errors import FigError


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard; its number is the partition's.

    Attributes:
        hash: where its range of hash keys begins.
        parents: the shards that were split or merged into it; what they hold comes before what it holds.
        ending: the sequence number that nothing in it goes beyond; None while it takes records.
    """

    number: int
    hash: str
    parents: tuple[int, ...]
    ending: int | None

    @property
    def id(self) -> str:
        """As Kinesis names it."""
        return f"shardId-{self.number:012d}"


def number_of(shard_id: str) -> int:
    """The number in a shard's name."""
    return int(shard_id.rpartition("-")[2])


def shard_of(answer: Mapping[str, Any]) -> Shard:
    """What ``ListShards`` says of one."""
    parents = (answer.get("ParentShardId"), answer.get("AdjacentParentShardId"))
    ending = answer["SequenceNumberRange"].get("EndingSequenceNumber")
    return Shard(
        number_of(answer["ShardId"]),
        str(answer["HashKeyRange"]["StartingHashKey"]),
        tuple(number_of(parent) for parent in parents if parent),
        None if ending is None else int(ending),
    )


def count(shards: Iterable[Shard]) -> int:
    """The partitions of a topic: numbers are not given twice, so those of expired shards are empty partitions."""
    return max((shard.number for shard in shards), default=-1) + 1


def offered(shards: Sequence[Shard], finished: frozenset[int]) -> list[int]:
    """The shards that a group may read: those it has not finished and whose forebears it has, or that are gone.

    Args:
        shards: by number, so that parents come before children.
        finished: closed shards that hold nothing the group has not read.
    """
    there = {shard.number for shard in shards}
    through: set[int] = set()
    found = []
    for shard in shards:
        # One that is empty is not done with while what comes before it is not: its children would overtake.
        if all(parent in through or parent not in there for parent in shard.parents):
            if shard.number in finished:
                through.add(shard.number)
            else:
                found.append(shard.number)
    return found


def shard_closed(topic: str, partition: int) -> FigError:
    """The shard was split or merged."""
    return FigError(
        "shard_closed",
        f"partition {partition} of '{topic}' takes no more events: its shard was split or merged",
        "Append by key, or to an open partition. What was on its way meanwhile is in a successor of the shard.",
        topic=topic,
        partition=partition,
    )

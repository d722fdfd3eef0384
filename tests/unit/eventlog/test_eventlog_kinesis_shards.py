"""Which shards may be read, and how Kinesis is addressed."""

from __future__ import annotations

import pytest

from stranglerfig.eventlog.kinesis_calls import Address, address_of
from stranglerfig.eventlog.kinesis_shards import Shard, count, offered, shard_of
from stranglerfig.foundation.errors import FigError

FIRST = Shard(0, "0", (), 10)
OTHER = Shard(1, "5", (), 10)
MERGED = Shard(2, "0", (0, 1), None)


def test_a_shard_as_kinesis_describes_it() -> None:
    found = shard_of(
        {
            "ShardId": "shardId-000000000007",
            "ParentShardId": "shardId-000000000003",
            "HashKeyRange": {"StartingHashKey": "12", "EndingHashKey": "20"},
            "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "49"},
        }
    )
    assert found == Shard(7, "12", (3,), 49)
    assert found.id == "shardId-000000000007"


def test_children_wait_for_both_parents() -> None:
    shards = [FIRST, OTHER, MERGED]
    assert count(shards) == 3
    assert count([]) == 0
    assert offered(shards, frozenset()) == [0, 1]
    assert offered(shards, frozenset({0})) == [1]
    assert offered(shards, frozenset({0, 1})) == [2]


def test_an_empty_shard_lets_nobody_overtake() -> None:
    grandchild = Shard(3, "0", (2,), None)
    shards = [FIRST, OTHER, Shard(2, "0", (0, 1), 10), grandchild]
    assert offered(shards, frozenset({1, 2})) == [0]
    assert offered(shards, frozenset({0, 1, 2})) == [3]


def test_parents_that_expired_hold_nobody_up() -> None:
    assert offered([MERGED], frozenset()) == [2]


def test_addresses() -> None:
    assert address_of("kinesis://eu-west-1") == Address("eu-west-1", None, None, None, 0.25)
    whole = address_of("kinesis://a:b%2Fc@eu-west-1?endpoint=http://127.0.0.1:1&poll=1")
    assert whole == Address("eu-west-1", "a", "b/c", "http://127.0.0.1:1", 1.0)
    assert "b/c" not in whole.name
    assert whole.name != address_of("kinesis://eu-west-1").name


@pytest.mark.parametrize("url", ["kinesis://", "kinesis://r?poll=x", "kinesis://r?poll=0", "kinesis://r?pol=1"])
def test_addresses_that_say_nothing(url: str) -> None:
    with pytest.raises(FigError, match="bad_log_url"):
        address_of(url)

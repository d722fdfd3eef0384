"""``moto``'s Kinesis with what it leaves out of the service's documented behaviour, where clients depend on it.

Amazon's Kinesis Data Streams API reference says, and moto 5.2 does otherwise:

- records of a shard that is split or merged stay in it until they expire; its iterators end (SplitShard, GetRecords);
- sequence numbers are large, with gaps, and unique in the stream; GetShardIterator refuses those it never gave;
- a page has at most 10,000 records and 10 MB; AT_TIMESTAMP refuses the future;
- records older than the retention are gone, and with them closed shards;
- a shard takes 1,000 records a second, and PutRecords then fails record by record.

moto also appends without a lock, so that two producers at once may lose a record. Run as
``python -m examples.servers.kinesis_standin PORT RECORDS_PER_SECOND SECONDS_PER_HOUR``.
"""

from __future__ import annotations

import sys
import threading
from base64 import b64decode
from collections import deque
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.utils import unix_time
from moto.kinesis.exceptions import InvalidArgumentError
from moto.kinesis.models import KinesisBackend, Record, Shard, Stream
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import decompose_shard_iterator
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import main as serve
from moto.utilities.utils import md5_hash

_PAGE_RECORDS = 10_000
_PAGE_BYTES = 10 * 1024 * 1024
_FIRST = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
_STEP = 1 << 68


class _Limits:
    per_second = 0
    hour = 3600.0


class Throttled(JsonRESTError):
    """The shard has taken what it takes in a second."""

    def __init__(self) -> None:
        super().__init__("ProvisionedThroughputExceededException", "Rate exceeded for shard")


_original_init = Shard.__init__
_lock = threading.RLock()


def _init(self: Any, *arguments: Any, **named: Any) -> None:
    _original_init(self, *arguments, **named)
    self.last = _FIRST + self._shard_id * 16
    self.given = set()
    self.recent = deque()
    self.ending = None
    self.closed_at = 0.0


def _put(self: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
    now = unix_time()
    while self.recent and self.recent[0] < now - 1:
        self.recent.popleft()
    if _Limits.per_second and len(self.recent) >= _Limits.per_second:
        raise Throttled
    self.recent.append(now)
    self.last += _STEP
    self.given.add(self.last)
    self.records[self.last] = Record(partition_key, data, self.last, explicit_hash_key)
    return str(self.last)


def _expire(self: Any, hours: float) -> None:
    limit = unix_time() - hours * _Limits.hour
    for number, record in list(self.records.items()):
        if record.created_at >= limit:
            break
        del self.records[number]


def _page(self: Any, last: str, limit: int | None) -> tuple[list[Record], int, int]:
    after, found, size = int(last), [], 0
    for number in reversed(self.records):
        if number <= after:
            break
        found.append(self.records[number])
    found.reverse()
    page: list[Record] = []
    for record in found[: min(limit or _PAGE_RECORDS, _PAGE_RECORDS)]:
        if page and size + len(record.data) * 3 // 4 > _PAGE_BYTES:
            break
        page.append(record)
        size += len(record.data) * 3 // 4
    behind = 0 if len(page) == len(found) else max(1, int((found[-1].created_at - page[-1].created_at) * 1000))
    return page, page[-1].sequence_number if page else after, behind


def _before(self: Any, at: float) -> int:
    if at > unix_time():
        raise InvalidArgumentError(
            "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis"
        )
    return next((one.sequence_number for one in reversed(self.records.values()) if one.created_at < at), 0)


def _close(shard: Any) -> None:
    if not shard.is_open:
        raise InvalidArgumentError(f"Shard {shard.shard_id} has already been merged or split")
    shard.is_open, shard.closed_at = False, unix_time()
    shard.ending = shard.last + 16


def _described(self: Any) -> dict[str, Any]:
    sequence = {"StartingSequenceNumber": str(_FIRST + self._shard_id * 16)}
    if self.ending is not None:
        sequence["EndingSequenceNumber"] = str(self.ending)
    found = {
        "ShardId": self.shard_id,
        "HashKeyRange": {"StartingHashKey": str(self.starting_hash), "EndingHashKey": str(self.ending_hash)},
        "SequenceNumberRange": sequence,
    }
    if self.parent:
        found["ParentShardId"] = self.parent
    if self.adjacent_parent:
        found["AdjacentParentShardId"] = self.adjacent_parent
    return found


def _child(self: Any, low: int, high: int, parent: Any, other: Any = None) -> None:
    number = max(shard._shard_id for shard in self.shards.values()) + 1
    shard = Shard(number, low, high, parent.shard_id, other.shard_id if other else None)
    # Later than anything that its parents hold.
    shard.last = max([shard.last, parent.last, *([other.last] if other else [])])  # type: ignore[attr-defined]
    self.shards[shard.shard_id] = shard


def _split(self: Any, name: str, at: str) -> None:
    shard = self.shards[name]
    if not shard.starting_hash < int(at) < shard.ending_hash:
        raise InvalidArgumentError(f"{at} is not within {name}")
    _close(shard)
    _child(self, shard.starting_hash, int(at) - 1, shard)
    _child(self, int(at), shard.ending_hash, shard)


def _merge(self: Any, name: str, other_name: str) -> None:
    low, high = sorted((self.shards[name], self.shards[other_name]), key=lambda shard: shard.starting_hash)
    if low.ending_hash != high.starting_hash - 1:
        raise InvalidArgumentError(f"{name} and {other_name} are not adjacent")
    _close(low)
    _close(high)
    _child(self, low.starting_hash, high.ending_hash, low, high)


def _for_key(self: Any, partition_key: str, explicit_hash_key: str) -> Any:
    number = int(explicit_hash_key) if explicit_hash_key else int(md5_hash(partition_key.encode()).hexdigest(), 16)
    return next(one for one in self.shards.values() if one.is_open and one.starting_hash <= number <= one.ending_hash)


def _stream_put(self: Any, partition_key: str, explicit_hash_key: str, data: str) -> tuple[str, str]:
    shard = self.get_shard_for_key(partition_key, explicit_hash_key)
    return shard.put_record(partition_key, data, explicit_hash_key), shard.shard_id


_original_respond = KinesisResponse.put_record


def _respond(self: Any) -> Any:
    """moto leaves SequenceNumberForOrdering unread."""
    before = self._get_param("SequenceNumberForOrdering")
    if before is not None:
        with _lock:
            stream = self.kinesis_backend.describe_stream(None, self._get_param("StreamName"))
            if not any(int(before) in shard.given for shard in stream.shards.values()):
                raise InvalidArgumentError(f"SequenceNumberForOrdering {before} did not come from this stream")
    return _original_respond(self)


_original_describe = KinesisBackend.describe_stream
_original_iterator = KinesisBackend.get_shard_iterator
_original_records = KinesisBackend.get_records


def _describe(self: Any, stream_arn: str | None, stream_name: str | None) -> Any:
    with _lock:
        stream = _original_describe(self, stream_arn, stream_name)
        for shard in list(stream.shards.values()):
            _expire(shard, stream.retention_period_hours)
            kept_until = shard.closed_at + stream.retention_period_hours * _Limits.hour  # type: ignore[attr-defined]
            if not shard.is_open and not shard.records and kept_until < unix_time():
                del stream.shards[shard.shard_id]
        return stream


def _iterator(self: Any, stream_arn: Any, stream_name: Any, shard_id: str, kind: str, starting: Any, at: Any) -> str:
    with _lock:
        stream = self.describe_stream(stream_arn, stream_name)
        if kind.endswith("SEQUENCE_NUMBER") and shard_id in stream.shards:
            shard = stream.shards[shard_id]
            if int(starting) not in shard.given:
                raise InvalidArgumentError(f"StartingSequenceNumber {starting} is invalid in {shard_id}")
        return _original_iterator(self, stream_arn, stream_name, shard_id, kind, starting, at)


def _records(self: Any, stream_arn: Any, iterator: str, limit: int | None) -> Any:
    with _lock:
        following, page, behind = _original_records(self, stream_arn, iterator, limit)
        name, shard_id, _ = decompose_shard_iterator(iterator)
        shard = self.describe_stream(stream_arn, name).get_shard(shard_id)
        return (None if not shard.is_open and not behind else following), page, behind


def _put_records(self: Any, stream_arn: Any, stream_name: Any, records: list[dict[str, Any]]) -> dict[str, Any]:
    sizes = [len(b64decode(one["Data"])) + len(one["PartitionKey"].encode()) for one in records]
    if len(records) > 500 or sum(sizes) > 5 * 1024 * 1024 or max(sizes) > 1024 * 1024:
        raise InvalidArgumentError("more than 500 records, 5 MiB or 1 MiB for a record")
    answers: list[dict[str, Any]] = []
    with _lock:
        stream = self.describe_stream(stream_arn, stream_name)
        for one in records:
            try:
                number, shard = stream.put_record(one["PartitionKey"], one.get("ExplicitHashKey"), one["Data"])
                answers.append({"SequenceNumber": number, "ShardId": shard})
            except Throttled:
                code = "ProvisionedThroughputExceededException"
                answers.append({"ErrorCode": code, "ErrorMessage": "Rate exceeded for shard"})
    return {"FailedRecordCount": sum("ErrorCode" in one for one in answers), "Records": answers}


def _locked(name: str) -> None:
    original = getattr(KinesisBackend, name)

    def work(self: Any, *arguments: Any, **named: Any) -> Any:
        with _lock:
            return original(self, *arguments, **named)

    setattr(KinesisBackend, name, work)


def _correct() -> None:
    for owner, replaced in (
        (Shard, {
            "__init__": _init, "put_record": _put, "get_records": _page, "get_sequence_number_at": _before,
            "to_json": _described,
        }),
        (Stream, {"split_shard": _split, "merge_shards": _merge, "get_shard_for_key": _for_key,
                  "put_record": _stream_put}),
        (KinesisBackend, {
            "describe_stream": _describe, "get_shard_iterator": _iterator, "get_records": _records,
            "put_records": _put_records, "_send_stream_metrics": lambda *_, **__: None,
        }),
    ):  # fmt: skip
        for name, work in replaced.items():
            setattr(owner, name, work)
    setattr(KinesisResponse, "put_record", _respond)  # noqa: B010  a method, which is not assigned to
    for name in ("put_record", "create_stream", "delete_stream", "split_shard", "merge_shards", "list_shards"):
        _locked(name)
    MotoRequestHandler.protocol_version = "HTTP/1.1"  # a connection serves more than one request
    MotoRequestHandler.log_request = lambda *_, **__: None  # type: ignore[method-assign]
    KinesisBackend.list_streams = lambda self: list(self.streams.values())  # type: ignore[method-assign]


if __name__ == "__main__":
    _Limits.per_second, _Limits.hour = int(sys.argv[2]), float(sys.argv[3])
    _correct()
    serve(["-p", sys.argv[1]])

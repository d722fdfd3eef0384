"""Calls to Kinesis: ``boto3`` in threads of ours, its errors as ours, a cursor per place that is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from stranglerfig.eventlog import model
from stranglerfig.eventlog.kinesis_records import PLACES, records_of
from stranglerfig.eventlog.kinesis_shards import Shard, shard_of
from stranglerfig.eventlog.model import Record
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

T = TypeVar("T")
_THREADS: Final = 24
_THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "ThrottlingException",
        "KMSThrottlingException",
    }
)
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Address:
    """What ``kinesis://[key:secret@]REGION[?endpoint=URL&poll=SECONDS]`` says.

    Without a key the usual credentials of Amazon's clients are used (environment, profile, role). ``poll``: how long to
    wait after a shard had nothing new; Kinesis allows five reads a second of a shard, by all its readers together.
    """

    region: str
    key: str | None
    secret: str | None
    endpoint: str | None
    poll: float

    @property
    def name(self) -> str:
        """Without secrets: tells this log's groups from others' in the same database."""
        return f"kinesis://{self.region}" + (f"?endpoint={self.endpoint}" if self.endpoint else "")


def address_of(url: str) -> Address:
    """The address in ``url``.

    Raises:
        FigError: ``bad_log_url``.
    """
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    user, _, region = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    try:
        poll = float(asked.pop("poll", "0.25"))
    except ValueError:
        poll = 0.0
    endpoint = asked.pop("endpoint", None)
    if not region or asked or poll <= 0:
        raise FigError(
            "bad_log_url",
            "a log on Kinesis is addressed as kinesis://REGION, with endpoint=URL and poll=SECONDS where wanted",
            "Correct the address in the configuration.",
            unknown=sorted(asked),
        )
    return Address(region, unquote(name) or None, unquote(password) or None, endpoint, poll)


@dataclass(slots=True)
class Cursor:
    """A place that is read and goes on: its iterator, and what was fetched and not yet asked for.

    Attributes:
        expects: the sequence number that must be met first, else what is asked for has expired.
        ended: the shard is closed and all of it was read.
    """

    iterator: str | None = None
    ahead: list[Record] = field(default_factory=list)
    expects: int | None = None
    ended: bool = False
    behind: bool = True


class Calls:
    """One client of Kinesis; every public method blocks, and is run by :meth:`run`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kinesis")
        self._made: KinesisClient | None = None
        self._making = threading.Lock()

    @property
    def client(self) -> KinesisClient:
        """The client of ``boto3``, made when it is first needed: that takes a tenth of a second."""
        with self._making:
            if self._made is None:
                address = self.address
                self._made = boto3.session.Session(
                    aws_access_key_id=address.key, aws_secret_access_key=address.secret, region_name=address.region
                ).client(
                    "kinesis",
                    endpoint_url=address.endpoint,
                    config=Config(
                        max_pool_connections=_THREADS,
                        connect_timeout=5,
                        read_timeout=20,
                        retries={"mode": "standard", "max_attempts": 6},
                    ),
                )
            return self._made

    async def run(self, topic: str | None, work: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks in a thread; the client's errors leave as ours."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        except (BotoCoreError, ClientError) as error:
            raise self._translated(error, topic) from error

    def _translated(self, error: Exception, topic: str | None) -> FigError:
        if isinstance(error, (HTTPClientError, ConnectionError)):
            return FigError(
                "log_unreachable",
                f"{self.address.name} does not answer: {error}",
                "Check the region, the endpoint and the network. An append whose answer was lost may be repeated.",
                log=self.address.name,
            )
        code = code_of(error)
        if code == "ResourceNotFoundException" and topic is not None:
            return model.unknown_topic(topic)
        if code in _THROTTLES:
            return throttled(self.address.name, topic, str(error))
        return FigError(
            "log_refused",
            f"{self.address.name} refuses: {error}",
            "See Kinesis' documentation of this error; credentials, rights or quotas may forbid it.",
            log=self.address.name,
            error=code,
        )

    async def close(self) -> None:
        """Let go of connections."""
        if self._made is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._made.close)
        self._threads.shutdown(wait=False)

    # Streams and shards

    def names(self) -> Iterator[str]:
        """All streams."""
        asked: dict[str, Any] = {"Limit": 100}
        while True:
            answer = self.client.list_streams(**asked)
            yield from answer["StreamNames"]
            if not answer["HasMoreStreams"]:
                return
            asked["ExclusiveStartStreamName"] = answer["StreamNames"][-1]

    def shards(self, topic: str) -> list[Shard]:
        """All shards that hold or take records, by number."""
        asked: dict[str, Any] = {"StreamName": topic}
        found: list[Shard] = []
        while True:
            answer = self.client.list_shards(**asked)
            found += [shard_of(one) for one in answer["Shards"]]
            if not answer.get("NextToken"):
                return sorted(found, key=lambda shard: shard.number)
            asked = {"NextToken": answer["NextToken"]}

    # Reading

    def fetch(self, topic: str, shard: Shard, cursor: Cursor, position: int, most: int) -> None:
        """The next page from ``position`` into ``cursor.ahead``; it may be empty though more follows (``behind``)."""
        answer = self._page(topic, shard, cursor, position, most)
        cursor.iterator = answer.get("NextShardIterator")
        cursor.ended = cursor.iterator is None
        cursor.behind = bool(answer.get("MillisBehindLatest")) and not cursor.ended
        for one in answer["Records"]:
            sequence = int(one["SequenceNumber"])
            if cursor.expects is not None and sequence > cursor.expects:
                cursor.iterator = None
                raise model.position_expired(topic, shard.number, position, sequence * PLACES)
            cursor.expects = None
            cursor.ahead += [
                record for record in records_of(topic, shard.number, dict(one)) if record.position >= position
            ]

    def _page(self, topic: str, shard: Shard, cursor: Cursor, position: int, most: int) -> Any:
        limit = min(most, _MOST)
        if cursor.iterator is not None:
            try:
                return self.client.get_records(ShardIterator=cursor.iterator, Limit=limit)
            except ClientError as error:
                if code_of(error) != "ExpiredIteratorException":  # it lasts for five minutes
                    raise
        sequence = position // PLACES
        if shard.ending is not None and sequence >= shard.ending:
            return {"Records": []}
        cursor.iterator = self._iterator(topic, shard, sequence)
        # A position is a record's own or follows one, in either case of this sequence number: it must still be there.
        cursor.expects = sequence or None
        return self.client.get_records(ShardIterator=cursor.iterator, Limit=limit)

    def _iterator(self, topic: str, shard: Shard, sequence: int) -> str:
        asked: dict[str, Any] = {"StreamName": topic, "ShardId": shard.id}
        if sequence:
            try:
                return self.client.get_shard_iterator(
                    **asked, ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(sequence)
                )["ShardIterator"]
            except ClientError as error:
                if code_of(error) != "InvalidArgumentException":
                    raise
        return self.client.get_shard_iterator(**asked, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]

    def since(self, topic: str, shard: Shard, time: datetime) -> Iterator[Record]:
        """Records that arrived at or after ``time``, to the end; nothing for a time that is yet to come."""
        try:
            iterator: str | None = self.client.get_shard_iterator(
                StreamName=topic, ShardId=shard.id, ShardIteratorType="AT_TIMESTAMP", Timestamp=time.astimezone(UTC)
            )["ShardIterator"]
        except ClientError as error:
            if code_of(error) != "InvalidArgumentException":
                raise
            return
        while iterator is not None:
            answer = self.client.get_records(ShardIterator=iterator)
            for one in answer["Records"]:
                yield from (
                    record for record in records_of(topic, shard.number, dict(one)) if record.appended_at >= time
                )
            iterator = answer.get("NextShardIterator") if answer.get("MillisBehindLatest") else None


def code_of(error: Exception) -> str:
    """Amazon's name of an error."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def throttled(log: str, topic: str | None, said: str) -> FigError:
    """The service takes no more for now, and has not for a while."""
    return FigError(
        "log_throttled",
        f"{log} takes no more for '{topic}': {said}",
        "More shards take more; it may be tried again. Part of an append may be in: the events' ids tell.",
        log=log,
        topic=topic,
    )

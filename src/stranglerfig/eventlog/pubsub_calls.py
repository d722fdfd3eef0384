"""Calls to Google Cloud Pub/Sub: gRPC on the event loop, with the messages of ``google-cloud-pubsub``.

Its clients bring threads, batches and retries of their own, and objects that cost more than the call; here it is the
service's own requests, and one rule for what is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import grpc
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports.grpc_asyncio import PublisherGrpcAsyncIOTransport

from stranglerfig.eventlog import model
from stranglerfig.eventlog.pubsub_messages import PARTITION, Incoming, Outgoing
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

_AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A service that is back is noticed in time: gRPC would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_ANSWER: Final = 30.0
_PULL: Final = 20.0
_DAY: Final = 86_400
_ACK_DEADLINE: Final = 60
"""Seconds after which a message whose delivery was lost comes again."""


@dataclass(frozen=True, slots=True)
class Address:
    """What ``pubsub://PROJECT[?endpoint=HOST:PORT&poll=SECONDS]`` says.

    Without an endpoint it is Google's service, with the usual credentials of its clients; an endpoint is an emulator's,
    spoken to in clear. ``poll``: how often a reader that waits asks for new positions.
    """

    project: str
    endpoint: str | None
    poll: float

    @property
    def name(self) -> str:
        """Tells this log's topics and groups from others' in the same database."""
        return f"pubsub://{self.project}" + (f"?endpoint={self.endpoint}" if self.endpoint else "")

    def path(self, kind: str, name: str) -> str:
        """As Google names a topic or a subscription."""
        return f"projects/{self.project}/{kind}/{name}"


def address_of(url: str) -> Address:
    """The address in ``url``.

    Raises:
        FigError: ``bad_log_url``.
    """
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    try:
        poll = float(asked.pop("poll", "0.1"))
    except ValueError:
        poll = 0.0
    endpoint = asked.pop("endpoint", None)
    if not parts.netloc or asked or poll <= 0:
        raise FigError(
            "bad_log_url",
            "a log on Pub/Sub is addressed as pubsub://PROJECT, with endpoint=HOST:PORT and poll=SECONDS where wanted",
            "Correct the address in the configuration.",
            unknown=sorted(asked),
        )
    return Address(parts.netloc, endpoint, poll)


class Calls:
    """One client of Pub/Sub.

    Args:
        patience: seconds that the service may be away before a call fails.
    """

    def __init__(self, address: Address, *, patience: float) -> None:
        self.address = address
        self._patience = patience
        self._channel: Any = None

    async def _call(
        self, method: str, request: Any, answer: Any, *, topic: str | None = None, timeout: float = _ANSWER
    ) -> Any:
        if self._channel is None:
            self._channel = (
                grpc.aio.insecure_channel(self.address.endpoint, options=_OPTIONS)
                if self.address.endpoint
                else PublisherGrpcAsyncIOTransport.create_channel(options=_OPTIONS)
            )
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=bytes if answer is None else answer.FromString,
        )
        deadline, pause = clock.monotonic() + self._patience, 0.05
        while True:
            try:
                return await call(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN or clock.monotonic() + pause > deadline:
                    raise self._translated(error, topic) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    def _translated(self, error: grpc.aio.AioRpcError, topic: str | None) -> FigError:
        name, code = self.address.name, error.code()
        if code is grpc.StatusCode.NOT_FOUND and topic is not None:
            return model.unknown_topic(topic)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return FigError(
                "log_throttled",
                f"{name} takes no more: {error.details()}",
                "A quota of the project is used up; see its quotas in Google Cloud.",
                log=name,
            )
        if code in _AGAIN:
            return FigError(
                "log_unreachable",
                f"{name} does not answer: {error.details()}",
                "Check the endpoint and the network. An append whose answer was lost may be repeated; the id tells.",
                log=name,
            )
        return FigError(
            "log_refused",
            f"{name} refuses: {error.details()} ({code.name})",
            "See Pub/Sub's documentation of this error; credentials, rights or quotas may forbid it.",
            log=name,
            error=code.name,
        )

    async def close(self) -> None:
        """Let go of the connection."""
        if self._channel is not None:
            await self._channel.close()

    # Topics

    async def create_topic(self, name: str, retention: float) -> None:
        """Create a topic, or give one that is there this retention (seconds)."""
        topic = types.Topic.pb()(name=self.address.path("topics", name))
        topic.message_retention_duration.seconds = int(retention)
        try:
            await self._call("Publisher/CreateTopic", topic, types.Topic.pb())
        except FigError as error:
            if error.context.get("error") != grpc.StatusCode.ALREADY_EXISTS.name:
                raise
            request = types.UpdateTopicRequest.pb()(topic=topic)
            request.update_mask.paths.append("message_retention_duration")
            await self._call("Publisher/UpdateTopic", request, types.Topic.pb(), topic=name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; ``unknown_topic`` when there is none."""
        request = types.DeleteTopicRequest.pb()(topic=self.address.path("topics", name))
        await self._call("Publisher/DeleteTopic", request, None, topic=name)

    async def publish(self, name: str, messages: Sequence[Outgoing]) -> None:
        """Publish one request's messages; a repetition may publish them twice."""
        message = types.PubsubMessage.pb()
        request = types.PublishRequest.pb()(
            topic=self.address.path("topics", name),
            messages=[message(data=one.data, attributes=one.attributes) for one in messages],
        )
        await self._call("Publisher/Publish", request, types.PublishResponse.pb(), topic=name)

    # Subscriptions

    async def subscribe(self, name: str, topic: str, partition: int) -> str:
        """Make a subscription to one partition, which Google deletes after a day without use; returns its path."""
        path = self.address.path("subscriptions", name)
        request = types.Subscription.pb()(
            name=path,
            topic=self.address.path("topics", topic),
            filter=f'attributes.{PARTITION} = "{partition}"',
            ack_deadline_seconds=_ACK_DEADLINE,
        )
        request.message_retention_duration.seconds = _DAY
        request.expiration_policy.ttl.seconds = _DAY
        await self._call("Subscriber/CreateSubscription", request, types.Subscription.pb(), topic=topic)
        return path

    async def unsubscribe(self, path: str) -> None:
        """Delete a subscription."""
        request = types.DeleteSubscriptionRequest.pb()(subscription=path)
        await self._call("Subscriber/DeleteSubscription", request, None, topic=path)

    async def seek(self, path: str, time: datetime, *, topic: str) -> None:
        """Deliver all that was published since ``time``, again where it was before."""
        request = types.SeekRequest.pb()(subscription=path)
        request.time.FromDatetime(time)
        await self._call("Subscriber/Seek", request, types.SeekResponse.pb(), topic=topic)

    async def pull(self, path: str, most: int, *, topic: str) -> list[Incoming]:
        """Messages as they come, acknowledged: what they are in is found again by their time."""
        request = types.PullRequest.pb()(subscription=path, max_messages=most)
        answer = await self._call("Subscriber/Pull", request, types.PullResponse.pb(), topic=topic, timeout=_PULL)
        if not answer.received_messages:
            return []
        done = types.AcknowledgeRequest.pb()(
            subscription=path, ack_ids=[one.ack_id for one in answer.received_messages]
        )
        await self._call("Subscriber/Acknowledge", done, None, topic=topic)
        return [
            Incoming(
                one.message.data,
                dict(one.message.attributes),
                one.message.publish_time.ToDatetime(tzinfo=UTC),
            )
            for one in answer.received_messages
        ]

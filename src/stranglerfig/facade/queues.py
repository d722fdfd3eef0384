"""What users write about commands that come by a queue: the broker in ``fig.yaml``, queues in ``extraction.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stranglerfig.changes.settings import Reference, Settings

Source = Literal["property", "header", "body", "routing_key"]
_PROPERTIES = ("type", "message_id", "correlation_id", "app_id")
_WRITTEN = re.compile(r"^(?:(header|body):(.+)|([a-z_]+))$")
LONGEST_NAME = 255
"""Bytes of a queue's name, by AMQP 0-9-1 (shortstr)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a message a value stands: a property, a header, a field of its JSON body (dotted), the routing key."""

    source: Source
    name: str = ""


def place(text: str) -> Place:
    """``message_id``, ``header:x-command``, ``body:item.id``, ``routing_key``.

    Raises:
        ValueError: anything else.
    """
    match = _WRITTEN.match(text)
    if match and match[1]:
        name = match[2].removeprefix("$.")
        if match[1] == "header":
            return Place("header", match[2])
        if all(re.fullmatch(r"[^.\[\]\s]+", part) for part in name.split(".")):
            return Place("body", name)
    if match and match[3] == "routing_key":
        return Place("routing_key")
    if match and match[3] in _PROPERTIES:
        return Place("property", match[3])
    raise ValueError(f"allowed: {', '.join(_PROPERTIES)}, routing_key, header:NAME, body:FIELD.FIELD")


def _queue(name: str) -> str:
    if not name or len(name.encode()) > LONGEST_NAME or name.startswith("amq."):
        raise ValueError(f"a queue has a name of at most {LONGEST_NAME} bytes that does not begin with amq.")
    return name


class QueueRoute(Settings):
    """Messages of some types on an inbound queue."""

    queue: str = Field(description="The inbound queue, one of those that queues describes.")
    types: tuple[str, ...] = Field(min_length=1, description="Message types, as the queue's type place says them.")

    @field_validator("types")
    @classmethod
    def _each_once(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({one for one in types if types.count(one) > 1}):
            raise ValueError(f"each type once; twice here: {', '.join(twice)}")
        return types


class QueueSettings(Settings):
    """An inbound queue that the router takes over, and where its messages go on."""

    monolith: str = Field(description="The queue from which the monolith takes its commands from now on.")
    service: str = Field(description="The queue from which the service takes its commands.")
    type: str = Field(default="type", description="Where a message says its type: type, header:NAME or body:FIELD.")
    key: str | None = Field(
        default=None,
        description="By what order is kept: routing_key, header:NAME or body:FIELD; without it, the whole queue's.",
    )
    command_id: str | None = Field(
        default=None,
        description="The id by which both sides refuse to do a command twice: message_id, header:NAME, body:FIELD.",
    )
    prefetch: int = Field(
        default=1000,
        ge=1,
        le=65535,
        description="Messages that the router holds at most; while commands wait at the fence, others behind them do.",
    )

    window: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Messages of one key on their way to the broker at once. More than 1 is faster for a key that is "
        "asked often, and wants outbound queues that are never full (no x-overflow: reject-publish).",
    )

    @field_validator("monolith", "service")
    @classmethod
    def _named(cls, name: str) -> str:
        return _queue(name)

    @field_validator("type", "key", "command_id")
    @classmethod
    def _placed(cls, text: str | None) -> str | None:
        if text is not None:
            place(text)
        return text

    @model_validator(mode="after")
    def _two_queues(self) -> QueueSettings:
        if self.monolith == self.service:
            raise ValueError("the monolith and the service take their commands from a queue of their own each")
        return self


class BrokerReference(Reference):
    """The broker's address, or where to find it."""

    url: str | None = Field(default=None, description="amqp://user:password@host:5672/vhost")

    @property
    def text(self) -> str | None:
        """The address, when it is given here."""
        return self.url


class BrokerSettings(Settings):
    """The message broker: RabbitMQ, AMQP 0-9-1."""

    url: BrokerReference = Field(
        description="amqp://user:password@host:5672/vhost, {env: NAME} or {file: path}; the user may configure, "
        "write and read fig.to.*, write and read the outbound queues, and read the inbound one."
    )
    metrics: tuple[str, ...] = Field(
        default=(),
        description="Where the plugin rabbitmq_prometheus answers (http://host:15692), one per node: it says what the "
        "consumers have not acknowledged. A cut-over wants it.",
    )
    tags: tuple[Literal["impersonator"], ...] = Field(
        default=(), description="impersonator: the user has this tag, so user_id passes untouched."
    )

    @field_validator("metrics")
    @classmethod
    def _urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [url for url in urls if not re.match(r"^https?://[^/\s]+/?$", url)]:
            raise ValueError(f"an address is written http://host:15692, not {', '.join(wrong)}")
        return tuple(url.rstrip("/") for url in urls)

"""What the registry and the log say together: a subject's topic, whom a break would hurt, the estate's document.

A subject is of a topic by the names that Kafka's clients give (``orders-value``), or because it is an event type of the
context whose topic it is (``inventory.StockAdjusted`` travels on ``events.inventory``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stranglerfig.eventlog.ports import EventLog
from stranglerfig.schemas import asyncapi
from stranglerfig.schemas.formats import Problem
from stranglerfig.schemas.ports import Registry

EVENTS = "events."
"""How topics of business events begin."""


def topic_of(subject: str) -> str:
    """The topic that a subject's events travel on, as its name says."""
    for suffix in ("-value", "-key"):
        if subject.endswith(suffix):
            return subject.removesuffix(suffix)
    return f"{EVENTS}{subject.partition('.')[0]}"


async def readers(log: EventLog, topic: str) -> list[str]:
    """The consumer groups that read a topic; none when the log has no such topic."""
    if await log.topic(topic) is None:
        return []
    return await log.groups(topic)


def explained(subject: str, problems: Sequence[Problem], groups: Sequence[str] | None) -> list[str]:
    """Why a schema cannot follow, and whom it would hurt, in lines; ``groups`` None is not known."""
    lines = [f"{subject} cannot change so:"]
    lines += [f"  {problem.path}: {problem.words}" for problem in problems]
    topic = topic_of(subject)
    if groups is None:
        lines.append(f"  who reads {topic} is not known: the log cannot be asked")
    elif groups:
        lines.append(f"  it would hurt who reads {topic}: {', '.join(groups)}")
    else:
        lines.append(f"  nobody reads {topic} yet, as far as the log knows")
    return lines


async def document(title: str, registry: Registry, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The AsyncAPI document of all subjects; ``groups`` are the log's topics with their consumer groups."""
    by_topic: dict[str, list[asyncapi.Message]] = {topic: [] for topic in _business(groups)}
    for subject in await registry.subjects():
        versions = await registry.versions(subject)
        if not versions or subject.endswith("-key"):
            continue
        latest = versions[-1]
        by_topic.setdefault(topic_of(subject), []).append(
            asyncapi.Message(
                key=subject,
                name=subject,
                content_type=asyncapi.content_type(latest.schema.format),
                payload=asyncapi.payload(subject, await registry.text(latest.schema)),
                about={"x-version": latest.version, "x-schema-id": latest.id},
            )
        )
    channels = [
        asyncapi.Channel(topic, topic, messages, [f"send.{topic}"], groups.get(topic, ()))
        for topic, messages in sorted(by_topic.items())
    ]
    return asyncapi.document(title, channels)


def _business(topics: Iterable[str]) -> list[str]:
    return [topic for topic in topics if topic.startswith(EVENTS)]

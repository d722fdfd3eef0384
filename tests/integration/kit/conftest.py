"""A service of the kit on a real PostgreSQL, with the log beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from stranglerfig.eventlog import model as log
from stranglerfig.eventlog.memory import MemoryLog
from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.kit import Service
from stranglerfig.kit.consumer import Consumer
from stranglerfig.kit.messages import Message, kind_of
from stranglerfig.kit.testing import event_of
from tests.conftest import Server
from tests.kit_shop import TABLES

TOPICS = ("events.orders", "events.stock")


@dataclass
class Stock:
    """The service under test, its database and its log."""

    dsn: str
    log: MemoryLog = field(default_factory=MemoryLog)

    def __post_init__(self) -> None:
        self.service = Service("stock", database=self.dsn, log=self.log, source="/shop/stock")

    def rows(self, query: str) -> list[Any]:
        """What the database says."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            done = conn.execute(query.encode())
            return done.fetchall() if done.description else []

    async def placed(self, *events: Message, topic: str | None = None, **attributes: Any) -> list[log.Event]:
        """Events of somebody else, put on the log."""
        made = [event_of(event, source="/orders", **attributes) for event in events]
        for event, each in zip(events, made, strict=True):
            await self.log.append(topic or kind_of(event).topic, [each])
        return made

    async def consumed(self, consumer: Consumer | None = None, *, from_: int = 0) -> Consumer:
        """All that is on ``events.orders``, handled once more from a position on."""
        consumer = consumer or self.service.consumers()[0]
        await consumer.begin()
        if records := await self.log.read("events.orders", 0, from_):
            await consumer.handle(records)
        return consumer


@pytest.fixture
async def stock(postgres: Server) -> AsyncIterator[Stock]:
    """Fifty items of a hundred pieces."""
    made = Stock(postgres.database())
    await made.service.migrate()
    made.rows(TABLES)
    for topic in TOPICS:
        await made.log.create_topic(topic)
    yield made
    await made.service.close()


@pytest.fixture
async def lasting(stock: Stock) -> AsyncIterator[Stock]:
    """The same on a log that outlives processes."""
    made = PostgresLog(stock.dsn)
    await made.migrate()
    for topic in TOPICS:
        await made.create_topic(topic)
    stock.log = made  # type: ignore[assignment]
    yield stock
    await made.close()

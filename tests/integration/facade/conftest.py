"""The estate of the façade's tests, fresh for each; one broker for all."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from broker_estate import Routed
from facade_estate import Estates

from examples.servers.rabbitmq import RabbitMQ


@pytest.fixture
async def estate(tmp_path: Path) -> AsyncIterator[Estates]:
    async with AsyncExitStack() as stack:
        made = Estates(tmp_path / "facade")
        stack.push_async_callback(made.stop)
        await made.start()
        yield made


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Callable[[], None]], None]) -> Iterator[RabbitMQ]:
    """RabbitMQ, which tells of its queues every 100 ms."""
    server = RabbitMQ(
        tmp_path_factory.mktemp("rabbitmq"), plugins=("rabbitmq_prometheus",), collect_statistics_interval="100"
    )
    begin(server.start)
    yield server
    server.stop()


@pytest.fixture
async def routed(broker: RabbitMQ) -> AsyncIterator[Routed]:
    """A router with queues of its own."""
    made = Routed(broker, f"t{uuid.uuid4().hex[:8]}.")
    yield made
    await made.stop()

"""One Kafka and one Kafka Connect with Debezium for the whole run; each test has flows of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from examples.servers.fetch import Missing
from examples.servers.kafka import Connect, Kafka
from stranglerfig.capture.debezium import Through
from tests.conftest import required


@dataclass(frozen=True)
class Farm:
    """What runs."""

    kafka: Kafka
    connect: Connect

    @property
    def through(self) -> Through:
        """As a flow is told."""
        return Through(self.connect.url, self.kafka.servers)


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Kafka and Kafka Connect."""
    directory = tmp_path_factory.mktemp("connect")
    with ExitStack() as stack:
        try:
            kafka = Kafka(directory / "kafka")
            kafka.start()
            stack.callback(kafka.stop)
            connect = Connect(directory / "connect", kafka.servers, plugin_discovery="service_load")
            connect.start()
            stack.callback(connect.stop)
        except Missing as error:
            required(str(error))
        yield Farm(kafka, connect)

"""One Kafka and one Kafka Connect with Debezium for the whole run; each test has flows of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from examples.servers.fetch import Missing
from examples.servers.kafka import Connect, Kafka
from stranglerfig.capture.debezium import Through
from stranglerfig.foundation import clock
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
def running_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Kafka and Kafka Connect."""
    directory = tmp_path_factory.mktemp("connect")
    with ExitStack() as stack:
        try:
            kafka = Kafka(directory / "kafka")
            kafka.start()
            stack.callback(kafka.stop)
            connect = Connect(directory / "connect", kafka.servers)
            connect.start()
            stack.callback(connect.stop)
        except Missing as error:
            required(str(error))
        yield Farm(kafka, connect)


@pytest.fixture
def farm(running_farm: Farm) -> Iterator[Farm]:
    """Kafka and Kafka Connect; the test's connectors end with it, for each asks its source 50 times a second."""
    yield running_farm
    for name in _asked(f"{running_farm.connect.url}/connectors"):
        _delete(f"{running_farm.connect.url}/connectors/{name}")


def _delete(url: str) -> None:
    """Connect refuses (409) while a rebalance is under way."""
    for _ in range(300):
        try:
            _asked(url, "DELETE")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return
            if error.code != 409:
                raise
            clock.block(0.2)
        else:
            return
    raise AssertionError(f"{url} could not be removed for a minute")


def _asked(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
        return json.loads(answer.read() or "null")

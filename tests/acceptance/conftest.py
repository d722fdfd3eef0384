"""A shop per module for the acceptance tests of whole extractions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from mariadb_driver import ShopOnMariaDB
from shop_driver import WRITES, Shop

from examples.servers.fetch import Missing
from examples.servers.kafka import Connect, Kafka
from examples.servers.logs import Cluster
from examples.shop.on_mariadb.estate import EstateOnMariaDB
from tests.browser import Browser
from tests.conftest import required


def _serve(
    reserve: str,
    *,
    messages: bool = False,
    both: bool = False,
    catalogue: bool = False,
    begin: Callable[[Callable[[], None]], None] = lambda start: start(),
) -> Iterator[Shop]:
    # Not below pytest's own folder, which every other session of pytest closes to the account that runs PostgreSQL.
    root = Path(tempfile.mkdtemp(prefix="fig-acceptance-"))
    root.chmod(0o755)
    found = Shop(root, reserve=reserve, messages=messages, both=both, catalogue=catalogue)
    try:
        begin(found.start)
        yield found
    finally:
        found.stop()
        if "FIG_KEEP" not in os.environ:
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """The estate with ``fig up`` and traffic, nothing extracted yet; orders reserve through the API."""
    yield from _serve("api")


@pytest.fixture(scope="module")
def untouched_shop() -> Iterator[Shop]:
    """The same as its team begins: orders still reserve by writing the table."""
    yield from _serve("table")


@pytest.fixture(scope="module")
def messages_shop(begin: Callable[[Callable[[], None]], None]) -> Iterator[Shop]:
    """The shop that takes half of its adjustments and reservations as commands from RabbitMQ."""
    yield from _serve("api", messages=True, begin=begin)


@pytest.fixture(scope="module")
def both_shop() -> Iterator[Shop]:
    """The shop whose orders never stop writing the inventory's tables."""
    yield from _serve("table", both=True)


@pytest.fixture(scope="module")
def shop_with_two() -> Iterator[Shop]:
    """The shop that has two contexts to move: the inventory, and the catalogue, which comes later."""
    with contextmanager(_serve)("api", catalogue=True) as found:
        found.go(WRITES)
        before = found.roles()
        found.take_up("catalogue")
        now = found.roles()
        assert now["envoy"]["pid"] == before["envoy"]["pid"]
        assert now["controller"]["pid"] != before["controller"]["pid"]
        assert not any(row["restarts"] for row in now.values())
        found.sound("service")
        yield found


@pytest.fixture(scope="module")
def shop_on_mariadb(begin: Callable[[Callable[[], None]], None]) -> Iterator[ShopOnMariaDB]:
    """The shop whose monolith is on a MariaDB, with a Kafka Connect of its own."""
    root = Path(tempfile.mkdtemp(prefix="fig-on-mariadb-"))
    root.chmod(0o755)
    with ExitStack() as stack:
        if "FIG_KEEP" not in os.environ:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        kafka = Kafka(root / "kafka")
        begin(kafka.start)
        stack.callback(kafka.stop)
        worker = Connect(root / "connect", kafka.servers)
        begin(worker.start)
        stack.callback(worker.stop)
        estate = EstateOnMariaDB(root, items=600, settings={"fsync": "off"}, connect=Cluster(worker.url, kafka.servers))
        found = ShopOnMariaDB(root, estate=estate, rate=30)
        found.mix = {"reads": 45, "writes": 55, "orders": 0}
        stack.callback(found.stop)
        begin(found.start)
        yield found


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """One browser, with a profile of its own."""
    found = Browser(tmp_path / "browser")
    try:
        await found.start()
        yield found
    except Missing as missing:
        required(str(missing))
    finally:
        await found.stop()

"""A shop per module for the acceptance tests of whole extractions."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shop_driver import Shop


def _serve(
    reserve: str, *, messages: bool = False, begin: Callable[[Callable[[], None]], None] = lambda start: start()
) -> Iterator[Shop]:
    # Not below pytest's own folder, which every other session of pytest closes to the account that runs PostgreSQL.
    root = Path(tempfile.mkdtemp(prefix="fig-acceptance-"))
    root.chmod(0o755)
    found = Shop(root, reserve=reserve, messages=messages)
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

"""One server of each backend for the whole run; each test has topics of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from examples.servers.fetch import Missing
from tests.conftest import Server, required
from tests.contract.eventlog.backends import BACKENDS, Backend


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Iterator[Callable[..., Backend]]:
    """Start a server of a backend; by default the one that all tests share."""
    shared: dict[str, Backend] = {}
    with ExitStack() as stack:

        def start(name: str, *, own: ExitStack | None = None) -> Backend:
            if own is None and name in shared:
                return shared[name]
            directory = tmp_path_factory.mktemp(name)
            try:
                backend = (own or stack).enter_context(BACKENDS[name](directory, postgres.database))
            except Missing as error:
                required(str(error))
            if own is None:
                shared[name] = backend
            return backend

        yield start


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, serve: Callable[..., Backend]) -> Backend:
    """Each backend in turn."""
    return serve(request.param)


@pytest.fixture
async def log(backend: Backend) -> AsyncIterator[Any]:
    """A client of the backend."""
    opened = backend.open()
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def name() -> Callable[[str], str]:
    """Names of topics and groups that no other test uses."""
    mine = uuid.uuid4().hex[:8]
    return lambda word: f"{word}-{mine}"


@pytest.fixture
async def t(log: Any, name: Callable[[str], str]) -> str:
    """A topic with one partition."""
    topic = name("t")
    await log.create_topic(topic)
    return topic

"""What is killed in the middle: a member of a group, a producer's server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from stranglerfig.eventlog.model import Capability
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from tests.contract.eventlog.backends import BACKENDS, KILLABLE, Backend
from tests.contract.eventlog.test_eventlog_contract import all_of, event, numbered, take

Name = Callable[[str], str]
SERVERS = [name for name in BACKENDS if name != "memory"]


@pytest.mark.parametrize("backend", SERVERS, indirect=True)
async def test_a_member_killed_in_a_batch_is_followed_by_another(
    backend: Backend, log: EventLog, t: str, name: Name
) -> None:
    await log.append(t, numbered(6))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.eventlog.member", backend.url, backend.state, t, name("g"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = (await process.stdout.readline()).decode().split()
    process.kill()
    await process.wait()
    assert len(said) >= 2
    # What it had committed is not given again, what it had not is: nothing skipped, doubled only within its batch.
    assert [record.event.data for record in await take(log, t, name("g"), 4)] == [b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("name_of_backend", KILLABLE)
async def test_what_was_acknowledged_survives_kill_9(
    name_of_backend: str, serve: Callable[..., Backend], name: Name
) -> None:
    """Producers repeat what was not answered: all of it is there, once where that is declared."""
    with ExitStack() as own:
        backend = serve(name_of_backend, own=own)
        assert backend.kill is not None
        assert backend.start is not None
        log = backend.open()
        await log.migrate()
        await log.create_topic("t")
        acknowledged: dict[str, int] = {}
        stopping = asyncio.Event()
        failures = 0

        async def produce(who: int) -> None:
            nonlocal failures
            number = 0
            while not stopping.is_set():
                pair = [event(f"{who} {number + step}".encode()) for step in range(2)]
                while True:
                    try:
                        positions = await log.append("t", pair)
                        break
                    except FigError as error:
                        assert error.code == "log_unreachable"
                        failures += 1
                        await asyncio.sleep(0.05)
                acknowledged.update(zip((one.id for one in pair), positions, strict=True))
                number += 2

        async with asyncio.TaskGroup() as group:
            for who in range(3):
                group.create_task(produce(who))
            for _ in range(2):
                before = len(acknowledged)

                async def more(before: int = before) -> bool:
                    return len(acknowledged) > before + 60

                await clock.until(more, timeout=60, what="appends")
                await asyncio.to_thread(backend.kill)
                await asyncio.to_thread(backend.start)
            before = len(acknowledged)
            await clock.until(more, timeout=60, what="appends after the server's restart")
            stopping.set()
        records = await all_of(log, "t")
        at = {record.position: record.event.id for record in records}
        assert all(at[position] == one for one, position in acknowledged.items())
        if Capability.IDEMPOTENT_APPEND in log.capabilities.has:
            assert len(records) == len({record.event.id for record in records})
        for who in range(3):
            own_numbers: dict[str, int] = {}
            for record in records:
                author, number = record.event.data.decode().split()
                if int(author) == who:
                    own_numbers.setdefault(record.event.id, int(number))
            assert list(own_numbers.values()) == sorted(own_numbers.values())
        await log.close()

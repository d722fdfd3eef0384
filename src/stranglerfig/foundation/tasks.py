"""Tasks that cannot vanish: each is held, named, and restarted with backoff when it is supervised."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from stranglerfig.foundation.errors import FigError

T = TypeVar("T")
log = logging.getLogger(__name__)
_held: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start ``work`` beside the caller; its failure is logged when nobody awaits it."""
    task = asyncio.create_task(work, name=name)  # noqa: TID251  the one place
    _held.add(task)
    task.add_done_callback(_release)
    return task


def _release(task: asyncio.Task[Any]) -> None:
    _held.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task failed", exc_info=error, extra={"action": "task_failed", "task": task.get_name()})


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel ``task`` and wait until it is gone; its own end (error or result) is swallowed."""
    task.cancel()
    await asyncio.wait([task])


async def supervise(
    work: Callable[[], Awaitable[None]],
    *,
    name: str,
    first: float = 0.1,
    most: float = 5.0,
    failed: Callable[[Exception], Awaitable[None]] | None = None,
) -> None:
    """Run ``work`` for ever: when it fails, wait (``first`` s, doubling to ``most`` s) and start it again.

    ``failed`` is told of each failure, so that it can be shown. Returns when ``work`` returns.
    """
    pause = first
    while True:
        begun = asyncio.get_running_loop().time()
        try:
            await work()
            return
        except Exception as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError from error  # it failed while it was ended
            expected = isinstance(error, FigError)
            log.warning("%s failed: %s", name, error, exc_info=None if expected else error, extra={"action": "restart"})
            if failed is not None:
                await failed(error)
        if asyncio.get_running_loop().time() - begun > 30:
            pause = first
        await asyncio.sleep(pause)
        pause = min(pause * 2, most)


def on_signals(stop: Callable[[], Any]) -> None:
    """Call ``stop`` at Ctrl-C and SIGTERM; for the running loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def until_signal(work: Awaitable[None]) -> None:
    """Do ``work`` until it ends or the process is asked to end; its failure is raised."""
    task = spawn(_as_coroutine(work), name="role")
    on_signals(task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work

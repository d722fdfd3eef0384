"""Many handlers in one transaction: each runs up to what it first wants from the database, all of that is fetched at
once, then they go on one after the other, each to its end. Nobody sees another one's work half done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import ContextVar
from typing import Any

_gathering: ContextVar[asyncio.Task[Any] | None] = ContextVar("gathering", default=None)


class _Turn:
    """A handler waits for its turn. ``wanted`` is what it wants to have at hand by then, or None."""

    __slots__ = ("wanted",)

    def __init__(self, wanted: Any) -> None:
        self.wanted = wanted

    def __await__(self) -> Generator[_Turn, None, None]:
        yield self


class Failed(Exception):
    """A handler among several failed; its error is the cause.

    Attributes:
        number: which, from 0.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def is_early() -> bool:
    """Whether it is not yet the turn of the handler that asks."""
    return _gathering.get() is not None


async def turn(wanted: Any) -> None:
    """Wait for one's turn; returns at once for a handler whose turn it is, or that is alone.

    Raises:
        RuntimeError: in a task that a handler started beside itself, whose turn nobody can know.
    """
    driver = _gathering.get()
    if driver is None:
        return
    if driver is not asyncio.current_task():
        raise RuntimeError("a handler's transaction is its own: await its calls one after the other, not in tasks")
    await _Turn(wanted)


class _Rest:
    """The rest of a coroutine, from what it was last waiting for on."""

    def __init__(self, work: Coroutine[Any, Any, None], waiting: Any) -> None:
        self._work = work
        self._waiting = waiting

    def __await__(self) -> Generator[Any, Any, None]:
        waiting = self._waiting
        while True:
            sent: Any = None
            thrown: BaseException | None = None
            if not isinstance(waiting, _Turn):
                try:
                    sent = yield waiting
                except BaseException as error:  # noqa: BLE001  a cancellation is the handler's to see
                    thrown = error
            try:
                waiting = self._work.send(sent) if thrown is None else self._work.throw(thrown)
            except StopIteration:
                return


async def in_turn(
    handlers: Sequence[Coroutine[Any, Any, None]],
    fetch: Callable[[list[Any]], Awaitable[None]],
    done: Callable[[int], None],
) -> None:
    """Run handlers in order, with what they want first fetched together.

    Args:
        fetch: is given what all of them want, and has it at hand when it returns.
        done: is told the number of each handler that has ended, before the next one goes on.

    Raises:
        Failed: with the number of the handler that did, and its error as the cause.
    """
    number = 0
    waiting: dict[int, Any] = {}
    try:
        token = _gathering.set(asyncio.current_task())
        try:
            for number, handler in enumerate(handlers):
                try:
                    waiting[number] = handler.send(None)
                except StopIteration:
                    continue
        finally:
            _gathering.reset(token)
        wanted = [each.wanted for each in waiting.values() if isinstance(each, _Turn) and each.wanted is not None]
    except (Exception, asyncio.CancelledError) as error:
        _close(handlers)
        raise Failed(number) from error
    try:
        await fetch(wanted)
        for number, handler in enumerate(handlers):
            try:
                if number in waiting:
                    await _Rest(handler, waiting[number])
                done(number)
            except Exception as error:
                raise Failed(number) from error
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Not we are cancelled: something that the handler awaited was.
                raise Failed(number) from error
    finally:
        _close(handlers)


def _close(handlers: Sequence[Coroutine[Any, Any, None]]) -> None:
    for handler in handlers:
        with contextlib.suppress(RuntimeError):  # one that awaits while it is closed
            handler.close()

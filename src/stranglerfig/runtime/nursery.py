"""Where roles are born: a process that has loaded their programs once and forks each of them, so that a role starts, or
starts again, in milliseconds and shares the memory of its program with the others.

It has one thread and no event loop, which is what makes forking it safe. Its children ask the kernel to be ended with
it, and it with the supervisor. The two speak in lines of JSON over the nursery's standard input and output.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from stranglerfig.foundation import tasks
from stranglerfig.runtime import processes
from stranglerfig.runtime.settings import Project

# What several roles load. The controller's statistics are not among it: only one process should carry their weight.
COMMON = (
    "stranglerfig.cli.up",
    "stranglerfig.runtime.roles",
    "stranglerfig.eventlog.postgres",
    "stranglerfig.facade.envoy",
    "stranglerfig.facade.fence",
    "stranglerfig.capture.capture",
    "stranglerfig.sync.apply",
    "stranglerfig.verification.shadow",
    "stranglerfig.schemas.server",
    "uvloop",
)


class Born(NamedTuple):
    """A role's process; ``ended`` gets its status (negative: the signal that ended it)."""

    pid: int
    ended: asyncio.Future[int]


class Nursery:
    """The supervisor's side. A nursery that dies is replaced at the next birth; its children die with it."""

    def __init__(self, project: Project, log: Path) -> None:
        self._project = project
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._births: dict[str, asyncio.Future[Born]] = {}
        self._alive: dict[int, asyncio.Future[int]] = {}
        self._starting = asyncio.Lock()

    async def birth(self, role: str, log: Path) -> Born:
        """Start ``role``, its output appended to ``log``."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None or self._process.stdin is None:
                await self._start()
        assert self._process is not None and self._process.stdin is not None
        born: asyncio.Future[Born] = asyncio.get_running_loop().create_future()
        self._births[role] = born
        with suppress(ConnectionError):  # the reader sees the end, and says so to whoever waits
            self._process.stdin.write(orjson.dumps({"role": role, "log": str(log)}) + b"\n")
            await self._process.stdin.drain()
        return await born

    async def _start(self) -> None:
        with self._log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "stranglerfig.cli.nursery", str(self._project.directory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=out,
                start_new_session=True,
                # One thread, or forking is not safe; the roles compute nothing that would want more.
                env={**self._project.environment, "FIG_PARENT": str(os.getpid()), "OPENBLAS_NUM_THREADS": "1"},
            )
        self._reader = tasks.spawn(self._read(self._process), name="nursery")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            said = orjson.loads(line)
            if "role" in said:
                ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                self._alive[said["pid"]] = ended
                self._births.pop(said["role"]).set_result(Born(said["pid"], ended))
            elif (gone := self._alive.pop(said["pid"], None)) is not None:
                gone.set_result(said["status"])
        await process.wait()
        for ended in self._alive.values():
            ended.set_result(-signal.SIGTERM)
        self._alive.clear()
        for waiting in self._births.values():
            # Never born: as if it had ended at once. Its number is one that no process has.
            none: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            none.set_result(1)
            waiting.set_result(Born(0, none))
        self._births.clear()

    async def close(self) -> None:
        """End the nursery, after its children."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader])


def nurse() -> str | None:
    """The nursery's own program: load, then fork whenever a line asks for it.

    Returns twice: in a child the role that it shall be, in the nursery None, when the supervisor is gone.
    """
    if not processes.follow(int(os.environ.pop("FIG_PARENT"))):
        return None
    for module in COMMON:
        # A room that cannot be loaded is the failure of the role that needs it, told by that role.
        with suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is here stays: the collector would only make private copies of shared pages
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting = b""
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            _reap()
        if 0 in readable:
            read = os.read(0, 65536)
            if not read:
                return None
            *lines, waiting = (waiting + read).split(b"\n")
            for line in lines:
                request = orjson.loads(line)
                mother = os.getpid()
                pid = os.fork()
                if pid == 0:
                    for end in (wake, woken):
                        os.close(end)
                    _leave_home(request["log"], mother)
                    return str(request["role"])
                _say({"role": request["role"], "pid": pid})


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(said: dict[str, Any]) -> None:
    os.write(1, orjson.dumps(said) + b"\n")


def _leave_home(log: str, mother: int) -> None:
    """In the child: a session, signals and output of its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(out)
    if not processes.follow(mother):
        sys.exit(1)

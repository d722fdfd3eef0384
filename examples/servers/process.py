"""A server as a child of ours: started, waited for, ended or killed by its own process id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from examples.servers.fetch import Missing
from stranglerfig.foundation import clock
from stranglerfig.runtime.processes import die_with_parent


def listens(port: int) -> bool:
    """Whether something accepts connections on loopback's ``port``."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Child:
    """A program that runs until it is ended; it ends with us.

    Args:
        log: where it writes what it says.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(
        self,
        command: Sequence[str],
        ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
        **options: object,
    ) -> None:
        """Start ``command`` and return once ``ready`` answers true."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
                **options,  # type: ignore[call-overload]
            )
        deadline = clock.monotonic() + timeout
        while not ready():
            if not self.alive() or clock.monotonic() > deadline:
                status = self.process.poll()
                self.kill()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                why = f"ended with status {status}" if status is not None else f"did not answer within {timeout:g} s"
                raise Missing(f"{self.name} {why}; the end of {self.log}:\n{tail}")
            clock.block(0.05)

    def stop(self, number: int = signal.SIGTERM, *, patience: float = 20) -> None:
        """End it, by force when it does not within ``patience`` seconds."""
        if self.process is None:
            return
        if self.alive():
            self.process.send_signal(number)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """kill -9, the program and what it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

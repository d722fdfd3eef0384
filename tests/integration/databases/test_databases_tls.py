"""TLS toward PostgreSQL: what a DSN says of it reaches every kind of session, replication included."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.servers import fetch
from stranglerfig.capture import wire
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from tests.conftest import passable

BINARIES = Path("/usr/lib/postgresql/15/bin")
"""Debian's: the embedded server is built without TLS."""
ENCRYPTED = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


class Secured:
    """A PostgreSQL that talks by TLS only, and the authority whose certificate it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.ca = folder / "ca.pem"

    def openssl(self, *arguments: str) -> None:
        program = fetch.debian("openssl", "openssl")
        subprocess.run([program, *arguments], cwd=self.folder, check=True, capture_output=True)

    def certify(self) -> None:
        """``ca.pem``, and the server's pair, made out to localhost."""
        (self.folder / "names").write_text("subjectAltName=DNS:localhost\n")
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                 "-days", "2", "-subj", "/CN=test authority")  # fmt: skip
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "db.key", "-out", "db.csr",
                 "-subj", "/CN=localhost")  # fmt: skip
        self.openssl("x509", "-req", "-in", "db.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "db.pem",
                 "-days", "2", "-CAcreateserial", "-extfile", "names")  # fmt: skip

    def start(self) -> subprocess.Popen[bytes]:
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for each in (data, self.folder / "db.key"):
                shutil.chown(each, self.user)
        (self.folder / "db.key").chmod(0o600)
        as_user = {"user": self.user} if os.geteuid() == 0 else {}
        subprocess.run([str(BINARIES / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"],
                       cwd="/", check=True, capture_output=True, **as_user)  # type: ignore[call-overload]  # fmt: skip
        (data / "pg_hba.conf").write_text(
            "hostssl all all 127.0.0.1/32 trust\nhostssl replication all 127.0.0.1/32 trust\n"
        )
        settings = {"ssl": "on", "ssl_cert_file": self.folder / "db.pem", "ssl_key_file": self.folder / "db.key",
                    "unix_socket_directories": "", "listen_addresses": "127.0.0.1", "port": self.port,
                    "wal_level": "logical", "fsync": "off"}  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen([str(BINARIES / "postgres"), "-D", str(data), *options],
                                    cwd="/", stdout=log, stderr=log, start_new_session=True, **as_user)  # type: ignore[call-overload,no-any-return]  # fmt: skip

    def dsn(self, mode: str, ca: Path | None = None, host: str = "localhost") -> str:
        more = "" if ca is None else f"&sslrootcert={ca}"
        return f"postgresql://postgres@{host}:{self.port}/postgres?hostaddr=127.0.0.1&sslmode={mode}{more}"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Callable[[], None]], None]) -> Iterator[Secured]:
    if not (BINARIES / "postgres").exists():
        begin(lambda: print(fetch.debian("pg_ctlcluster", "postgresql-15")))
    found = Secured(passable(tmp_path_factory.mktemp("pgtls")))
    found.certify()
    process = found.start()
    yield found
    process.send_signal(signal.SIGINT)
    process.wait(30)


async def reached(secured: Secured) -> None:
    async def there() -> bool:
        try:
            async with postgres.session(secured.dsn("require"), what="test"):
                return True
        except FigError:
            return False

    await clock.until(there, timeout=60, what=f"PostgreSQL: {(secured.folder / 'log').read_text()}")


async def test_every_session_is_verified_replication_too(secured: Secured) -> None:
    await reached(secured)
    dsn = secured.dsn("verify-full", secured.ca)
    async with postgres.session(dsn, what="test") as conn:
        assert await postgres.one(conn, ENCRYPTED) == (True, "TLSv1.3")
    replicating = await wire.walsender(dsn, what="capture")
    assert replicating.pgconn.ssl_in_use
    await replicating.close()


@pytest.mark.parametrize("wrong", ["another authority", "another host", "no TLS"])
async def test_who_cannot_prove_it_is_not_spoken_to(secured: Secured, tmp_path: Path, wrong: str) -> None:
    await reached(secured)
    other = Secured(tmp_path)
    other.certify()
    dsn = {
        "another authority": secured.dsn("verify-full", other.ca),
        "another host": secured.dsn("verify-full", secured.ca, host="shop.test"),
        "no TLS": secured.dsn("disable"),
    }[wrong]
    with pytest.raises(FigError) as caught:
        async with postgres.session(dsn, what="test"):
            raise AssertionError("it was spoken to")
    assert caught.value.code == "database_unreachable"

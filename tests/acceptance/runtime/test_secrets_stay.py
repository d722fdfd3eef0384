"""Secrets planted wherever a configuration takes one are found nowhere: in nothing that fig says, keeps or starts."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from examples.servers import fetch
from stranglerfig.runtime import processes
from stranglerfig.runtime.embedded import free_port
from tests.conftest import passable

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
FIG = str(Path(sys.executable).with_name("fig"))
EXTRACTION = """\
context: inventory
service: {url: "http://127.0.0.1:9", database: {env: INVENTORY_DSN}}
routes: {reads: [{path: "/api/inventory/{itemId}"}], writes: [{path: /api/inventory/adjust, methods: [POST]}]}
tables: [{from: public.inventory, to: item, key: {id: id}, reverse: {id: id}}]
"""


class Planted:
    """A project with a secret in every place, what it is started with, and all that its commands have said."""

    def __init__(self, folder: Path, postgres: Any) -> None:
        self.folder = folder
        self.mark = f"pl4nted{uuid.uuid4().hex[:8]}"
        self.said = ""
        openssl = fetch.debian("openssl", "openssl")
        subprocess.run(
            [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "site.key", "-out", "site.pem",
             "-days", "2", "-subj", "/CN=localhost"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        key = (folder / "site.key").read_text()
        (folder / "site.key").unlink()
        self.needles = (self.mark, key.splitlines()[5])
        self.monolith, service, log = (postgres.database() for _ in range(3))
        for dsn, table in ((self.monolith, "inventory"), (service, "item")):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)".encode())
        self.log = log
        self.environment = dict(os.environ) | {
            "SITE_KEY": key,
            "INVENTORY_DSN": self.secret(service),
            "SHOP_AMQP": f"amqp://shop:{self.mark}@127.0.0.1:9/",
            "REGISTRY_LOGIN": f"ann:{self.mark}",
        }
        (folder / "monolith.secret").write_text(self.secret(self.monolith))
        (folder / "log.secret").write_text(self.secret(log))
        self.estate = (
            "name: shop\n"
            "monolith: {url: 'http://127.0.0.1:9', database: {command: [cat, monolith.secret]}}\n"
            f"facade: {{listen: '127.0.0.1:{free_port()}', tls: {{certificate: site.pem, key: {{env: SITE_KEY}}}}}}\n"
            "log: {file: log.secret}\n"
            f"services: {{checkout: '{self.secret(service)}'}}\n"
            "broker: {url: {env: SHOP_AMQP}}\n"
            "schemas: {url: 'http://127.0.0.1:9', credentials: {env: REGISTRY_LOGIN}}\n"
        )
        (folder / "fig.yaml").write_text(self.estate)
        (folder / "contexts" / "inventory").mkdir(parents=True)
        (folder / "contexts" / "inventory" / "extraction.yaml").write_text(EXTRACTION)

    def secret(self, dsn: str) -> str:
        """The test's server believes everybody: any password will do."""
        return dsn.replace("postgres@", f"postgres:{self.mark}@")

    def fig(self, *arguments: str, fails: bool | None = False) -> None:
        done = subprocess.run(
            [FIG, "--project", str(self.folder), *arguments],
            env=self.environment, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert fails is None or (done.returncode != 0) == fails, f"fig {' '.join(arguments)}: {said}"
        assert not self.leaks(said), f"fig {' '.join(arguments)} shows a secret"
        self.said += said

    def leaks(self, text: str | bytes) -> bool:
        return any((needle if isinstance(text, str) else needle.encode()) in text for needle in self.needles)  # type: ignore[operator]

    def processes(self) -> dict[int, str]:
        """All that runs for this project, by process id: those that name its folder, and their children."""
        lines = {int(entry.name): processes.command_line(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
        found = {pid: line for pid, line in lines.items() if str(self.folder) in line and pid != os.getpid()}
        return found


@pytest.fixture
def planted(tmp_path: Path, postgres: Any) -> Iterator[Planted]:
    made = Planted(passable(tmp_path), postgres)
    yield made
    subprocess.run([FIG, "--project", str(made.folder), "down"], env=made.environment, check=False, capture_output=True)
    for pid in made.processes():
        processes.end(pid)


def rows(dsn: str) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        tables = conn.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert tables
        return "\n".join(str(conn.execute(f"SELECT t::text FROM {name} t".encode()).fetchall()) for (name,) in tables)


def test_secrets_are_nowhere(planted: Planted) -> None:
    right = planted.environment["SITE_KEY"]
    for wrong in (planted.mark, right[:-300]):
        planted.environment["SITE_KEY"] = wrong
        planted.fig("--json", "up", "--detach", fails=True)
        assert "bad_certificate" in planted.said
        planted.said = ""
    planted.environment["SITE_KEY"] = right
    planted.fig("--json", "up", "--detach")
    for command in (["ps"], ["status"], ["plan", "inventory"], ["advance", "inventory", "--dry-run"],
                    ["events", "topics"], ["flow", "list"], ["sync", "parked", "inventory"],
                    ["saga", "list"], ["events", "parked", "list"]):  # fmt: skip
        for flag in ("--json", "--debug"):
            planted.fig(flag, *command, fails=None)
    planted.fig("report", "inventory", "--output", str(planted.folder / "report"))
    planted.fig("rollback", "inventory", "--debug", fails=True)
    planted.fig("verify", "inventory", "--json", fails=True)
    planted.fig("schema", "list", "--debug", fails=True)  # its registry does not answer
    for wrong in (
        planted.estate.replace("{file: log.secret}", f"kafka9://u:{planted.mark}@h"),
        planted.estate.replace("{command: [cat,", f"{{dsn: 'host=h password={planted.mark}', command: [cat,"),
        planted.estate.replace("checkout:", "Checkout: 5, checkout:"),
        planted.estate.replace("{command: [cat, monolith.secret]}", f"'post gres://u:{planted.mark}@h/x'"),
        planted.estate.replace("{command: [cat, monolith.secret]}", f"'postgresql://u:{planted.mark}@127.0.0.1:9/x'"),
        planted.estate.replace("{command: [cat, monolith.secret]}", f"'mysql://u:{planted.mark}@127.0.0.1:9/x'"),
        planted.estate.replace("{command: [cat, monolith.secret]}", f"{{command: [false, {planted.mark}]}}"),
    ):
        assert wrong != planted.estate
        (planted.folder / "fig.yaml").write_text(wrong.replace("log.secret", "./log.secret"))
        for flags in (["--json"], ["--debug"]):
            planted.fig(*flags, "run", "fence", fails=True)
    (planted.folder / "fig.yaml").write_text(planted.estate)

    # What was started: command lines, and the environment of those that need none of it.
    running = planted.processes()
    names = {Path(line.split()[0]).name for line in running.values() if line}
    assert {"envoy", "postgres"} <= names, running
    for pid, line in running.items():
        assert not planted.leaks(line), line.split()[0]
        if Path(line.split()[0]).name in ("envoy", "postgres"):
            assert not planted.leaks(Path(f"/proc/{pid}/environ").read_bytes()), line

    # What was written: logs, state, reports, the control database and the log.
    data = planted.folder / ".fig"
    pair = data / "envoy" / "tls" / "certificate.json"
    assert planted.leaks(pair.read_text()) and pair.stat().st_mode & 0o077 == 0
    files = [file for root in (data, planted.folder / "report") for file in root.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        assert file == pair or not planted.leaks(file.read_bytes()), file
    port = int((data / "postgres" / "fig.port").read_text())
    for dsn in (f"postgresql://postgres@127.0.0.1:{port}/fig", planted.log, planted.monolith):
        found = rows(dsn)
        assert not planted.leaks(found), dsn

"""The estate as its operators run it: two PostgreSQL servers, monolith, service, low-stock service, load.

What is here belongs to the shop, not to stranglerfig: starting and ending its own processes by their ids, deploying
releases without a failed request (the listening sockets outlive the processes), and the project folder that an
operator would have written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from examples.servers.logs import Cluster
from examples.servers.rabbitmq import RabbitMQ
from examples.shop import database
from examples.shop.commands import INBOUND
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import EmbeddedPostgres, free_port

MONOLITH_QUEUE, SERVICE_QUEUE = f"{INBOUND}.monolith", "inventory.commands"
BROKER = """broker:
  url: {{env: SHOP_AMQP_URL}}
  metrics: [{metrics}]"""
COMMANDS = f"- {{queue: {INBOUND}, types: [AdjustStock, ReserveItem]}}"
QUEUES = f"""queues:
  {INBOUND}:
    monolith: {MONOLITH_QUEUE}      # where the monolith takes its commands since the router stands before it
    service: {SERVICE_QUEUE}
    type: type
    key: header:item_id               # commands of one item are done in their order
    command_id: message_id            # both sides keep it with the command's answer, in the same transaction"""
CONFLICTS = {
    "item_conflicts": "conflicts: {rule: service wins}",
    # Orders go on reserving in the monolith's table: what is counted is added up, whoever counted it.
    "level_conflicts": "conflicts: {rule: later commit wins, delta: [on_hand, reserved]}",
    "reservation_conflicts": "conflicts: {rule: later commit wins}",
    "request_conflicts": "conflicts: {rule: service wins}",
}
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
CODE = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src")))
"""This checkout's code, wherever the package was installed from."""


def listening() -> socket.socket:
    """A listening socket on a free loopback port, inherited by each release of one application."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(2048)
    return sock


@dataclass
class Program:
    """One process of the estate, with its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def stop(self, timeout: float = 15) -> int:
        """Ask it to end, wait, insist; its exit status."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """``kill -9``."""
        if self.alive():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-800:] if self.log.exists() else ""


@dataclass
class Estate:
    """The shop.

    Attributes:
        root: where everything it writes goes; below a folder that other accounts may pass (PostgreSQL's).
        items: how many products there are.
        seed: what everything random follows from.
        log: the event log, as ``fig.yaml`` names it.
        connect: the Kafka Connect whose Debezium captures; None captures natively.
        settings: ``postgresql.conf`` entries for both servers; durable as they come.
        messages: whether the shop takes commands by queue as well, from a RabbitMQ of its own.
        both: whether the monolith's orders go on writing the inventory's tables once the service owns them.
        catalogue: whether the catalogue is to leave the monolith as well, and CatalogueService is there.
        telemetry: where traces go, as ``fig.yaml`` names it; the programs are told by OpenTelemetry's variables.
    """

    root: Path
    items: int = 100_000
    seed: int = 1
    log: str = "postgres"
    connect: Cluster | None = None
    settings: dict[str, str] = field(default_factory=dict)
    messages: bool = False
    both: bool = False
    catalogue: bool = False
    telemetry: dict[str, Any] = field(default_factory=dict)
    facade_port: int = field(default_factory=free_port)
    programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "logs").mkdir(exist_ok=True)
        self.shop_server = EmbeddedPostgres(self.root / "shop-postgres", settings=self.settings)
        self.inventory_server = EmbeddedPostgres(self.root / "inventory-postgres", settings=self.settings)
        # It tells of its queues ten times a second: a cut-over waits for two such reports.
        self.broker = RabbitMQ(
            self.root / "rabbitmq", plugins=("rabbitmq_prometheus",), collect_statistics_interval="100"
        )
        self._monolith_socket, self._service_socket, self._checkout_socket = listening(), listening(), listening()
        self._catalogue_socket = listening()
        self.monolith_port: int = self._monolith_socket.getsockname()[1]
        self.service_port: int = self._service_socket.getsockname()[1]
        self.checkout_url = f"http://127.0.0.1:{self._checkout_socket.getsockname()[1]}"
        self.catalogue_url = f"http://127.0.0.1:{self._catalogue_socket.getsockname()[1]}"
        self.monolith_code = HERE / "monolith"
        self.reserve = "table"
        # The control database, once checkouts run: what they say to each other goes by the log.
        self._control_dsn: str | None = None

    # ---- addresses

    @property
    def monolith_url(self) -> str:
        """Where the monolith answers."""
        return f"http://127.0.0.1:{self.monolith_port}"

    @property
    def service_url(self) -> str:
        """Where InventoryService answers."""
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def facade_url(self) -> str:
        """Where the façade answers once ``fig up`` runs."""
        return f"http://127.0.0.1:{self.facade_port}"

    @property
    def monolith_dsn(self) -> str:
        """The monolith's database, as its administrator: for the ledger's check, never for the product."""
        return self.shop_server.dsn("shop")

    @property
    def service_dsn(self) -> str:
        """The service's database, as its administrator."""
        return self.inventory_server.dsn("inventory")

    @property
    def catalogue_dsn(self) -> str:
        """CatalogueService's database, as its administrator."""
        return self.inventory_server.dsn("catalogue")

    @property
    def checkout_dsn(self) -> str:
        """The database of the service that runs checkouts, as its own role."""
        return self.inventory_server.dsn("checkout", "checkout")

    @property
    def low_stock(self) -> Path:
        """What the low-stock service keeps."""
        return self.root / "lowstock.sqlite"

    @property
    def ledger(self) -> Path:
        """The load's ledger; series and status lie beside it."""
        return self.root / "load" / "ledger.jsonl"

    @property
    def project(self) -> Path:
        """The folder with ``fig.yaml``."""
        return self.root / "project"

    def environment(self) -> dict[str, str]:
        """What ``fig`` (and everything the project's files name by ``{env: …}``) finds in its environment."""
        return {
            "SHOP_FIG_DSN": self.shop_server.dsn("shop", "fig"),
            "INVENTORY_FIG_DSN": self.inventory_server.dsn("inventory", "fig"),
            "CHECKOUT_FIG_DSN": self.checkout_dsn,
            "CATALOGUE_FIG_DSN": self.inventory_server.dsn("catalogue", "fig"),
            "SHOP_AMQP_URL": self.broker.amqp,
            "SHOP_TEST_DSN": self.shop_server.dsn("shop", "shop_app"),
            "PYTHONPATH": CODE,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        }

    # ---- databases

    def start_databases(self, progress: database.Progress | None = None) -> None:
        """Start both servers; create, grant and seed what is not there yet."""
        if self.messages:
            self.broker.start()
        self.shop_server.start()
        self.inventory_server.start()
        database.create_shop(self.shop_server, items=self.items, seed=self.seed, progress=progress)
        database.create_inventory(self.inventory_server)
        database.create_checkout(self.inventory_server)
        database.grant(self.shop_server, "shop")
        database.grant(self.inventory_server, "inventory")
        if self.catalogue:
            database.create_catalogue(self.inventory_server)
            database.grant(self.inventory_server, "catalogue")
        if self.both:
            database.send_old_rows(self.shop_server, "shop", database.SHOP_TABLES)
            database.send_old_rows(self.inventory_server, "inventory", database.INVENTORY_TABLES)

    # ---- programs

    def _run(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        *,
        cwd: Path = REPOSITORY,
        pass_fds: tuple[int, ...] = (),
    ) -> Program:
        log = self.root / "logs" / f"{name}.log"
        # Where tests measure fig's coverage, its users' programs are not slowed down by that.
        ambient = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env=ambient | {"PYTHONPATH": CODE, "PYTHONUNBUFFERED": "1"} | self._traces(name) | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        return Program(name, log, process)

    def _traces(self, program: str) -> dict[str, str]:
        """Where a program sends its spans."""
        endpoints = {
            f"OTEL_EXPORTER_{form.upper()}_ENDPOINT": str(self.telemetry[form])
            for form in ("otlp", "zipkin")
            if form in self.telemetry
        }
        return endpoints and {**endpoints, "OTEL_SERVICE_NAME": program}

    def _deploy(self, name: str, program: Program, url: str, *, timeout: float = 30) -> Program:
        """Wait until the new release answers, then let the old one drain and go."""
        deadline = clock.monotonic() + timeout
        try:
            while self._answering(url) != program.pid:
                if not program.alive() or clock.monotonic() > deadline:
                    raise FigError("estate_failed", f"{name} did not start: {program.tail()}", f"See {program.log}.")
                clock.block(0.03)
        except BaseException:  # Ctrl-C too: nobody else knows of it yet
            program.kill()
            raise
        old = self.programs.get(name)
        self.programs[name] = program
        if old is not None:
            old.stop()
        return program

    @staticmethod
    def _answering(url: str) -> int | None:
        request = urllib.request.Request(f"{url}/health", headers={"connection": "close"})
        try:
            with urllib.request.urlopen(request, timeout=2) as response:
                return int(json.load(response)["pid"])
        except (OSError, ValueError, urllib.error.URLError):
            return None

    def _commands(self, prefix: str, queue: str) -> dict[str, str]:
        """Where an application takes its commands from."""
        return {f"{prefix}_AMQP": self.broker.amqp, f"{prefix}_QUEUE": queue} if self.messages else {}

    def deploy_monolith(
        self, *, reserve: str | None = None, code: Path | None = None, inventory_url: str | None = None
    ) -> Program:
        """Run the monolith, replacing the one that runs without a failed request.

        Args:
            reserve: how orders reserve stock, ``table`` or ``api``; None keeps what it was.
            code: the folder of its package; None keeps what it was.
            inventory_url: where ``api`` goes; the façade when not given.
        """
        self.reserve = reserve or self.reserve
        self.monolith_code = code or self.monolith_code
        fd = self._monolith_socket.fileno()
        environment = {
            "SHOP_DSN": self.shop_server.dsn("shop", "shop_app"),
            "SHOP_FD": str(fd),
            "SHOP_RESERVE": self.reserve,
            "SHOP_INVENTORY_URL": inventory_url or self.facade_url,
            **self._commands("SHOP", MONOLITH_QUEUE),
        }
        arguments = ["-m", self.monolith_code.name]
        program = self._run("monolith", arguments, environment, cwd=self.monolith_code.parent, pass_fds=(fd,))
        return self._deploy("monolith", program, self.monolith_url)

    def deploy_service(self, release: str = "good") -> Program:
        """Run a release of InventoryService (``good`` or ``bad``), replacing the one that runs."""
        fd = self._service_socket.fileno()
        environment = self._inventory(release) | {"INVENTORY_FD": str(fd)}
        program = self._run("service", ["-m", "examples.shop.service"], environment, pass_fds=(fd,))
        return self._deploy("service", program, self.service_url)

    def add_instance(self, name: str) -> str:
        """Run one more InventoryService, on a port of its own that dies with it; returns its URL."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        environment = self._inventory("good") | {"INVENTORY_PORT": str(port)}
        program = self._run(name, ["-m", "examples.shop.service"], environment)
        self._deploy(name, program, url)
        return url

    def _inventory(self, release: str) -> dict[str, str]:
        return {
            "INVENTORY_DSN": self.inventory_server.dsn("inventory", "inventory_app"),
            "INVENTORY_RELEASE": release,
            **self._hears("INVENTORY"),
            **self._commands("INVENTORY", SERVICE_QUEUE),
        }

    def deploy_catalogue(self) -> Program:
        """Run CatalogueService, replacing the one that runs."""
        fd = self._catalogue_socket.fileno()
        environment = {
            "CATALOGUE_DSN": self.inventory_server.dsn("catalogue", "catalogue_app"),
            "CATALOGUE_FD": str(fd),
        }
        program = self._run("catalogue", ["-m", "examples.shop.catalogue"], environment, pass_fds=(fd,))
        return self._deploy("catalogue", program, self.catalogue_url)

    def _hears(self, prefix: str) -> dict[str, str]:
        """Where an application finds the log: the control database, unless another is named, and keeps groups there."""
        if self._control_dsn is None:
            return {}
        log = self._control_dsn if self.log == "postgres" else self.log
        return {f"{prefix}_LOG": log, f"{prefix}_GROUPS": self._control_dsn}

    def deploy_checkout(self, control_dsn: str) -> Program:
        """Run the service of checkouts, replacing the one that runs; InventoryService acts on commands from then on."""
        if self._control_dsn is None:
            self._control_dsn = control_dsn
            self.deploy_service()
        fd = self._checkout_socket.fileno()
        environment = {
            "CHECKOUT_DSN": self.checkout_dsn,
            "CHECKOUT_FD": str(fd),
            "SHOP_URL": self.facade_url,
            **self._hears("CHECKOUT"),
        }
        program = self._run("checkout", ["-m", "examples.shop.checkout"], environment, pass_fds=(fd,))
        return self._deploy("checkout", program, self.checkout_url)

    def start_lowstock(self, control_dsn: str, *, threshold: int = 250) -> Program:
        """Run the low-stock service over the event log; its state survives its death.

        ``control_dsn``: the control database, which is the log unless another is named, and keeps groups where it has
        none.
        """
        log = control_dsn if self.log == "postgres" else self.log
        arguments = ["-m", "examples.shop.lowstock", "--log", log, "--groups", control_dsn]
        arguments += ["--state", str(self.low_stock)]
        program = self._run("lowstock", [*arguments, "--threshold", str(threshold)], {})
        self.programs["lowstock"] = program
        return program

    def start_load(
        self, *, url: str | None = None, rate: float = 300, mix: Mapping[str, float] | None = None
    ) -> Program:
        """Run the load against the façade (or ``url``), steered by :meth:`steer`."""
        self.ledger.parent.mkdir(exist_ok=True)
        self.ledger.with_name(self.ledger.name + ".status.json").unlink(missing_ok=True)  # what a load before said
        self.steer(rate=rate, mix=mix or {"reads": 70, "writes": 25, "orders": 5})
        arguments = ["-m", "examples.shop.load", "--url", url or self.facade_url, "--ledger", str(self.ledger)]
        arguments += ["--items", str(self.items), "--seed", str(self.seed), "--rate", str(rate)]
        arguments += ["--checkouts", self.checkout_url]
        if self.messages:
            arguments += ["--amqp", self.broker.amqp]
        program = self._run("load", [*arguments, "--control", str(self._control)], {})
        self.programs["load"] = program
        return program

    @property
    def _control(self) -> Path:
        return self.root / "load" / "control.json"

    def steer(self, *, rate: float | None = None, mix: Mapping[str, float] | None = None, stop: bool = False) -> None:
        """Change the load's rate (per second) and mix (shares of reads, writes, orders, checkouts), or end it."""
        wanted: dict[str, Any] = json.loads(self._control.read_text()) if self._control.exists() else {}
        wanted |= {"stop": stop}
        if rate is not None:
            wanted["rate"] = rate
        if mix is not None:
            wanted["mix"] = dict(mix)
        temporary = self._control.with_suffix(".tmp")
        temporary.write_text(json.dumps(wanted))
        temporary.replace(self._control)

    def load_status(self) -> dict[str, Any]:
        """The load's totals, at most half a second old; empty before the first."""
        file = self.ledger.with_name(self.ledger.name + ".status.json")
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(file.read_text()))
        return {}

    def stop_load(self, timeout: float = 30) -> dict[str, Any]:
        """End the load once its answers are in; its totals."""
        if (load := self.programs.pop("load", None)) is not None:
            load.stop(timeout)
        return self.load_status()

    def nightly(self, *, every: int = 1000, shrinkage: int = 0) -> tuple[int, str]:
        """Run the nightly recount, which writes the inventory's table directly; exit status and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "monolith.nightly", "--every", str(every), "--shrinkage", str(shrinkage)],
            cwd=HERE,
            env=dict(os.environ) | {"SHOP_NIGHTLY_DSN": self.shop_server.dsn("shop", "shop_nightly")},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    # ---- what the team does besides

    def write_project(self, evidence: Mapping[str, Any]) -> Path:
        """Write the project folder from the templates of ``estate/``, with the gates' ``evidence``; returns it."""
        values = {
            "saga_success": "",
            "services": "{checkout: {env: CHECKOUT_FIG_DSN}}",
            **evidence,
            "monolith_url": self.monolith_url,
            "service_url": self.service_url,
            "catalogue_url": self.catalogue_url,
            "facade": f"127.0.0.1:{self.facade_port}",
            "log": self.log,
            "capture": "native" if self.connect is None else "debezium",
            "telemetry": f"telemetry: {json.dumps(self.telemetry)}" if self.telemetry else "",
            "connect": "" if self.connect is None else f"connect: {json.dumps(self.connect._asdict())}",
            "python": sys.executable,
            # Globs of the code that is counted are relative to the project.
            "monolith_code": os.path.relpath(HERE / "monolith", self.project),
            "project": str(self.project),
            "broker": BROKER.format(metrics=self.broker.metrics) if self.messages else "",
            "commands": COMMANDS if self.messages else "",
            "queues": QUEUES if self.messages else "",
            "remaining_writers": "bidirectional" if self.both else "refuse",
            **(CONFLICTS if self.both else dict.fromkeys(CONFLICTS, "")),
        }
        self._fill(HERE / "estate", self.project, values)
        shutil.copy(HERE / "service" / "openapi.yaml", self.project / "contexts" / "inventory" / "openapi.yaml")
        if self.catalogue:
            folder = self.project / "contexts" / "catalogue"
            self._fill(HERE / "catalogue" / "context", folder, values)
            shutil.copy(HERE / "catalogue" / "openapi.yaml", folder / "openapi.yaml")
        return self.project

    @staticmethod
    def _fill(templates: Path, folder: Path, values: Mapping[str, Any]) -> None:
        for source in sorted(templates.rglob("*")):
            if source.is_dir():
                continue
            target = folder / source.relative_to(templates)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text()
            target.write_text(Template(text).safe_substitute(values) if source.suffix == ".yaml" else text)

    def reduced_monolith(self) -> Path:
        """A copy of the monolith's code without its inventory; returns the package's folder."""
        target = self.root / "reduced" / "monolith"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(HERE / "monolith", target, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(HERE / "patches" / "remove-inventory.patch")],
            cwd=target,
            # The copy is no part of a repository, wherever it lies.
            env=dict(os.environ) | {"GIT_CEILING_DIRECTORIES": str(target.parent)},
            check=True,
        )
        return target

    def stop(self) -> None:
        """End everything, the load first and the databases last."""
        for name in ("load", "lowstock", "checkout", "monolith", "service", *self.programs):
            if (program := self.programs.pop(name, None)) is not None:
                program.stop()
        for server in (self.shop_server, self.inventory_server, self.broker):
            server.stop()
        for sock in (self._monolith_socket, self._service_socket, self._checkout_socket, self._catalogue_socket):
            sock.close()

"""Apache Kafka (one node, KRaft) and Kafka Connect with Debezium, from Maven Central."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from examples.servers import fetch
from examples.servers.process import Child, listens
from stranglerfig.runtime.embedded import free_port

KAFKA = "3.9.1"
DEBEZIUM = "3.0.8.Final"
DEBEZIUM_MARIADB = "3.1.0.Final"
"""Of its connector for MariaDB, Maven Central lacks 3.0.8."""
_JARS = [
    f"org.apache.kafka:kafka_2.13:{KAFKA}",
    f"org.apache.kafka:connect-runtime:{KAFKA}",
    f"org.apache.kafka:connect-json:{KAFKA}",
]
BRIEF = ("-XX:TieredStopAtLevel=1",)
"""For Java that lives for minutes: what compiling all of it a second time costs, it never gets back."""
_QUIET = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c: %m%n
"""


def _jars() -> Path:
    return fetch.maven("kafka", [*_JARS, "org.slf4j:slf4j-reload4j:1.7.36"])


class Kafka:
    """One broker that is its own controller, on loopback.

    Args:
        directory: where its data and its log are; kept over a restart.
        java: options of the Java machine; none for one that is measured.
        settings: entries of ``server.properties`` beyond ours.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        memory: str = "512m",
        java: Sequence[str] = BRIEF,
        **settings: str,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._controller = free_port()
        self._java = [f"-Xmx{memory}", f"-Xms{memory}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", *java]
        self._settings = settings
        self._child = Child("Kafka", directory / "kafka.log")

    @property
    def url(self) -> str:
        """As ``fig.yaml`` names it."""
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def servers(self) -> str:
        """As Kafka's clients name it (``bootstrap.servers``)."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the broker; formats its storage the first time."""
        jars = _jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.directory / "data"),
            "num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            "log.retention.check.interval.ms": "1000",
            # A broker that was killed is let back in once its former registration has run out (9 s unless told).
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            **{name.replace("_", "."): value for name, value in self._settings.items()},
        }
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.directory / "log4j.properties").write_text(_QUIET)
        program = [f"-Dlog4j.configuration=file:{self.directory}/log4j.properties", "-cp", f"{jars}/*"]
        if not (self.directory / "data" / "meta.properties").exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            done = subprocess.run(
                [
                    "java",
                    *BRIEF,
                    *program,
                    "kafka.tools.StorageTool",
                    "format",
                    f"--cluster-id={cluster}",
                    "-c",
                    str(properties),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise fetch.Missing(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")
        self._child.start(["java", *self._java, *program, "kafka.Kafka", str(properties)], lambda: listens(self.port))

    def stop(self) -> None:
        """Shut the broker down."""
        self._child.stop()

    def kill(self) -> None:
        """kill -9."""
        self._child.kill()


class Connect:
    """One worker of Kafka Connect in distributed mode, with Debezium's connectors.

    Args:
        servers: Kafka's ``bootstrap.servers``.
        java: options of the Java machine; none for one that is measured.
        settings: entries of the worker's properties beyond ours.
    """

    def __init__(
        self,
        directory: Path,
        servers: str,
        *,
        port: int = 0,
        group: str = "connect",
        java: Sequence[str] = BRIEF,
        **settings: str,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._servers = servers
        self._group = group
        self._java = ["-Xmx768m", *java]
        self._settings = settings
        self._child = Child("Kafka Connect", directory / "connect.log")

    @property
    def url(self) -> str:
        """Its REST interface."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def start(self) -> None:
        """Start the worker and return when its REST interface answers."""
        jars = _jars()
        plugins = fetch.ROOT / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        for name, version in (("postgres", DEBEZIUM), ("mysql", DEBEZIUM), ("mariadb", DEBEZIUM_MARIADB)):
            found = fetch.maven(f"debezium-{name}", [f"io.debezium:debezium-connector-{name}:{version}"])
            link = plugins / name
            if not link.is_symlink() or link.resolve() != found.resolve():
                link.unlink(missing_ok=True)
                link.symlink_to(found)
        self.directory.mkdir(parents=True, exist_ok=True)
        topics = {f"{kind}.storage.topic": f"{self._group}-{kind}s" for kind in ("config", "offset")}
        settings = {
            "bootstrap.servers": self._servers,
            "group.id": self._group,
            "listeners": f"http://127.0.0.1:{self.port}",
            "rest.advertised.host.name": "127.0.0.1",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "plugin.path": str(plugins),
            "plugin.discovery": "service_load",
            **topics,
            "status.storage.topic": f"{self._group}-status",
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "offset.storage.partitions": "4",
            "status.storage.replication.factor": "1",
            "status.storage.partitions": "2",
            "offset.flush.interval.ms": "1000",
            "scheduled.rebalance.max.delay.ms": "2000",
            "connector.client.config.override.policy": "All",
            **{name.replace("_", "."): value for name, value in self._settings.items()},
        }
        properties = self.directory / "connect.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.directory / "log4j.properties").write_text(_QUIET)
        self._child.start(
            [
                "java",
                *self._java,
                f"-Dlog4j.configuration=file:{self.directory}/log4j.properties",
                "-cp",
                f"{jars}/*",
                "org.apache.kafka.connect.cli.ConnectDistributed",
                str(properties),
            ],
            self._answers,
            timeout=120,
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/connectors", timeout=2) as answer:
                return isinstance(json.load(answer), list)
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """Shut the worker down; its connectors stay in Kafka and go on when it is back."""
        self._child.stop(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._child.kill()

"""RabbitMQ from Debian: AMQP 0-9-1 and streams, one node with a name, a cookie and an epmd of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from examples.servers import fetch
from examples.servers.process import Child, listens
from stranglerfig.runtime.embedded import free_port

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
"""The programs themselves: Debian's wrappers in /usr/sbin change to the account ``rabbitmq`` and to its folders."""


def _programs() -> Path:
    fetch.debian("rabbitmq-server", "rabbitmq-server")
    return _PROGRAMS


class RabbitMQ:
    """One broker on loopback, user and password ``guest``.

    Args:
        directory: where its data, its log and its cookie are; kept over a restart.
        plugins: what is enabled from its first start on.
        advanced: Erlang's terms, for what ``rabbitmq.conf`` cannot say.
        settings: entries of ``rabbitmq.conf`` beyond ours (with ``__`` for a dot).
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        plugins: tuple[str, ...] = ("rabbitmq_stream",),
        advanced: str = "[].",
        **settings: str,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.stream_port = free_port()
        self._metrics_port = free_port()
        self._plugins = plugins
        self._advanced = advanced
        self._settings = settings
        self._epmd_port = free_port()
        self._distribution = free_port()
        self._node = f"fig-{self.port}@localhost"
        self._child = Child("RabbitMQ", directory / "rabbitmq.log")
        self._epmd = Child("epmd", directory / "epmd.log")

    @property
    def url(self) -> str:
        """As ``fig.yaml`` names it as a log: streams."""
        return f"rabbitmq://127.0.0.1:{self.stream_port}"

    @property
    def amqp(self) -> str:
        """Where queues are: AMQP 0-9-1."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def metrics(self) -> str:
        """Where the plugin rabbitmq_prometheus answers, when it is among the plugins."""
        return f"http://127.0.0.1:{self._metrics_port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._child.pid

    def start(self) -> None:
        """Start the broker and return when it accepts connections; what is durable is there again."""
        programs = _programs()
        data = self.directory.absolute()
        data.mkdir(parents=True, exist_ok=True)
        conf = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            **self._of_plugins(),
            "log.console": "true",
            "log.console.level": "warning",
            "log.file": "false",
            **{name.replace("__", "."): value for name, value in self._settings.items()},
        }
        (data / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in conf.items()))
        (data / "advanced.config").write_text(self._advanced)
        (data / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        if not self._epmd.alive():
            # Started by us and not by erl, whose epmd would outlive it.
            epmd = shutil.which("epmd") or fetch.debian("epmd", "erlang-base")
            self._epmd.start(
                [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                lambda: listens(self._epmd_port),
            )
        environment = {
            "HOME": str(data),  # the cookie's folder
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(data / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(data / "data"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "rabbitmq.pid"),
            # Idle schedulers must not spin on a machine that others share.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+sbwt none +sbwtdcpu none +sbwtdio none",
            # As under systemd the script becomes the broker, so that a signal to our child reaches the broker.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        ports = [self.port, *([self.stream_port] if "rabbitmq_stream" in self._plugins else [])]
        self._child.start(
            [str(programs / "rabbitmq-server")],
            lambda: all(listens(port) for port in ports),
            environment=environment,
            timeout=120,
        )

    def _of_plugins(self) -> dict[str, str]:
        """What the plugins want to know; an entry of one that is not enabled is refused as unknown."""
        found: dict[str, str] = {}
        if "rabbitmq_stream" in self._plugins:
            found |= {
                "stream.listeners.tcp.1": f"127.0.0.1:{self.stream_port}",
                "stream.advertised_host": "127.0.0.1",
                "stream.advertised_port": str(self.stream_port),
            }
        if "rabbitmq_prometheus" in self._plugins:
            found |= {"prometheus.tcp.ip": "127.0.0.1", "prometheus.tcp.port": str(self._metrics_port)}
        return found

    def stop(self) -> None:
        """Shut the broker and its epmd down."""
        self._child.stop()
        self._epmd.stop()

    def kill(self) -> None:
        """kill -9 of the broker; ``start`` brings it back with what is durable."""
        self._child.kill()

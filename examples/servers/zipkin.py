"""Zipkin as a child of ours: takes traces in its own JSON, answers queries about them, keeps them in its memory."""

from __future__ import annotations

from pathlib import Path

from examples.servers import fetch
from examples.servers.jaeger import answers
from examples.servers.process import Child
from stranglerfig.runtime.embedded import free_port

_SERVER = "io.zipkin:zipkin-server:3.4.4:jar:exec"


class Zipkin:
    """Zipkin 3.4 on loopback.

    Args:
        directory: where its log is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._child = Child("Zipkin", directory / "zipkin.log")

    @property
    def url(self) -> str:
        """As ``telemetry.zipkin`` names it; its query interface has the same."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; its jar is fetched the first time."""
        (jar,) = fetch.artifact("zipkin", _SERVER).glob("*.jar")
        self._child.start(
            ["java", "-Xmx256m", "-jar", str(jar)],
            lambda: answers(f"{self.url}/health"),
            environment={
                "QUERY_PORT": str(self.port),
                "STORAGE_TYPE": "mem",
                "MEM_MAX_SPANS": "200000",
                "SELF_TRACING_ENABLED": "false",
                "ARMERIA_OPTS": "",
            },
        )

    def stop(self) -> None:
        """End it and what it held; at once, since that was in its memory alone."""
        self._child.kill()

"""Jaeger (all in one) as a child of ours: takes traces by OTLP, answers queries, keeps what it has in its memory."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from examples.servers import fetch
from examples.servers.process import Child
from stranglerfig.runtime.embedded import free_port

_MODULE = "github.com/jaegertracing/jaeger"
_PROGRAM = f"{_MODULE}/cmd/all-in-one"
_SOURCE = f'//go:build tools\n\npackage main\n\nimport _ "{_PROGRAM}"\n'
# Jaeger's own replacement, which does not reach who requires it.
_SARAMA = "github.com/Shopify/sarama"


class Jaeger:
    """Jaeger 1.62 on loopback.

    Args:
        directory: where its log is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._otlp, self._query, self._admin = free_port(), free_port(), free_port()
        self._child = Child("Jaeger", directory / "jaeger.log")

    @property
    def otlp(self) -> str:
        """As ``telemetry.otlp`` names it."""
        return f"http://127.0.0.1:{self._otlp}"

    @property
    def query(self) -> str:
        """As ``telemetry.query`` names it."""
        return f"http://127.0.0.1:{self._query}"

    def start(self) -> None:
        """Start it; builds it the first time, which takes two or three minutes."""
        program = fetch.go(
            "jaeger", _SOURCE, [f"{_MODULE}@v1.62.0"], [f"{_SARAMA} => {_SARAMA} v1.33.0"], package=_PROGRAM
        )
        # Port 0 is any: what only other dialects need must not be in the way of a second Jaeger.
        elsewhere = ("collector.grpc-server", "collector.http-server", "collector.otlp.grpc", "query.grpc-server")
        self._child.start(
            [
                str(program),
                f"--collector.otlp.http.host-port=127.0.0.1:{self._otlp}",
                f"--query.http-server.host-port=127.0.0.1:{self._query}",
                f"--admin.http.host-port=127.0.0.1:{self._admin}",
                *(f"--{each}.host-port=127.0.0.1:{free_port()}" for each in elsewhere),
                f"--http-server.host-port=127.0.0.1:{free_port()}",
                *(f"--processor.{each}.server-host-port=127.0.0.1:{free_port()}" for each in _AGENTS),
                "--memory.max-traces=20000",
                "--log-level=warn",
            ],
            lambda: answers(f"http://127.0.0.1:{self._admin}/") and answers(f"{self.query}/api/services"),
            environment={"SPAN_STORAGE_TYPE": "memory"},
        )

    def stop(self) -> None:
        """End it and what it held; at once, since that was in its memory alone."""
        self._child.kill()


_AGENTS = ("jaeger-binary", "jaeger-compact", "zipkin-compact")


def answers(url: str) -> bool:
    """Whether a GET of ``url`` succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

"""Prometheus from Debian: one server on loopback, and ``promtool``, which checks and tests rules."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from examples.servers import fetch
from examples.servers.process import Child
from stranglerfig.runtime.embedded import free_port


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``promtool``; what it says is in the result, whether it approves in its status."""
    program = fetch.debian("promtool", "prometheus")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


class Prometheus:
    """One server.

    Args:
        directory: where its configuration, its data and its log are.
        scrape: the ``scrape_configs`` part of its configuration, as YAML.
        rules: rule files.
        interval: between two evaluations of rules.
    """

    def __init__(self, directory: Path, scrape: str, rules: list[Path], *, interval: str = "1s") -> None:
        self.directory = directory
        self.port = free_port()
        self._child = Child("Prometheus", directory / "prometheus.log")
        self._configuration = (
            f"global: {{scrape_interval: {interval}, evaluation_interval: {interval}}}\n"
            f"rule_files: {json.dumps([str(file) for file in rules])}\n{scrape}"
        )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns once it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "prometheus.yml"
        file.write_text(self._configuration)
        command = [
            fetch.debian("prometheus", "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        self._child.start(command, self._ready)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers, such as ``targets``, ``alerts`` or ``query``."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def stop(self) -> None:
        """End it."""
        self._child.stop()

"""Amazon Kinesis' API from ``moto``, as a child of ours on loopback: the best stand-in that runs without an account."""

from __future__ import annotations

import sys
from pathlib import Path

from examples.servers.process import Child, listens
from stranglerfig.runtime.embedded import free_port


class Kinesis:
    """A server of the Kinesis API (see ``kinesis_standin``); what it holds is in its memory.

    Args:
        directory: where its log is.
        records_per_second: what a shard takes before it throttles; 0 is without limit (the service: 1,000).
        hour: seconds that an hour of a stream's retention lasts.
    """

    def __init__(self, directory: Path, *, port: int = 0, records_per_second: int = 0, hour: float = 3600) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._settings = (str(records_per_second), str(hour))
        self._child = Child("Kinesis", directory / "kinesis.log")

    @property
    def endpoint(self) -> str:
        """As Amazon's clients name it (``endpoint_url``)."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """As ``fig.yaml`` names it."""
        return f"kinesis://test:test@us-east-1?endpoint={self.endpoint}"

    def start(self) -> None:
        """Start the server."""
        self.directory.mkdir(parents=True, exist_ok=True)
        module = "examples.servers.kinesis_standin"
        self._child.start([sys.executable, "-m", module, str(self.port), *self._settings], lambda: listens(self.port))

    def stop(self) -> None:
        """End the server and what it held."""
        self._child.stop()

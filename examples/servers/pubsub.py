"""Google Cloud Pub/Sub's API from Google's own in-memory server (Go package ``pstest``), as a child of ours."""

from __future__ import annotations

from pathlib import Path

from examples.servers import fetch
from examples.servers.process import Child, listens
from stranglerfig.runtime.embedded import free_port

_MODULE = "cloud.google.com/go/pubsub@v1.45.3"
_PROJECT = "fig"


class PubSub:
    """The server in ``pubsub.go`` on loopback; what it holds is in its memory.

    Args:
        directory: where its log is.
    """

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._child = Child("Pub/Sub", directory / "pubsub.log")

    @property
    def endpoint(self) -> str:
        """As Google's clients name it (``PUBSUB_EMULATOR_HOST``)."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """As ``fig.yaml`` names it."""
        return f"pubsub://{_PROJECT}?endpoint={self.endpoint}"

    def start(self) -> None:
        """Start the server; builds it the first time, which takes a minute or two."""
        self.directory.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).with_name("pubsub.go").read_text()
        program = fetch.go("pubsub", source, [_MODULE])
        self._child.start([str(program), str(self.port)], lambda: listens(self.port))

    def stop(self) -> None:
        """End the server and what it held."""
        self._child.stop()

"""What the runtime hands to the controller: everything it needs to act, already configured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stranglerfig.access.settings import Policy
from stranglerfig.capture.debezium import Through
from stranglerfig.changes.flows import Flows
from stranglerfig.changes.settings import TableMapping
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.extraction.decommission import held
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.turns import Turns
from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.fence import FenceClient
from stranglerfig.facade.routing_client import RouterClient
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.ports import Registry


@dataclass(frozen=True, slots=True)
class ContextParts:
    """One context: its settings, the folder they lie in, where its service's database is, what captures it.

    ``through`` is the Kafka Connect of ``capture: debezium``, else None; ``sagas`` the database that keeps the sagas
    which its gate looks at.
    """

    settings: ExtractionSettings
    folder: Path
    service_dsn: str
    through: Through | None = None
    sagas: str = ""

    def tables(self, retired: bool) -> tuple[TableMapping, ...]:
        """The mapping as it is in force: retired tables are in the holding schema."""
        if not retired:
            return self.settings.tables
        return tuple(
            table.model_copy(update={"source": held(table.source, self.settings.context)})
            for table in self.settings.tables
        )

    def sources(self, retired: bool) -> tuple[str, ...]:
        """The monolith's tables where they are now."""
        return tuple(held(name, self.settings.context) if retired else name for name in self.settings.sources)


@dataclass(frozen=True, slots=True)
class Parts:
    """The estate as the controller sees it.

    Attributes:
        services: databases of services beside the contexts' own, by name.
        contexts: by name; where a service listens is replaced in it when ``extraction.yaml`` changes.
        changed: the contexts whose ``extraction.yaml`` has changed since it was last asked, with what stands in it now
            or why that cannot be read.
        router: what leads messages; None where no context takes commands from a queue.
        turns: what the contexts take turns at.
        access: whether a command counts only with the signature of a token or a login.
        policy: what fig.yaml wants of every context's stages; a context's own stands beside it.
        quiet: seconds in which nothing may have passed to the monolith before it is retired.
        kill_point: called with the name of each point at which a fault test may kill the process.
    """

    name: str
    project: Path
    data: Path
    control_dsn: str
    monolith_url: str
    monolith_dsn: str
    contexts: dict[str, ContextParts]
    log: EventLog
    registry: Registry
    flows: Flows
    envoy: EnvoyControl
    fence: FenceClient
    changed: Callable[[], Mapping[str, ExtractionSettings | FigError]] = dict
    router: RouterClient | None = None
    turns: Turns = field(default_factory=Turns)
    access: bool = False
    policy: Policy = field(default_factory=Policy)
    services: Mapping[str, str] = field(default_factory=dict)
    quiet: float = 86_400.0
    kill_point: Callable[[str], None] = lambda name: None

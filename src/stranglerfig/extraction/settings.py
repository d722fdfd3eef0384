"""``extraction.yaml``: one bounded context, what it consists of and what must hold before it moves on."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stranglerfig.access.settings import Policy
from stranglerfig.changes.settings import DatabaseReference, DerivedEvent, Milliseconds, Settings, TableMapping
from stranglerfig.facade.queues import QueueSettings
from stranglerfig.facade.settings import ContextFacade, Route, Routes, UpstreamTls
from stranglerfig.facade.upstreams import Upstream
from stranglerfig.foundation.tls import Trust
from stranglerfig.gates.settings import GateSettings
from stranglerfig.verification.settings import ShadowSettings

_VARIABLE = re.compile(r"\{[^{}=]*")


class Checks(Settings):
    """A command whose success the build gate demands, and the coverage report that it leaves."""

    run: str = Field(description="Command line, run in the project's folder.")
    coverage: str | None = Field(
        default=None, description="The coverage.py JSON report that it writes, relative to the project."
    )


Address = Annotated[str, Field(pattern=r"^https?://[^/\s?#@]+/?$")]
"""``http://host:port``."""


class ServiceSettings(Settings):
    """What the context becomes."""

    url: Address | None = Field(
        default=None, description="Where the service listens, such as http://127.0.0.1:8002; or urls."
    )
    urls: tuple[Address, ...] = Field(
        default=(),
        description="Where its instances listen, when it has several. A change takes effect while everything runs.",
    )
    database: DatabaseReference = Field(description="The service's own database, as the role that stranglerfig uses.")
    tls: UpstreamTls = Field(default_factory=UpstreamTls, description="Whom https:// addresses must prove to be.")
    health: str = Field(
        default="/health", pattern=r"^/\S*$", description="Path that answers 200 when the service is healthy."
    )
    health_interval: Milliseconds = Field(
        default=1000.0,
        ge=100,
        le=60_000,
        description="How often the façade asks each of several instances for it; two failures in a row take one out.",
    )
    health_timeout: Milliseconds = Field(
        default=1000.0, ge=10, le=60_000, description="How long such an answer may take."
    )
    metrics: str | None = Field(
        default=None, description="Path of its metrics for Prometheus, where it has some: /metrics.", pattern=r"^/\S*$"
    )
    contract: str | None = Field(default=None, description="OpenAPI document that the service's routes must meet.")
    checks: tuple[Checks, ...] = Field(default=(), description="The service's own tests.")
    outbox: str | None = Field(default=None, description="Table of events written with their state: public.outbox.")

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.url is None) == (not self.urls):
            raise ValueError("give url for one instance, or urls for several")
        if len({url.partition(":")[0] for url in self.addresses}) > 1:
            raise ValueError("urls are all http or all https")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("urls names an instance twice")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where its instances listen, without a slash at the end."""
        return tuple(url.rstrip("/") for url in (self.urls if self.url is None else (self.url,)))

    @property
    def upstream(self) -> Upstream:
        """The same as the façade is told."""
        return Upstream(
            self.addresses, self.health, self.health_interval / 1000, self.health_timeout / 1000, self.trust
        )

    @property
    def trust(self) -> Trust:
        """Whom its addresses must prove to be."""
        return Trust(self.tls.ca, self.tls.server_name)


class Writers(Settings):
    """Who is known to write the context's tables in the monolith, by application_name."""

    routed: tuple[str, ...] = Field(
        default=(), description="Writes of declared write routes: they move with the routes."
    )
    refused: tuple[str, ...] = Field(default=(), description="Known, and to be refused once the service owns the data.")
    quiet_seconds: float = Field(
        default=60,
        ge=6,
        description="A writer not seen for so long is gone; a session is recorded at most every 5 s.",
    )


class Decommission(Settings):
    """How the context leaves the monolith."""

    brownout_seconds: float = Field(
        default=60, gt=0, description="How long old routes and tables are taken away to see who misses them."
    )
    grace_seconds: float = Field(
        default=0, ge=0, description="How long retired tables wait before the drop is allowed."
    )
    watch_seconds: float = Field(default=60, gt=0, description="How long old routes and tables are watched for use.")
    checks: tuple[Checks, ...] = Field(default=(), description="The monolith's own checks without the context.")
    code: tuple[str, ...] = Field(
        default=(), description="Files of the monolith's code, as globs, counted before and after."
    )
    code_after: tuple[str, ...] = Field(default=(), description="The same code after the context was removed from it.")


class ExtractionSettings(Settings):
    """One bounded context on its way."""

    context: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="The bounded context's name.")
    model: str = Field(default="model.storm", description="The Event Storming model, beside this file.")
    schemas: str = Field(default="schemas", description="Folder of the event schemas, beside this file.")
    service: ServiceSettings
    routes: Routes
    queues: dict[str, QueueSettings] = Field(
        default_factory=dict, description="Inbound queue → where its messages go on, for routes that name it."
    )
    facade: ContextFacade = Field(default_factory=ContextFacade)
    capture: Literal["native", "debezium"] = Field(
        default="native",
        description="What reads the databases' changes: fig itself, or Debezium on fig.yaml's Kafka Connect.",
    )
    partitions: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Over how many partitions of its topic the monolith's changes are divided by key, so that as many"
        " sync workers apply them. It can be raised, and be set back to 1.",
    )
    tables: tuple[TableMapping, ...] = Field(min_length=1)
    derive: tuple[DerivedEvent, ...] = ()
    shadow: ShadowSettings = Field(default_factory=ShadowSettings)
    remaining_writers: Literal["refuse", "bidirectional"] = Field(
        default="refuse",
        description="What happens to writers that stay in the monolith once the service owns the writes: refuse them,"
        " or let both sides write and settle conflicts by the tables' rules (bidirectional).",
    )
    writers: Writers = Field(default_factory=Writers)
    accepted_foreign_keys: tuple[str, ...] = Field(
        default=(), description="Foreign keys across the boundary, accepted by constraint name."
    )
    accepted_findings: tuple[str, ...] = Field(
        default=(), description="Other preflight findings that were read and accepted, by code."
    )
    gates: GateSettings = Field(default_factory=GateSettings)
    policy: Policy = Field(
        default_factory=Policy,
        description="Approvals and change windows, beside fig.yaml's own; neither weakens the other.",
    )
    decommission: Decommission = Field(default_factory=Decommission)

    @model_validator(mode="after")
    def _queues_and_routes_agree(self) -> ExtractionSettings:
        seen: dict[tuple[str, str], str] = {}
        for kind, routes in (("reads", self.routes.queue_reads), ("writes", self.routes.queue_writes)):
            for route in routes:
                if route.queue not in self.queues:
                    known = ", ".join(self.queues) or "none"
                    raise ValueError(
                        f"routes.{kind} names the queue '{route.queue}'; allowed: a key of queues ({known})"
                    )
                for one in route.types:
                    if (other := seen.setdefault((route.queue, one), kind)) != kind:
                        raise ValueError(f"'{one}' of the queue '{route.queue}' is in routes.{other} and routes.{kind}")
        if unused := sorted(set(self.queues) - {queue for queue, _ in seen}):
            raise ValueError(f"no route names the queue '{unused[0]}' that queues describes")
        inbound = set(self.queues)
        for name, queue in self.queues.items():
            if taken := inbound & {queue.monolith, queue.service}:
                raise ValueError(f"queues.{name} leads back into the inbound queue '{taken.pop()}'")
        return self

    @model_validator(mode="after")
    def _both_sides_or_none(self) -> ExtractionSettings:
        if not self.both_write:
            for number, table in enumerate(self.tables):
                if table.conflicts is not None:
                    raise ValueError(f"tables[{number}].conflicts needs remaining_writers: bidirectional")
            return self
        if self.partitions > 1:
            raise ValueError("remaining_writers: bidirectional needs partitions: 1")
        if self.capture != "native":
            raise ValueError("remaining_writers: bidirectional needs capture: native")
        for number, table in enumerate(self.tables):
            if table.where is not None:
                raise ValueError(f"tables[{number}].where cannot be combined with remaining_writers: bidirectional")
        return self

    @property
    def both_write(self) -> bool:
        """Whether writers that stay in the monolith go on writing once the service owns the writes."""
        return self.remaining_writers == "bidirectional"

    @property
    def sources(self) -> tuple[str, ...]:
        """The monolith's tables, each once, in the order of the file."""
        return tuple(dict.fromkeys(table.source for table in self.tables))

    @property
    def targets(self) -> tuple[str, ...]:
        """The service's tables, each once, in the order of the file."""
        return tuple(dict.fromkeys(table.target for table in self.tables))


def shared(one: ExtractionSettings, other: ExtractionSettings) -> tuple[str, str, tuple[str | int, ...]] | None:
    """What two contexts both claim and only one can have: its kind, its name, and where ``one`` says so; or None."""
    for number, table in enumerate(one.tables):
        if table.source in other.sources:
            return "table", table.source, ("tables", number, "from")
        if one.service.database == other.service.database and table.target in other.targets:
            return "table", table.target, ("tables", number, "to")
    theirs = set(_claimed(other))
    for claim, location in _claimed(one).items():
        if claim in theirs:
            return "route", " ".join(claim), location
    return None


def _claimed(settings: ExtractionSettings) -> dict[tuple[str, ...], tuple[str | int, ...]]:
    """Method and path (its variables without their names), queue and type → where it is written."""
    found: dict[tuple[str, ...], tuple[str | int, ...]] = {}
    for kind in ("reads", "writes"):
        for number, route in enumerate(getattr(settings.routes, kind)):
            location = ("routes", kind, number)
            if isinstance(route, Route):
                found |= {(method, _VARIABLE.sub("{", route.path)): location for method in route.methods}
            else:
                found |= {(route.queue, one): location for one in route.types}
    return found

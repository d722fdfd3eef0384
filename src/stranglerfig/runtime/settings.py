"""What the user's files say: ``fig.yaml`` (the estate) and each ``contexts/*/extraction.yaml``, read with exact errors.

Secrets come from the environment, a file or a command, are resolved when they are used, and show in no text of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import ProgrammingError, conninfo
from pydantic import Field, field_validator, model_validator

from stranglerfig.access.settings import AccessSettings, Policy
from stranglerfig.changes.settings import DatabaseReference, Milliseconds, Reference, Settings
from stranglerfig.eventlog import BACKENDS
from stranglerfig.facade.queues import BrokerReference, BrokerSettings
from stranglerfig.facade.settings import FacadeSettings, UpstreamTls
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.tls import Trust
from stranglerfig.runtime import yamlfile
from stranglerfig.runtime.secrets import content, look_up
from stranglerfig.telemetry.model import Destination

if TYPE_CHECKING:
    from stranglerfig.extraction.settings import ExtractionSettings

ESTATE_FILE = "fig.yaml"
_LOGS = tuple(name for name in BACKENDS if name not in ("postgres", "memory"))


def host_and_port(listen: str) -> tuple[str, int]:
    """The parts of ``127.0.0.1:8080`` or ``[::1]:8080``."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def reveal(reference: Reference, directory: Path, environment: Mapping[str, str]) -> str:
    """The database's or broker's address that ``reference`` stands for.

    Raises:
        FigError: ``secret_missing``; ``bad_address`` (never shown).
    """
    found = look_up(reference, directory, environment)
    if isinstance(reference, BrokerReference):
        if not found.startswith(("amqp://", "amqps://")):
            raise FigError(
                "bad_address",
                f"{_named(reference)} is not a broker's address (it is not shown: it may hold a password)",
                "Write it as amqp://user:password@host:5672/vhost.",
            )
        return found
    if mysql.is_mysql(found):
        if not isinstance(reference, MonolithReference):
            raise FigError(
                "postgresql_needed",
                f"{mysql.describe(found)} is a MariaDB; only the monolith's database may be one",
                "Give the service, and the control database, a PostgreSQL.",
            )
        mysql.parse(found)
        return found
    try:
        conninfo.conninfo_to_dict(found)
    except ProgrammingError:
        raise FigError(
            "bad_address",
            f"{_named(reference)} is not a database's address (it is not shown: it may hold a password)",
            "Write it as postgresql://role@host:5432/database.",
        ) from None
    return found


def describe(reference: DatabaseReference, directory: Path, environment: Mapping[str, str]) -> str:
    """Where ``reference`` points, without its password; never fails."""
    try:
        found = reveal(reference, directory, environment)
        return mysql.describe(found) if mysql.is_mysql(found) else postgres.describe(found)
    except FigError:
        return _named(reference)


def _named(reference: Reference) -> str:
    if reference.env is not None:
        return f"the value of {reference.env}"
    if reference.command is not None:
        return f"what {reference.command[0]} prints"
    return f"the content of {reference.file}" if reference.file is not None else "what the configuration gives"


class MonolithReference(DatabaseReference):
    """The monolith's database: a PostgreSQL or a MariaDB."""

    dsn: str | None = Field(
        default=None, description="postgresql://role@host:port/database or mysql://user:password@host:port/database"
    )


class MonolithSettings(Settings):
    """The system being replaced."""

    url: str = Field(description="Where it answers HTTP: http://127.0.0.1:8001.", pattern=r"^https?://[^/\s]+$")
    tls: UpstreamTls = Field(default_factory=UpstreamTls, description="Whom an https:// address must prove to be.")
    database: MonolithReference = Field(
        description="Its database: an address, {env: NAME}, {file: path} or {command: […]}."
    )


class LogReference(Reference):
    """Where the event log is: an address, or where to find one, so that secrets stay out of files in git."""

    url: str | None = Field(
        default=None,
        description="'postgres' (in the control database), postgresql://…, or "
        + ", ".join(f"{name}://…" for name in _LOGS if name != "postgresql")
        + ".",
    )

    @property
    def text(self) -> str | None:
        """The address, when it is given here."""
        return self.url


class TelemetrySettings(Settings):
    """Where traces go, and how many; where metrics are served."""

    otlp: str | None = Field(
        default=None,
        description="OTLP/HTTP endpoint for traces: http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT comes first.",
        pattern=r"^https?://[^\s@]+$",
    )
    zipkin: str | None = Field(
        default=None,
        description="Zipkin's address, in place of otlp: http://127.0.0.1:9411.",
        pattern=r"^https?://[^/\s@]+/?$",
    )
    sampling: float = Field(
        default=1.0, description="Share of the requests that the façade samples; all behind it follow.", ge=0, le=1
    )
    query: str | None = Field(
        default=None,
        description="Jaeger's or Zipkin's query interface, for fig trace: http://127.0.0.1:16686; of zipkin the same.",
        pattern=r"^https?://[^\s@]+$",
    )
    metrics: str | None = Field(
        default=None,
        description="Host and first port of the processes' metrics, for a Prometheus elsewhere: 10.0.0.5:9400; the"
        " others' ports follow, as `fig alerts targets` prints them. By default free ones on loopback. They ask nobody"
        " who he is.",
        pattern=r"^\S+:\d{1,5}$",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> TelemetrySettings:
        if self.otlp is not None and self.zipkin is not None:
            raise ValueError("otlp and zipkin: spans go to one of them")
        return self

    @property
    def destination(self) -> Destination | None:
        """Where spans go."""
        if self.zipkin is not None:
            return Destination("zipkin", self.zipkin.rstrip("/"), self.sampling)
        return None if self.otlp is None else Destination("otlp", self.otlp.rstrip("/"), self.sampling)


class WebhookReference(Reference):
    """A webhook's address, which often is a secret in itself."""

    url: str | None = Field(default=None, description="http://… or https://…", pattern=r"^https?://\S+$")

    @property
    def text(self) -> str | None:
        """The address, when it is given here."""
        return self.url


class AlertsSettings(Settings):
    """Who is told of alerts, where no Prometheus is."""

    webhook: WebhookReference | None = Field(
        default=None,
        description="Told when an alert begins and when it is over, in the form of Alertmanager's webhooks (version 4):"
        " an address, {env: NAME} or {file: path}.",
    )


class CredentialsReference(Reference):
    """Where credentials (``user:password``) are: never in the file itself."""


class SchemasSettings(Settings):
    """The schema registry: our own in the control database, or another one by its URL."""

    url: str | None = Field(
        default=None,
        description="Another registry that speaks Confluent's REST dialect; ours is then not started.",
        pattern=r"^https?://[^\s@]+$",
    )
    credentials: CredentialsReference | None = Field(
        default=None, description="For the other registry, sent as basic authentication."
    )
    listen: str | None = Field(
        default=None,
        description="Where ours listens; a port of its own on loopback by default. It knows no accounts.",
        pattern=r"^\S+:\d{1,5}$",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {} if given == "embedded" else {"url": given}
        return given


class ConnectPasswords(Settings):
    """What connectors are told in place of the databases' passwords."""

    monolith: str | None = Field(
        default=None,
        description="A reference that a config provider of the workers resolves: ${file:/run/pg:monolith}.",
    )
    service: str | None = Field(default=None, description="The same for the services' databases.")


class ConnectSettings(Settings):
    """The Kafka Connect cluster that captures with Debezium."""

    url: str = Field(description="Its REST interface: http://127.0.0.1:8083.", pattern=r"^https?://[^/\s]+/?$")
    kafka: str = Field(
        description="Kafka's bootstrap servers: host:port, comma-separated.", pattern=r"^[^\s,/]+:\d+(,[^\s,/]+:\d+)*$"
    )
    client: Path | None = Field(
        default=None,
        description="File of further settings for our Kafka client (name=value lines, librdkafka's names), as for TLS.",
    )
    passwords: ConnectPasswords = Field(
        default_factory=ConnectPasswords,
        description="References in place of passwords; without them Connect's REST interface shows the passwords.",
    )


class Estate(Settings):
    """``fig.yaml``: the estate."""

    name: str = Field(description="The estate's name; the source of its events.", pattern=r"^[a-z][a-z0-9-]{0,39}$")
    monolith: MonolithSettings
    facade: FacadeSettings = Field(default_factory=FacadeSettings, description="The proxy in front of the monolith.")
    broker: BrokerSettings | None = Field(
        default=None, description="The message broker, where contexts take commands from a queue."
    )
    log: LogReference = Field(
        default=LogReference(url="postgres"),
        description="The event log: 'postgres' (in the control database), an address, {env: NAME} or {file: path}.",
    )
    linger: Milliseconds = Field(
        default=5.0,
        description="How long a change may wait for others to travel with it: fewer, larger records cost less.",
        ge=0,
        le=1000,
    )
    control: DatabaseReference | None = Field(
        default=None,
        description="The control database, when it is the user's own; else an embedded PostgreSQL is started.",
    )
    schemas: SchemasSettings = Field(
        default_factory=SchemasSettings, description="The schema registry: 'embedded', a URL, or more in detail."
    )
    connect: ConnectSettings | None = Field(
        default=None, description="The Kafka Connect cluster for contexts with capture: debezium."
    )
    services: dict[str, DatabaseReference] = Field(
        default_factory=dict,
        description="Databases of services beside the contexts' own, by name, for fig saga, events parked, projection.",
    )
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings, description="Traces.")
    access: AccessSettings | None = Field(
        default=None,
        description="Who may act: tokens and logins with roles. Without it whoever reaches the control database may.",
    )
    policy: Policy = Field(default_factory=Policy, description="Approvals and change windows of every context.")
    alerts: AlertsSettings = Field(default_factory=AlertsSettings, description="Alerts without Prometheus.")
    data: Path = Field(default=Path(".fig"), description="Data directory, relative to fig.yaml.")

    @model_validator(mode="after")
    def _people_are_known(self) -> Estate:
        if self.policy.approvals and self.access is None:
            raise ValueError("policy.approvals needs access: without it nobody knows who approves")
        return self

    @field_validator("log")
    @classmethod
    def _known_log(cls, value: LogReference) -> LogReference:
        scheme, separator, _ = (value.url or "").partition("://")
        if value.url in (None, "postgres") or (separator and scheme in _LOGS):
            return value
        raise ValueError("allowed: postgres, " + ", ".join(f"{name}://…" for name in _LOGS))

    @property
    def listen(self) -> tuple[str, int]:
        """Host and port of the façade."""
        return host_and_port(self.facade.listen)


@dataclass(frozen=True)
class Project:
    """A folder with a ``fig.yaml`` and what belongs to it.

    Attributes:
        directory: the folder, absolute.
        estate: ``fig.yaml``.
        environment: the process's environment, read here and nowhere else.
    """

    directory: Path
    estate: Estate
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    @property
    def monolith_trust(self) -> Trust:
        """Whom the monolith's address must prove to be."""
        tls = self._placed(self.estate.monolith.tls)
        return Trust(tls.ca, tls.server_name)

    def _placed(self, tls: UpstreamTls) -> UpstreamTls:
        """``tls`` with the path of its file made absolute."""
        return tls if tls.ca is None else tls.model_copy(update={"ca": str(self.directory / tls.ca)})

    @property
    def data_directory(self) -> Path:
        """Where state, logs and the embedded servers' files are; absolute."""
        return (self.directory / self.estate.data).resolve()

    @cached_property
    def extractions(self) -> dict[str, ExtractionSettings]:
        """Every ``contexts/*/extraction.yaml``, by context.

        Raises:
            FigError: ``bad_configuration``.
        """
        found: dict[str, ExtractionSettings] = {}
        for file in sorted(self.directory.glob("contexts/*/extraction.yaml")):
            settings = self.load_extraction(file)
            if settings.context in found:
                raise FigError(
                    "bad_configuration",
                    f"{file}:1: context: found '{settings.context}', which another extraction.yaml has already",
                    "Give each extraction.yaml a context of its own.",
                    file=str(file),
                )
            for other in found.values():
                _apart(file, settings, other)
            found[settings.context] = settings
        return found

    def load_extraction(self, file: Path) -> ExtractionSettings:
        """One ``extraction.yaml``."""
        from stranglerfig.extraction.settings import ExtractionSettings

        document = yamlfile.read(file)
        settings = yamlfile.parse(document, ExtractionSettings)
        service = settings.service.model_copy(update={"tls": self._placed(settings.service.tls)})
        settings = settings.model_copy(update={"service": service})
        if settings.capture == "debezium" and self.estate.connect is None:
            line = document.line(("capture",))
            raise FigError(
                "bad_configuration",
                f"{file}:{line}: capture: found 'debezium', and {ESTATE_FILE} names no Kafka Connect",
                f"Write connect: {{url: http://…, kafka: host:port}} in {ESTATE_FILE}, or capture: native here.",
                file=str(file),
                line=line,
                key="capture",
            )
        if settings.policy.approvals and self.estate.access is None:
            line = document.line(("policy", "approvals"))
            raise FigError(
                "bad_configuration",
                f"{file}:{line}: policy.approvals: {ESTATE_FILE} has no access, so nobody knows who approves",
                f"Write access: {{}} in {ESTATE_FILE} and make tokens, or leave the approvals out.",
                file=str(file),
                line=line,
                key="policy.approvals",
            )
        return settings

    def reveal(self, reference: Reference) -> str:
        """The address that a file's ``database`` or ``broker`` stands for (``secret_missing``, ``bad_address``)."""
        return reveal(reference, self.directory, self.environment)

    @property
    def log_url(self) -> str | None:
        """The event log's address; None for the one in the control database (``secret_missing``)."""
        found = look_up(self.estate.log, self.directory, self.environment)
        return None if found == "postgres" else found

    def secret(self, reference: Reference) -> str:
        """What a file's ``credentials`` stand for (``secret_missing``)."""
        return look_up(reference, self.directory, self.environment)

    def webhook(self, reference: WebhookReference) -> str:
        """The webhook's address (``secret_missing``, ``bad_address``)."""
        found = look_up(reference, self.directory, self.environment)
        if not found.startswith(("http://", "https://")):
            raise FigError(
                "bad_address",
                f"{_named(reference)} is not a webhook's address (it is not shown: it may hold a secret)",
                "Write it as https://host/path.",
            )
        return found

    @property
    def metrics_host(self) -> str:
        """Where processes serve their metrics."""
        listen = self.estate.telemetry.metrics
        return "127.0.0.1" if listen is None else host_and_port(listen)[0]

    def metrics_ports(self, roles: Iterable[str]) -> dict[str, int]:
        """The ports that ``telemetry.metrics`` names for ``roles``, by each port's name; empty where any will do."""
        listen = self.estate.telemetry.metrics
        if listen is None:
            return {}
        first = host_and_port(listen)[1]
        return {f"metrics_{role}": first + number for number, role in enumerate(roles)}

    def describe(self, reference: DatabaseReference) -> str:
        """Where it points, without its password."""
        return describe(reference, self.directory, self.environment)

    def kafka_client(self) -> dict[str, str]:
        """The further settings of our Kafka client that ``connect.client`` names.

        Raises:
            FigError: ``secret_missing`` when its file cannot be read.
        """
        if self.estate.connect is None or self.estate.connect.client is None:
            return {}
        path = self.directory / self.estate.connect.client
        lines = content(path, "connect.client", "a line name=value for each setting").splitlines()
        pairs = (line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    def folder(self, context: str) -> Path:
        """The folder of a context's files.

        Raises:
            FigError: ``unknown_context``.
        """
        for file in sorted(self.directory.glob("contexts/*/extraction.yaml")):
            if isinstance(data := yamlfile.read(file).data, dict) and data.get("context") == context:
                return file.parent
        raise FigError(
            "unknown_context",
            f"no extraction.yaml below {self.directory}/contexts has the context '{context}'",
            "Check the name, or write contexts/NAME/extraction.yaml.",
            context=context,
        )


def _apart(file: Path, settings: ExtractionSettings, other: ExtractionSettings) -> None:
    """Refuse what two contexts cannot share: a table, a route (``bad_configuration``)."""
    from stranglerfig.extraction.settings import shared

    if (found := shared(settings, other)) is not None:
        kind, what, location = found
        line = yamlfile.read(file).line(location)
        raise FigError(
            "bad_configuration",
            f"{file}:{line}: {location[0]}: found the {kind} {what}, which belongs to the context '{other.context}'",
            f"A {kind} moves with one context: leave it in one of the two extraction.yaml.",
            file=str(file),
            line=line,
            key=str(location[0]),
        )


def load_project(directory: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Read the estate of the folder ``directory``; extractions are read when they are asked for.

    Raises:
        FigError: ``no_configuration``, ``bad_configuration``.
    """
    directory = directory.resolve()
    environment = dict(os.environ) if environment is None else environment
    file = directory / ESTATE_FILE
    if not file.is_file():
        raise FigError(
            "no_configuration",
            f"there is no {ESTATE_FILE} in {directory}",
            "Run fig in the project's folder, name it with --project DIR, or write one (docs/reference/fig-yaml.md).",
            directory=str(directory),
        )
    return Project(directory, yamlfile.parse(yamlfile.read(file), Estate), environment)

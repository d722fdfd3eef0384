"""What users write about the façade: the routes of a context in ``extraction.yaml``, the listener in ``fig.yaml``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from stranglerfig.changes.settings import Reference, Settings
from stranglerfig.facade.queues import QueueRoute

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_SEGMENT = re.compile(r"\{(\w+)(=\*\*)?\}")


class Route(Settings):
    """A path and the methods by which it is called."""

    path: str = Field(
        description="Path template: /api/inventory/{itemId}; {name} is one segment, a last {name=**} all that follows."
    )
    methods: tuple[Method, ...] = Field(default=("GET",), min_length=1, description="HTTP methods.")

    @field_validator("path")
    @classmethod
    def _template(cls, path: str) -> str:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError("a path begins with / and has no query or fragment")
        if any(brace in _SEGMENT.sub("", path) for brace in "{}"):
            raise ValueError("a variable is written {name}, or {name=**} for the rest of the path")
        if "=**}" in path[:-1] and not (path.endswith("=**}") and path.count("=**}") == 1):
            raise ValueError("{name=**} takes the rest of the path, so it stands last and once")
        return path


class ReadRoute(Route):
    """A route that changes nothing: it can be mirrored and weighted."""

    @field_validator("methods")
    @classmethod
    def _safe(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        if wrong := [method for method in methods if method not in ("GET", "HEAD")]:
            raise ValueError(f"a read is GET or HEAD, not {', '.join(wrong)}")
        return methods


def _way_in(given: Any) -> str:
    """Which kind of route is meant, so that its mistakes are told and not those of the other kind."""
    by_queue = "queue" in given if isinstance(given, dict) else isinstance(given, QueueRoute)
    return "by queue" if by_queue else "by path"


_Read = Annotated[Annotated[ReadRoute, Tag("by path")] | Annotated[QueueRoute, Tag("by queue")], Discriminator(_way_in)]
_Write = Annotated[Annotated[Route, Tag("by path")] | Annotated[QueueRoute, Tag("by queue")], Discriminator(_way_in)]


class Routes(Settings):
    """The ways into a context: HTTP routes, and messages that come by a queue."""

    reads: tuple[_Read, ...] = Field(default=(), description="Routes that only read, each with a path or a queue.")
    writes: tuple[_Write, ...] = Field(
        default=(), description="Routes that write, each with a path or a queue; what the fence holds."
    )
    retired: tuple[Route, ...] = Field(
        default=(),
        description="The monolith's routes that end with the context: 410 Gone in brown-outs and at the end.",
    )

    @property
    def http_reads(self) -> tuple[ReadRoute, ...]:
        """The routes that read by HTTP."""
        return tuple(route for route in self.reads if isinstance(route, ReadRoute))

    @property
    def http_writes(self) -> tuple[Route, ...]:
        """The routes that write by HTTP."""
        return tuple(route for route in self.writes if isinstance(route, Route))

    @property
    def queue_reads(self) -> tuple[QueueRoute, ...]:
        """The queries that come by a queue."""
        return tuple(route for route in self.reads if isinstance(route, QueueRoute))

    @property
    def queue_writes(self) -> tuple[QueueRoute, ...]:
        """The commands that come by a queue."""
        return tuple(route for route in self.writes if isinstance(route, QueueRoute))


class FenceSettings(Settings):
    """What happens to writes during a cut-over."""

    budget: float = Field(
        default=2.0,
        gt=0,
        le=30,
        description="Longest wait of a held write in seconds; below the smallest client timeout.",
    )
    mode: Literal["hold", "reject"] = Field(
        default="hold", description="hold: writes wait; reject: 503 with Retry-After for the length of the cut-over."
    )


class StickySettings(Settings):
    """Who is moved stays moved."""

    header: str = Field(pattern=r"^[A-Za-z0-9-]+$", description="Request header that names the tenant or user.")


class ContextFacade(Settings):
    """How the façade treats a context."""

    fence: FenceSettings = Field(default_factory=FenceSettings)
    pins: bool = Field(default=True, description="Whether x-fig-pin: <context>=monolith|service is obeyed for reads.")
    sticky: StickySettings | None = Field(
        default=None, description="Header by whose value reads are spread; without it each read is drawn by itself."
    )
    read_your_writes: float = Field(
        default=3.0,
        ge=0,
        le=300,
        description="Seconds for which a client that wrote reads where it wrote; 0 is off. It is known by a cookie, "
        "fig-pin-CONTEXT: a client that keeps none is not covered.",
    )
    shadow_share: float = Field(default=100.0, ge=0, le=100, description="Share of reads compared in shadow, percent.")
    hold_back: float = Field(
        default=0.0, ge=0, le=50, description="Share of reads kept on the monolith at 100 %, as the baseline, percent."
    )


class KeyReference(Reference):
    """Where a private key is: a file's path, or where else to find it."""

    @model_validator(mode="before")
    @classmethod
    def _a_path(cls, given: Any) -> Any:
        return {"file": given} if isinstance(given, str) else given


class TlsSettings(Settings):
    """The listener's certificate. Both are looked at every second, and exchanged without closing a connection."""

    certificate: str = Field(description="File with the certificate chain (PEM), relative to fig.yaml's folder.")
    key: KeyReference = Field(description="Its private key (PEM): a file's path, or {env: NAME} or {command: […]}.")


class UpstreamTls(Settings):
    """Whom an https:// address must prove to be."""

    ca: str | None = Field(
        default=None, description="File with the authorities' certificates (PEM); the system's if none."
    )
    server_name: str | None = Field(
        default=None, description="The name to ask for, and to find in the certificate; the address's host if none."
    )


class FacadeSettings(Settings):
    """The façade's listener and its limits."""

    listen: str = Field(default="127.0.0.1:8080", description="Address and port of the listener.")
    tls: TlsSettings | None = Field(
        default=None, description="The listener speaks TLS (1.2 at least; HTTP/2 and HTTP/1.1), and nothing else."
    )
    admin: str | None = Field(
        default=None, description="Address of Envoy's admin interface; a free loopback port if none."
    )
    envoy: str | None = Field(default=None, description="Path of an Envoy binary of yours; the packaged one if none.")
    workers: int = Field(default=2, ge=1, le=64, description="Envoy's worker threads.")
    upstream_idle: float = Field(
        default=1.5,
        gt=0,
        description="Seconds after which an idle upstream connection is closed; below the upstreams' own keep-alive "
        "timeout, or a request meets a connection that is just being closed.",
    )
    max_header_kb: int = Field(default=96, ge=8, le=8192, description="Largest request header block, KiB.")
    quiet: float = Field(
        default=86_400.0,
        ge=1,
        le=7_776_000,
        description="Seconds in which no request may have passed to the monolith before fig retire takes its last "
        "routes.",
    )

    @field_validator("listen", "admin")
    @classmethod
    def _address(cls, address: str | None) -> str | None:
        if address is not None:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError("an address is written host:port, such as 127.0.0.1:8080")
        return address

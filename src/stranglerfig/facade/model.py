"""What Envoy is told: contexts and where their requests go → route table, clusters and bootstrap, as plain data.

Pure: the same contexts give the same tables. Field names as tried on Envoy 1.40.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.facade import tracing
from stranglerfig.facade.certificates import transport_socket
from stranglerfig.facade.settings import ContextFacade, Route, Routes
from stranglerfig.facade.upstreams import Bounds, Upstream, cluster, header_case, retry
from stranglerfig.foundation.tls import Trust
from stranglerfig.telemetry.model import Destination

Side = Literal["monolith", "service"]
Writes = Literal["monolith", "service", "fenced"]
Kind = Literal["read", "write", "old"]
Json = dict[str, Any]

SIDES: tuple[Side, Side] = ("monolith", "service")
TARGET = "x-fig-target"
PIN = "x-fig-pin"
ROUTE = "x-fig-route"
"""On mirrored copies only: the name of the route, so that the comparator need not find it out again."""
FENCE = "fence"
SHADOW = "shadow"
MONOLITH = "monolith"
PASS = "pass"  # noqa: S105  the name of the route for all that is not named
STAT_PREFIX = "fig"
ROUTE_TABLE = "fig"
FENCE_PATH = "/check"
AUTHZ_TIMEOUT = 120
"""Seconds; above every budget: the fence server answers before Envoy gives up on it."""
# Headers by which a client could make Envoy retry, time out or rename what it forwards.
CLIENT_MAY_NOT = (
    TARGET,
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-stream-duration-ms",
    "x-envoy-decorator-operation",
)


@dataclass(frozen=True)
class Estate:
    """What all contexts share: where the monolith, the fence server and the comparator listen (http URLs)."""

    monolith_url: str
    fence_url: str
    shadow_url: str
    upstream_idle: float = 1.5
    monolith_trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True)
class ContextRouting:
    """Where the requests of one context go now.

    Attributes:
        service: where the service listens, with all its instances.
        reads: share of reads that the service answers, percent.
        shadow: whether reads are mirrored to the comparator.
        shadow_share: share of the reads that is mirrored, percent; None means the options' share.
        writes: who gets the writes; ``fenced`` asks the fence server.
        gone: whether retired routes answer 410.
    """

    context: str
    routes: Routes
    service: Upstream
    reads: float = 0.0
    shadow: bool = False
    shadow_share: float | None = None
    writes: Writes = "monolith"
    gone: bool = False
    options: ContextFacade = field(default_factory=ContextFacade)


@dataclass(frozen=True)
class NamedRoute:
    """A declared route with its place: ``name`` is ``<context>:<kind>:<number>``, as the access log has it."""

    context: str
    kind: Kind
    number: int
    route: Route

    @property
    def name(self) -> str:
        """``<context>:<kind>:<number>``."""
        return f"{self.context}:{self.kind}:{self.number}"


# Names of clusters: one per use, so that a gauge of Envoy's answers one question.
def service_cluster(context: str) -> str:
    """Reads of a context at its service."""
    return f"service_{context}"


def writes_cluster(context: str, side: Side) -> str:
    """Writes of a context toward a side: its ``upstream_rq_active`` is the number of writes in flight."""
    return f"{side}_writes_{context}"


def pattern(path: str) -> str:
    """The RE2 expression (whole path, without query) of a path template."""
    parts: list[str] = []
    at = 0
    for variable in re.finditer(r"\{\w+(=\*\*)?\}", path):
        parts.append(_literal(path[at : variable.start()]))
        parts.append(".+" if variable.group(1) else "[^/]+")
        at = variable.end()
    parts.append(_literal(path[at:]))
    return "".join(parts)


def _literal(text: str) -> str:
    # re.escape escapes what RE2 takes as well (any ASCII punctuation); letters beyond ASCII stay as they are.
    return re.escape(text)


def _specificity(route: NamedRoute) -> tuple[int, int, int]:
    path = route.route.path
    rest = 1 if path.endswith("=**}") else 0
    return rest, path.count("{"), -len(path)


def named_routes(contexts: Sequence[tuple[str, Routes]]) -> list[NamedRoute]:
    """All declared routes, the most specific first, so that ``/a/adjust`` is asked before ``/a/{id}``."""
    found: list[NamedRoute] = []
    for context, routes in contexts:
        kinds: tuple[tuple[Kind, Sequence[Route]], ...] = (
            ("read", routes.http_reads),
            ("write", routes.http_writes),
            ("old", routes.retired),
        )
        for kind, declared in kinds:
            found += [NamedRoute(context, kind, number, route) for number, route in enumerate(declared)]
    return sorted(found, key=_specificity)


class Matcher:
    """Which declared route a request belongs to, as Envoy decides it: for the fence server and the comparator."""

    def __init__(
        self, contexts: Sequence[tuple[str, Routes]], kinds: Sequence[Kind] = ("read", "write", "old")
    ) -> None:
        self._routes = [
            (re.compile(pattern(route.route.path)), frozenset(route.route.methods), route)
            for route in named_routes(contexts)
            if route.kind in kinds
        ]

    def __call__(self, method: str, path: str) -> NamedRoute | None:
        """The first route that takes ``method`` on ``path`` (its query is ignored), or None."""
        bare = path.partition("?")[0]
        for expression, methods, route in self._routes:
            if method in methods and expression.fullmatch(bare):
                return route
        return None


# --- route table


def render_routes(contexts: Sequence[ContextRouting], version: str) -> Json:
    """The RDS answer (``version_info``, one RouteConfiguration) for ``contexts``; all else passes to the monolith."""
    by_name = {routing.context: routing for routing in contexts}
    table: list[Json] = []
    for named in named_routes([(routing.context, routing.routes) for routing in contexts]):
        table += _entries(by_name[named.context], named)
    rest = {"operation": "pass", "propagate": False}
    table.append({"name": PASS, "match": {"prefix": "/"}, "route": _to(MONOLITH), "decorator": rest})
    # CONNECT and OPTIONS * have no path: the monolith's business as well.
    configuration = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": ROUTE_TABLE,
        "validate_clusters": True,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}],
    }
    return {"version_info": version, "resources": [configuration]}


def _entries(routing: ContextRouting, named: NamedRoute) -> Iterator[Json]:
    if named.kind == "read":
        yield from _reads(routing, named)
    elif named.kind == "write":
        yield from _writes(routing, named)
    elif routing.gone:
        yield _entry(named, answer=(410, f"This route of '{routing.context}' has been retired."))
    else:
        yield _entry(named, action=_to(MONOLITH))


def _reads(routing: ContextRouting, named: NamedRoute) -> Iterator[Json]:
    options, context = routing.options, routing.context
    clusters: dict[Side, str] = {"monolith": MONOLITH, "service": service_cluster(context)}
    if options.pins:
        for side, target in clusters.items():
            yield _entry(named, ":pinned", [_pin_header(context, side)], action=_read(target))
    if options.read_your_writes:
        for side in _writers(routing):
            if _share_away(routing, side):
                yield _entry(named, ":own", [_pin_cookie(context, side)], action=_read(clusters[side]))
    yield _entry(named, action=_spread(routing, clusters, named.name))


def _writers(routing: ContextRouting) -> tuple[Side, ...]:
    return ("monolith", "service") if routing.writes == "fenced" else (routing.writes,)


def _share_of_service(routing: ContextRouting) -> float:
    return min(routing.reads, 100.0 - routing.options.hold_back)


def _share_away(routing: ContextRouting, writer: Side) -> bool:
    """Whether some reads are answered by a side that hears of this writer's writes only later."""
    share = _share_of_service(routing)
    return share > 0 if writer == "monolith" else share < 100


def _spread(routing: ContextRouting, clusters: dict[Side, str], name: str) -> Json:
    share = round(_share_of_service(routing) * 100)
    if share in (0, 10_000):
        action = _read(clusters["service" if share else "monolith"])
    else:
        # The service's interval comes first and grows upward: who was below the old share is below the new one.
        weighted: Json = {
            "clusters": [
                {"name": clusters["service"], "weight": share},
                {"name": clusters["monolith"], "weight": 10_000 - share},
            ]
        }
        # The policy is the route's; the monolith's cluster allows no retry.
        action = {"weighted_clusters": weighted, **_UNTOUCHED, "retry_policy": retry("reads")}
        if routing.options.sticky:
            weighted["use_hash_policy"] = True
            action["hash_policy"] = [{"header": {"header_name": routing.options.sticky.header}}]
    wanted = routing.options.shadow_share if routing.shadow_share is None else routing.shadow_share
    if routing.shadow and wanted:
        fraction = {"numerator": round(wanted * 10_000), "denominator": "MILLION"}
        action["request_mirror_policies"] = [
            {
                "cluster": SHADOW,
                "runtime_fraction": {"default_value": fraction},
                "disable_shadow_host_suffix_append": True,
                "trace_sampled": False,
                "request_headers_mutations": [
                    {"append": {"header": {"key": ROUTE, "value": name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
                ],
            }
        ]
    return action


def _writes(routing: ContextRouting, named: NamedRoute) -> Iterator[Json]:
    if routing.writes != "fenced":
        yield _write(routing, named, routing.writes)
        return
    # A held request keeps the table it arrived with, so both outcomes are in it, before the route that holds.
    for side in SIDES:
        outcome = [{"name": TARGET, "string_match": {"exact": side}}]
        yield _write(routing, named, side, ":held", outcome)
    entry = _entry(named, ":fence", answer=(503, "The fence server named no owner of this write."))
    entry["typed_per_filter_config"] = {
        "envoy.filters.http.ext_authz": {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
            "config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                "check_settings": {},
            },
        }
    }
    yield entry


def _write(
    routing: ContextRouting, named: NamedRoute, side: Side, suffix: str = "", headers: Sequence[Json] = ()
) -> Json:
    again = {"retry_policy": retry("writes")} if side == "service" else {}
    entry = _entry(named, suffix, headers, action=_to(writes_cluster(routing.context, side)) | again)
    if suffix:
        entry["request_headers_to_remove"] = [TARGET]
    seconds = routing.options.read_your_writes
    # From shadow on, so that who wrote just before the first share moved is known.
    if seconds and (_share_away(routing, side) or routing.shadow):
        cookie = f"fig-pin-{routing.context}={side}; Max-Age={max(1, round(seconds))}; Path=/; HttpOnly; SameSite=Lax"
        entry["response_headers_to_add"] = [
            {"header": {"key": "set-cookie", "value": cookie}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
        ]
    return entry


def _entry(
    named: NamedRoute,
    suffix: str = "",
    headers: Sequence[Json] = (),
    *,
    action: Json | None = None,
    answer: tuple[int, str] | None = None,
) -> Json:
    methods = "|".join(named.route.methods)
    match: Json = {
        "safe_regex": {"regex": pattern(named.route.path)},
        "headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": methods}}}, *headers],
    }
    # What a span of this route is called: its template, since a path may hold whom it is about.
    operation = f"{'|'.join(named.route.methods)} {named.route.path}"
    entry: Json = {"name": named.name + suffix, "match": match}
    entry["decorator"] = {"operation": operation, "propagate": False}
    if action is not None:
        entry["route"] = action
    if answer is not None:
        status, text = answer
        entry["direct_response"] = {"status": status, "body": {"inline_string": text + "\n"}}
        if status == 503:
            entry["response_headers_to_add"] = [
                {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ]
    return entry


_UNTOUCHED: Json = {"timeout": "0s", "idle_timeout": "0s"}


def _to(cluster: str) -> Json:
    return {"cluster": cluster, **_UNTOUCHED}


def _read(target: str) -> Json:
    return _to(target) | ({} if target == MONOLITH else {"retry_policy": retry("reads")})


def _pin_header(context: str, side: Side) -> Json:
    expression = rf"(.*[,; ])?{re.escape(context)}={side}([,; ].*)?"
    return {"name": PIN, "string_match": {"safe_regex": {"regex": expression}}}


def _pin_cookie(context: str, side: Side) -> Json:
    expression = rf"(.*[; ])?fig-pin-{re.escape(context)}={side}(;.*)?"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": expression}}}


# --- clusters


def clusters(estate: Estate, contexts: Sequence[ContextRouting]) -> list[Json]:
    """Every cluster that any table of ``contexts`` may name."""
    monolith = Upstream((estate.monolith_url,), trust=estate.monolith_trust)
    fence, shadow = Upstream((estate.fence_url,)), Upstream((estate.shadow_url,))
    idle = estate.upstream_idle
    wanted = [
        cluster(MONOLITH, monolith, idle=idle),
        # A fence that refused connections or waited in a queue of Envoy's would turn held requests into failures.
        cluster(FENCE, fence, idle=idle),
        cluster(SHADOW, shadow, idle=idle, connect="0.1s", bounds=Bounds(32, 32, 64)),
    ]
    for routing in contexts:
        context, service = routing.context, routing.service
        wanted += [
            cluster(service_cluster(context), service, idle=idle, use="reads"),
            cluster(writes_cluster(context, "monolith"), monolith, idle=idle),
            cluster(writes_cluster(context, "service"), service, idle=idle, use="writes"),
        ]
    return wanted


def render_clusters(wanted: Sequence[Json], version: str) -> Json:
    """The CDS answer for ``wanted`` clusters."""
    kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    return {"version_info": version, "resources": [{"@type": kind, **cluster} for cluster in wanted]}


# --- bootstrap


@dataclass(frozen=True)
class Files:
    """Where Envoy finds its tables and leaves its access log (absolute paths), and its certificate where it has one."""

    clusters: str
    routes: str
    access_log: str
    certificate: str | None = None


def render_bootstrap(
    *,
    listen: str,
    admin: str,
    files: Files,
    max_header_kb: int = 96,
    traces: Destination | None = None,
    service: str = "facade",
) -> Json:
    """Envoy's bootstrap: one listener, its tables from files; nothing in it changes while an extraction goes on.

    Args:
        listen: ``host:port`` of the listener.
        admin: ``host:port`` of the admin interface (loopback).
        files: the paths of tables and log.
        max_header_kb: largest request header block.
        traces: where Envoy's own spans go; None leaves traceparent untouched.
        service: what its spans name as their service.
    """
    bootstrap: Json = {
        # The cluster's name is what Zipkin's tracer names as the service.
        "node": {"id": "fig", "cluster": "fig" if traces is None else service},
        "admin": {"address": _socket(admin)},
        "dynamic_resources": {"cds_config": _from_file(files.clusters)},
        "static_resources": {
            "listeners": [
                {
                    "name": "facade",
                    "address": _socket(listen),
                    "filter_chains": [
                        {"filters": [_connection(files, max_header_kb, traces, service)], **_secured(files)}
                    ],
                }
            ]
        },
    }
    if traces is not None:
        collector = cluster(tracing.CLUSTER, Upstream((traces.url,)), bounds=Bounds(8, 1024, 1024))
        bootstrap["static_resources"]["clusters"] = [collector]
        bootstrap["layered_runtime"] = {"layers": [{"name": "traces", "static_layer": tracing.PACE}]}
    return bootstrap


def _secured(files: Files) -> Json:
    return {} if files.certificate is None else {"transport_socket": transport_socket(files.certificate)}


def _socket(address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _from_file(path: str) -> Json:
    folder = path.rpartition("/")[0]
    # Only a rename into a watched directory is noticed, never an edit in place.
    return {"resource_api_version": "V3", "path_config_source": {"path": path, "watched_directory": {"path": folder}}}


def _connection(files: Files, max_header_kb: int, traces: Destination | None, service: str) -> Json:
    settings: Json = {
        "@type": "type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STAT_PREFIX,
        "codec_type": "AUTO",
        "rds": {"route_config_name": ROUTE_TABLE, "config_source": _from_file(files.routes)},
        # Untouched: nothing of ours is added to what passes, but the request id.
        "use_remote_address": False,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "http_protocol_options": {
            "enable_trailers": True,
            "accept_http_10": True,
            "header_key_format": header_case(),
        },
        "stream_idle_timeout": "0s",
        "request_timeout": "0s",
        "max_request_headers_kb": max_header_kb,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": "type.googleapis.com/"
                    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": name} for name in CLIENT_MAY_NOT],
                },
            }
        ],
        "local_reply_config": {
            "mappers": [
                {
                    # The fence server is away: nothing was forwarded, so trying again is right.
                    "filter": {"response_flag_filter": {"flags": ["UAEX"]}},
                    "headers_to_add": [
                        {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                    ],
                }
            ]
        },
        "access_log": [_access_log(files.access_log)],
        "http_filters": [
            _fence_filter(),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }
    if traces is not None:
        settings["tracing"] = tracing.connection(traces, service)
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": settings}


def _fence_filter() -> Json:
    return {
        "name": "envoy.filters.http.ext_authz",
        "disabled": True,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "http_service": {
                "server_uri": {"uri": f"http://{FENCE}", "cluster": FENCE, "timeout": f"{AUTHZ_TIMEOUT}s"},
                "path_prefix": FENCE_PATH,
                "authorization_response": {
                    "allowed_upstream_headers": {"patterns": [{"exact": TARGET}]},
                    "allowed_client_headers": {"patterns": [{"exact": "retry-after"}, {"exact": "content-type"}]},
                },
            },
            "clear_route_cache": True,
            "failure_mode_allow": False,
            "status_on_error": {"code": "ServiceUnavailable"},
        },
    }


def _access_log(path: str) -> Json:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"json_format": ACCESS_FIELDS},
        },
    }


ACCESS_FIELDS = {
    "time": "%START_TIME(%s.%6f)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "upstream_us": "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "instance": "%UPSTREAM_HOST%",
}

"""What Envoy is told: contexts and where their requests go → route table and clusters, as plain data.

Pure: the same contexts give the same tables. Field names as tried on Envoy 1.40.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stranglerfig.facade.settings import ContextFacade, Route, Routes
from stranglerfig.facade.upstreams import Bounds, Upstream, cluster, retry
from stranglerfig.foundation.tls import Trust

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
RETIRED = (410, "The monolith behind this address has been retired.")
"""What the façade answers in its place."""


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
        gone: whether the context has left the monolith: retired routes answer 410, and no read can be pinned there.
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


def render_routes(contexts: Sequence[ContextRouting], version: str, *, retired: bool = False) -> Json:
    """The RDS answer (``version_info``, one RouteConfiguration) for ``contexts``; all else passes to the monolith.

    With ``retired`` nothing passes there: all else, and each context that has not left it, answers 410.
    """
    by_name = {routing.context: routing for routing in contexts}
    table: list[Json] = []
    for named in named_routes([(routing.context, routing.routes) for routing in contexts]):
        routing = by_name[named.context]
        table += [_entry(named, answer=RETIRED)] if retired and not routing.gone else _entries(routing, named)
    rest: Json = {"name": PASS, "match": {"prefix": "/"}, "decorator": {"operation": "pass", "propagate": False}}
    table.append(rest | (_answer(RETIRED) if retired else {"route": _to(MONOLITH)}))
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
            if routing.gone and side == "monolith":
                continue
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
        entry |= _answer(answer)
    return entry


def _answer(answer: tuple[int, str]) -> Json:
    status, text = answer
    said: Json = {"direct_response": {"status": status, "body": {"inline_string": text + "\n"}}}
    if status == 503:
        said["response_headers_to_add"] = [
            {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return said


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


def clusters(estate: Estate, contexts: Sequence[ContextRouting], *, retired: bool = False) -> list[Json]:
    """Every cluster that any table of ``contexts`` may name; with ``retired`` none leads to the monolith."""
    monolith = Upstream((estate.monolith_url,), trust=estate.monolith_trust)
    fence, shadow = Upstream((estate.fence_url,)), Upstream((estate.shadow_url,))
    idle = estate.upstream_idle
    wanted = [] if retired else [cluster(MONOLITH, monolith, idle=idle)]
    wanted += [
        # A fence that refused connections or waited in a queue of Envoy's would turn held requests into failures.
        cluster(FENCE, fence, idle=idle),
        cluster(SHADOW, shadow, idle=idle, connect="0.1s", bounds=Bounds(32, 32, 64)),
    ]
    for routing in contexts:
        context, service = routing.context, routing.service
        wanted += [
            cluster(service_cluster(context), service, idle=idle, use="reads"),
            cluster(writes_cluster(context, "service"), service, idle=idle, use="writes"),
        ]
        if not retired:
            wanted.append(cluster(writes_cluster(context, "monolith"), monolith, idle=idle))
    return wanted


def render_clusters(wanted: Sequence[Json], version: str) -> Json:
    """The CDS answer for ``wanted`` clusters."""
    kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    return {"version_info": version, "resources": [{"@type": kind, **cluster} for cluster in wanted]}

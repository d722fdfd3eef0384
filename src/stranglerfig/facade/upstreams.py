"""One upstream as Envoy is told of it: its addresses, how they are balanced and checked, whom TLS believes. Pure.

Field names as tried on Envoy 1.40 (``envoy.config.cluster.v3.Cluster``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from stranglerfig.foundation.tls import Trust

Json = dict[str, Any]
Use = Literal["reads", "writes"]

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
UNBOUNDED = 1_000_000
PANIC_PERCENT = 1.0
"""Below this share of healthy instances Envoy asks all of them. One in a hundred means: only when none is healthy, for
then it is rather the check that is wrong. Envoy's own 50 % would send requests to instances that are known to be dead
while others live."""
MOST_TRIES_AGAIN = 2


@dataclass(frozen=True)
class Upstream:
    """Where a side listens: one address, or those of several instances that can do the same.

    Attributes:
        urls: ``http(s)://host[:port]``, all of one scheme.
        health: path that answers 200 while an instance can do its work.
        interval: seconds between two such checks of an instance.
        timeout: seconds after which a check counts as failed.
    """

    urls: tuple[str, ...]
    health: str = "/health"
    interval: float = 1.0
    timeout: float = 1.0
    trust: Trust = field(default_factory=Trust)

    @property
    def several(self) -> bool:
        """Whether there is another instance to turn to."""
        return len(self.urls) > 1


@dataclass(frozen=True)
class Bounds:
    """How much a cluster may have under way: connections, requests that wait for one, requests."""

    connections: int = UNBOUNDED
    pending: int = UNBOUNDED
    requests: int = UNBOUNDED


def cluster(
    name: str,
    upstream: Upstream,
    *,
    idle: float = 1.5,
    connect: str = "5s",
    bounds: Bounds | None = None,
    use: Use | None = None,
) -> Json:
    """An Envoy cluster.

    With one address nothing is checked and nothing asked twice: there is nobody to turn to. With several the instances
    are balanced, checked and, on failing to connect, left alone for some seconds.

    Args:
        name: the cluster's name.
        upstream: where it leads.
        idle: seconds after which an unused connection is closed.
        connect: longest wait for a connection, in Envoy's notation.
        bounds: what may be under way; nothing is bounded by default.
        use: what is sent there; for reads alone an instance that fails its checks loses what it has under way, since
            those can be asked of another.

    Raises:
        ValueError: an address that is none, or addresses of both schemes.
    """
    parts = [address(url) for url in upstream.urls]
    if len({tls for _, _, tls in parts}) != 1:
        raise ValueError(f"the addresses of {name} are partly http, partly https")
    bounds = bounds or Bounds()
    balanced = upstream.several and use is not None
    named = any(not is_ip(host) for host, _, _ in parts)
    threshold: Json = {
        "max_connections": bounds.connections,
        "max_pending_requests": bounds.pending,
        "max_requests": bounds.requests,
        # What is asked again the route says; a lower bound here would fail reads of a dying instance.
        "max_retries": UNBOUNDED if balanced else 0,
    }
    found: Json = {
        "name": name,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": connect,
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **threshold}]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_endpoint(host, port) for host, port, _ in parts]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{idle:g}s"},
                "explicit_http_config": {
                    "http_protocol_options": {"enable_trailers": True, "header_key_format": header_case()}
                },
            }
        },
    }
    if named:
        found["dns_lookup_family"] = "V4_PREFERRED"
    if parts[0][2]:
        found["transport_socket"] = _tls([host for host, _, _ in parts], upstream.trust)
    if balanced:
        found |= _balanced(upstream, reads=use == "reads")
    return found


def retry(use: Use) -> Json:
    """The retry policy of a route to a service. It takes effect where its cluster has several addresses, which may
    change while the route stays.

    A write goes on to another instance only when no connection came about: nothing of it was sent. A read also when the
    connection broke before the answer began. An answer, whatever its status, is never asked for again.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset" if use == "reads" else "connect-failure",
        "num_retries": MOST_TRIES_AGAIN,
        # At once: a write that waited would be on no side's count of what is in flight.
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.010s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        # The dead one has the fewest requests, so of two drawn it is always preferred: of two instances the other is
        # chosen once in four draws.
        "host_selection_retry_max_attempts": 64,
    }


def _balanced(upstream: Upstream, *, reads: bool) -> Json:
    return {
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": PANIC_PERCENT}},
        "health_checks": [
            {
                "timeout": f"{upstream.timeout:g}s",
                "interval": f"{upstream.interval:g}s",
                # Envoy's default leaves a cluster without traffic unchecked for a minute.
                "no_traffic_interval": f"{upstream.interval:g}s",
                "interval_jitter_percent": 10,
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": upstream.health},
            }
        ],
        # Only connections that fail count: an answer such as 503 can be every instance's at once, as during a cut-over.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "2s",
            "max_ejection_time": "30s",
            "max_ejection_percent": 50,
        },
        "close_connections_on_host_health_failure": reads,
    }


def _endpoint(host: str, port: int) -> Json:
    place = {"socket_address": {"address": host, "port_value": port}}
    return {"endpoint": {"address": place, "health_check_config": {"hostname": f"{_bracketed(host)}:{port}"}}}


def _tls(hosts: Sequence[str], trust: Trust) -> Json:
    """TLS toward ``hosts``: verified by the authorities of ``trust``, and made out to the name that was asked for."""
    wanted = sorted({trust.server_name} if trust.server_name else set(hosts))
    context: Json = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "validation_context": {
                "trusted_ca": {"filename": trust.ca or SYSTEM_CA},
                "match_typed_subject_alt_names": [
                    {"san_type": "IP_ADDRESS" if is_ip(name) else "DNS", "matcher": {"exact": name}} for name in wanted
                ],
            },
        },
    }
    names = [name for name in wanted if not is_ip(name)]  # an address is no server name (RFC 6066, section 3)
    if len(names) == 1:
        context["sni"] = names[0]
    elif names:
        context["auto_host_sni"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def header_case() -> Json:
    """HTTP/1 header names and the reason phrase as they came."""
    return {
        "stateful_formatter": {
            "name": "preserve_case",
            "typed_config": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
                "forward_reason_phrase": True,
            },
        }
    }


def address(url: str) -> tuple[str, int, bool]:
    """Host, port and whether by TLS.

    Raises:
        ValueError: it is no http(s) address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no http(s) address")
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), parts.scheme == "https"


def is_ip(host: str) -> bool:
    """Whether ``host`` is an address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

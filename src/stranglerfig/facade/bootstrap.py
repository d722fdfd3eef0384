"""Envoy's bootstrap: one listener that reads its tables from files. Pure; nothing in it changes with an extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stranglerfig.facade import tracing
from stranglerfig.facade.certificates import transport_socket
from stranglerfig.facade.model import FENCE, FENCE_PATH, ROUTE_TABLE, STAT_PREFIX, TARGET
from stranglerfig.facade.upstreams import Bounds, Upstream, cluster, header_case
from stranglerfig.telemetry.model import Destination

Json = dict[str, Any]

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

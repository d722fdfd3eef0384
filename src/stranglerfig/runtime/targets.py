"""Where the processes of a project serve their metrics, for whoever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from stranglerfig.runtime.settings import Project
from stranglerfig.telemetry.alerts import JOB


class Target(NamedTuple):
    """One endpoint.

    Attributes:
        role: the process's role; ``service`` for a context's service.
        address: host and port.
        path: of the metrics.
        service: the context, of a ``service``.
        scheme: ``http`` or ``https``.
    """

    role: str
    address: str
    path: str = "/metrics"
    service: str = ""
    scheme: str = "http"


def targets(project: Project, ports: Mapping[str, int], roles: Iterable[str]) -> list[Target]:
    """All of a project's, ``fig up``'s own and Envoy's among them; those without a port yet are left out."""
    found = [
        Target(role, f"127.0.0.1:{ports[f'metrics_{role}']}") for role in ("up", *roles) if f"metrics_{role}" in ports
    ]
    if "envoy_admin" in ports:
        admin = project.estate.facade.admin or f"127.0.0.1:{ports['envoy_admin']}"
        found.append(Target("envoy", admin, "/stats/prometheus"))
    for context, settings in project.extractions.items():
        if settings.service.metrics is not None:
            for url in settings.service.addresses:
                place = urlsplit(url)
                address = place.netloc if place.port else f"{place.netloc}:{443 if place.scheme == 'https' else 80}"
                found.append(Target("service", address, settings.service.metrics, context, place.scheme))
    return found


def file_sd(project: Project, ports: Mapping[str, int], roles: Iterable[str]) -> list[dict[str, Any]]:
    """Prometheus' file-based service discovery: https://prometheus.io/docs/prometheus/latest/configuration/configuration/
    (``file_sd_config``)."""
    made = []
    for target in targets(project, ports, roles):
        labels = {"estate": project.estate.name, "role": target.role, "__metrics_path__": target.path}
        if target.scheme != "http":
            labels["__scheme__"] = target.scheme
        if target.service:
            labels["service_name"] = target.service
        made.append({"targets": [target.address], "labels": labels})
    return made


def scrape_config(file: str) -> str:
    """A ``scrape_configs`` entry that reads the targets from ``file``."""
    return (
        "scrape_configs:\n"
        f"  - job_name: {JOB}\n"
        "    scrape_interval: 5s\n"
        "    file_sd_configs:\n"
        f"      - files: [{orjson.dumps(file).decode()}]\n"
    )

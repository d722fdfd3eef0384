"""Proof that both sides hold the same: the whole comparison, and the quick one inside a cut-over.

The quick one asks each database itself which rows were touched since the whole one (by ``xmin``), so that it does not
rest on the stream it is there to test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping as MappingABC
from typing import Any

from stranglerfig.changes.mapping import Entry, Mapping, canonical, compile_mapping, quote, quote_table
from stranglerfig.changes.model import Direction
from stranglerfig.databases import catalogue
from stranglerfig.databases.model import Side
from stranglerfig.extraction.parts import ContextParts, Parts, Progress
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification import rows as verification

TOUCHED_MOST = 20_000
"""Rows touched since the whole comparison beyond which the quick one would hold requests too long: compare anew."""


async def mapping_now(parts: Parts, context: ContextParts, *, retired: bool) -> Mapping:
    """The mapping compiled against both databases as they are."""
    async with (
        postgres.session(parts.monolith_dsn, what="mapping") as source,
        postgres.session(context.service_dsn, what="mapping") as target,
    ):
        return compile_mapping(
            context.tables(retired),
            await catalogue.tables(source, context.sources(retired)),
            await catalogue.tables(target, context.settings.targets),
        )


async def verify(
    parts: Parts, context: ContextParts, standing: Standing, progress: Progress, *, repair: bool = False
) -> dict[str, Any]:
    """Compare all rows at a marker in the stream of whoever owns the data; names each difference.

    Raises:
        FigError: what the comparison is refused with (a stream that does not run, a database that is away).
    """
    mapping = await mapping_now(parts, context, retired=bool(standing.facts.get("retired")))
    forward = standing.owner != "service"
    ends = (parts.monolith_dsn, context.service_dsn)
    job = verification.VerifyJob(
        context=context.settings.context,
        direction=Direction.FORWARD if forward else Direction.REVERSE,
        source_dsn=ends[0 if forward else 1],
        target_dsn=ends[1 if forward else 0],
        mapping=mapping,
    )

    async def told(state: MappingABC[str, Any]) -> None:
        await progress(f"comparing {state.get('table', '')}", {"done": state.get("rows", 0), "rate": state.get("rate")})

    result = await verification.verify(job, progress=told)
    if repair and result.differences:
        await progress(f"repairing {len(result.differences)} rows through sync", {})
        await verification.repair(job, result.differences)
        result = await verification.verify(job, progress=told)
    return result.as_dict()


class QuickProof:
    """``ProofPort`` of a cut-over: rehearse compares everything, prove only what was touched since, and the counts.

    Sessions are open before anything is held.
    """

    def __init__(self, parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> None:
        self._parts = parts
        self._context = context
        self._standing = standing
        self._progress = progress
        self._conns: dict[Side, postgres.Connection] = {}
        self._since: dict[Side, str] = {}
        self._mapping: Mapping | None = None
        self._control: postgres.Connection | None = None

    async def close(self) -> None:
        """Let go of the sessions."""
        for conn in self._conns.values():
            await conn.close()
        if self._control is not None:
            await self._control.close()

    async def rehearse(self) -> None:
        """The whole comparison, before anything is held."""
        context = self._context.settings.context
        dsns: dict[Side, str] = {"monolith": self._parts.monolith_dsn, "service": self._context.service_dsn}
        for side, dsn in dsns.items():
            if side not in self._conns:
                self._conns[side] = await postgres.connect(dsn, what=f"proof:{context}")
            # All that may still be invisible to the comparison has this id or a later one.
            self._since[side] = await postgres.value(
                self._conns[side], "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296)::text"
            )
        if self._control is None:
            self._control = await postgres.connect(self._parts.control_dsn, what=f"proof:{context}")
        self._mapping = await mapping_now(self._parts, self._context, retired=bool(self._standing.facts.get("retired")))
        self._mapping.require_reversible()
        found = await verify(self._parts, self._context, self._standing, self._progress)
        if found["differences"]:
            raise FigError(
                "not_equal",
                f"both sides differ in {found['differences']} rows: no cut-over rests on that",
                "fig verify names them; fig verify --repair writes them again through sync.",
                examples=found["difference_list"][:5],
            )

    async def prove(self, nonce: str) -> None:
        """Rows touched on either side since the rehearsal, and the tables' counts, are equal."""
        assert self._mapping is not None
        await self._derived()
        for entry in self._mapping.forward:
            there, here = await asyncio.gather(self._touched("monolith", entry), self._touched("service", entry))
            keys = sorted(there | here)
            if len(keys) > TOUCHED_MOST:
                raise FigError(
                    "too_much_touched",
                    f"{len(keys)} rows of {entry.target} were touched since the whole comparison",
                    "Try again: the comparison is made anew.",
                )
            (count_there, rows_there), (count_here, rows_here) = await asyncio.gather(
                self._rows("monolith", entry, keys), self._rows("service", entry, keys)
            )
            unequal = [key for key in keys if rows_there.get(key) != rows_here.get(key)]
            if unequal or count_there != count_here:
                raise FigError(
                    "not_equal",
                    f"{entry.source} → {entry.target}: {len(unequal)} touched rows differ"
                    f" (such as {', '.join(unequal[:3]) or '-'}), {count_there} rows against {count_here}",
                    "fig verify names the differences.",
                    nonce=nonce,
                )

    async def _derived(self) -> None:
        """Every change before the fence has its derived events in the log: the service's own come after them."""
        if self._standing.owner == "service" or not self._context.settings.derive:
            return
        assert self._control is not None
        name = self._context.settings.context
        ends = await postgres.fetch(
            self._conns["service"],
            "SELECT partition, log_position FROM fig.applied WHERE (context, direction) = (%s, 'forward')",
            (name,),
        )
        control = self._control

        async def passed() -> bool:
            found = await postgres.fetch(
                control, "SELECT partition, log_position FROM fig.derived WHERE context = %s", (name,)
            )
            derived = {row[0]: row[1] for row in found}
            return all(derived.get(partition, -1) >= end for partition, end in ends)

        await clock.until(passed, timeout=5, what="the derived events", every=0.002, at_most=0.01)

    async def _touched(self, side: Side, entry: Entry) -> set[str]:
        key, source, _ = _projection(side, entry)
        found = await postgres.fetch(
            self._conns[side],
            f"SELECT {key} FROM {source} WHERE age(t.xmin) <= age(%s::xid)",  # noqa: S608
            (self._since[side],),
        )
        return {row[0] for row in found}

    async def _rows(self, side: Side, entry: Entry, keys: list[str]) -> tuple[int, MappingABC[str, str]]:
        key, source, values = _projection(side, entry)
        count = await postgres.value(self._conns[side], f"SELECT count(*) FROM {source} WHERE true")  # noqa: S608
        if not keys:
            return int(count), {}
        # Keys are joined to text, which no index knows: one scan.
        found = await postgres.fetch(
            self._conns[side],
            f"SELECT {key}, {values} FROM {source} WHERE {key} = ANY (%s)",  # noqa: S608
            (keys,),
        )
        return int(count), {row[0]: row[1] for row in found}


def _projection(side: Side, entry: Entry) -> tuple[str, str, str]:
    """(key as text, FROM with the entry's condition, the other columns as one text) of one side of an entry."""

    def text(column: str, expression: str, kind: str) -> str:
        value = f"({expression})::{canonical(kind)}" if side == "monolith" else f"{quote(column)}::{canonical(kind)}"
        return f"({value})::text"

    def joined(assignments: Any) -> str:
        parts = [f"coalesce({text(a.column, a.expression, a.type)}, E'\\x01')" for a in assignments]
        return " || E'\\x02' || ".join(parts) if parts else "''"

    if side == "monolith":
        inner = f"SELECT o.*, o.xmin FROM {quote_table(entry.source)} AS o"  # noqa: S608
        where = f" WHERE {entry.where}" if entry.where else ""
        table = f"(SELECT * FROM ({inner}) AS input{where}) AS t"  # noqa: S608
        return joined(entry.key), table, joined(entry.columns)
    return joined(entry.key), f"(SELECT o.*, o.xmin FROM {quote_table(entry.target)} AS o) AS t", joined(entry.columns)  # noqa: S608

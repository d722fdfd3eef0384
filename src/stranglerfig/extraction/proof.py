"""Proof that both sides hold the same: the whole comparison, and the quick one inside a cut-over.

The quick one asks each database itself which rows were touched since the whole one (by ``xmin``), so that it does not
rest on the stream it is there to test.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping as MappingABC
from typing import Any

from stranglerfig.changes.mapping import Entry, Mapping, canonical, compile_mapping, quote, quote_table
from stranglerfig.changes.model import Direction
from stranglerfig.databases import sides
from stranglerfig.databases.model import Side
from stranglerfig.extraction.parts import ContextParts, Parts
from stranglerfig.extraction.ports import Progress
from stranglerfig.extraction.store import Standing
from stranglerfig.foundation import clock, mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification import across, across_repair
from stranglerfig.verification import rows as verification
from stranglerfig.verification.model import Key, RowResult

TOUCHED_MOST = 20_000
"""Rows touched since the whole comparison beyond which the quick one would hold requests too long: compare anew."""


_LOOK = 0.005
"""Seconds between two looks at rows that writers are still changing."""


async def mapping_now(parts: Parts, context: ContextParts, *, retired: bool) -> Mapping:
    """The mapping compiled against both databases as they are."""
    async with (
        sides.session(parts.monolith_dsn, what="mapping") as source,
        sides.session(context.service_dsn, what="mapping") as target,
    ):
        return compile_mapping(
            context.tables(retired),
            await source.tables(context.sources(retired)),
            await target.tables(context.settings.targets),
        )


async def verify(
    parts: Parts, context: ContextParts, standing: Standing, progress: Progress, *, repair: bool = False
) -> dict[str, Any]:
    """Compare all rows at a marker in the stream of whoever owns the data; names each difference.

    Raises:
        FigError: what the comparison is refused with (a stream that does not run, a database that is away).
    """
    return (await compare(parts, context, standing, progress, repair=repair)).as_dict()


async def compare(
    parts: Parts, context: ContextParts, standing: Standing, progress: Progress, *, repair: bool = False
) -> RowResult:
    """As :func:`verify`, with all that was found."""
    mapping = await mapping_now(parts, context, retired=bool(standing.facts.get("retired")))
    forward = standing.owner != "service"
    if mysql.is_mysql(parts.monolith_dsn):
        return await _compare_across(parts, context, mapping, progress, forward=forward, repair=repair)
    ends = (parts.monolith_dsn, context.service_dsn)
    job = verification.VerifyJob(
        context=context.settings.context,
        direction=Direction.FORWARD if forward else Direction.REVERSE,
        source_dsn=ends[0 if forward else 1],
        target_dsn=ends[1 if forward else 0],
        mapping=mapping,
        both=context.settings.both_write,
    )
    if repair and job.both and standing.epoch:
        raise FigError(
            "repair_where_both_write",
            "a repair writes one side's row over the other's, but both sides write",
            "Bring the row to what it should be by a write of its own, on either side: it goes to the other one.",
        )

    async def told(state: MappingABC[str, Any]) -> None:
        await progress(f"comparing {state.get('table', '')}", {"done": state.get("rows", 0), "rate": state.get("rate")})

    result = await verification.verify(job, progress=told)
    if repair and result.differences:
        await progress(f"repairing {len(result.differences)} rows through sync", {})
        await verification.repair(job, result.differences)
        result = await verification.verify(job, progress=told)
    return result


async def _compare_across(
    parts: Parts, context: ContextParts, mapping: Mapping, progress: Progress, *, forward: bool, repair: bool
) -> RowResult:
    direction = Direction.FORWARD if forward else Direction.REVERSE
    job = across.AcrossJob(context.settings.context, parts.monolith_dsn, context.service_dsn, mapping, direction)
    await progress(f"comparing {', '.join(context.settings.sources)}", {})
    result = await across.verify(job)
    if repair and result.differences:
        await progress(f"repairing {len(result.differences)} rows through sync", {})
        await across_repair.repair(job, result.differences)
        result = await across.verify(job)
    return result


_PARTING = "\x02"
"""Between the columns of a key that is one text."""


async def derived(service: postgres.Connection, control: postgres.Connection, context: str) -> None:
    """Wait until every change before the fence has its derived events in the log: the service's own come after them.

    Raises:
        FigError: ``timed_out``.
    """
    ends = await postgres.fetch(
        service,
        "SELECT partition, log_position FROM fig.applied WHERE (context, direction) = (%s, 'forward')",
        (context,),
    )

    async def passed() -> bool:
        found = await postgres.fetch(
            control, "SELECT partition, log_position FROM fig.derived WHERE context = %s", (context,)
        )
        positions = {row[0]: row[1] for row in found}
        return all(positions.get(partition, -1) >= end for partition, end in ends)

    await clock.until(passed, timeout=5, what="the derived events", every=0.002, at_most=0.01)


def require_equal(found: RowResult) -> None:
    """Refuse a cut-over where the whole comparison found differences.

    Raises:
        FigError: ``not_equal``.
    """
    if found.differences or found.truncated:
        raise FigError(
            "not_equal",
            f"both sides differ in {len(found.differences)} rows: no cut-over rests on that",
            "fig verify names them; fig verify --repair writes them again through sync.",
            examples=[difference.as_dict() for difference in found.differences[:5]],
        )


class Proof(ABC):
    """``ProofPort`` of a cut-over: rehearse compares everything, prove only what was touched since.

    Sessions are open before anything is held.
    """

    def __init__(self, parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> None:
        self._parts = parts
        self._context = context
        self._standing = standing
        self._progress = progress
        self._what = f"proof:{context.settings.context}"
        self._control: postgres.Connection | None = None
        self._moving: MappingABC[str, tuple[Key, ...]] = {}

    async def rehearse(self) -> None:
        """The whole comparison, before anything is held."""
        if self._control is None:
            self._control = await postgres.connect(self._parts.control_dsn, what=self._what)
        mapping = await mapping_now(self._parts, self._context, retired=bool(self._standing.facts.get("retired")))
        mapping.require_reversible()
        await self._begin(mapping)
        found = await compare(self._parts, self._context, self._standing, self._progress)
        require_equal(found)
        # Neither equal nor different yet: to be proved one by one, also where only a removal is on its way.
        self._moving = found.moving

    async def _derived(self, service: postgres.Connection) -> None:
        """Wait for the derived events of what was written before the fence, where this side's writes are to end."""
        assert self._control is not None
        if self._standing.owner != "service" and self._context.settings.derive:
            await derived(service, self._control, self._context.settings.context)

    @abstractmethod
    async def _begin(self, mapping: Mapping) -> None:
        """From here on, know which rows are touched on either side."""

    @abstractmethod
    async def prove(self, nonce: str) -> None:
        """Rows touched on either side since the rehearsal, or not settled by it, are equal."""

    async def close(self) -> None:
        """Let go of the sessions."""
        if self._control is not None:
            await self._control.close()


class QuickProof(Proof):
    """Between two PostgreSQL; the tables' counts are proved as well."""

    def __init__(self, parts: Parts, context: ContextParts, standing: Standing, progress: Progress) -> None:
        super().__init__(parts, context, standing, progress)
        self._conns: dict[Side, postgres.Connection] = {}
        self._since: dict[Side, str] = {}
        self._mapping: Mapping | None = None

    async def close(self) -> None:
        """Let go of the sessions."""
        for conn in self._conns.values():
            await conn.close()
        await super().close()

    async def _begin(self, mapping: Mapping) -> None:
        dsns: dict[Side, str] = {"monolith": self._parts.monolith_dsn, "service": self._context.service_dsn}
        for side, dsn in dsns.items():
            if side not in self._conns:
                self._conns[side] = await postgres.connect(dsn, what=self._what)
            # All that may still be invisible to the comparison has this id or a later one.
            self._since[side] = await postgres.value(
                self._conns[side], "SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296)::text"
            )
        self._mapping = mapping

    async def prove(self, nonce: str) -> None:
        """Rows touched on either side since the rehearsal or not settled by it, and the tables' counts, are equal.

        It does not end while they are not where both sides write: the cut-over's budget ends it.
        """
        assert self._mapping is not None
        await self._derived(self._conns["service"])
        for entry in self._mapping.forward:
            there, here = await asyncio.gather(self._touched("monolith", entry), self._touched("service", entry))
            keys = sorted(there | here | {_PARTING.join(key) for key in self._moving.get(entry.target, ())})
            if len(keys) > TOUCHED_MOST:
                raise FigError(
                    "too_much_touched",
                    f"{len(keys)} rows of {entry.target} were touched since the whole comparison",
                    "Try again: the comparison is made anew.",
                )
            unequal, count_there, count_here = await self._unequal(entry, keys)
            if self._context.settings.both_write:
                # Writers stay: what is on its way is looked at again, until it was seen equal once.
                while unequal:
                    await asyncio.sleep(_LOOK)
                    unequal, _, _ = await self._unequal(entry, unequal)
                continue
            if unequal or count_there != count_here:
                raise FigError(
                    "not_equal",
                    f"{entry.source} → {entry.target}: {len(unequal)} touched rows differ"
                    f" (such as {', '.join(unequal[:3]) or '-'}), {count_there} rows against {count_here}",
                    "fig verify names the differences.",
                    nonce=nonce,
                )

    async def _unequal(self, entry: Entry, keys: list[str]) -> tuple[list[str], int, int]:
        """Those of ``keys`` whose rows differ, and how many rows each side has."""
        (count_there, there), (count_here, here) = await asyncio.gather(
            self._rows("monolith", entry, keys), self._rows("service", entry, keys)
        )
        return [key for key in keys if there.get(key) != here.get(key)], count_there, count_here

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
        return f" || '{_PARTING}' || ".join(parts) if parts else "''"

    if side == "monolith":
        inner = f"SELECT o.*, o.xmin FROM {quote_table(entry.source)} AS o"  # noqa: S608
        where = f" WHERE {entry.where}" if entry.where else ""
        table = f"(SELECT * FROM ({inner}) AS input{where}) AS t"  # noqa: S608
        return joined(entry.key), table, joined(entry.columns)
    return joined(entry.key), f"(SELECT o.*, o.xmin FROM {quote_table(entry.target)} AS o) AS t", joined(entry.columns)  # noqa: S608

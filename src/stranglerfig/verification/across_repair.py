"""Repair between a MariaDB and a PostgreSQL: as in ``rows``, a message in the stream's source, which sync applies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from stranglerfig.changes.mapping import Entry
from stranglerfig.changes.mapping import Mapping as TableMap
from stranglerfig.databases import markers
from stranglerfig.databases.mariadb import catalogue, messages, types, values
from stranglerfig.databases.mariadb.types import Native
from stranglerfig.databases.mariadb.values import Param
from stranglerfig.foundation import mysql, postgres
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import quote, quote_table
from stranglerfig.verification import rows
from stranglerfig.verification.across import AcrossJob, applied
from stranglerfig.verification.model import Difference, Key

# Names come from the user's configuration and from catalogues, quoted; values are parameters.
# ruff: noqa: S608

_BUSY = (1205, 1213)


async def repair(job: AcrossJob, differences: Sequence[Difference]) -> int:
    """Bring the target's rows to what the source says, through the stream; returns how many messages were applied.

    Raises:
        FigError: ``repair_blocked`` when a row could not be held for a moment, ``marker_not_applied``.
    """
    what = f"verify {job.context}"
    async with (
        mysql.session(job.monolith_dsn, what=what) as monolith,
        postgres.session(job.service_dsn, what=what) as service,
    ):
        if not job.forward:
            back = rows.VerifyJob(job.context, job.direction, job.service_dsn, job.monolith_dsn, job.mapping)
            nonces = await rows.write_repairs(back, service, differences)
            for nonce in nonces:
                await applied(monolith, job.context, job.direction, nonce, timeout=job.marker_seconds)
            return len(nonces)
        await monolith.execute("SET SESSION innodb_lock_wait_timeout = 1")
        await monolith.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # which locks gaps
        nonces = []
        for (table, key), entry in rows.mended(job.mapping, differences).items():
            named = dict(zip(sorted(entry.source_key), key, strict=True))
            [found] = await keys_there(service, job.mapping, entry, [tuple(named[c] for c in entry.source_key)])
            nonces.append(await _repair_row(job, monolith, table, dict(zip(entry.source_key, found, strict=True))))
        for nonce in nonces:
            await markers.await_marker(service, job.context, job.direction.value, nonce, timeout=job.marker_seconds)
    return len(nonces)


async def keys_there(service: postgres.Connection, mapping: TableMap, entry: Entry, keys: Sequence[Key]) -> list[Key]:
    """The monolith's keys, as texts of its columns' types, of the service's keys ``keys``, in the order of them."""
    kinds, theirs = mapping.source_types[entry.source], mapping.target_types[entry.target]
    # A key column is a column on both sides: what is between them is a cast.
    casts = ", ".join(
        f"(unnest(%s::text[])::{theirs[a.column]})::{kinds[name]}::text"
        for name, a in zip(entry.source_key, entry.key, strict=True)
    )
    columns = [[key[n] for key in keys] for n in range(len(entry.key))]
    return [tuple(row) for row in await postgres.fetch(service, f"SELECT {casts}", columns)]


def condition(natives: Mapping[str, Native], names: Sequence[str], keys: Sequence[Key]) -> tuple[str, list[Param]]:
    """What the rows of ``keys`` (of which there is one at least) meet in MariaDB's SQL, and its parameters."""
    writers = [values.writer(natives[name]) for name in names]
    one = "(" + " AND ".join(f"{quote(name)} = %s" for name in names) + ")"
    params = [write(text) for key in keys for write, text in zip(writers, key, strict=True)]
    return " OR ".join([one] * len(keys)), params


async def _repair_row(job: AcrossJob, monolith: mysql.Connection, table: str, key: dict[str, str]) -> str:
    """Write one row's message in a transaction that holds the row, or its absence: the gap where it would be."""
    kinds = {name: kind for name, kind in job.mapping.source_types[table].items() if kind != "unknown"}
    natives = {native.name: native for native, _ in await catalogue.natives(monolith, table)}
    names = [name for name in kinds if name in natives]
    where, params = condition(natives, tuple(key), [tuple(key.values())])
    asked = ", ".join(types.expression(natives[name]) for name in names)
    statement = f"SELECT {asked} FROM {quote_table(table)} WHERE {where} FOR UPDATE"
    for _ in range(20):
        try:
            async with monolith.transaction():
                row = await monolith.one(statement, params)
                texts = None
                if row is not None:
                    readers = [types.reader(natives[name]) for name in names]
                    texts = [None if value is None else read(value) for read, value in zip(readers, row, strict=True)]
                body = rows.repair_body(table, {name: kinds[name] for name in names}, key, texts)
                return await messages.emit_marker(monolith, job.context, job.direction.value, repair=body)
        except FigError as error:
            if not mysql.refused(error, *_BUSY):
                raise
        await asyncio.sleep(0.05)
    raise rows.blocked(table, key)

"""A cut-over's proof: what the comparison before it could not settle is looked at again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stranglerfig.changes.mapping import compile_mapping
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue
from stranglerfig.extraction import proof
from stranglerfig.foundation import clock
from stranglerfig.foundation import postgres as pg
from stranglerfig.verification.model import RowResult
from tests.conftest import Server

TABLE = "CREATE TABLE label (code text, number integer, title text, PRIMARY KEY (code, number))"
ENTRY = TableMapping.model_validate(
    {
        "from": "public.label",
        "to": "label",
        "key": {"code": "code", "number": "number"},
        "columns": {"title": "title"},
        "reverse": {"title": "title"},
    }
)


async def test_a_removal_on_its_way_is_waited_for_where_both_write(
    postgres: Server, postgres_b: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is gone on one side, so nothing there was touched; the other side's was written long before."""
    monolith, service = postgres.database(), postgres_b.database()
    async with pg.session(monolith, what="test") as left, pg.session(service, what="test") as right:
        for conn in (left, right):
            await conn.execute(TABLE)
        await right.execute("INSERT INTO label VALUES ('a', 1, 'removed in the monolith')")
        mapping = compile_mapping(
            [ENTRY],
            await catalogue.tables(left, ["public.label"]),
            await catalogue.tables(right, ["public.label"]),
        )
        await left.execute("SELECT pg_current_xact_id()")
        await right.execute("SELECT pg_current_xact_id()")

        async def known(*_: Any, **__: Any) -> Any:
            return mapping

        async def compared(*_: Any, **__: Any) -> RowResult:
            return RowResult("c", "forward", "n", 1, 1, 1, 0.0, (), unsettled=1, moving={"public.label": (("a", "1"),)})

        monkeypatch.setattr(proof, "mapping_now", known)
        monkeypatch.setattr(proof.verification, "verify", compared)
        settings = SimpleNamespace(context="inventory", both_write=True, derive=False)
        parts: Any = SimpleNamespace(monolith_dsn=monolith, control_dsn=monolith)
        context: Any = SimpleNamespace(settings=settings, service_dsn=service)
        standing: Any = SimpleNamespace(facts={}, owner="monolith", epoch=0)

        async def progress(*_: Any) -> None: ...

        found = proof.QuickProof(parts, context, standing, progress)
        try:
            await found.rehearse()
            looks = 0
            look = found._unequal

            async def counted(entry: Any, keys: list[str]) -> Any:
                nonlocal looks
                looks += 1
                return await look(entry, keys)

            monkeypatch.setattr(found, "_unequal", counted)
            proving = asyncio.ensure_future(found.prove("n"))

            async def again() -> bool:
                return proving.done() or looks > 2

            await clock.until(again, timeout=10, what="the proof to look again")
            assert not proving.done(), "a cut-over would rest on a row that is there on one side only"
            await right.execute("DELETE FROM label")
            await proving
        finally:
            await found.close()

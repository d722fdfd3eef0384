"""What a MariaDB and a PostgreSQL touched since a moment, and whether it is equal; no stream is between them here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from stranglerfig.changes.mapping import Mapping, compile_mapping
from stranglerfig.changes.settings import TableMapping
from stranglerfig.databases import catalogue
from stranglerfig.databases.mariadb import catalogue as mariadb_catalogue
from stranglerfig.databases.mariadb import messages
from stranglerfig.foundation import mysql
from stranglerfig.foundation import postgres as sessions
from stranglerfig.foundation.errors import FigError
from stranglerfig.verification import across, touched
from stranglerfig.verification.touched import Touched
from tests.conftest import MonolithOnMariaDB, Server

MONOLITH = """CREATE TABLE stock (
    sku varchar(20), shelf int unsigned, qty int, price float, photo blob, released tinyint(1) NOT NULL,
    seen datetime(6), hidden tinyint(1) NOT NULL DEFAULT 0, PRIMARY KEY (sku, shelf))"""
FILLED = """INSERT INTO stock SELECT concat('s', seq), seq % 7, seq, seq / 7, x'00ff', seq % 2, '2024-02-29 12:00:00.5',
    seq % 5 = 0 FROM seq_1_to_400"""
SERVICE = """CREATE TABLE item (
    code text COLLATE "C", place bigint, amount int, price real, photo bytea, state text NOT NULL, seen timestamp,
    PRIMARY KEY (code, place))"""
COLUMNS = {
    "amount": "qty",
    "price": "price",
    "photo": "photo",
    "seen": "seen",
    "state": "case when released <> 0 then 'released' else 'held' end",
}
REVERSE = {
    "qty": "amount",
    "price": "price",
    "photo": "photo",
    "seen": "seen",
    "released": "(state = 'released')::int",
}


@dataclass
class Pair:
    """Both sides, holding the same."""

    dsns: tuple[str, str]
    monolith: mysql.Connection
    service: sessions.Connection
    mapping: Mapping
    touched: Touched

    async def unequal(self, *moving: tuple[str, ...]) -> list[str]:
        return (await self.touched.unequal({"public.item": moving})).get("public.item", [])


@asynccontextmanager
async def pair(mariadb: MonolithOnMariaDB, server: Server, reverse: dict[str, str] = REVERSE) -> AsyncIterator[Pair]:
    name, dsn = mariadb.database(), server.database()
    there = mariadb.server.url(name)
    async with (
        mysql.session(there, what="test") as monolith,
        sessions.session(dsn, what="test") as service,
        mysql.session(there, what="proof") as looking,
        sessions.session(dsn, what="proof") as beside,
    ):
        await messages.prepare(monolith)
        await monolith.execute(MONOLITH)
        await monolith.execute(FILLED)
        await service.execute(SERVICE)
        mapped = {
            "from": f"{name}.stock", "to": "item", "key": {"code": "sku", "place": "shelf"}, "columns": COLUMNS,
            "reverse": reverse, "where": "hidden = 0",
        }  # fmt: skip
        mapping = compile_mapping(
            [TableMapping.model_validate(mapped)],
            await mariadb_catalogue.tables(monolith, [f"{name}.stock"]),
            await catalogue.tables(service, ["public.item"]),
        )
        found = Pair((there, dsn), monolith, service, mapping, Touched(looking, beside, mapping))
        await across.bring(mapping, monolith, service, f"{name}.stock", sorted(mapping.forward[0].needs), "copied")
        [entry] = mapping.forward
        await service.execute(
            "INSERT INTO item (code, place, amount, photo, price, seen, state)"  # type: ignore[call-overload]
            f" SELECT k0, k1, {', '.join(f'c{n}' for n in order(entry.columns))} FROM"
            f" ({across.made_of(entry)} FROM copied AS input WHERE hidden = 0) AS r"
        )
        await found.touched.begin()
        yield found


def order(columns: tuple[object, ...]) -> list[int]:
    """Where amount, photo, price, seen, state stand."""
    names = [getattr(column, "column", "") for column in columns]
    return [names.index(name) for name in ("amount", "photo", "price", "seen", "state")]


async def test_what_nobody_touched_is_not_looked_at(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    async with pair(mariadb, postgres) as found:
        # Different before the look began: the whole comparison's business.
        assert await found.unequal() == []
        assert await found.unequal(("s1", "1"), ("none", "3")) == []


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE stock SET qty = 7777 WHERE sku = 's3'", ["s3/3"]),
        ("UPDATE stock SET price = price + 0.000001 WHERE sku = 's3'", ["s3/3"]),
        ("DELETE FROM stock WHERE sku = 's4'", ["s4/4"]),
        ("INSERT INTO stock (sku, shelf, qty, released) VALUES ('new', 4000000000, 1, 0)", ["new/4000000000"]),
        ("UPDATE stock SET hidden = 1 WHERE sku = 's6'", ["s6/6"]),
        ("UPDATE stock SET sku = 'S8' WHERE sku = 's8'", ["S8/1", "s8/1"]),
        ("UPDATE stock SET hidden = 1, qty = 9 WHERE sku = 's5'", []),
    ],
)
async def test_what_only_the_monolith_did_is_named(
    mariadb: MonolithOnMariaDB, postgres: Server, statement: str, named: list[str]
) -> None:
    async with pair(mariadb, postgres) as found:
        assert await found.monolith.execute(statement) == 1
        assert await found.unequal() == named


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE item SET amount = 7777 WHERE code = 's3'", ["s3/3"]),
        ("UPDATE item SET seen = null WHERE code = 's3'", ["s3/3"]),
        ("DELETE FROM item WHERE code = 's4'", ["s4/4"]),
        ("INSERT INTO item VALUES ('new', 1, 1, 1, '', 'held', null)", ["new/1"]),
        ("UPDATE item SET amount = amount", []),
    ],
)
async def test_what_only_the_service_did_is_named(
    mariadb: MonolithOnMariaDB, postgres: Server, statement: str, named: list[str]
) -> None:
    async with pair(mariadb, postgres) as found:
        await found.service.execute(statement)  # type: ignore[call-overload]
        assert await found.unequal() == named


async def test_null_is_another_value_than_any(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    async with pair(mariadb, postgres) as found:
        await found.monolith.execute("UPDATE stock SET photo = null WHERE sku = 's7'")
        await found.service.execute("UPDATE item SET photo = null WHERE code = 's7'")
        await found.touched.begin()
        assert await found.unequal() == []
        for value in ("x'01'", "x''", "'-'"):
            await found.monolith.execute(f"UPDATE stock SET photo = {value} WHERE sku = 's7'")
            assert await found.unequal() == ["s7/0"], value


async def test_what_both_did_is_equal(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    async with pair(mariadb, postgres) as found:
        await found.monolith.execute("UPDATE stock SET qty = qty + 1 WHERE shelf = 3")
        await found.service.execute("UPDATE item SET amount = amount + 1 WHERE place = 3")
        await found.monolith.execute("DELETE FROM stock WHERE sku = 's4'")
        await found.service.execute("DELETE FROM item WHERE code = 's4'")
        assert await found.unequal() == []


async def test_too_much_that_was_touched_wants_another_comparison(
    mariadb: MonolithOnMariaDB, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touched, "MOST", 10)
    async with pair(mariadb, postgres) as found:
        await found.service.execute("UPDATE item SET amount = amount WHERE place = 3")
        with pytest.raises(FigError) as refused:
            await found.unequal()
        assert refused.value.code == "too_much_touched"


async def test_there_and_back_is_tried_over_all_rows(mariadb: MonolithOnMariaDB, postgres: Server) -> None:
    async with pair(mariadb, postgres) as found:
        assert await across.identity_violations(*found.dsns, found.mapping) == []
        await found.monolith.execute("UPDATE stock SET released = 2 WHERE sku IN ('s3', 's4', 's5')")
        [wrong] = await across.identity_violations(*found.dsns, found.mapping)
        assert (wrong.column, wrong.rows, wrong.examples) == ("released", 2, ("s3, 3", "s4, 4"))  # s5 is hidden

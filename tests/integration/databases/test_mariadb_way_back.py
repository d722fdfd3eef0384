"""Every type's values go back into a real MariaDB as they were read from it."""

from __future__ import annotations

from stranglerfig.databases.mariadb import catalogue, types, values
from stranglerfig.foundation import mysql
from tests.conftest import MonolithOnMariaDB
from tests.contract.capture.mariadb_source import COLUMNS, TYPES


async def test_values_go_back_as_they_came(mariadb: MonolithOnMariaDB) -> None:
    name = mariadb.database()
    async with mysql.session(mariadb.server.url(name), what="test", several=True) as conn:
        await conn.execute(f"CREATE TABLE made ({COLUMNS})")
        await conn.execute(f"CREATE TABLE again ({COLUMNS})")
        for statement in TYPES:
            await conn.execute(statement)
        natives = [native for native, _ in await catalogue.natives(conn, f"{name}.made")]
        asked = ", ".join(map(types.expression, natives))

        async def texts(table: str) -> list[tuple[str | None, ...]]:
            rows = await conn.fetch(f"SELECT {asked} FROM {table} ORDER BY id")
            return [
                tuple(None if v is None else types.reader(n)(v) for n, v in zip(natives, row, strict=True))
                for row in rows
            ]

        columns = ", ".join(mysql.quote(native.name) for native in natives)
        insert = f"INSERT INTO again ({columns}) VALUES ({', '.join(['%s'] * len(natives))})"
        rows = [
            [None if text is None else values.writer(n)(text) for n, text in zip(natives, row, strict=True)]
            for row in await texts("made")
        ]
        answers = await conn.exchange([(insert, row) for row in rows])
        assert [answer.touched for answer in answers] == [1] * len(TYPES)
        assert await texts("again") == await texts("made")

"""A MariaDB's tables and what is written into them, for tests of capture; and captures of it that run beside a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stranglerfig.capture.capture import remove
from stranglerfig.capture.debezium import Through
from stranglerfig.changes.model import MARKER
from stranglerfig.databases.mariadb import messages
from stranglerfig.foundation import clock, mysql
from tests.captures import Running
from tests.conftest import MonolithOnMariaDB

COLUMNS = """
    id int unsigned AUTO_INCREMENT PRIMARY KEY,
    ti tinyint, flag tinyint(1), tu tinyint unsigned, si smallint, su smallint unsigned, mi mediumint,
    iz int(8) zerofill, bi bigint, b8 bigint unsigned, d decimal(20, 5),
    dz decimal(8, 2) unsigned zerofill, f float, db double,
    dt date, dtm datetime, dt3 datetime(3), dt6 datetime(6), ts timestamp NULL, ts6 timestamp(6) NULL,
    tm time, tm3 time(3), tm6 time(6), y year, b1 bit(1), b12 bit(12), b64 bit(64),
    e enum('a', 'b-c', 'é'), s set('x', 'y', 'z'), js json, bl blob, lb longblob, vb varbinary(10), bn binary(4),
    tx text, lt longtext, vc varchar(50), ch char(10), la varchar(20) CHARACTER SET latin1, `odd name é` int,
    twice bigint AS (bi * 0 + 2) STORED"""
TYPES = (
    """INSERT INTO made SET ti=-128, flag=1, tu=255, si=-32768, su=65535, mi=-8388608, iz=42, bi=-9223372036854775808,
    b8=18446744073709551615, d=-12345.10000, dz=0.50, f=0.1, db=1e20, dt='2024-02-29', dtm='2024-02-29 12:34:56',
    dt3='1999-12-31 23:59:59.990', dt6='1000-01-01 00:00:00.000001', ts='2024-02-29 12:34:56',
    ts6='1970-01-01 00:00:01.120000', tm='-838:59:59', tm3='12:00:00.120', tm6='00:00:00.000001', y=2024, b1=1,
    b12=b'101010101011', b64=b'1', e='é', s='x,z', js='{"b": 1,  "a":[1,2.50]}', bl=x'00ff105c', lb=x'', vb=x'01',
    bn=x'41', tx='naïve 🎉\\t\\n\\\\N', lt=repeat('long ', 5000), vc='tab\\tend ', ch='ab  ', la='€ é',
    `odd name é`=1""",
    """INSERT INTO made SET ti=0, flag=2, tu=0, b8=0, d=0, f=-16777217, db=-0.0, dt='9999-12-31',
    dtm='9999-12-31 23:59:59', dt6='0999-01-01 00:00:00', ts='2038-01-19 03:14:07',
    tm='838:59:59', y=1901, b1=0, b12=0, b64=~0, e='b-c',
    s='',
    js='null', bl='', tx='', vc='', ch='', la=''""",
    "INSERT INTO made SET f=3.4e38, db=5e-324, y=0, tm='-00:00:01', d=99999999999999.99999",
    "INSERT INTO made SET f=1e-7, db=123456789012345678, dt='1000-01-01'",
    "INSERT INTO made () VALUES ()",
)  # fmt: skip
"""Values that hardly survive the way: the ends of each type's range, what needs escaping, and nothing."""


class OnMariaDB(Running):
    """A capture of a MariaDB."""

    async def caught_up_with(self, conn: mysql.Connection) -> None:
        """Wait until the log has everything that was committed before now."""
        nonce = await messages.emit_marker(conn, self.job.context, str(self.job.direction))

        async def arrived() -> bool:
            assert self.report.get("state") not in ("failed", "paused"), self.report
            return any(m.prefix == MARKER and nonce in m.content for m in await self.messages())

        try:
            await clock.until(arrived, timeout=120, what="a marker")
        except Exception:
            print("last report:", self.report)
            raise


@asynccontextmanager
async def captured(
    mariadb: MonolithOnMariaDB, through: Through, tables: tuple[str, ...], *statements: str, **options: object
) -> AsyncIterator[tuple[OnMariaDB, mysql.Connection]]:
    """A new database with ``statements``, and a capture of its ``tables``."""
    name = mariadb.database()
    dsn = mariadb.server.url(name)
    async with mysql.session(dsn, what="test") as conn:
        for statement in statements:
            await conn.execute(statement)
        running = OnMariaDB(dsn, tables=tuple(f"{name}.{table}" for table in tables), through=through, **options)
        running.start()
        try:
            yield running, conn
        finally:
            await running.stop()
            await remove(dsn, running.job.context, running.job.direction, through)

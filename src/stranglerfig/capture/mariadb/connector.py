"""What Debezium's connector for MariaDB is told. Pure.

It streams only, from the place that it is given as its offset; the snapshot is ours. Everything it says goes to one raw
topic of one partition, whose order is that of the commits (``docs/decisions/0020-mariadb.md``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, Final

from stranglerfig.capture.assembling import LIFE
from stranglerfig.capture.debezium import Through, connector_name, raw_settings, raw_topic
from stranglerfig.changes.model import Direction
from stranglerfig.databases.mariadb.messages import APPLIED, MESSAGES
from stranglerfig.foundation import mysql

CONNECTOR: Final = "io.debezium.connector.mariadb.MariaDbConnector"


def configuration(
    context: str,
    direction: Direction,
    dsn: str,
    tables: Sequence[str],
    generation: int,
    through: Through,
    *,
    first: bool,
    life: str,
) -> dict[str, str]:
    """The connector's configuration.

    Each record names in a header the ``life`` in which it was sent: a worker that was paused may send later what it had
    read in an earlier one, before what the present one begins with.

    ``first`` says that it never read anything: it then learns the tables' definitions from the source as they are now.
    Later it must know those of the place it reads from, which it wrote down in a topic of its own.
    """
    raw = raw_topic(context, direction, generation)
    address = mysql.parse(dsn)
    reference = through.passwords.get(direction)
    settings = raw_settings(raw)
    return {
        **settings,
        "connector.class": CONNECTOR,
        "transforms": f"{settings['transforms']},life",
        "transforms.life.type": "org.apache.kafka.connect.transforms.InsertHeader",
        "transforms.life.header": LIFE,
        "transforms.life.value.literal": life,
        "database.hostname": address.host,
        "database.port": str(address.port),
        "database.user": address.user,
        "database.password": reference if reference is not None else address.password,
        "database.ssl.mode": "disable",
        # A reader of the binary log passes for a replica, and no two have one number.
        "database.server.id": str(0x40000000 | zlib.crc32(connector_name(context, direction).encode()) >> 2),
        "table.include.list": ",".join(re.escape(table) for table in (*tables, MESSAGES, APPLIED)),
        "snapshot.mode": "recovery" if first else "no_data",
        "snapshot.locking.mode": "none",
        "schema.history.internal": "io.debezium.storage.kafka.history.KafkaSchemaHistory",
        "schema.history.internal.kafka.bootstrap.servers": through.servers,
        "schema.history.internal.kafka.topic": f"{raw}.ddl",
        "schema.history.internal.store.only.captured.tables.ddl": "true",
        # Its parser does not know all of MariaDB's SQL, and one statement that it cannot read would end it for good.
        # A table's new shape that it misses so is found by the look at the source that goes with each batch; its filter
        # of statements is no help, for it is asked only when the history is read again (seen in 3.1.0).
        "schema.history.internal.skip.unparseable.ddl": "true",
        "include.schema.changes": "false",
        "inconsistent.schema.handling.mode": "fail",
        # Values whole, with those of raw_settings: what values.py makes PostgreSQL's text of.
        "bigint.unsigned.handling.mode": "precise",
        # An old year is one: it is not guessed to be of this century.
        "enable.time.adjuster": "false",
    }


def offsets(context: str, direction: Direction, generation: int, gtid: str, now: float) -> list[dict[str, Any]]:
    """What the connector is told to have read: all up to ``gtid``. The server finds the file by itself."""
    raw = raw_topic(context, direction, generation)
    return [{"partition": {"server": raw}, "offset": {"file": "", "pos": 4, "gtids": gtid, "ts_sec": int(now)}}]

"""The estate with its monolith on a MariaDB; service, façade and load are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql

from examples.servers.mariadb import MariaDB
from examples.shop import database
from examples.shop.estate import Estate, Program
from examples.shop.on_mariadb.app import connect
from stranglerfig.foundation.sql import load

# What `docs/how-to/mysql.md` asks for, and no more.
RIGHTS = (
    "CREATE USER strangler@'127.0.0.1' IDENTIFIED BY 'strangler'",
    "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO strangler@'127.0.0.1'",
    "GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER, ALTER ON shop.* TO strangler@'127.0.0.1'",
    "GRANT ALL ON fig.* TO strangler@'127.0.0.1'",
    "GRANT PROCESS ON *.* TO strangler@'127.0.0.1'",
    "CREATE USER shop_app@'127.0.0.1' IDENTIFIED BY 'shop'",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO shop_app@'127.0.0.1'",
)
# What differs in `extraction.yaml`: MariaDB has a number for a truth, a datetime without a zone, and JSON as text.
MAPPING = (
    ("table: public.", "table: shop."),
    ("from: public.", "from: shop."),
    ("state: case when released then", "state: case when released <> 0 then"),
    ("released: state = 'released'", "released: (state = 'released')::int"),
    ("      created_at: created_at", "      created_at: created_at at time zone 'UTC'"),
    (
        "delta: delta, response: response, created_at: created_at}\n    reverse",
        'delta: delta, response: "response::jsonb", created_at: created_at}\n    reverse',
    ),
)


@dataclass
class EstateOnMariaDB(Estate):
    """The shop whose monolith is ``examples.shop.on_mariadb``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Durable enough for a server that is not killed together with its machine.
        self.mariadb = MariaDB(
            self.root / "shop-mariadb",
            sync_binlog="0",
            innodb_flush_log_at_trx_commit="2",
            log_bin_trust_function_creators="ON",
        )

    @property
    def monolith_dsn(self) -> str:
        """The monolith's database, as its administrator."""
        return self.mariadb.url("shop")

    def environment(self) -> dict[str, str]:
        """See ``Estate``."""
        address = self.mariadb.url("shop", user="strangler", password="strangler")
        return super().environment() | {"SHOP_FIG_DSN": address}

    def start_databases(self, progress: database.Progress | None = None) -> None:
        """Start both servers; create and fill what is not there yet."""
        self.inventory_server.start()
        database.create_inventory(self.inventory_server)
        database.grant(self.inventory_server, "inventory")
        self.mariadb.start()
        conn = connect(self.mariadb.url("mysql"))
        with conn, conn.cursor() as cursor:
            cursor.execute("SHOW DATABASES LIKE 'shop'")
            if not cursor.fetchone():
                self._create(cursor)
                conn.commit()

    def _create(self, cursor: pymysql.cursors.Cursor) -> None:
        statements = load("examples.shop.on_mariadb", "schema.sql")
        cursor.execute("CREATE DATABASE shop")
        for right in RIGHTS:
            cursor.execute(right)
        cursor.execute("USE shop")
        for name in ("inventory", "reservations", "inventory_requests"):
            cursor.execute(getattr(statements, name))
        cursor.execute(statements.fill.format(items=self.items), {"seed": self.seed})

    def deploy_monolith(
        self, *, reserve: str | None = None, code: Path | None = None, inventory_url: str | None = None
    ) -> Program:
        """Run the monolith. It takes no orders, so nothing else is asked of it."""
        fd = self._monolith_socket.fileno()
        address = self.mariadb.url("shop", user="shop_app", password="shop")
        environment = {"SHOP_DSN": address, "SHOP_FD": str(fd)}
        program = self._run("monolith", ["-m", "examples.shop.on_mariadb"], environment, pass_fds=(fd,))
        return self._deploy("monolith", program, self.monolith_url)

    def write_project(self, evidence: Mapping[str, Any]) -> Path:
        """See ``Estate``; the mapping as MariaDB's types want it. There are no orders, so no checkouts."""
        project = super().write_project({"services": "{}", **evidence})
        file = project / "contexts" / "inventory" / "extraction.yaml"
        text = file.read_text()
        for theirs, ours in MAPPING:
            assert theirs in text, f"{file} has no longer '{theirs}'"
            text = text.replace(theirs, ours)
        file.write_text(text)
        return project

    def stop(self) -> None:
        """End everything."""
        super().stop()
        self.mariadb.stop()

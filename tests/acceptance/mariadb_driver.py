"""The driver of a shop whose monolith is on a MariaDB."""

from __future__ import annotations

from typing import Any

import psycopg
from shop_driver import CONTEXT, Shop

from examples.servers.mariadb import MariaDB
from examples.shop.on_mariadb.app import connect
from examples.shop.on_mariadb.estate import EstateOnMariaDB


class ShopOnMariaDB(Shop):
    """The driver, with what is asked of the monolith's database in its own words."""

    @property
    def mariadb(self) -> MariaDB:
        """The monolith's server."""
        assert isinstance(self.estate, EstateOnMariaDB)
        return self.estate.mariadb

    def monolith(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the monolith's database, as its administrator."""
        with connect(self.estate.monolith_dsn) as conn, conn.cursor() as cursor:
            cursor.execute(statement, parameters)
            conn.commit()
            return list(cursor.fetchall())

    def ownership(self) -> dict[str, tuple[str, int]]:
        """State and epoch of both ownership rows."""
        asked = "SELECT state, epoch FROM fig.ownership WHERE context = %s"
        [monolith] = self.monolith(asked, CONTEXT) or [("", 0)]
        with psycopg.connect(self.estate.service_dsn, connect_timeout=5) as conn:
            service = conn.execute(asked, (CONTEXT,)).fetchone() or ("", 0)
        return {"monolith": (str(monolith[0]), int(monolith[1])), "service": (service[0], service[1])}

"""MariaDB's addresses: read exactly, and never shown when they are wrong."""

from __future__ import annotations

import sys

import pytest

from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError


def test_an_address_is_taken_apart() -> None:
    found = mysql.parse("mariadb://sho%40p:pass%2Fword@db.example/shop")
    assert found == mysql.Address("db.example", 3306, "sho@p", "pass/word", "shop")
    assert "pass" not in repr(found)
    assert mysql.describe("mysql://shop:secret@[::1]:3307/shop") == "shop@::1:3307/shop"


@pytest.mark.parametrize(
    "wrong",
    [
        "mysql://shop:secret@host",
        "mysql:///shop",
        "mysql://host:secret/shop",
        "mysql://host/shop/secret",
        "postgresql://host/secret",
        "mysql://host/shop?secret=1",
        "mysql://host/shop?secret",
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(wrong: str) -> None:
    with pytest.raises(FigError) as raised:
        mysql.parse(wrong)
    assert raised.value.code == "bad_address" and "secret" not in str(raised.value.as_dict())


def test_names_are_quoted() -> None:
    assert mysql.quote_table("shop.a`b") == "`shop`.`a``b`"


def test_the_dialect_shows_in_the_address() -> None:
    assert [mysql.is_mysql(f"{scheme}://x") for scheme in ("mysql", "mariadb", "postgresql")] == [True, True, False]


async def test_a_missing_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(FigError) as raised:
        async with mysql.session("mysql://shop@127.0.0.1/shop", what="test"):
            raise AssertionError("never reached")
    assert raised.value.code == "backend_not_installed" and "stranglerfig[mysql]" in raised.value.remedy

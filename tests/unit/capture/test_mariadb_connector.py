"""What the connector for MariaDB is told."""

from __future__ import annotations

from stranglerfig.capture.debezium import Through
from stranglerfig.capture.mariadb.connector import configuration, offsets
from stranglerfig.changes.model import Direction

DSN = "mysql://fig:secret@db:3307/shop"


def told(*, first: bool = True, passwords: dict[Direction, str] | None = None) -> dict[str, str]:
    through = Through("http://connect:8083", "kafka:9092", {}, passwords or {})
    return configuration("inventory", Direction.FORWARD, DSN, ("shop.a.b",), 3, through, first=first, life="life-1")


def test_it_reads_the_tables_and_ours_and_bears_what_it_cannot_parse() -> None:
    found = told()
    assert found["table.include.list"] == r"shop\.a\.b,fig\.message,fig\.applied"
    assert found["schema.history.internal.skip.unparseable.ddl"] == "true"
    assert found["inconsistent.schema.handling.mode"] == "fail"
    assert (found["database.hostname"], found["database.port"]) == ("db", "3307")


def test_every_record_names_the_life_in_which_it_was_sent() -> None:
    found = told()
    assert found["transforms"] == "raw,life"
    assert (found["transforms.life.header"], found["transforms.life.value.literal"]) == ("fig.life", "life-1")


def test_only_the_first_life_learns_the_tables_from_the_source() -> None:
    assert (told()["snapshot.mode"], told(first=False)["snapshot.mode"]) == ("recovery", "no_data")


def test_a_password_that_is_a_reference_stays_one() -> None:
    reference = "${file:/secrets:shop}"
    assert told(passwords={Direction.FORWARD: reference})["database.password"] == reference
    assert told()["database.password"] == "secret"


def test_its_place_is_a_gtid() -> None:
    [place] = offsets("inventory", Direction.FORWARD, 3, "0-1-7", 12.5)
    assert place["offset"] == {"file": "", "pos": 4, "gtids": "0-1-7", "ts_sec": 12}

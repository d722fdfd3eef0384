"""What the connector is told, what is refused beforehand, and Connect's failures in words."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from stranglerfig.capture import debezium, model
from stranglerfig.capture.connect import Status, failed, words
from stranglerfig.capture.debezium import Through, configuration
from stranglerfig.capture.model import State
from stranglerfig.capture.raw import RawTopic
from stranglerfig.capture.texts import Shape
from stranglerfig.changes.model import Column, Direction
from stranglerfig.foundation.errors import FigError

FORWARD, REVERSE = Direction.FORWARD, Direction.REVERSE
THROUGH = Through("http://connect:8083", "kafka:9092")
DSN = "postgresql://shop:s3cret@db.internal:5433/shop?sslmode=verify-full&sslrootcert=/ca.pem"


def config(direction: Direction = FORWARD, dsn: str = DSN, through: Through = THROUGH) -> dict[str, str]:
    return configuration("my-context", direction, dsn, ["public.item", "public.odd.name"], 3, through)


def test_the_connector_reads_our_slot_into_one_topic() -> None:
    found = config()
    assert found["slot.name"] == found["publication.name"] == "fig_my_context_forward"
    assert found["transforms.raw.replacement"] == "fig.raw.my-context.forward.3"
    assert found["snapshot.mode"] == "no_data" and found["publication.autocreate.mode"] == "disabled"
    assert found["table.include.list"] == r"public\.item,public\.odd\.name"
    assert found["slot.stream.params"] == config(REVERSE)["slot.stream.params"] == "origin=none"
    assert (found["poll.interval.ms"], found["max.batch.size"], found["max.queue.size"]) == ("20", "8192", "32768")


def test_the_address_is_javas_and_the_password_a_reference_where_one_is_given() -> None:
    found = config()
    assert (found["database.hostname"], found["database.port"], found["database.dbname"]) == (
        "db.internal", "5433", "shop",
    )  # fmt: skip
    assert found["database.sslmode"] == "verify-full" and found["database.sslrootcert"] == "/ca.pem"
    assert found["database.password"] == "s3cret"
    through = Through("http://c", "k:1", passwords={FORWARD: "${file:/x:y}"})
    assert config(through=through)["database.password"] == "${file:/x:y}"
    assert "s3cret" not in str(config(through=through)) and "${file" not in repr(through)
    assert "database.password" not in config(dsn="postgresql://shop@db/shop")


@pytest.mark.parametrize("dsn", ["dbname=shop", "host=/var/run/postgresql dbname=shop", "postgresql://a,b/shop"])
def test_an_address_that_java_cannot_use_is_refused(dsn: str) -> None:
    with pytest.raises(FigError) as raised:
        config(dsn=dsn)
    assert raised.value.code == "no_tcp_address"


def test_sources_that_debezium_reads_otherwise_are_refused() -> None:
    debezium.check_source(160004, [])
    with pytest.raises(FigError) as old:
        debezium.check_source(150008, [])
    assert old.value.code == "source_too_old" and "PostgreSQL 15" in str(old.value)
    with pytest.raises(FigError) as foreign:
        debezium.check_source(180000, ["pg_1", "a"])
    assert foreign.value.context["origins"] == ["a", "pg_1"]


def test_every_column_that_cannot_be_delivered_is_named() -> None:
    good = Shape(Column("id", "integer", True), "int4")
    bad = Shape(Column("at", "time with time zone"), "timetz")
    debezium.check_columns([("public.item", good, False)])
    with pytest.raises(FigError) as raised:
        debezium.check_columns([("public.item", good, False), ("public.item", bad, True)])
    assert raised.value.context["columns"] == ["public.item.at (time with time zone)"]


TRACE = """org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.
\tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)
Caused by: io.debezium.DebeziumException: Failed to start
\t... 5 more
Caused by: org.postgresql.util.PSQLException: FATAL: terminating connection due to administrator command
\tat org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2733)
"""


def test_a_trace_is_said_in_words() -> None:
    error = failed("fig_x_forward", Status("RUNNING", ("FAILED",), TRACE))
    assert error.code == "connector_failed" and "\tat" not in error.message and "org.apache" not in error.message
    assert "An exception occurred in the change event producer." in error.message
    assert "terminating connection due to administrator command" in error.message
    assert words(None) == "it does not say why"
    assert words("java.lang.IllegalStateException: x\nCaused by: a.b.C: x") == "x"
    assert words("it broke: here") == "it broke: here"
    assert Status("RUNNING", ("RUNNING",)).failed is False and Status("FAILED", ()).failed is True


def state(**more: Any) -> State:
    return State("s", "1", 1, 2, 1, 1, "none", 10, 20, **more)


def test_a_flow_keeps_its_engine_and_remembers_where_it_reads() -> None:
    found = state(engine="debezium", raw=7)
    assert State.from_dict(found.as_dict()) == found
    older = {name: value for name, value in state().as_dict().items() if name not in ("engine", "raw")}
    assert State.from_dict(older).engine == "native"
    model.check_engine(found, "debezium")
    with pytest.raises(FigError) as raised:
        model.check_engine(found, "native")
    assert raised.value.code == "engine_changed"


def test_only_what_debezium_may_have_acknowledged_may_be_acknowledged() -> None:
    model.check_acknowledged("s", 20, 20)
    with pytest.raises(FigError) as raised:
        model.check_acknowledged("s", 21, 20)
    assert raised.value.code == "changes_skipped"


async def test_without_kafkas_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(FigError) as raised:
        async with RawTopic("t", "127.0.0.1:1", {}):
            pass
    assert raised.value.code == "backend_not_installed" and "stranglerfig[kafka]" in raised.value.remedy

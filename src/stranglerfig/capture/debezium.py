"""Debezium as capture: what its connector for PostgreSQL is told, and what it cannot be asked for. Pure.

The connector streams only: slot, publication and snapshot are made by us, as for native capture. Everything it says
(changes, logical messages, the edges of transactions) goes to one *raw* topic of one partition, whose order is that of
the commits (``docs/decisions/0013-debezium-through-a-raw-topic.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import conninfo

from stranglerfig.capture.texts import PLACEHOLDER, Shape, undeliverable
from stranglerfig.changes.model import TRACE, Direction, names
from stranglerfig.foundation.errors import FigError

CONNECTOR: Final = "io.debezium.connector.postgresql.PostgresConnector"
MOST_RECORD_BYTES: Final = 64 * 1024 * 1024
"""Of a row as the connector writes it: as JSON, old and new."""
_JSON: Final = "org.apache.kafka.connect.json.JsonConverter"


@dataclass(frozen=True, slots=True)
class Through:
    """The Kafka Connect cluster that a flow is captured through.

    Attributes:
        url: of its REST interface.
        servers: Kafka's ``bootstrap.servers``, as our own client reaches them.
        client: further settings of our client, in librdkafka's names (security).
        passwords: what the connector's configuration says in place of a database's password, by direction: a
            reference that a config provider of the workers resolves. Without one it is the password itself, which
            Connect shows to whoever may ask its REST interface.
    """

    url: str
    servers: str
    client: Mapping[str, str] = field(default_factory=dict, repr=False)
    passwords: Mapping[Direction, str] = field(default_factory=dict, repr=False)


def connector_name(context: str, direction: Direction) -> str:
    """What a flow's connector is called: as its slot."""
    return names(context, direction).slot


def raw_prefix(context: str, direction: Direction) -> str:
    """What a flow's raw topics begin with."""
    return f"fig.raw.{context}.{direction}."


def raw_topic(context: str, direction: Direction, generation: int) -> str:
    """The raw topic; a new slot has a new one, so that nothing of the former is taken for its own."""
    return f"{raw_prefix(context, direction)}{generation}"


def configuration(
    context: str, direction: Direction, dsn: str, published: Sequence[str], generation: int, through: Through
) -> dict[str, str]:
    """The connector's configuration.

    Raises:
        FigError: ``no_tcp_address`` when the source's address is not one that Java can connect to.
    """
    own = names(context, direction)
    return {
        **raw_settings(raw_topic(context, direction, generation)),
        "connector.class": CONNECTOR,
        **_address(dsn, through.passwords.get(direction)),
        "plugin.name": "pgoutput",
        "slot.name": own.slot,
        "slot.drop.on.stop": "false",
        # Ours are the only ones it may use: one that it made itself would begin too late.
        "publication.name": own.publication,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        # What sync writes here must not come back. Debezium does not pass a transaction's origin on, so it is the
        # server that leaves out; it cannot be told one name, so every origin is left out (decision 0013).
        "slot.stream.params": "origin=none",
        "slot.max.retries": "3",
        "slot.retry.delay.ms": "1000",
        "table.include.list": ",".join(re.escape(table) for table in published),
        "message.prefix.include.list": rf"fig\..*,{TRACE}",
        # Values whole, with those of raw_settings: what texts.py makes PostgreSQL's text of again.
        "interval.handling.mode": "string",
        "hstore.handling.mode": "json",
        "include.unknown.datatypes": "true",
        "unavailable.value.placeholder": PLACEHOLDER,
    }


def raw_settings(raw: str) -> dict[str, str]:
    """What a connector of any database is told, so that all it says arrives whole and in order in the topic ``raw``."""
    return {
        "tasks.max": "1",
        "topic.prefix": raw,
        # A connection that breaks fails the task: capture begins again where it has all, with whole transactions.
        "errors.max.retries": "0",
        "errors.tolerance": "none",
        "event.converting.failure.handling.mode": "fail",
        "event.processing.failure.handling.mode": "fail",
        "skipped.operations": "none",
        "tombstones.on.delete": "false",
        "provide.transaction.metadata": "true",
        "decimal.handling.mode": "string",
        "time.precision.mode": "adaptive_time_microseconds",
        "binary.handling.mode": "bytes",
        "key.converter": _JSON,
        "key.converter.schemas.enable": "false",
        "value.converter": _JSON,
        "value.converter.schemas.enable": "false",
        # As it comes, whatever the workers have by default: ours and Debezium's headers are read.
        "header.converter": "org.apache.kafka.connect.storage.SimpleHeaderConverter",
        "transforms": "raw",
        "transforms.raw.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.raw.regex": ".*",
        "transforms.raw.replacement": raw,
        # Measured: with the defaults half of all changes are seen 0.3 s after their commit, with these after 17 ms.
        # With polls every 5 ms it is 8 ms, but an idle connector then takes a fifth of a core instead of 7 %.
        "poll.interval.ms": "20",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "producer.override.linger.ms": "5",
        "producer.override.batch.size": str(256 * 1024),
        "producer.override.max.request.size": str(MOST_RECORD_BYTES),
        "producer.override.buffer.memory": str(2 * MOST_RECORD_BYTES),
    }


def _address(dsn: str, reference: str | None) -> dict[str, str]:
    parts = conninfo.conninfo_to_dict(dsn)
    host = str(parts.get("host") or parts.get("hostaddr") or "")
    if not host or host.startswith("/") or "," in host:
        raise FigError(
            "no_tcp_address",
            "the source's address names no single host, and Debezium connects by TCP to one",
            "Write the database's address with its host and port.",
        )
    address = {
        "database.hostname": host,
        "database.port": str(parts.get("port") or 5432),
        "database.user": str(parts.get("user") or ""),
        "database.dbname": str(parts.get("dbname") or parts.get("user") or ""),
    }
    if reference is not None or parts.get("password"):
        address["database.password"] = reference if reference is not None else str(parts["password"])
    for ours, theirs in (("sslmode", "sslmode"), ("sslrootcert", "sslrootcert"), ("sslcert", "sslcert")):
        if parts.get(ours):
            address[f"database.{theirs}"] = str(parts[ours])
    return address


def check_source(version: int, origins: Iterable[str]) -> None:
    """Whether the source can be read by Debezium in native capture's meaning.

    Raises:
        FigError: ``source_too_old``, ``foreign_origins``.
    """
    if version < 160000:
        raise FigError(
            "source_too_old",
            f"the source is PostgreSQL {version // 10000}; Debezium needs 16 or later, which can leave out what sync"
            " writes",
            "Use capture: native, or a later PostgreSQL.",
            version=version,
        )
    if found := sorted(origins):
        raise FigError(
            "foreign_origins",
            f"the source receives changes by replication ({', '.join(found)}); Debezium would leave them out with ours",
            "Use capture: native, which tells them apart; or drop the origins if nothing uses them any more.",
            origins=found,
        )


def check_columns(columns: Iterable[tuple[str, Shape, bool]]) -> None:
    """Whether Debezium can deliver every column as it is; ``columns`` are table, shape, REPLICA IDENTITY FULL.

    Raises:
        FigError: ``undeliverable_types`` naming each column and why.
    """
    lost = [
        (f"{table}.{shape.column.name} ({shape.column.type})", why)
        for table, shape, whole in columns
        if (why := undeliverable(shape, whole_rows=whole))
    ]
    if lost:
        raise FigError(
            "undeliverable_types",
            "Debezium cannot deliver " + "; ".join(f"{column}: {why}" for column, why in lost),
            "Use capture: native, or do what is said there.",
            columns=[column for column, _ in lost],
        )

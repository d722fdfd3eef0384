"""The log: append, read, subscribe, positions."""

from __future__ import annotations

from importlib import import_module
from urllib.parse import urlsplit

from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation.errors import FigError

BACKENDS = {
    "postgres": "postgres://role@host:5432/database",
    "postgresql": "postgresql://role@host:5432/database",
    "kafka": "kafka://host:9092,host:9092",
    "rabbitmq": "rabbitmq://user:password@host:5552/vhost",
    "kinesis": "kinesis://region",
    "pubsub": "pubsub://project",
    "memory": "memory://",
}
"""How each backend is addressed, by its scheme."""

_EXTRAS = {
    "kafka": ("stranglerfig.eventlog.kafka", "KafkaLog"),
    "rabbitmq": ("stranglerfig.eventlog.rabbitmq", "RabbitLog"),
    "kinesis": ("stranglerfig.eventlog.kinesis", "KinesisLog"),
    "pubsub": ("stranglerfig.eventlog.pubsub", "PubSubLog"),
}


def scheme_of(url: str) -> str:
    """Which backend ``url`` names.

    Raises:
        FigError: ``unknown_log_backend``.
    """
    scheme = url.partition(":")[0]
    if scheme not in BACKENDS:
        raise FigError(
            "unknown_log_backend",
            f"there is no log backend named '{scheme}'",
            "Use one of: " + ", ".join(example for name, example in BACKENDS.items() if name != "postgresql") + ".",
            backend=scheme,
            known=sorted(BACKENDS),
        )
    return scheme


def describe(url: str) -> str:
    """Where a log is, for people: without user, password and settings."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_log(url: str, *, state: str | None = None) -> EventLog:
    """The log at ``url``, whose scheme is one of :data:`BACKENDS`; its ``migrate()`` makes what it keeps in a database.

    Args:
        state: a PostgreSQL database for the consumer groups of logs whose server keeps none.

    Raises:
        FigError: ``unknown_log_backend``, ``backend_not_installed``, ``state_missing``.
    """
    scheme = scheme_of(url)
    if scheme in ("postgres", "postgresql"):
        from stranglerfig.eventlog.postgres import PostgresLog

        return PostgresLog(url)
    if scheme == "memory":
        from stranglerfig.eventlog.memory import MemoryLog

        return MemoryLog()
    module, name = _EXTRAS[scheme]
    try:
        backend = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise FigError(
            "backend_not_installed",
            f"the log backend '{scheme}' needs the package {error.name}, which is not installed",
            f"Install it: pip install 'stranglerfig[{scheme}]'.",
            backend=scheme,
            package=error.name,
        ) from error
    if scheme == "kafka":
        opened: EventLog = backend(url)
        return opened
    if state is None:
        raise FigError(
            "state_missing",
            f"the log backend '{scheme}' keeps its consumer groups in a PostgreSQL database, and none is named",
            "Name one (the control database, or the consumer's own).",
            backend=scheme,
        )
    leased: EventLog = backend(url, state)
    return leased

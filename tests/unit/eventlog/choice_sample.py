"""Three candidates as ``fig events choose`` may find them, made up: one quick, one that lags, one that is away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from stranglerfig.eventlog.choosing import model
from stranglerfig.eventlog.choosing.model import Ask, Footprint, Latency, Measured, Outcome, Result, Throughput, Trial
from stranglerfig.eventlog.choosing.operation import operation_of

ASK = Ask(500, 5000, 20)
HELD = Trial(Outcome.HELD, "all there")


def measured(p99: float, single: float, batched: float, **latency: Any) -> Measured:
    waits: dict[str, Any] = {
        "p50": p99 / 4, "p90": p99 / 2, "p99": p99, "max": p99 * 2, "asked": 50_000, "sent": 50_000, "unseen": 0,
        "rate": 5000.0,
    }  # fmt: skip
    return Measured(
        (Throughput(1, 16, 1000, 1.0, single), Throughput(1000, 4, 1000, 1.0, batched)),
        Latency(**(waits | latency)),
        ordering=HELD,
        replay_position=HELD,
        replay_time=model.not_tested("not declared"),
        largest=Trial(Outcome.BROKEN, "16,777,216 bytes were declared, and did not go through"),
        capabilities=("ordered per key", "retention"),
        max_event_bytes=16_777_216,
    )


POSTGRES = Result(
    "PostgreSQL, embedded", "postgres", "embedded", 0, operation_of("postgres"),
    Trial(Outcome.HELD, "3 times kill -9 during appends: all 2,580 acknowledged events there"),
    measured(40.0, 3800.0, 92_000.0), Footprint(14, 155_000_000), "fsync on, synchronous_commit on",
)  # fmt: skip
KAFKA = Result(
    "Kafka, kafka://127.0.0.1:9092", "kafka", "found", 3, operation_of("kafka"), model.not_tested("not ours to kill"),
    measured(12.0, 6100.0, 210_000.0), Footprint(1, 890_000_000),
)  # fmt: skip
SLOW = replace(
    KAFKA, name="RabbitMQ <streams>", scheme="rabbitmq", operation=operation_of("rabbitmq"), footprint=None,
    measured=measured(9.0, 700.0, 20_000.0, sent=20_000, rate=2000.0),
)  # fmt: skip
AWAY = replace(KAFKA, name="Kafka, kafka://away:9092", measured=None, footprint=None, problem="it does not answer")


def choice(*results: Result) -> dict[str, Any]:
    looked = [model.Looked("PostgreSQL", "postgresql://127.0.0.1:5432/postgres", False, "nothing listens")]
    return model.document(datetime(2026, 3, 4, 9, 0, tzinfo=UTC), "2 cores, x86_64, Linux", ASK, looked, results)

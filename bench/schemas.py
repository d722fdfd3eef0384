"""What knowing an event's schema costs, and what comparing two large schemas costs."""

from __future__ import annotations

import asyncio
import json
import time
import timeit
from collections.abc import Callable

from bench.context import Context
from bench.result import Result
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock
from stranglerfig.schemas import formats, payloads
from stranglerfig.schemas.checked import EventCheck
from stranglerfig.schemas.formats import Format, Level, Text
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Given

SUBJECT, TOPIC = "bench.Counted", "events.bench"
FIELDS = 200


def governed(context: Context) -> list[Result]:
    """``schema_lookup`` and ``schema_check``."""
    with context.servers("control") as (control,):
        plain, framed = asyncio.run(_lookups(control.create_database("fig")))
    slowest = {kind.value: _comparison(kind) for kind in Format}
    return [
        Result(
            "schema_lookup",
            max(plain, framed) * 1e6,
            "µs",
            target=1.0,
            note=f"of a known version: by type {plain * 1e6:.2f}, by the five-byte header {framed * 1e6:.2f}",
        ),
        Result(
            "schema_check",
            max(slowest.values()) * 1e3,
            "ms",
            target=5.0,
            note=f"{FIELDS} fields, one added, both directions: "
            + ", ".join(f"{kind} {seconds * 1e3:.2f}" for kind, seconds in slowest.items()),
        ),
    ]


async def _lookups(dsn: str) -> tuple[float, float]:
    store = SchemaStore(dsn)
    try:
        await store.prepare()
        registered = await store.register(SUBJECT, Given(Format.JSON, '{"type": "object"}'), by="bench")
        check = EventCheck(store)
        plain = Event("1", "/bench", SUBJECT, clock.now(), b"{}")
        framed = Event("1", "/bench", SUBJECT, clock.now(), payloads.framed(registered.id, b"{}"))
        await check.events([plain, framed], topic=TOPIC)
        return _best(lambda: check.find(plain, TOPIC), 100_000), _best(lambda: check.find(framed, TOPIC), 100_000)
    finally:
        await store.close()


def _comparison(kind: Format) -> float:
    old, new = _record(kind, FIELDS), _record(kind, FIELDS + 1)
    counter = iter(range(10**9))
    # A schema that was never seen: what is cached by text is none of the cost.
    return _best(lambda: formats.problems(_marked(new, next(counter)), [_marked(old, next(counter))], Level.FULL), 5)


def _record(kind: Format, count: int) -> Text:
    names = [f"field_{number}" for number in range(count)]
    match kind:
        case Format.JSON:
            properties = {name: {"type": "string"} for name in names}
            return Text(kind, json.dumps({"type": "object", "properties": properties, "additionalProperties": False}))
        case Format.AVRO:
            fields = [{"name": name, "type": "string", "default": ""} for name in names]
            return Text(kind, json.dumps({"type": "record", "name": "Wide", "fields": fields}))
        case Format.PROTOBUF:
            lines = "".join(f"  string {name} = {number};\n" for number, name in enumerate(names, start=1))
            return Text(kind, f'syntax = "proto3";\nmessage Wide {{\n{lines}}}\n')


def _marked(schema: Text, number: int) -> Text:
    return Text(schema.format, schema.text + " " * number)


def _best(work: Callable[[], object], times: int) -> float:
    # Processor time: what it costs, whoever else wants the processor meanwhile.
    return min(timeit.repeat(work, number=times, repeat=7, timer=time.process_time)) / times

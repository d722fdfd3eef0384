"""``python -m bench.courier URL INTO OUT-OF RATE SECONDS``: sends commands into one queue, takes them out of another,
and prints what it saw as JSON: ``p50`` and ``p99`` (ms, publish to arrival), ``rate`` a second, lost, overtaken."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time

import uvloop
from pamqp import commands, header

from stranglerfig.facade import amqp
from stranglerfig.facade.amqp import Content

ITEMS = 10_000
WARM = 0.2
"""Share of the arrivals that is not looked at."""


async def courier(url: str, into: str, out_of: str, rate: float, seconds: float) -> dict[str, float]:
    """One run of ``rate`` commands a second."""
    conn = await amqp.connect(url)
    out, back = await conn.channel(), await conn.channel()
    took: list[float] = []
    last: dict[int, int] = {}
    overtaken = 0

    def delivered(content: Content) -> None:
        nonlocal overtaken
        number, sent_at = struct.unpack(">qd", content.body[:16])
        took.append(time.perf_counter() - sent_at)
        overtaken += number <= last.get(number % ITEMS, -1)
        last[number % ITEMS] = number
        conn.ack(back, content.tag, multiple=False)

    back.delivered = delivered
    await conn.call(back, commands.Basic.Qos(prefetch_count=200))
    await conn.call(back, commands.Basic.Consume(queue=out_of))
    sent = 0
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < seconds:
        while sent < now * rate:
            said = commands.Basic.Properties(
                message_type="AdjustStock",
                message_id=f"m{sent}",
                headers={"item_id": sent % ITEMS},
                delivery_mode=2,
                reply_to="answers",
                correlation_id=str(sent),
            )
            properties = header.ContentHeader(0, 0, said).marshal()[12:]
            conn.publish(out, "", into, properties, struct.pack(">qd", sent, time.perf_counter()) + b"x" * 90)
            sent += 1
        conn.flush()
        await asyncio.sleep(0.001)
    deadline = time.perf_counter() + 15
    while len(took) < sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    spent = time.perf_counter() - begun
    await conn.close()
    seen = sorted(took[int(len(took) * WARM) :])
    return {
        "rate": len(took) / spent,
        "p50": seen[len(seen) // 2] * 1000,
        "p99": seen[int(len(seen) * 0.99)] * 1000,
        "lost": sent - len(took),
        "overtaken": overtaken,
    }


if __name__ == "__main__":
    url, into, out_of, rate, seconds = sys.argv[1:]
    json.dump(uvloop.run(courier(url, into, out_of, float(rate), float(seconds))), sys.stdout)

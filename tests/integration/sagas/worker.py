"""``python -m tests.integration.sagas.worker ROLE DSN LOG``: one process of a service, for faults.

A line ``POINT VISIT PID SIGNAL`` on its standard input has it send a signal to a process, itself or the server, at its
VISIT-th visit to POINT from then on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading

from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.kit import Service
from tests import saga_random, saga_shop

LEASE = 1.0


class Doom:
    """Where a process dies."""

    def __init__(self) -> None:
        self._at = ("", 0)
        self._victim = 0
        self._sign = signal.SIGKILL

    def listen(self) -> None:
        """Until nobody speaks any more."""
        for line in sys.stdin:
            point, visit, victim, sign = line.split()
            self._victim, self._sign = int(victim), signal.Signals(int(sign))
            self._at = (point, int(visit))

    def reached(self, name: str) -> None:
        """The service comes to a point."""
        point, left = self._at
        if name == point:
            self._at = (point, left - 1) if left > 1 else ("", 0)
            if left <= 1:
                os.kill(self._victim, self._sign)


async def main(role: str, dsn: str, log: str) -> None:
    """Run until killed."""
    doom = Doom()
    threading.Thread(target=doom.listen, daemon=True).start()
    chance = saga_random.Chance(int(os.environ.get("SAGA_RANDOM_SEED", "0")))
    is_random = role in ("sales", "depot")
    service = Service(
        role,
        database=dsn,
        log=saga_random.Unreliable(log, chance) if is_random else PostgresLog(log),
        lease=LEASE,
        linger=0.03 if is_random else 0.0,
        kill_point=doom.reached,
    )
    match role:
        case "orders":
            saga_shop.orders(service)
        case "stock":
            saga_shop.stock(service)
        case "sales":
            saga_random.sales(service, chance, saga_random.Outside(chance, os.environ["SAGA_RANDOM_OUTSIDE"]))
        case "depot":
            saga_random.depot(service, chance)
    await service.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

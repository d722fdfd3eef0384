"""``python -m tests.integration.sagas.worker ROLE DSN LOG [POINT VISIT]``: one process of a service, for faults.

It kills itself when it comes to POINT for the VISIT-th time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter

from stranglerfig.eventlog.postgres import PostgresLog
from stranglerfig.kit import Service
from tests.saga_shop import orders, stock

LEASE = 1.0


async def main(role: str, dsn: str, log: str, point: str = "", visit: str = "0") -> None:
    """Run until killed."""
    seen: Counter[str] = Counter()

    def reached(name: str) -> None:
        seen[name] += 1
        if name == point and seen[name] == int(visit):
            os.kill(os.getpid(), signal.SIGKILL)

    service = Service(role, database=dsn, log=PostgresLog(log), lease=LEASE, kill_point=reached)
    {"orders": orders, "stock": stock}[role](service)
    await service.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""``workflows.py DSN COUNT threads|coroutines``: an order's two steps as a workflow of DBOS Transact.

As its documentation has it: a decorated workflow of two steps, begun one by one, each step recorded once it was done.
Here a step's own change and its record are two transactions, so that a step is done at least once; ours are one.
Prints JSON: workflows a second, and the configuration.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from importlib.metadata import version

import psycopg
from dbos import DBOS, DBOSConfig
from psycopg_pool import AsyncConnectionPool

DSN, COUNT, STYLE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
CONFIG: DBOSConfig = {
    "name": "bench",
    "system_database_url": DSN.replace("postgresql://", "postgresql+psycopg://"),
    "log_level": "ERROR",
}
ITEMS = 1000
AT_ONCE = 100
RESERVE = "UPDATE stock SET on_hand = on_hand - 1 WHERE item_id = %s"
CHARGE = "INSERT INTO payment VALUES (%s) ON CONFLICT DO NOTHING"
DBOS(config=CONFIG)
local = threading.local()
pool = AsyncConnectionPool(DSN, min_size=10, max_size=10, open=False, kwargs={"autocommit": True})


def session() -> psycopg.Connection:
    """One for each thread."""
    if not hasattr(local, "session"):
        local.session = psycopg.connect(DSN, autocommit=True)
    found: psycopg.Connection = local.session
    return found


@DBOS.step()
def reserve(item: int) -> int:
    session().execute(RESERVE, (item,))
    return item


@DBOS.step()
def charge(order: int) -> int:
    session().execute(CHARGE, (order,))
    return order


@DBOS.workflow()
def checkout(order: int) -> int:
    reserve(order * 7919 % ITEMS)
    return charge(order)


@DBOS.step()
async def reserve_async(item: int) -> int:
    async with pool.connection() as conn:
        await conn.execute(RESERVE, (item,))
    return item


@DBOS.step()
async def charge_async(order: int) -> int:
    async with pool.connection() as conn:
        await conn.execute(CHARGE, (order,))
    return order


@DBOS.workflow()
async def checkout_async(order: int) -> int:
    await reserve_async(order * 7919 % ITEMS)
    return await charge_async(order)


def in_threads() -> None:
    """Begun one after the other, done by the library's threads."""
    for handle in [DBOS.start_workflow(checkout, order) for order in range(COUNT)]:
        handle.get_result()


async def in_coroutines() -> None:
    """A hundred at once."""
    await pool.open()
    waiting = iter(range(COUNT))

    async def one_after_the_other() -> None:
        for order in waiting:
            await (await DBOS.start_workflow_async(checkout_async, order)).get_result()

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))
    await pool.close()


DBOS.launch()
begun = time.perf_counter()
if STYLE == "threads":
    in_threads()
else:
    asyncio.run(in_coroutines())
seconds = time.perf_counter() - begun
DBOS.destroy()
shown = {name: value for name, value in CONFIG.items() if name != "system_database_url"}
print(json.dumps({"rate": COUNT / seconds, "configuration": f"dbos {version('dbos')}, {STYLE}, {shown}"}))

"""The load: customers and stock clerks of the shop, arriving at a rate of their own, who remember every write.

``python -m examples.shop.load --url http://127.0.0.1:8080 --rate 300 --ledger run/ledger.jsonl``

Open loop: arrivals do not wait for answers, so that a stall is felt by everyone who arrives during it. Each write
carries a unique ``Idempotency-Key``; the ledger (JSON Lines) gets one line per write when it is answered, or given up
as unanswered. Nothing is ever retried. Beside the ledger: ``<ledger>.series.jsonl``, a line per second and kind with
latencies as the client saw them, and ``<ledger>.status.json``, totals, rewritten every half second. With ``--amqp``
half of the adjustments and reservations are commands by queue, numbered in the order in which they were published.

``--control FILE`` is read again every 200 ms: ``{"rate": 300, "mix": {"reads": 10, "writes": 85, "orders": 5},
"stop": false}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import orjson
import uvloop

from examples.shop.client import Answer, Client, Unanswered
from examples.shop.requester import Requester
from stranglerfig.foundation.tasks import spawn

SUCCESS = (200, 201, 202, 204)
REFUSED = (404, 409, 422)
KINDS = ("reads", "writes", "orders", "checkouts", "prices")
REACTED = 0.1
"""Share of the checkouts that nobody conducts."""
COMMANDS = {"adjust": "AdjustStock", "reserve": "ReserveItem"}
"""What can also be asked by queue, and the message's type."""
BY_QUEUE = 0.5


def percentile(ordered: list[float], share: float) -> float:
    """The value below which ``share`` of an ordered list lies; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def parse_mix(text: str) -> dict[str, float]:
    """``reads=70,writes=25,orders=5``."""
    return {kind: float(share) for kind, _, share in (part.partition("=") for part in text.split(","))}


class Ledger:
    """Lines appended to a file, written in the background, on disk at the end."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=1 << 20)

    def line(self, content: dict[str, Any]) -> None:
        """Remember one line."""
        self._file.write(orjson.dumps(content) + b"\n")

    def flush(self) -> None:
        """Hand the lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """On disk, then closed."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class Load:
    """The clients, their ledger and their figures."""

    def __init__(
        self,
        url: str,
        *,
        items: int,
        seed: int,
        ledger: Path,
        rate: float,
        mix: dict[str, float],
        amqp: str | None = None,
        checkouts: str | None = None,
    ) -> None:
        self.client = Client(url)
        self.checkouts = Client(checkouts or url)
        self.items = items
        self.random = random.Random(seed)
        self.run = f"{seed}-{int(time.time() * 1000):x}"
        self.ledger = Ledger(ledger)
        self.series = Ledger(ledger.with_name(ledger.name + ".series.jsonl"))
        self.status_file = ledger.with_name(ledger.name + ".status.json")
        self.rate, self.mix = rate, mix
        self.stopping = asyncio.Event()
        self.number = 0
        self.in_flight = 0
        self.totals: Counter[str] = Counter()
        self.second: dict[str, list[float]] = {}
        self.second_errors: Counter[str] = Counter()
        self.recent: deque[float] = deque(maxlen=2000)
        self.reservations: deque[tuple[int, int, int]] = deque(maxlen=5000)
        self.sessions: list[dict[str, Any]] = [{"cookie": "", "until": 0.0, "written": None} for _ in range(2000)]
        self.customers = max(50, items // 20)
        self.requester: Requester | None = Requester(amqp, self.run, self.repeated) if amqp else None
        self.commands = 0

    # ---- what a client does

    def item(self) -> int:
        """A popular item more often than others, the popular ones spread over the table."""
        rank = int(self.items * self.random.random() ** 3)
        return 1 + (rank * 7919 + 13) % self.items

    def trace(self) -> str:
        """A new ``traceparent``."""
        return f"00-{self.random.getrandbits(128):032x}-{self.random.getrandbits(64):016x}-01"

    async def ask(self, kind: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer | str:
        """One request with its figures; the answer, or why there is none."""
        return await self.counted(kind, path, self.client.request(method, path, body, headers))

    async def counted(self, kind: str, path: str, work: Awaitable[Answer]) -> Answer | str:
        """The figures of one request or command; its answer, or why there is none."""
        begun = time.perf_counter()
        answer: Answer | str
        try:
            answer = await work
            outcome = "succeeded" if answer.status in SUCCESS else "refused" if answer.status in REFUSED else "failed"
        except Unanswered as error:
            answer, outcome = str(error), "failed"
        took = (time.perf_counter() - begun) * 1000
        self.totals["requests"] += 1
        self.totals[outcome] += 1
        self.totals[f"{kind}_{outcome}"] += 1
        self.second.setdefault(kind, []).append(took)
        self.recent.append(took)
        if outcome == "failed":
            self.second_errors[kind] += 1
            detail = (
                answer if isinstance(answer, str) else f"{answer.status} {answer.body[:200].decode(errors='replace')}"
            )
            self.ledger.line(
                {"failed": kind, "path": path, "detail": detail, "at": time.time(), "took_ms": round(took, 1)}
            )
        return answer

    async def read(self) -> None:
        """A customer looks at an item; some of them have just changed it and expect to see that."""
        chance = self.random.random()
        headers = {"traceparent": self.trace()}
        if chance < 0.06:
            await self.ask("reads", "GET", f"/api/products/{self.item()}", b"", headers)
            return
        session = self.random.choice(self.sessions)
        item = self.item()
        written = session["written"] if chance > 0.8 else None
        if written:
            item = written[0]
            session["written"] = None
        if session["until"] > time.monotonic():
            headers["cookie"] = session["cookie"]
        answer = await self.ask("reads", "GET", f"/api/inventory/{item}", b"", headers)
        if written and isinstance(answer, Answer) and answer.status == 200:
            self.totals["own_writes_read"] += 1
            if orjson.loads(answer.body)["updated_at"] < written[1]:
                self.totals["stale_reads"] += 1
                self.ledger.line(
                    {"stale": item, "written": written[1], "read": answer.body.decode(), "at": time.time()}
                )

    async def write(self) -> None:
        """A clerk adjusts, reserves or releases stock."""
        chance = self.random.random()
        if chance < 0.15 and self.reservations:
            reservation_id, item, qty = self.reservations.popleft()
            await self.remembered("release", item, -qty, "/api/inventory/release", {"reservation_id": reservation_id})
        elif chance < 0.35:
            item, qty = self.item(), self.random.choice((1, 1, 1, 2, 3))
            await self.remembered("reserve", item, qty, "/api/inventory/reserve", {"item_id": item, "qty": qty})
        else:
            item, delta = self.item(), self.random.choice((-3, -2, -1, 1, 2, 4))
            if chance > 0.99:
                delta = -1_000_000  # more than there is: refused
            elif chance > 0.985:
                item = self.items + self.random.randint(1, 1000)  # unknown: refused
            content = {"item_id": item, "delta": delta, "reason": "count"}
            await self.remembered("adjust", item, delta, "/api/inventory/adjust", content)

    async def order(self) -> None:
        """A customer orders."""
        item, qty = self.item(), self.random.choice((1, 1, 2))
        content = {"customer_id": self.random.randint(1, self.customers), "lines": [{"item_id": item, "qty": qty}]}
        await self.remembered("order", item, qty, "/api/orders", content)

    async def checkout(self) -> None:
        """A customer buys, and is told later what came of it."""
        item, qty = self.item(), self.random.choice((1, 1, 2))
        if self.random.random() > 0.98:
            qty = 100_000  # more than there is: sold out
        content = {"customer_id": self.random.randint(1, self.customers), "item_id": item, "qty": qty}
        content["conducted"] = self.random.random() >= REACTED
        await self.remembered("checkout", item, qty, "/api/checkouts", content)

    async def price(self) -> None:
        """A buyer sets what a product costs."""
        product, cents = self.item(), self.random.randint(1, 10_000)
        await self.remembered("price", product, cents, f"/api/products/{product}/price", {"price_cents": cents})

    async def remembered(self, kind: str, item: int, delta: int, path: str, content: dict[str, Any]) -> None:
        """Send one write and remember it with its answer."""
        self.number += 1
        entry: dict[str, Any] = {"key": f"{self.run}:{self.number}", "kind": kind, "item_id": item, "delta": delta}
        entry["sent_at"] = time.time()
        if "reservation_id" in content:
            entry["reservation_id"] = content["reservation_id"]
        headers = {"idempotency-key": entry["key"], "traceparent": self.trace()}
        session = self.random.choice(self.sessions) if kind == "adjust" else None
        if session and session["until"] > time.monotonic():
            headers["cookie"] = session["cookie"]
        figure = {"order": "orders", "checkout": "checkouts", "price": "prices"}.get(kind, "writes")
        if self.requester is not None and kind in COMMANDS and self.random.random() < BY_QUEUE:
            # Numbered where it is published: the order that must be kept is the one on the wire.
            self.commands += 1
            entry["command"] = self.commands
            work = self.requester.request(
                COMMANDS[kind], entry["key"], item, orjson.dumps(content), headers["traceparent"]
            )
            answer = await self.counted("commands", COMMANDS[kind], work)
        else:
            client = self.checkouts if kind == "checkout" else self.client
            request = client.request("POST", path, orjson.dumps(content), headers)
            answer = await self.counted(figure, path, request)
        entry["answered_at"] = time.time()
        if isinstance(answer, str):
            entry |= {"status": None, "answer": answer}
        else:
            entry["status"] = answer.status
            if answer.status in SUCCESS:
                self.acknowledged(entry, orjson.loads(answer.body), session, answer.cookies)
            elif answer.status not in REFUSED:
                entry["answer"] = answer.body[:200].decode(errors="replace")
        self.ledger.line(entry)

    def acknowledged(
        self, entry: dict[str, Any], content: dict[str, Any], session: dict[str, Any] | None, cookies: list[str]
    ) -> None:
        """Keep what of an answer matters later."""
        if entry["kind"] == "order":
            entry["order_id"] = content["id"]
        if entry["kind"] == "price":
            entry["revision"] = content["revision"]
        if entry["kind"] in ("order", "checkout", "price"):
            return
        entry["on_hand"], entry["reserved"] = content["on_hand"], content["reserved"]
        if "command" in entry:
            entry["done_at"] = content["updated_at"]
        if entry["kind"] == "reserve":
            entry["reservation_id"] = content["reservation_id"]
            self.reservations.append((content["reservation_id"], entry["item_id"], entry["delta"]))
        if session is not None:
            session["written"] = (entry["item_id"], content["updated_at"])
            for cookie in cookies:
                session["cookie"], _, attributes = cookie.partition(";")
                age = re.search(r"(?i)max-age=(\d+)", attributes)
                session["until"] = time.monotonic() + (int(age[1]) if age else 86_400)

    def repeated(self, key: str, same: bool) -> None:
        """A command was answered again."""
        self.totals["repeated_answers"] += 1
        self.ledger.line({"repeated": key, "same": same, "at": time.time()})

    # ---- arrivals, control, figures

    async def arrivals(self) -> None:
        """Poisson arrivals at the present rate; a process that fell behind catches up, as the customers would have."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        actions = {
            "reads": self.read, "writes": self.write, "orders": self.order, "checkouts": self.checkout,
            "prices": self.price,
        }  # fmt: skip
        while not self.stopping.is_set():
            if self.rate <= 0:
                await asyncio.sleep(0.05)
                due = loop.time()
                continue
            due += self.random.expovariate(self.rate)
            if (pause := due - loop.time()) > 0.001:
                await asyncio.sleep(pause)
            kinds = list(self.mix)
            kind = self.random.choices(kinds, [self.mix[k] for k in kinds])[0]
            if self.in_flight >= 5000:
                self.totals["not_sent"] += 1
                continue
            self.in_flight += 1
            spawn(self.arrival(actions[kind]), name="client")

    async def arrival(self, action: Any) -> None:
        """One client's visit."""
        try:
            await action()
        finally:
            self.in_flight -= 1

    async def control(self, path: Path | None) -> None:
        """Take rate, mix and stop from a file, whenever it changes."""
        seen = 0
        while not self.stopping.is_set():
            await asyncio.sleep(0.2)
            if path is None or not path.exists():
                continue
            stat = path.stat()
            if stat.st_mtime_ns == seen:
                continue
            try:
                wanted = json.loads(path.read_text())
            except ValueError:
                continue  # caught in the middle of being written
            seen = stat.st_mtime_ns
            self.rate = float(wanted.get("rate", self.rate))
            if wanted.get("mix"):
                self.mix = {kind: float(share) for kind, share in wanted["mix"].items()}
            if wanted.get("stop"):
                self.stopping.set()

    async def figures(self) -> None:
        """A line per second and kind, totals every half second."""
        tick = 0
        while not self.stopping.is_set():
            await asyncio.sleep(0.5)
            tick += 1
            if tick % 2 == 0:
                self.close_second()
            self.ledger.flush()  # first: whoever reads that nothing is in flight finds each of them in the ledger
            self.status("running")

    def close_second(self) -> None:
        """Write the second's latencies (ms) to the series."""
        second, self.second = self.second, {}
        errors, self.second_errors = self.second_errors, Counter()
        for kind, values in second.items():
            values.sort()
            self.series.line(
                {
                    "at": round(time.time(), 2),
                    "kind": kind,
                    "count": len(values),
                    "errors": errors[kind],
                    "p50_ms": round(percentile(values, 0.5), 2),
                    "p99_ms": round(percentile(values, 0.99), 2),
                    "max_ms": round(values[-1], 2),
                }
            )
        self.series.flush()

    def status(self, state: str) -> None:
        """Rewrite the totals."""
        recent = sorted(self.recent)
        content = dict(self.totals) | {
            "state": state,
            "at": time.time(),
            "rate": self.rate,
            "mix": self.mix,
            "in_flight": self.in_flight,
            "failed": self.totals["failed"],
            "requests": self.totals["requests"],
            "stale_reads": self.totals["stale_reads"],
            "p50_ms": round(percentile(recent, 0.5), 2),
            "p99_ms": round(percentile(recent, 0.99), 2),
            "cpu_seconds": round(time.process_time(), 2),
        }
        temporary = self.status_file.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps(content))
        temporary.replace(self.status_file)

    async def go(self, control: Path | None, duration: float | None) -> None:
        """Until stopped by signal, control file or duration; then wait for the answers that are still due."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        if duration:
            loop.call_later(duration, self.stopping.set)
        if self.requester is not None:
            await self.requester.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.arrivals())
            group.create_task(self.control(control))
            group.create_task(self.figures())
        deadline = loop.time() + 20
        while self.in_flight and loop.time() < deadline:
            await asyncio.sleep(0.02)
        if self.requester is not None:
            await self.requester.stop()
        self.close_second()
        self.ledger.line({"summary": dict(self.totals), "in_flight": self.in_flight, "at": time.time()})
        self.ledger.close()
        self.series.close()
        self.status("stopped")
        self.client.close()
        self.checkouts.close()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="examples.shop.load", description=__doc__.split("\n\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument(
        "--amqp", help="broker of the shop's commands; half of the adjustments and reservations go by it"
    )
    parser.add_argument("--checkouts", metavar="URL", help="where checkouts are asked for")
    parser.add_argument("--rate", type=float, default=300, help="arrivals per second")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--mix", type=parse_mix, default="reads=70,writes=25,orders=5")
    parser.add_argument("--control", type=Path)
    parser.add_argument("--duration", type=float, help="seconds; without it, until stopped")
    args = parser.parse_args()
    if unknown := set(args.mix) - set(KINDS):
        parser.error(f"unknown kinds in the mix: {', '.join(sorted(unknown))}")

    async def run() -> None:
        load = Load(
            args.url,
            items=args.items,
            seed=args.seed,
            ledger=args.ledger,
            rate=args.rate,
            mix=args.mix,
            amqp=args.amqp,
            checkouts=args.checkouts,
        )
        await load.go(args.control, args.duration)

    uvloop.run(run())


if __name__ == "__main__":
    main()

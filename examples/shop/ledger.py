"""The ledger held against the databases: is every acknowledged write there once, every refused one nowhere?

Checked are keys *and* effects. A key is looked for in the owner's idempotency table; the effects are the sums: what
is on hand must be what the seed gave plus the acknowledged adjustments, what is reserved must be the reservations
that are held, each of which must have somebody who asked for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import psycopg

from examples.shop.database import initial_quantity

Owner = Literal["monolith", "service"]
REFUSED = (404, 409, 422)

KEY = "key, kind, item_id, delta, (response->>'reservation_id')::bigint"
REQUESTS = {
    "monolith": f"SELECT {KEY} FROM {{schema}}.inventory_requests",
    "service": f"SELECT {KEY} FROM {{schema}}.processed_request",
}
LEVELS = {
    "monolith": "SELECT item_id, quantity, reserved FROM {schema}.inventory",
    "service": "SELECT item_id, on_hand, reserved FROM {schema}.stock_level",
}
RESERVATIONS = {
    "monolith": "SELECT id, item_id, order_id, qty, released FROM {schema}.reservations",
    "service": "SELECT reservation_id, item_id, order_ref, quantity, state = 'released' FROM {schema}.reservation",
}
ORDERS = """
SELECT o.request_key, o.id, o.status, coalesce(sum(l.qty), 0),
    (SELECT count(*) FROM payments AS p WHERE p.order_id = o.id AND p.state = 'authorised')
FROM orders AS o LEFT JOIN order_lines AS l ON l.order_id = o.id GROUP BY o.id
"""


@dataclass
class Side:
    """One database's inventory, read in one snapshot."""

    requests: dict[str, tuple[str, int, int, int | None]]
    levels: dict[int, tuple[int, int]]
    reservations: dict[int, tuple[int, int | None, int, bool]]


@dataclass
class Lines:
    """The ledger file."""

    writes: list[dict[str, Any]] = field(default_factory=list)
    prices: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    repeated: list[dict[str, Any]] = field(default_factory=list)
    stale: int = 0
    requests: int = 0
    failed: int = 0


def read(ledger: Path) -> Lines:
    """The ledger file; its figures are summed over the loads that wrote it."""
    found = Lines()
    with ledger.open("rb") as file:
        for text in file:
            if not text.endswith(b"\n"):
                break  # a load is at work, and at this line
            line = orjson.loads(text)
            if "key" in line:
                (found.prices if line["kind"] == "price" else found.writes).append(line)
            elif "failed" in line:
                found.failures.append(line)
            elif "repeated" in line:
                found.repeated.append(line)
            elif "stale" in line:
                found.stale += 1
            elif "summary" in line:
                found.requests += line["summary"].get("requests", 0)
                found.failed += line["summary"].get("failed", 0) + line.get("in_flight", 0)
    return found


def side(dsn: str, which: Owner, schema: str = "public") -> Side:
    """Read one side's inventory."""
    if dsn.startswith("mysql://"):
        return _mariadb_side(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

        def rows(statement: str) -> list[Any]:
            return conn.execute(statement.format(schema=schema).encode()).fetchall()

        return Side(
            {key: tuple(rest) for key, *rest in rows(REQUESTS[which])},
            {item: (on_hand, reserved) for item, on_hand, reserved in rows(LEVELS[which])},
            {number: tuple(rest) for number, *rest in rows(RESERVATIONS[which])},
        )


def _mariadb_side(dsn: str) -> Side:
    """The monolith's inventory, where it is on a MariaDB."""
    from examples.shop.on_mariadb.app import connect

    with connect(dsn) as conn, conn.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")

        def rows(statement: str) -> list[Any]:
            cursor.execute(statement)
            return list(cursor.fetchall())

        requests = rows(
            "SELECT `key`, kind, item_id, delta, json_value(response, '$.reservation_id') FROM inventory_requests"
        )
        return Side(
            {key: (kind, item, delta, n if n is None else int(n)) for key, kind, item, delta, n in requests},
            {item: (quantity, reserved) for item, quantity, reserved in rows(LEVELS["monolith"].format(schema="shop"))},
            {
                number: (item, order, qty, bool(released))
                for number, item, order, qty, released in rows(RESERVATIONS["monolith"].format(schema="shop"))
            },
        )


def has_inventory(dsn: str, schema: str = "public") -> bool:
    """Whether the monolith's database still has its inventory tables."""
    if dsn.startswith("mysql://"):
        return True
    with psycopg.connect(dsn) as conn:
        return conn.execute("SELECT to_regclass(%s)", (f"{schema}.inventory_requests",)).fetchone() != (None,)


class Findings:
    """What does not add up, counted and with examples."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, kind: str, text: str) -> None:
        """One finding."""
        self.counts[kind] += 1
        if len(self.examples) < 40:
            self.examples.append(f"{kind}: {text}")


def open_checkouts(ledger: Path, monolith_dsn: str) -> int:
    """How many checkouts were accepted whose order is not confirmed or rejected yet."""
    accepted = {line["key"] for line in read(ledger).writes if line["kind"] == "checkout" and line["status"] == 202}
    with psycopg.connect(monolith_dsn) as conn:
        ended = conn.execute("SELECT request_key FROM orders WHERE status IN ('confirmed', 'rejected')").fetchall()
    return len(accepted - {key for (key,) in ended})


def check(ledger: Path, monolith_dsn: str | None, service_dsn: str, owner: Owner, *, seed: int = 1) -> dict[str, Any]:
    """Hold the ledger against the owner's database, and against the other one's keys where it still has them.

    Args:
        ledger: the file that the load wrote.
        monolith_dsn: its orders are held against the reservations; None leaves orders out.
        service_dsn: the service's database.
        owner: who owns the inventory's data now.
        seed: the estate's, from which the initial quantities follow.

    Returns:
        ``requests``, ``failed_requests``, ``acknowledged_writes``, ``refused_writes``, ``lost_writes``,
        ``duplicated_writes``, ``phantom_writes``, ``unknown_writes`` (unanswered, found at most once),
        ``unknown_applied``, ``stale_reads``, ``unequal_sides``, ``failures`` and ``examples`` (capped); of commands by
        queue ``commands``, ``misordered_commands`` (per item), ``repeated_answers`` and ``contradicted_answers``.
    """
    lines = read(ledger)
    if owner == "monolith":
        assert monolith_dsn is not None, "the monolith owns the data, so its database is needed"
        owned = side(monolith_dsn, "monolith")
    else:
        owned = side(service_dsn, "service")
    orders: dict[str, tuple[int, str, int, int]] = {}
    if monolith_dsn is not None and not monolith_dsn.startswith("mysql://"):  # which takes no orders
        with psycopg.connect(monolith_dsn) as conn:
            orders = {
                key: (number, status, int(qty), int(paid)) for key, number, status, qty, paid in conn.execute(ORDERS)
            }
    findings = Findings()
    judged = _Judgement(lines, owned, orders, findings, monolith_dsn is not None, seed)
    judged.keys()
    judged.phantoms()
    judged.reservations()
    judged.levels()
    judged.commands()
    if owner == "service" and monolith_dsn is not None and has_inventory(monolith_dsn):
        _compare(owned, side(monolith_dsn, "monolith"), findings)
    elif owner == "monolith":
        _compare(owned, side(service_dsn, "service"), findings)
    return {
        "requests": lines.requests,
        "failed_requests": lines.failed,
        "acknowledged_writes": judged.acknowledged,
        "refused_writes": judged.refused,
        "lost_writes": findings.counts["lost"],
        "duplicated_writes": findings.counts["duplicated"],
        "phantom_writes": findings.counts["phantom"],
        "unknown_writes": judged.unknown,
        "unknown_applied": judged.unknown_applied,
        "stale_reads": lines.stale,
        "commands": sum("command" in line for line in lines.writes),
        "misordered_commands": findings.counts["misordered"],
        "repeated_answers": len(lines.repeated),
        "contradicted_answers": findings.counts["contradicted"],
        "unequal_sides": findings.counts["unequal"],
        "failures": lines.failures[:40],
        "examples": findings.examples,
    }


class _Judgement:
    """One check under way."""

    def __init__(
        self,
        lines: Lines,
        owned: Side,
        orders: dict[str, tuple[int, str, int, int]],
        findings: Findings,
        with_orders: bool,
        seed: int,
    ) -> None:
        self._lines, self._owned, self._orders, self._findings = lines, owned, orders, findings
        self._with_orders, self._seed = with_orders, seed
        self.acknowledged = self.refused = self.unknown = self.unknown_applied = 0
        self._sent: set[str] = set()
        self._adjusted: dict[int, int] = defaultdict(int)
        self._reserved: dict[int, tuple[int, int]] = {}
        self._released: set[int] = set()
        self._by_order: dict[int, list[tuple[int, int, bool]]] = defaultdict(list)
        for item, order, qty, released in owned.reservations.values():
            if order is not None:
                self._by_order[order].append((item, qty, released))

    def keys(self) -> None:
        """Each line of the ledger against the owner's keys."""
        for line in self._lines.writes:
            if line["key"] in self._sent:
                self._findings.add("duplicated", f"{line['key']} stands twice in the ledger")
            self._sent.add(line["key"])
            order = line["kind"] in ("order", "checkout")
            if order and not self._with_orders:
                continue
            done = self._ordered(line) if order else self._processed(line)
            if line["status"] == 202:
                self.acknowledged += 1
                if self._orders.get(line["key"], (0, "missing"))[1] not in ("confirmed", "rejected"):
                    self._findings.add("lost", f"checkout {line['key']} was accepted and has not ended")
            elif line["status"] == 200:
                self.acknowledged += 1
                if not done:
                    self._findings.add("lost", f"{line['kind']} {line['key']} was acknowledged and is not there")
            elif line["status"] in REFUSED:
                self.refused += 1
                if done:
                    self._findings.add("phantom", f"{line['kind']} {line['key']} was refused and is there")
            else:
                self.unknown += 1
                self.unknown_applied += done

    def _processed(self, line: dict[str, Any]) -> bool:
        """Whether the write is there; its effect is added up."""
        found = self._owned.requests.get(line["key"])
        if found is None:
            return False
        kind, item, delta, reservation = found
        if (kind, item, delta) != (line["kind"], line["item_id"], line["delta"]):
            self._findings.add("lost", f"{line['key']} asked {line['kind']} {line['item_id']} {line['delta']}: {found}")
        if kind == "adjust":
            self._adjusted[item] += delta
        elif kind == "reserve" and reservation is not None:
            self._reserved[reservation] = (item, delta)
            if line.get("reservation_id", reservation) != reservation:
                self._findings.add("lost", f"{line['key']} was told another reservation than {reservation}")
        elif reservation is not None:
            self._released.add(reservation)
        return True

    def _ordered(self, line: dict[str, Any]) -> bool:
        """Whether the order is there, with its stock reserved and its payment made exactly once."""
        order = self._orders.get(line["key"])
        if order is None:
            return False
        number, status, qty, paid = order
        if paid > 1 or (paid == 1) != (status == "confirmed"):
            kind = "lost" if not paid else "duplicated" if paid > 1 else "phantom"
            self._findings.add(kind, f"order {number} is {status} and has {paid} payments")
        held = [entry for entry in self._by_order[number] if not entry[2]]
        if status == "confirmed":
            total = sum(entry[1] for entry in held)
            if qty != line["delta"]:
                self._findings.add("lost", f"order {number} has {qty} pieces of {line['delta']}")
            if total > qty:
                self._findings.add("duplicated", f"order {number} of {qty} pieces has {total} reserved")
            elif total < qty:
                self._findings.add("lost", f"order {number} of {qty} pieces has {total} reserved")
        elif status == "rejected" and held:
            self._findings.add("phantom", f"order {number} is {status} and has stock reserved")
        return status == "confirmed"

    def phantoms(self) -> None:
        """Keys that nobody sent."""
        numbers = {order[0] for order in self._orders.values()}
        for key in self._owned.requests:
            if key in self._sent or key.startswith(("test:", "fig:")):
                continue
            if key.startswith("order:") and (not self._with_orders or int(key.split(":")[1]) in numbers):
                continue
            self._findings.add("phantom", f"nobody sent {key}")
        for key in self._orders:
            if key not in self._sent and not key.startswith(("seed:", "test:")):
                self._findings.add("phantom", f"nobody sent order {key}")

    def reservations(self) -> None:
        """Each reservation has its request or its order, and is released if and only if that was asked."""
        numbers = {order[0] for order in self._orders.values()}
        for number, (item, order, qty, released) in self._owned.reservations.items():
            if order is not None:
                if self._with_orders and order not in numbers:
                    self._findings.add("phantom", f"reservation {number} is for order {order}, which does not exist")
                continue
            asked = self._reserved.pop(number, None)
            if asked is None:
                self._findings.add("phantom", f"nobody asked for reservation {number}")
            elif asked != (item, qty):
                self._findings.add("lost", f"reservation {number} is {(item, qty)}, asked was {asked}")
            if released != (number in self._released):
                self._findings.add(
                    "phantom" if released else "lost", f"reservation {number}: released is {released}, wrongly"
                )
        for number in self._reserved:
            self._findings.add("lost", f"reservation {number} has its key but no row")

    def levels(self) -> None:
        """The sums: an effect that was lost, or applied twice, shows here even when its key stands once."""
        held: dict[int, int] = defaultdict(int)
        for item, _, qty, released in self._owned.reservations.values():
            held[item] += 0 if released else qty
        for item, (on_hand, reserved) in self._owned.levels.items():
            expected = initial_quantity(item, self._seed) + self._adjusted.pop(item, 0)
            if on_hand != expected:
                kind = "lost" if self._explains_loss(item, on_hand, expected) else "duplicated"
                self._findings.add(kind, f"item {item} has {on_hand} on hand, its writes make {expected}")
            if reserved != held[item]:
                kind = "duplicated" if reserved > held[item] else "lost"
                self._findings.add(kind, f"item {item} has {reserved} reserved, its reservations make {held[item]}")
        for item in self._adjusted:
            self._findings.add("lost", f"item {item} was adjusted and is not there")

    def commands(self) -> None:
        """Commands by queue: those of an item were done in the order in which they were sent, each answered one way."""
        last: dict[int, tuple[int, str]] = {}
        for line in sorted((each for each in self._lines.writes if "done_at" in each), key=_number):
            before = last.get(line["item_id"])
            if before is not None and line["done_at"] <= before[1]:
                self._findings.add(
                    "misordered", f"command {line['key']} of item {line['item_id']} was done before number {before[0]}"
                )
            last[line["item_id"]] = (line["command"], line["done_at"])
        for again in self._lines.repeated:
            if not again["same"]:
                self._findings.add("contradicted", f"{again['repeated']} was answered twice, differently")

    def _explains_loss(self, item: int, on_hand: int, expected: int) -> bool:
        """Whether one acknowledged adjustment that did not arrive explains the difference."""
        missing = expected - on_hand
        return any(
            line["kind"] == "adjust" and line["item_id"] == item and line["delta"] == missing and line["status"] == 200
            for line in self._lines.writes
        )


def _number(line: dict[str, Any]) -> tuple[str, int]:
    """Which load sent a command, and as which of its commands."""
    return line["key"].rpartition(":")[0], line["command"]


def _compare(owned: Side, other: Side, findings: Findings) -> None:
    """The other side must say the same, once it has caught up."""
    for name in ("requests", "levels", "reservations"):
        ours, theirs = getattr(owned, name), getattr(other, name)
        for key in ours.keys() | theirs.keys():
            if ours.get(key) != theirs.get(key):
                findings.add("unequal", f"{name} {key}: owner {ours.get(key)}, other {theirs.get(key)}")


def sound(result: dict[str, Any], *, equal: bool = False) -> bool:
    """Whether nothing was lost, doubled, made up or failed; with ``equal`` also whether both sides hold the same."""
    return not (equal and result["unequal_sides"]) and (
        not any(result[f"{kind}_writes"] for kind in ("lost", "duplicated", "phantom"))
        and not result["misordered_commands"]
        and not result["contradicted_answers"]
        and not result["failed_requests"]
    )


def main() -> int:
    """``python -m examples.shop.ledger``: the check by hand."""
    parser = argparse.ArgumentParser(prog="examples.shop.ledger", description=__doc__.split("\n\n")[0])
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--monolith", help="DSN of the monolith's database")
    parser.add_argument("--service", required=True, help="DSN of the service's database")
    parser.add_argument("--owner", choices=("monolith", "service"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--equal", action="store_true", help="both sides must hold the same, having caught up")
    args = parser.parse_args()
    result = check(args.ledger, args.monolith, args.service, args.owner, seed=args.seed)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0 if sound(result, equal=args.equal) else 1


if __name__ == "__main__":
    sys.exit(main())

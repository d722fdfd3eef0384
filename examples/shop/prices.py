"""The ledger's prices held against the databases of the catalogue: each acknowledged change once, each in its place.

A product's revisions are its changes, counted: that none is lost and none applied twice shows in their numbers, and
that the last one counts in what the product costs.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from examples.shop.ledger import REFUSED, Findings, Owner, read

CHANGES = {
    "monolith": "SELECT key, product_id, price_cents, revision FROM price_changes",
    "service": "SELECT key, product_id, price_cents, revision FROM price_change",
}
PRODUCTS = {
    "monolith": "SELECT id, price_cents, revision FROM products",
    "service": "SELECT product_id, price_cents, revision FROM product",
}


class Catalogue(NamedTuple):
    """One database's catalogue, read in one snapshot.

    Attributes:
        changes: product, cents and revision by key.
        products: cents and revision by product.
    """

    changes: dict[str, tuple[int, int, int]]
    products: dict[int, tuple[int, int]]


def side(dsn: str, which: Owner) -> Catalogue:
    """Read one side's catalogue."""
    with psycopg.connect(dsn) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return Catalogue(
            {key: (product, cents, n) for key, product, cents, n in conn.execute(CHANGES[which].encode())},
            {product: (cents, n) for product, cents, n in conn.execute(PRODUCTS[which].encode())},
        )


def check(ledger: Path, monolith_dsn: str, catalogue_dsn: str, owner: Owner) -> dict[str, Any]:
    """Hold the ledger against the owner's catalogue, and the two catalogues against each other.

    Returns:
        ``acknowledged_writes``, ``lost_writes``, ``duplicated_writes``, ``phantom_writes``, ``unknown_writes``
        (unanswered), ``unequal_sides`` and ``examples`` (capped).
    """
    sides = {"monolith": side(monolith_dsn, "monolith"), "service": side(catalogue_dsn, "service")}
    findings = Findings()
    lines = read(ledger).prices
    _keys(lines, sides[owner], findings)
    _revisions(sides[owner], findings)
    for name in Catalogue._fields:
        here, there = (getattr(each, name) for each in sides.values())
        for which in here.keys() | there.keys():
            if here.get(which) != there.get(which):
                findings.add("unequal", f"{name} {which}: monolith {here.get(which)}, service {there.get(which)}")
    return {
        "acknowledged_writes": sum(line["status"] == 200 for line in lines),
        **{f"{kind}_writes": findings.counts[kind] for kind in ("lost", "duplicated", "phantom")},
        "unknown_writes": sum(line["status"] not in (200, *REFUSED) for line in lines),
        "unequal_sides": findings.counts["unequal"],
        "examples": findings.examples,
    }


def _keys(lines: list[dict[str, Any]], owned: Catalogue, findings: Findings) -> None:
    """Each line of the ledger against the owner's keys."""
    for line in lines:
        done = owned.changes.get(line["key"])
        if line["status"] == 200:
            if done != (line["item_id"], line["delta"], line["revision"]):
                findings.add("lost", f"price {line['key']} was acknowledged as {line}, and is {done}")
        elif line["status"] in REFUSED and done is not None:
            findings.add("phantom", f"price {line['key']} was refused and is there")
    for key in owned.changes.keys() - {line["key"] for line in lines}:
        findings.add("phantom", f"nobody sent price {key}")


def _revisions(owned: Catalogue, findings: Findings) -> None:
    """A product's changes are numbered without a gap, and the last one is what it costs."""
    changes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for product, cents, revision in owned.changes.values():
        changes[product].append((revision, cents))
    for product, (cents, revision) in owned.products.items():
        made = sorted(changes[product])
        if [number for number, _ in made] != list(range(1, revision + 1)):
            kind = "lost" if len(made) > revision else "duplicated"
            findings.add(kind, f"product {product} is at revision {revision}, its changes are {made}")
        elif made and made[-1][1] != cents:
            findings.add("lost", f"product {product} costs {cents}, its last change made {made[-1][1]}")

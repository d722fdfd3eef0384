"""The figures of a candidate and of all together: what they are called, what they mean, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stranglerfig.seams.ranking import Candidate

Measure = float | None
LOWER, HIGHER = "lower", "higher"
COUNT, SHARE, NUMBER = "count", "share", "number"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: ``name`` in JSON, ``label`` and ``means`` for people; ``better`` is empty where neither way is."""

    name: str
    label: str
    means: str
    kind: str = COUNT
    better: str = ""


OF_A_CANDIDATE = (
    Figure("place", "place", "in the order in which to move them", COUNT, LOWER),
    Figure("front", "front", "1: no other beats it in every figure (Pareto)", COUNT, LOWER),
    Figure("tables", "tables", "how many tables it has"),
    Figure("foreign_keys_in", "keys in", "foreign keys of other tables that refer to its", COUNT, LOWER),
    Figure("foreign_keys_out", "keys out", "foreign keys of its tables that refer to others", COUNT, LOWER),
    Figure("shared_tables", "shared tables", "its tables that modules outside touch", COUNT, LOWER),
    Figure("cut", "cut", "routes, statements and routines that write on both sides in one", COUNT, LOWER),
    Figure("entangled_share", "cut transactions", "share of sampled transactions that write both sides", SHARE, LOWER),
    Figure("writers", "writers", "modules outside that write its tables", COUNT, LOWER),
    Figure("readers", "readers", "modules outside that only read its tables", COUNT, LOWER),
    Figure("routes", "routes", "routes that touch it"),
    Figure("exclusive_routes", "exclusive routes", "routes that touch nothing else", COUNT, HIGHER),
    Figure("traffic", "requests", "share of the requests that go to routes that touch it", SHARE),
    Figure("own_traffic", "own requests", "share of the requests that go to its exclusive routes", SHARE, HIGHER),
    Figure("value", "value", "what the team says it is worth (--value)", NUMBER, HIGHER),
    Figure("cross_share", "cross", "share of the weight of all its ties that leads out", SHARE, LOWER),
    Figure("changed_with_others", "co-change", "share of its modules' commits that change others too", SHARE, LOWER),
    Figure("stability", "stable", "how much of it stays together when the evidence is drawn anew", SHARE, HIGHER),
)
OF_ALL = (
    Figure("parts", "parts", "how many contexts there are"),
    Figure("sm", "SM", "structural modularity: how dense inside, less how dense between", NUMBER, HIGHER),
    Figure("icp", "ICP", "inter-call percentage: calls that cross; read it with NED", NUMBER, LOWER),
    Figure("ned", "NED", "non-extreme distribution: units in parts of an extreme size", NUMBER, LOWER),
    Figure("ifn", "IFN", "interface number: pairs that call each other across, by part", NUMBER, LOWER),
    Figure("bcp", "BCP", "business context purity: how many business uses a part serves (entropy)", NUMBER, LOWER),
    Figure("mq", "MQ", "modularization quality: calls inside against calls out, summed over parts", NUMBER, HIGHER),
    Figure("modularity", "modularity", "of the graph of all evidence", NUMBER, HIGHER),
)


def measures(candidate: Candidate | None) -> dict[str, Measure]:
    """All figures of a candidate by what the JSON of a ranking calls them; lists by how long they are."""
    if candidate is None:
        return {}
    c = candidate
    found: Mapping[str, Measure] = {
        "place": c.place, "front": c.front, "tables": len(c.tables),
        "foreign_keys_in": len(c.keys_in), "foreign_keys_out": len(c.keys_out),
        "shared_tables": len(c.shared), "cut": len(c.cut), "entangled_share": c.entangled,
        "writers": len(c.writers), "readers": len(c.readers),
        "routes": len(c.routes), "exclusive_routes": len(c.exclusive),
        "traffic": c.traffic, "own_traffic": c.own_traffic, "value": c.value,
        "cross_share": c.cross, "changed_with_others": c.changed, "stability": c.stability,
    }  # fmt: skip
    return {figure.name: found[figure.name] for figure in OF_A_CANDIDATE}

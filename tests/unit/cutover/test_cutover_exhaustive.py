"""The cut-over explored exhaustively: I1 to I9 in every world that can be reached, and each rule shown to be needed."""

from __future__ import annotations

import pytest
from cutover_world import Bounds, Rules, explore, without

WORLDS = {
    # name: what may happen in it; see Bounds. Each is explored to its end: 250,000 worlds together, some 15 s.
    "two controllers that read the rows at different moments, and their zombies": Bounds(2, 2, torn_look=True),
    "two controllers, and databases that crash": Bounds(2, 2, crashes=1),
    "two controllers and a direct writer with an old snapshot": Bounds(2, 1, direct=1, snapshots=True),
    "forward, back and forward with a direct writer and a foreign change": Bounds(1, 3, direct=1, rogue=1),
    "forward, back and forward with old snapshots": Bounds(1, 3, direct=1, snapshots=True),
    "two direct writers, forward and back": Bounds(1, 2, direct=2, snapshots=True),
    "a request, forward and back, while parts die or go blind": Bounds(1, 2, requests=1, crashes=1),
    "two requests while parts die or go blind": Bounds(1, 1, requests=2, crashes=1),
    "a request and a direct writer": Bounds(1, 1, requests=1, direct=1),
    "two controllers and a request": Bounds(2, 1, requests=1),
}


@pytest.mark.parametrize("bounds", WORLDS.values(), ids=WORLDS.keys())
def test_every_invariant_holds_in_every_world(bounds: Bounds) -> None:
    found = explore(bounds, reach=True)
    assert found.violation is None, "\n".join((found.violation, *found.trace))
    assert found.complete


MUTANTS: dict[str, tuple[Rules, Bounds, str]] = {
    "the fence waits for writers": (without("writers_drained"), Bounds(1, 1, direct=1), "I3"),
    "guards take the lock before they read the row": (without("lock_before_row"), Bounds(1, 1, direct=1), "I3"),
    "an old snapshot locks the row": (
        without("old_snapshot_locks_row"),
        Bounds(1, 1, direct=1, snapshots=True),
        "I[23]",
    ),
    "a standby refuses": (without("standby_refuses"), Bounds(1, 1, direct=1), "I2"),
    "the fence server has seen the intent": (without("hold_seen_by_fence_server"), Bounds(1, 1, requests=1), "I9"),
    "writes in flight have ended": (without("writes_in_flight_ended"), Bounds(1, 1, requests=1), "I9"),
    "the fence compares the epoch": (without("fence_compares_epoch"), Bounds(2, 2, requests=1), "I9"),
    "the marker is behind the fence": (without("marker_behind_fence"), Bounds(1, 1, direct=1), "I3"),
    "the marker is this fence's": (without("marker_of_this_fence"), Bounds(1, 2, direct=1), "I2"),
    "ceding compares epoch and nonce": (without("cede_compares_fence"), Bounds(2, 2), "I[38]"),
    # The applied marker is asked for twice, before the proof and in the activation: either alone is enough.
    "activation needs the marker, when ceding does not compare": (
        without("cede_compares_fence", "activate_needs_marker"),
        Bounds(2, 2, direct=1),
        "I[23]",
    ),
    "activation needs the marker, when the proof did not wait": (
        without("marker_applied_before_proof", "activate_needs_marker"),
        Bounds(1, 1, direct=1),
        "I2",
    ),
    "activation follows the cede": (without("activate_after_cede"), Bounds(1, 1), "I[14]"),
    "activation compares the epoch": (without("activate_compares_epoch"), Bounds(2, 2), "I[14]"),
    "the intent compares the epoch": (without("intend_compares_epoch"), Bounds(2, 2), "I4"),
    "an abort compares the epoch": (without("abort_compares_epoch"), Bounds(2, 2), "I4"),
    "an abort is before the cede": (without("abort_only_before_cede"), Bounds(2, 1, requests=1), "I[14]"),
    "the fence server opens after its abort succeeded": (
        without("open_after_abort_succeeded"),
        Bounds(1, 1, requests=1),
        "I[79]",
    ),
    "an owner parks its peer's changes": (without("owner_parks"), Bounds(1, 1, rogue=1), "I5"),
    "what precedes the activation is discarded": (without("discard_before_activation"), Bounds(1, 1, rogue=1), "I6"),
    "one's own pair's changes are dropped": (without("own_origin_dropped"), Bounds(1, 1, direct=1), "I[25]"),
    "the position is stored with the rows": (without("position_with_rows"), Bounds(1, 1, direct=1), "I2"),
    "commits are durable": (without("commits_are_durable"), Bounds(1, 1, crashes=1), "I[14]"),
}


@pytest.mark.parametrize(("rules", "bounds", "invariant"), MUTANTS.values(), ids=MUTANTS.keys())
def test_each_rule_is_needed(rules: Rules, bounds: Bounds, invariant: str) -> None:
    """Removed, it breaks an invariant in a world where nothing is wrong with it; the shortest way there is printed."""
    found = explore(bounds, rules, reach="8" in invariant, most=400_000)
    print(f"{found.violation} after {found.worlds} worlds:", *found.trace, sep="\n  ")
    assert found.violation is not None
    assert found.violation[:2] in {f"I{digit}" for digit in invariant if digit.isdigit()}, found.violation


def test_no_rule_is_left_out() -> None:
    removed = {name for rules, _, _ in MUTANTS.values() for name, kept in vars(rules).items() if not kept}
    assert removed == set(vars(Rules()))

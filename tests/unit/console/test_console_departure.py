"""What the console says of what leaves: a context's old tables, and the monolith itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stranglerfig.console import departure
from stranglerfig.console.departure import Said
from stranglerfig.extraction.retirement import Look, Passed
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing
from tests import console_project

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ORDER = Passed("pass", "GET", "/orders/{}", 7, NOW - timedelta(minutes=1))


def look(**more: Any) -> Look:
    found: dict[str, Any] = {
        "contexts": {"inventory": "done"}, "remaining": [], "quiet": 3600.0, "passing": [], "requests": 9,
        "since": NOW - timedelta(days=3), "until": NOW, **more,
    }  # fmt: skip
    return Look(**found)


def test_the_monolith_is_quiet_since_its_last_request() -> None:
    found = departure.told(look(passing=[ORDER]), ORDER.last_at, None, NOW)
    assert (found.quiet_since, found.kinds, found.watched) == (ORDER.last_at, 1, True)
    assert "GET /orders/{}" in found.reasons[0] and found.passing[0].requests == 7
    nothing = departure.told(look(), None, None, NOW)
    assert (nothing.reasons, nothing.quiet_since) == ([], NOW - timedelta(days=3))
    blind = departure.told(look(until=NOW - timedelta(minutes=1)), None, None, NOW)
    assert not blind.watched and "counts" in blind.reasons[0]


def test_a_retired_monolith_is_asked_in_vain_and_may_be_given_back() -> None:
    back = Said(by="bert", at=NOW)
    gone = look(retired={"by": "anna", "at": NOW}, refused=[ORDER], passing=[ORDER])
    found = departure.told(gone, None, back, NOW)
    assert found.retired is not None and found.retired.by == "anna" and found.restored is None
    assert (found.reasons, found.passing, found.refused[0].path) == ([], [], "/orders/{}")
    assert departure.told(look(), None, back, NOW).restored == back


def standing(place: Place, **facts: Any) -> Standing:
    return Standing("inventory", place, 1, 1, "service", 1, facts)


def test_decommissioning_goes_from_where_they_were_to_the_archive(tmp_path: Path) -> None:
    settings = console_project.write(tmp_path, "postgresql://nowhere/x", ("inventory",)).extractions["inventory"]
    assert departure.of(settings, None, None) is None
    assert departure.of(settings, standing(Place(Stage.WRITES), watch={}), NOW) is None
    began = departure.of(settings, standing(Place(Stage.DECOMMISSION, "watch")), NOW)
    assert began is not None and (began.users, began.holding, began.droppable_at) == (None, None, None)
    user = {"application": "nightly", "role": "app", "statement": "SELECT 1", "table": "public.a", "seen": 2}
    watch = {"users": [user], "dependents": [{"kind": "view", "name": "v", "on": "public.a"}]}
    waits = departure.of(settings, standing(Place(Stage.DECOMMISSION, "report"), watch=watch, retired=True), NOW)
    assert waits is not None and waits.users is not None
    assert (waits.users[0].application, waits.dependents) == ("nightly", ["view v on public.a"])
    assert waits.holding == "fig_holding_inventory" and waits.droppable_at is not None
    assert waits.droppable_at - NOW == timedelta(seconds=settings.decommission.grace_seconds)
    size = {"code": {"files": 2, "lines": 80}, "routes": 3, "tables": 1, "bytes": 10, "transactions": 2.5}
    archive = [{"table": "public.a", "file": "a.gz", "rows": 3, "bytes": 9, "sha256": "00"}]
    facts = {"retired": True, "archive": archive, "decommission": {"before": size, "after": size}}
    gone = departure.of(settings, standing(Place(Stage.DONE), **facts), NOW)
    assert gone is not None and gone.before is not None
    assert (gone.holding, gone.dropped_at, gone.archive[0].rows) == (None, NOW, 3)
    assert (gone.before.lines, gone.before.transactions) == (80, 2.5)

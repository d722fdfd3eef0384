"""Alerts: one definition, judged without Prometheus as with it; names that exist; what the webhook is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from stranglerfig.telemetry import alerts, judging, measures, metrics, shipped
from stranglerfig.telemetry.judging import GRACE, Judge, Sample
from stranglerfig.telemetry.notices import Notice, message
from tests.alert_cases import CASES, STEP, Case

ROOT = Path(__file__).parents[3]
SERIES = {name for measure in measures.ALL for name in measures.series(measure)}
RECORDED = {name for name, _ in alerts.RECORDED}
FUNCTIONS = {"histogram_quantile"}


def named(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\bby \([^)]*\)', "", expression)
    words = set(re.findall(r"[a-z_][a-z0-9_:]*(?!\w|\()", bare))
    return {word for word in words if "_" in word} - FUNCTIONS


def judged(case: Case) -> list[judging.Firing]:
    judge, found = Judge(), []
    for number, value in enumerate(case.values):
        sample = Sample(case.metric, {"estate": "shop", **case.labels}, value)
        found = judge.look(number * STEP, [sample])
    # Another bound of the same metric is another case's.
    return [each for each in found if each.alert.name == case.alert or each.alert.metric != case.metric]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{'fires' if case.fires else 'silent'}")
def test_an_alert_fires_when_it_must_and_only_then(case: Case) -> None:
    found = judged(case)
    assert [firing.alert.name for firing in found] == ([case.alert] if case.fires else [])
    if case.fires:
        assert dict(found[0].labels) == {
            "estate": "shop", **{name: case.labels[name] for name in alerts.BY_NAME[case.alert].by}
        }  # fmt: skip


def test_every_alert_is_tried_both_ways() -> None:
    assert {(case.alert, case.fires) for case in CASES} == {(name, how) for name in alerts.BY_NAME for how in (0, 1)}


def test_series_of_several_processes_are_one_alert() -> None:
    judge = Judge()
    labels = {"estate": "shop", "context": "inventory", "direction": "forward"}
    both = [Sample("fig_sync_parked_changes", {**labels, "instance": name}, n) for name, n in (("a", 1), ("b", 3))]
    (found,) = judge.look(0, both)
    assert found.value == 3
    # The youngest look counts, the lowest health, the sum of what grew.
    silent = Judge((alerts.BY_NAME["FigControllerSilent"],))
    looks = [
        Sample("fig_controller_looked_timestamp_seconds", {"context": "a", "instance": str(t)}, t) for t in (0, 90)
    ]
    assert silent.look(100, looks) == [] and silent.look(115, looks) == []
    grown = Judge((alerts.BY_NAME["FigProcessRestarting"],))
    for n in (0, 1, 2):
        counts = [Sample("fig_process_restarts_total", {"process": "sync", "instance": i}, n) for i in "ab"]
        found_ = grown.look(n, counts)
    assert [each.value for each in found_] == [4]


def test_a_counter_that_begins_anew_has_not_shrunk() -> None:
    judge = Judge((alerts.BY_NAME["FigProcessRestarting"],))
    for at, value in enumerate((5, 6, 1, 2)):
        found = judge.look(at, [Sample("fig_process_restarts_total", {"process": "sync"}, value)])
    assert [each.value for each in found] == [3]


def test_an_alert_outlasts_a_look_without_its_series_and_a_restart_of_its_judge() -> None:
    sample = Sample("fig_sync_parked_changes", {"context": "a", "direction": "forward"}, 1)
    judge = Judge()
    (before,) = judge.look(0, [sample])
    assert judge.look(GRACE, []) and not judge.look(GRACE + 1, [])
    other = Judge()
    other.resume(before.alert.name, before.labels, before.since, 100)
    assert [each.since for each in other.look(101, [])] == [0]
    assert other.look(102, [sample._replace(value=0)]) == []


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    assert named('sum by (a, le) (rate(fig_x_total{role="a_b"}[5m])) / other_thing') == {"fig_x_total", "other_thing"}
    for alert in alerts.ALL:
        assert named(alert.promql()) <= SERIES, alert.name
        labels = set(measures.BY_NAME[alert.metric].labels) if alert.metric != "up" else {"role", "instance"}
        assert set(alert.by) <= labels, f"{alert.name}: {alert.metric} has no such label"
    for name, expression in alerts.RECORDED:
        assert named(expression) <= SERIES, name
    for panel in json.loads(shipped.dashboard())["panels"]:
        for target in panel.get("targets", ()):
            assert named(target["expr"]) <= SERIES | RECORDED, panel["title"]


def test_metrics_are_named_by_prometheus_conventions_and_made() -> None:
    metrics.ServiceFigures(CollectorRegistry())
    made = {family.name for registry in (metrics.REGISTRY, metrics.SERVICE) for family in registry.collect()}
    for measure in measures.ALL:
        assert re.fullmatch(r"fig(_[a-z0-9]+)+", measure.name)
        assert measure.name.endswith("_total") == (measure.kind == "counter"), measure.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", measure.name)
        added = {"job", "instance", "estate", "role", "service_name", "le"}
        assert not added & set(measure.labels), f"{measure.name}: Prometheus would rename a label of its own"
        family = measure.name.removesuffix("_total")
        of_services = measure.name.startswith(("fig_service_", "fig_saga_"))
        assert family in made or of_services, f"{measure.name} is described, and nobody makes it"


def test_the_package_has_the_files_that_the_code_makes() -> None:
    assert {file.name: file.read_text() for file in shipped.FOLDER.iterdir()} == shipped.files()


def test_each_alert_has_its_section_and_each_rule_leads_there() -> None:
    guide = (ROOT / alerts.GUIDE).read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", guide, re.MULTILINE | re.DOTALL))
    assert sections.keys() >= alerts.BY_NAME.keys()
    assert {name for name in sections if name.startswith("Fig")} == alerts.BY_NAME.keys(), "an alert that is no more"
    for name in alerts.BY_NAME:
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in sections[name], f"{name} lacks {part}"
    (_, group) = yaml.safe_load(shipped.rules("https://wiki/answers"))["groups"]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in group["rules"]}
    assert links == {name: f"https://wiki/answers#{name.lower()}" for name in alerts.BY_NAME}


def test_the_webhook_is_told_as_alertmanager_tells_it() -> None:
    labels = (("estate", "shop"), ("context", "inventory"), ("direction", "forward"))
    fires = Notice("FigChangesParked", labels, 0, 1.5, 2)
    over = Notice("FigChangesParked", (*labels[:2], ("direction", "reverse")), 0, 1, 2, ended=3)
    told = message("shop", [fires, over])
    assert (told["version"], told["status"], told["truncatedAlerts"]) == ("4", "firing", 0)
    first, second = told["alerts"]
    assert first["labels"] == {"alertname": "FigChangesParked", "severity": "critical", **dict(labels)}
    assert (first["status"], first["startsAt"], first["endsAt"]) == (
        "firing", "1970-01-01T00:00:01.500Z", "0001-01-01T00:00:00Z"
    )  # fmt: skip
    assert (second["status"], second["endsAt"]) == ("resolved", "1970-01-01T00:00:03.000Z")
    assert first["annotations"]["summary"] == "2 changes of inventory, forward, are parked"
    assert first["fingerprint"] != second["fingerprint"] and len(first["fingerprint"]) == 16
    common = {"alertname": "FigChangesParked", "severity": "critical", "estate": "shop", "context": "inventory"}
    assert told["commonLabels"] == common
    assert message("shop", [over])["status"] == "resolved"


def test_followed_counts_go_on_over_restarts_and_partitions() -> None:
    key = ("followed", "forward")
    for source, rows in (("0/a", 5), ("1/a", 2), ("0/a", 7), ("0/b", 3)):
        metrics.counted(*key, "sync", {"rows": rows}, source=source)
    labels = {"context": "followed", "direction": "forward"}
    assert metrics.REGISTRY.get_sample_value("fig_sync_rows_total", labels) == 12
    metrics.counted(*key, "sync", {"rows": 1}, source="0/b")
    assert metrics.REGISTRY.get_sample_value("fig_sync_rows_total", labels) == 13, "it began anew"


def test_a_slot_s_budget_is_used_up_and_a_flow_that_ends_is_forgotten() -> None:
    labels = {"context": "slotted", "direction": "forward"}

    def used() -> float | None:
        return metrics.REGISTRY.get_sample_value("fig_capture_slot_used_ratio", labels)

    metrics.flow("slotted", "forward", "capture", {"slot_retained": 300, "safe_wal_size": None})
    assert used() is None, "no budget, no ratio"
    metrics.flow("slotted", "forward", "capture", {"slot_retained": 300, "safe_wal_size": 100})
    assert used() == 0.75
    metrics.flow("slotted", "forward", "capture", {"slot_retained": 300, "safe_wal_size": -50})
    assert used() == 1
    metrics.state("slotted", "forward", "capture", "failed", None)
    assert metrics.REGISTRY.get_sample_value("fig_flow_halted", {**labels, "part": "capture"}) == 1
    metrics.flow("slotted", "reverse", "capture", {"lag_ms": 1500})
    metrics.forget("slotted", "forward", "capture")
    left = {
        (sample.name, sample.labels["direction"])
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if sample.labels.get("context") == "slotted"
    }
    assert left == {("fig_capture_lag_seconds", "reverse")}


def test_what_a_service_no_longer_has_is_not_told() -> None:
    registry = CollectorRegistry()
    figures = metrics.ServiceFigures(registry)
    kit = {"outbox_messages": 2.0, "outbox_oldest_seconds": 1.0}
    figures.show("billing", kit, [("billing.a", 1, 2)], [("Order", "done", 4)], due=3, blocked=1)
    by = {"service": "billing", "subscription": "billing.a"}
    assert registry.get_sample_value("fig_service_waiting_messages", by) == 2
    assert registry.get_sample_value("fig_saga_oldest_due_seconds", {"service": "billing"}) == 3
    figures.show("billing", kit, [], None)
    assert registry.get_sample_value("fig_service_waiting_messages", by) is None
    assert registry.get_sample_value("fig_saga_oldest_due_seconds", {"service": "billing"}) is None
    figures.unknown("billing")
    assert not [sample for family in registry.collect() for sample in family.samples]

"""What teams may write under ``gates:``, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stranglerfig.changes.settings import milliseconds
from stranglerfig.gates.model import Kind
from stranglerfig.gates.settings import GateSettings


def test_the_file_of_the_scenario() -> None:
    settings = GateSettings.model_validate(
        {
            "sync": {"cdc_latency": {"below": "1s", "share": 0.99}},
            "reads": {
                "latency": {"below": "50ms", "share": 0.99},
                "error_rate": {"below": 0.0001},
                "shadow_mismatch": {"below": "0.01%"},
            },
            "writes": {"error_rate": {"below": 0.0001}, "adjust_end_to_end": {"below": "250ms", "share": "99%"}},
        }
    )
    reads = {kpi.name: kpi for kpi in settings.kpis("reads")}
    assert list(reads) == ["latency", "error_rate", "shadow_mismatch", "no_worse"]
    assert (reads["latency"].limit, reads["latency"].threshold, reads["latency"].kind) == (50, 0.99, Kind.SHARE_BELOW)
    assert reads["shadow_mismatch"].threshold == pytest.approx(0.0001)
    assert reads["error_rate"].samples == 50_000 and reads["error_rate"].loosened == ""
    assert {kpi.name for kpi in settings.kpis("writes")} == {
        "error_rate",
        "adjust_end_to_end",
        "reverse_lag",
        "row_equality",
    }


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("prepare", ["model_lint", "model_signed", "schemas_registered", "preflight"]),
        ("build", ["service_healthy", "contract", "checks_pass", "coverage"]),
        ("sync", ["cdc_latency", "row_equality", "apply_rate"]),
        ("decommission", ["monolith_checks"]),
    ],
)
def test_every_stage_has_its_defaults(stage: str, names: list[str]) -> None:
    kpis = GateSettings().kpis(stage)
    assert [kpi.name for kpi in kpis] == names
    assert all(kpi.loosened == "" for kpi in kpis)


def test_what_is_looser_than_the_default_says_so() -> None:
    settings = GateSettings.model_validate(
        {
            "build": {"coverage": {"above": 0.8}},
            "reads": {
                "error_rate": {"below": 0.005, "samples": 1000},
                "no_worse": {"margin": 2},
                "latency": {"below": "20ms"},
                "row_equality": {},
            },
        }
    )
    reads = {kpi.name: kpi.loosened for kpi in settings.kpis("reads")}
    assert reads["error_rate"] == "below 0.005 instead of 0.0001, samples 1000 instead of 50000"
    assert reads["no_worse"] == "margin 2 instead of 1.25"
    assert reads["latency"] == "" and "row_equality" in reads
    assert settings.kpis("build")[-1].loosened == "above 0.8 instead of 0.9"


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"reads": {"latency": {"below": 50}}}, "write it with its unit"),
        ({"reads": {"latency": {"below": "50 parsecs"}}}, "not a duration"),
        ({"reads": {"error_rate": {"below": 0.0001, "samples": 1000}}}, "it takes 29956"),
        ({"reads": {"latency": {"below": "50ms", "samples": 100}}}, "it takes 299"),
        ({"reads": {"eror_rate": {}}}, "Extra inputs"),
        ({"reads": {"steps": [10, 1, 100]}}, "steps rise"),
        ({"reads": {"steps": [1, 10]}}, "steps rise"),
        ({"reads": {"steps": []}}, "steps rise"),
        ({"reads": {"custom": {"x": {"below": 1}}}}, "sql\n  Field required"),
        ({"reads": {"custom": {"x": {"sql": "SELECT 1"}}}}, "either below or above"),
        ({"reads": {"custom": {"x": {"query": "up", "sql": "SELECT 1", "below": 1}}}}, "Extra inputs"),
        (
            {"writes": {"saga_success": {"above": 0.9999, "samples": 10, "sagas": ["orders.Checkout"]}}},
            "can never show",
        ),
        ({"writes": {"saga_success": {"above": 0.9999}}}, "sagas\n  Field required"),
    ],
)
def test_what_cannot_be_is_refused_with_words(plain: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GateSettings.model_validate(plain)


def test_sagas_are_judged_by_their_share_of_successes() -> None:
    plain = {"saga_success": {"above": "99.99%", "sagas": ["orders.Checkout"], "samples": 30_000}}
    gates = GateSettings.model_validate({"writes": plain})
    assert gates.writes.saga_success is not None and gates.writes.saga_success.within == 600_000
    kpi = gates.kpis("writes")[-1]
    assert (kpi.name, kpi.kind, kpi.samples) == ("saga_success", Kind.RATE_ABOVE, 30_000)
    assert kpi.threshold == pytest.approx(0.9999)
    assert "saga_success" not in [each.name for each in GateSettings().kpis("writes")]


def test_custom_kpis() -> None:
    settings = GateSettings.model_validate(
        {
            "writes": {
                "custom": {
                    "queue": {"sql": "SELECT count(*) FROM queue", "below": 100},
                    "stock": {"sql": "SELECT min(on_hand) FROM stock", "above": 0},
                }
            }
        }
    )
    found = [(kpi.name, kpi.kind, kpi.threshold) for kpi in settings.kpis("writes")[-2:]]
    assert found == [("queue", Kind.VALUE_BELOW, 100), ("stock", Kind.VALUE_ABOVE, 0)]


def test_durations() -> None:
    assert [milliseconds(t) for t in ("50ms", "1s", " 1.5 m", "2h", "250us")] == [50, 1000, 90_000, 7_200_000, 0.25]

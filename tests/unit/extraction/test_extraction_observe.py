from __future__ import annotations

from stranglerfig.extraction.observe import Cumulated, Points, Rule, lag_samples, sample
from stranglerfig.facade.accesslog import Observation
from stranglerfig.gates.evidence import Samples


def line(
    time: float,
    *,
    cluster: str | None = "service_inventory",
    kind: str = "read",
    status: int = 200,
    us: int | None = 2000,
    instance: str | None = None,
) -> Observation:
    route = f"inventory:{kind}:0" if kind != "pass" else "pass"
    return Observation(time, "GET", "/x", route, "", cluster, status, "-", 9000, us, None, None, 0, 0, instance)


RULES = [Rule("error_rate", "read"), Rule("latency", "read", 50.0)]


def rows(samples: Samples) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in samples.rows():
        n, k = found.get(row["kpi"], (0, 0))
        found[row["kpi"]] = (n + row["n"], k + row["k"])
    return found


def test_the_services_answers_are_samples_and_the_monoliths_are_not() -> None:
    lines = [line(11), line(11, cluster="monolith"), line(12, status=503), line(12, us=60_000)]
    assert rows(sample(lines, "inventory", RULES, since=10)) == {"error_rate": (3, 1), "latency": (3, 1)}


def test_what_was_before_the_step_or_of_another_context_or_kind_does_not_count() -> None:
    lines = [line(9.9), line(11, kind="write"), line(11, kind="pass", cluster="monolith")]
    assert rows(sample(lines, "inventory", RULES, since=10)) == {}
    assert rows(sample([line(11)], "orders", RULES, since=10)) == {}


def test_a_failure_of_envoys_own_counts_against_the_step_and_its_time_is_the_whole_one() -> None:
    lines = [line(11, cluster=None, status=503, us=None), line(11, cluster=None, status=410, us=None)]
    assert rows(sample(lines, "inventory", RULES, since=10)) == {"error_rate": (1, 1), "latency": (1, 0)}


def test_differences_of_a_histogram_survive_the_restart_of_its_reporter() -> None:
    cumulated = Cumulated()
    assert cumulated.new([[1.0, 5], [10.0, 1]]) == {}
    assert cumulated.new([[1.0, 7], [10.0, 1], [1000.0, 2]]) == {1.0: 2, 1000.0: 2}
    assert cumulated.new([[1.0, 3]]) == {1.0: 3}


def test_a_bucket_counts_by_its_upper_bound() -> None:
    samples = Samples()
    lag_samples(samples, "cdc_latency", 5, {10.0: 4, 1000.0: 2}, 1000.0)
    assert rows(samples) == {"cdc_latency": (6, 2)}


def test_points_are_taken_once_their_second_is_over() -> None:
    points = Points("inventory")
    written = line(10.5, kind="write", status=500)
    for each in (line(10), written, line(10, cluster="monolith"), line(10, kind="pass"), line(11)):
        points.add(each)
    taken = points.take(11)
    assert list(taken) == [10]
    assert taken[10]["service"] == {
        "reads": 1,
        "writes": 1,
        "errors": 1,
        "busy_ms": 4.0,
        "p50_ms": 2.048,
        "p99_ms": 2.048,
    }
    assert taken[10]["monolith"]["reads"] == 1
    assert taken[10]["rest"] == 1
    assert list(points.take(12)) == [11]


def test_each_instance_of_the_service_has_figures_and_its_share() -> None:
    points = Points("inventory")
    for each in (
        *[line(10, instance="10.0.0.7:80")] * 3,
        line(10, kind="write", status=503, us=60_000, instance="10.0.0.8:80"),
        line(10, cluster="monolith", instance="10.0.0.1:80"),
        line(10, cluster=None, status=503),
    ):
        points.add(each)
    found = points.take(11)[10]["instances"]
    assert found.keys() == {"10.0.0.7:80", "10.0.0.8:80"}
    assert found["10.0.0.7:80"] == {
        "reads": 3,
        "writes": 0,
        "errors": 0,
        "busy_ms": 6.0,
        "p50_ms": 2.048,
        "p99_ms": 2.048,
        "share": 0.75,
    }
    assert (found["10.0.0.8:80"]["errors"], found["10.0.0.8:80"]["share"]) == (1, 0.25)

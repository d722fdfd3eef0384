"""Upstreams as clusters: what is checked, what is asked again, whose certificate is believed."""

from __future__ import annotations

import pytest

from stranglerfig.facade.upstreams import Trust, Upstream, cluster, retry

ONE, TWO = Upstream(("http://127.0.0.1:1",)), Upstream(("http://127.0.0.1:1", "http://127.0.0.1:2"), health="/up")


def test_one_instance_is_neither_checked_nor_asked_again() -> None:
    found = cluster("c", ONE, use="reads")
    assert "health_checks" not in found and "outlier_detection" not in found
    assert found["circuit_breakers"]["thresholds"][0]["max_retries"] == 0


def test_several_are_checked_and_all_asked_only_when_none_is_healthy() -> None:
    found = cluster("c", TWO, use="writes")
    check = found["health_checks"][0]
    assert check["http_health_check"]["path"] == "/up" and check["no_traffic_interval"] == check["interval"] == "1s"
    assert 0 < found["common_lb_config"]["healthy_panic_threshold"]["value"] <= 1
    outlier = found["outlier_detection"]
    assert {outlier[f"enforcing_{what}"] for what in ("consecutive_5xx", "consecutive_gateway_failure")} == {0}
    assert not found["close_connections_on_host_health_failure"]
    assert cluster("c", TWO, use="reads")["close_connections_on_host_health_failure"]
    assert "health_checks" not in cluster("c", TWO)


def test_a_write_goes_on_only_where_nothing_was_sent() -> None:
    assert retry("writes")["retry_on"] == "connect-failure"
    assert set(retry("reads")["retry_on"].split(",")) == {"connect-failure", "refused-stream", "reset"}


def test_whose_certificate_is_believed() -> None:
    def context(*urls: str, trust: Trust | None = None) -> dict[str, object]:
        found = cluster("c", Upstream(urls, trust=trust or Trust()))["transport_socket"]["typed_config"]
        validation = found["common_tls_context"]["validation_context"]
        names = [name["matcher"]["exact"] for name in validation["match_typed_subject_alt_names"]]
        return {"sni": found.get("sni"), "each": found.get("auto_host_sni", False), "names": names,
                "ca": validation["trusted_ca"]["filename"]}  # fmt: skip

    assert context("https://a.test")["sni"] == "a.test"
    assert context("https://127.0.0.1:1") | {"ca": ""} == {"sni": None, "each": False, "names": ["127.0.0.1"], "ca": ""}
    several = context("https://a.test", "https://b.test:8443")
    assert several["each"] is True and several["names"] == ["a.test", "b.test"]
    given = context("https://10.0.0.1", "https://10.0.0.2", trust=Trust("/ca.pem", "stock.test"))
    assert given == {"sni": "stock.test", "each": False, "names": ["stock.test"], "ca": "/ca.pem"}
    with pytest.raises(ValueError, match="partly"):
        cluster("c", Upstream(("https://a.test", "http://b.test")))

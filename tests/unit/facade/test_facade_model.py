"""Routes as tables: pure, so that what Envoy is told can be read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stranglerfig.facade.accesslog import parse
from stranglerfig.facade.bootstrap import AUTHZ_TIMEOUT, Files, render_bootstrap
from stranglerfig.facade.model import (
    ContextRouting,
    Estate,
    Matcher,
    clusters,
    pattern,
    render_clusters,
    render_routes,
)
from stranglerfig.facade.settings import (
    ContextFacade,
    FacadeSettings,
    FenceSettings,
    ReadRoute,
    Route,
    Routes,
    StickySettings,
)
from stranglerfig.facade.upstreams import Upstream
from stranglerfig.telemetry.model import Destination

ROUTES = Routes(
    reads=(ReadRoute(path="/a/{id}"), ReadRoute(path="/a/all")),
    writes=(Route(path="/a/adjust", methods=("POST", "PUT")),),
    retired=(Route(path="/old/{rest=**}"),),
)
ESTATE = Estate("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")


def table(**changes: Any) -> list[dict[str, Any]]:
    routing = ContextRouting("a", ROUTES, changes.pop("service", Upstream(("http://127.0.0.1:4",))), **changes)
    rendered = render_routes([routing], "7")
    assert rendered["version_info"] == "7"
    return rendered["resources"][0]["virtual_hosts"][0]["routes"]  # type: ignore[no-any-return]


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


@pytest.mark.parametrize(
    ("path", "expression"),
    [("/a/{id}", "/a/[^/]+"), ("/a.b/{x}-{y}", r"/a\.b/[^/]+\-[^/]+"), ("/o/{rest=**}", "/o/.+"), ("/a+b", r"/a\+b")],
)
def test_templates_are_escaped(path: str, expression: str) -> None:
    assert pattern(path) == expression


@pytest.mark.parametrize("path", ["a", "/a?b", "/a/{", "/a/{x y}", "/{rest=**}/b", "/{a=**}/{b=**}"])
def test_templates_that_are_none(path: str) -> None:
    with pytest.raises(ValidationError):
        Route(path=path)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="GET or HEAD"):
        ReadRoute(path="/a", methods=("POST",))
    for address in ("8080", "host:", "host:99999"):
        with pytest.raises(ValidationError):
            FacadeSettings(listen=address)
    assert FacadeSettings().admin is None
    assert FenceSettings.model_fields["budget"].metadata[1].le < AUTHZ_TIMEOUT


def test_the_most_specific_route_wins() -> None:
    match = Matcher([("a", ROUTES)])
    found = match("GET", "/a/all?q=1")
    assert found is not None
    assert found.name == "a:read:1"
    assert match("GET", "/a/adjust").name == "a:read:0"  # type: ignore[union-attr]
    assert match("POST", "/a/adjust").name == "a:write:0"  # type: ignore[union-attr]
    assert match("POST", "/a/1") is None
    assert match("GET", "/old/x/y").kind == "old"  # type: ignore[union-attr]
    assert Matcher([("a", ROUTES)], kinds=("write",))("GET", "/a/1") is None
    names = [entry["name"] for entry in table()]
    assert names.index("a:read:1") < names.index("a:read:0")
    assert names[-1] == "pass"


def test_weights_are_set_in_one_step_and_the_service_comes_first() -> None:
    action = named(table(reads=12.5), "a:read:0")["route"]
    weights = [(each["name"], each["weight"]) for each in action["weighted_clusters"]["clusters"]]
    assert weights == [("service_a", 1250), ("monolith", 8750)]
    assert "hash_policy" not in action
    sticky = ContextFacade(sticky=StickySettings(header="x-tenant"), hold_back=5)
    action = named(table(reads=100, options=sticky), "a:read:0")["route"]
    assert action["weighted_clusters"]["use_hash_policy"] is True
    assert action["weighted_clusters"]["clusters"][0]["weight"] == 9500


def test_no_entry_times_out_and_only_the_services_may_go_on_to_another_instance() -> None:
    for entry in table(reads=50, shadow=True, writes="fenced"):
        if "route" in entry:
            action = entry["route"]
            assert action["timeout"] == "0s"
            of_service = "weighted_clusters" in action or action["cluster"].startswith("service_")
            assert ("retry_policy" in action) == of_service
            if ":write:" in entry["name"] and of_service:
                assert action["retry_policy"]["retry_on"] == "connect-failure"


def test_the_fenced_table_has_both_outcomes_before_the_fence() -> None:
    names = [entry["name"] for entry in table(writes="fenced") if ":write:" in entry["name"]]
    assert names == ["a:write:0:held", "a:write:0:held", "a:write:0:fence"]
    fenced = named(table(writes="fenced"), "a:write:0:fence")
    assert "envoy.filters.http.ext_authz" in fenced["typed_per_filter_config"]
    assert fenced["direct_response"]["status"] == 503


def test_who_is_pinned_by_its_own_write() -> None:
    def own(**changes: Any) -> list[str]:
        return [e["route"]["cluster"] for e in table(**changes) if e["name"] == "a:read:0:own"]

    assert own(reads=0) == []
    assert own(reads=10) == ["monolith"]
    assert own(reads=10, writes="fenced") == ["monolith", "service_a"]
    assert own(reads=100, writes="service") == []
    assert own(reads=10, writes="service") == ["service_a"]
    assert own(reads=10, options=ContextFacade(read_your_writes=0)) == []
    assert "response_headers_to_add" not in named(table(reads=0), "a:write:0")
    assert "response_headers_to_add" in named(table(reads=0, shadow=True), "a:write:0")


def test_mirrors_are_on_reads_only_and_by_share() -> None:
    mirrored = [entry["name"] for entry in table(shadow=True, shadow_share=2.5) if "route" in entry
                and "request_mirror_policies" in entry["route"]]  # fmt: skip
    assert mirrored == ["a:read:1", "a:read:0"]
    policy = named(table(shadow=True, shadow_share=2.5), "a:read:0")["route"]["request_mirror_policies"][0]
    assert policy["runtime_fraction"]["default_value"] == {"numerator": 25_000, "denominator": "MILLION"}
    assert "request_mirror_policies" not in named(table(shadow=True, shadow_share=0), "a:read:0")["route"]


def test_clusters_bound_the_shadow_and_nothing_else() -> None:
    wanted = {
        c["name"]: c for c in clusters(ESTATE, [ContextRouting("a", ROUTES, Upstream(("https://stock.example/",)))])
    }
    assert set(wanted) == {"monolith", "fence", "shadow", "service_a", "monolith_writes_a", "service_writes_a"}
    limits = {name: c["circuit_breakers"]["thresholds"][0]["max_requests"] for name, c in wanted.items()}
    assert limits.pop("shadow") == 64
    assert min(limits.values()) > 100_000
    assert wanted["shadow"]["connect_timeout"] == "0.1s"
    assert wanted["service_a"]["type"] == "STRICT_DNS"
    assert wanted["service_a"]["transport_socket"]["typed_config"]["sni"] == "stock.example"
    assert "transport_socket" not in wanted["monolith"]
    assert render_clusters(list(wanted.values()), "1")["resources"][0]["@type"].endswith("v3.Cluster")
    with pytest.raises(ValueError, match="address"):
        clusters(Estate("ftp://x", "", ""), [])


def test_bootstrap_traces_only_when_told() -> None:
    files = Files("/d/c/c.json", "/d/r/r.json", "/d/access.log")
    plain = render_bootstrap(listen="127.0.0.1:80", admin="127.0.0.1:81", files=files)
    traced = render_bootstrap(
        listen="[::1]:80", admin="127.0.0.1:81", files=files, traces=Destination("otlp", "http://127.0.0.1:4318")
    )
    assert "tracing" not in str(plain)
    assert "http://127.0.0.1:4318/v1/traces" in str(traced)
    assert traced["static_resources"]["clusters"][0]["name"] == "traces"


def test_lines_that_are_cut_off_are_no_observations() -> None:
    assert parse(b'{"time": 1') is None
    assert parse(b"{}") is None


def test_with_a_retired_monolith_nothing_leads_to_it() -> None:
    service = Upstream(("http://127.0.0.1:4",))
    left = ContextRouting("a", ROUTES, service, reads=100, writes="service", gone=True)
    other = ContextRouting("b", Routes(reads=(ReadRoute(path="/b"),)), service)
    table = render_routes([left, other], "1", retired=True)["resources"][0]["virtual_hosts"][0]["routes"]
    by_name = {entry["name"]: entry for entry in table}
    assert by_name["a:read:0"]["route"]["cluster"] == "service_a"
    assert "a:read:0:pinned" in by_name
    for name in ("b:read:0", "a:old:0", "pass"):
        assert by_name[name]["direct_response"]["status"] == 410
    assert "monolith" not in str([entry.get("route") for entry in table])
    assert not [c for c in clusters(ESTATE, [left, other], retired=True) if c["name"].startswith("monolith")]
    assert [c for c in clusters(ESTATE, [left]) if c["name"].startswith("monolith")]

"""One trace shows a request, its changes, what it caused and when that was applied: in real Jaeger and real Zipkin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from shop_driver import VALUES, WRITES, Refused, Shop, until

from examples.servers.jaeger import Jaeger
from examples.servers.zipkin import Zipkin
from examples.shop.estate import Estate
from stranglerfig.telemetry.model import new

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
SECRET = "anna.muster-4711"
FACADE, ADJUST = "shop-facade", "post /api/inventory/adjust"
Span = dict[str, Any]


class Traced(NamedTuple):
    """The shop, and where its traces can go."""

    shop: Shop
    jaeger: Jaeger
    zipkin: Zipkin

    def to(self, **telemetry: Any) -> None:
        """Have everybody send traces there; ``fig`` begins anew with its new settings."""
        estate = self.shop.estate
        if estate.telemetry == telemetry:
            return
        estate.telemetry = telemetry
        settings = self.shop.file.read_text()
        estate.write_project(VALUES)
        self.shop.file.write_text(settings)
        self.shop.fig("down")
        self.shop.up()
        estate.deploy_monolith()
        estate.deploy_service()
        if "checkout" in estate.programs:
            estate.deploy_checkout(self.shop.control)

    def asked(self, url: str, content: Any) -> str:
        """Make a request that holds what nobody may find in a trace; the id of its trace."""
        begun = new()._replace(sampled=False)  # the façade decides, not who asks
        if url.startswith(self.shop.estate.checkout_url):
            begun = begun._replace(sampled=True)  # nobody has decided before it
        headers = {
            "content-type": "application/json", "idempotency-key": uuid.uuid4().hex, "traceparent": str(begun),
            "user-agent": SECRET, "authorization": f"Bearer {SECRET}", "baggage": f"user={SECRET}",
        }  # fmt: skip
        request = urllib.request.Request(f"{url}?token={SECRET}", json.dumps(content).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status in (200, 202)
        return begun.trace

    def adjusted(self) -> str:
        """Have an item's level adjusted, through the façade."""
        return self.asked(
            f"{self.shop.estate.facade_url}/api/inventory/adjust", {"item_id": 7, "delta": 1, "reason": SECRET}
        )

    def trace(self, id: str, *wanted: tuple[str, str]) -> list[Span]:
        """The spans of a trace, as ``fig trace`` prints them, once these (service, name) are in it, and what they
        came of: each process sends its own when it does.
        """

        def whole() -> list[Span] | None:
            try:
                found: list[Span] = self.shop.fig("trace", id)["spans"]
            except Refused as refused:
                assert refused.code == "unknown_trace", refused
                return None
            known = {(span["service"], span["name"].lower()) for span in found}
            lost = {span["parent"] for span in found} - {span["id"] for span in found} - {None}
            return found if {*wanted} <= known and len(lost) <= 1 else None  # one: who asked

        spans: list[Span] = until(whole, f"{wanted} in the trace {id}", 90, every=0.5)
        assert SECRET not in json.dumps(spans)
        return spans


@pytest.fixture(scope="module")
def traced(begin: Callable[[Callable[[], None]], None]) -> Iterator[Traced]:
    root = Path(tempfile.mkdtemp(prefix="fig-traces-"))
    root.chmod(0o755)
    with ExitStack() as stack:
        if "FIG_KEEP" not in os.environ:
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        jaeger, zipkin = Jaeger(root / "jaeger"), Zipkin(root / "zipkin")
        for server in (jaeger, zipkin):
            stack.callback(server.stop)
            begin(server.start)
        telemetry = {"otlp": jaeger.otlp, "query": jaeger.query}
        estate = Estate(root, items=600, settings={"fsync": "off"}, telemetry=telemetry)
        found = Traced(Shop(root, estate=estate, rate=30), jaeger, zipkin)
        stack.callback(found.shop.stop)
        found.shop.start()
        yield found


def _of(role: str, names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(f"shop-{role}", name) for name in names]


def one(spans: list[Span], name: str, service: str) -> Span:
    """The only span of this name; whose service it is."""
    (found,) = [span for span in spans if span["name"].lower() == name]
    assert found["service"] == service
    return found


def ended(span: Span) -> float:
    return float(span["offset_ms"] + span["duration_ms"])


def test_a_request_its_change_and_when_it_was_applied_are_one_trace(traced: Traced) -> None:
    traced.to(otlp=traced.jaeger.otlp, query=traced.jaeger.query)
    traced.shop.go(("reads", "shadow"))
    sync = traced.shop.pid("sync")
    # What piles up meanwhile is one batch.
    os.kill(sync, signal.SIGSTOP)
    try:
        ids = [traced.adjusted() for _ in range(3)]
        time.sleep(0.3)
    finally:
        os.kill(sync, signal.SIGCONT)
    names = ("capture inventory forward", "apply inventory forward", "derive inventory.inventorylevelchanged")
    for id in ids:
        spans = traced.trace(
            id, (FACADE, ADJUST), ("monolith", ADJUST), *_of("capture", names[:1]), *_of("sync", names[1:])
        )
        assert [(span["depth"], span["service"], span["name"]) for span in spans[:2]] == [
            (0, "shop-facade", "POST /api/inventory/adjust"),
            (1, "monolith", "POST /api/inventory/adjust"),
        ]
        facade, monolith = spans[:2]
        assert monolith["parent"] == facade["id"] and monolith["kind"] == facade["kind"] == "server"
        capture = one(spans, names[0], "shop-capture")
        apply, derive = (one(spans, name, "shop-sync") for name in names[1:])
        assert {capture["parent"], apply["parent"], derive["parent"]} == {monolith["id"]}
        # Both begin with the commit at the source, which lies within the request.
        assert capture["offset_ms"] == apply["offset_ms"]
        assert monolith["offset_ms"] <= apply["offset_ms"] <= ended(monolith)
        assert ended(apply) > ended(capture) - 1 and ended(apply) > apply["offset_ms"]
    (link,) = apply["links"]
    assert link["trace"] != ids[-1]
    batch = traced.trace(link["trace"], ("shop-sync", "apply inventory forward: commit"))
    assert len(batch) == 1 and batch[0]["depth"] == 0 and batch[0]["id"] == link["span"]
    assert {"trace": ids[-1], "span": apply["id"]} in batch[0]["links"]
    assert int(batch[0]["attributes"]["batch.size"]) > 1
    text = traced.shop.text("trace", ids[-1])
    assert "  POST /api/inventory/adjust" in text and f"linked with {link['trace']}" in text


def test_a_statement_that_names_its_trace_in_a_comment_is_in_it(traced: Traced) -> None:
    """A monolith that says nothing itself, whose driver is instrumented."""
    traced.to(otlp=traced.jaeger.otlp, query=traced.jaeger.query)
    traced.shop.go(("reads", "shadow"))
    begun = new()
    with psycopg.connect(
        traced.shop.estate.shop_server.dsn("shop", "shop_app"), autocommit=True, application_name="shop:inventory"
    ) as conn:
        statement = "UPDATE inventory SET quantity = quantity + 1 WHERE item_id = 9"
        conn.execute(f"{statement} /*traceparent='{begun}'*/".encode())
    names = ("capture inventory forward", "apply inventory forward")
    spans = traced.trace(begun.trace, ("shop-capture", names[0]), ("shop-sync", names[1]))
    assert {span["parent"] for span in spans} == {begun.span}


def test_an_event_a_saga_and_the_way_back_are_in_it_as_well(traced: Traced) -> None:
    traced.to(otlp=traced.jaeger.otlp, query=traced.jaeger.query)
    traced.shop.go(WRITES)
    id = traced.adjusted()
    names = ("publish inventory.stockadjusted", "capture inventory reverse", "apply inventory reverse")
    spans = traced.trace(id, (FACADE, ADJUST), ("service", ADJUST), *_of("capture", names[:2]), *_of("sync", names[2:]))
    assert [(span["service"], span["name"]) for span in spans[:2]] == [
        ("shop-facade", "POST /api/inventory/adjust"), ("service", "POST /api/inventory/adjust"),
    ]  # fmt: skip
    publish, capture = (one(spans, name, "shop-capture") for name in names[:2])
    apply = one(spans, names[2], "shop-sync")
    assert {each["parent"] for each in (publish, capture, apply)} == {spans[1]["id"]}
    assert publish["attributes"]["messaging.destination.name"] == "events.inventory"

    traced.shop.estate.deploy_checkout(traced.shop.control)
    content = {"customer_id": 1, "item_id": 8, "qty": 1}
    id = traced.asked(f"{traced.shop.estate.checkout_url}/api/checkouts", content)
    spans = traced.trace(
        id, ("checkout", "saga checkout.checkout"), ("checkout", "step checkout.checkout.confirm"),
        ("checkout", "post /api/checkouts"), ("service", "handle inventory.reserveitem"),
        ("monolith", "post /api/payments"),
    )  # fmt: skip
    asked = one(spans, "post /api/checkouts", "checkout")
    begun = one(spans, "handle checkout.checkoutrequested", "checkout")
    assert begun["parent"] == asked["id"] and begun["kind"] == "consumer"
    command = one(spans, "handle inventory.reserveitem", "service")
    assert ended(command) > command["offset_ms"] > begun["offset_ms"]
    paid = one(spans, "post /api/payments", "monolith")
    facade = next(span for span in spans if span["id"] == paid["parent"])
    call = next(span for span in spans if span["id"] == facade["parent"])
    assert (facade["service"], call["service"], call["name"]) == (
        "shop-facade",
        "checkout",
        "call checkout.Checkout.charge",
    )
    saga = one(spans, "saga checkout.checkout", "checkout")
    steps = [span for span in spans if span["name"].startswith("step checkout.Checkout.")]
    assert [span["name"].rpartition(".")[2] for span in steps] == ["open", "reserve", "charge", "confirm"]
    assert {span["parent"] for span in steps} == {saga["parent"]} == {begun["id"]} == {call["parent"]}
    assert all(span["attributes"]["outcome"] == "done" for span in steps)
    assert saga["attributes"]["status"] == "completed" and ended(saga) >= max(map(ended, steps)) - 1


def test_zipkin_has_the_same_trace(traced: Traced) -> None:
    traced.to(zipkin=traced.zipkin.url)
    traced.shop.go(WRITES)
    url = traced.shop.estate.facade_url + "/api/inventory/adjust"
    # Zipkin's tracer in Envoy follows who asks; who says nothing is sampled as the façade is told.
    begun = new()
    request = urllib.request.Request(
        url + f"?token={SECRET}",
        json.dumps({"item_id": 7, "delta": 1}).encode(),
        {"idempotency-key": uuid.uuid4().hex, "traceparent": str(begun), "user-agent": SECRET},
    )
    with urllib.request.urlopen(request, timeout=60):
        pass
    names = ("publish inventory.stockadjusted", "apply inventory reverse")
    spans = traced.trace(
        begun.trace, (FACADE, ADJUST), ("service", ADJUST), *_of("capture", names[:1]), *_of("sync", names[1:])
    )
    assert [(span["depth"], span["service"], span["kind"]) for span in spans[:2]] == [
        (0, "shop-facade", "server"), (1, "service", "server"),
    ]  # fmt: skip
    for name, service in zip(names, ("shop-capture", "shop-sync"), strict=True):
        assert one(spans, name, service)["parent"] == spans[1]["id"]
    with pytest.raises(Refused) as caught:
        traced.shop.fig("trace", new().trace)
    assert (caught.value.code, caught.value.status) == ("unknown_trace", 4)

"""What a real Envoy hands on to who is behind it, and that the façade decides what is sampled."""

from __future__ import annotations

import pytest
from facade_estate import Estates

from stranglerfig.runtime.embedded import free_port
from stranglerfig.telemetry.model import Destination, TraceContext, new, parse


async def begin(estate: Estates, to: Destination) -> None:
    """Start Envoy anew, with traces to somewhere that is away: requests do not mind."""
    await estate.stop_envoy()
    estate.control.prepare([estate.routing()], listen=f"127.0.0.1:{estate.port}", traces=to, service="shop-facade")
    await estate.start_envoy()


async def handed_on(estate: Estates, begun: TraceContext | None) -> TraceContext:
    headers = {} if begun is None else {"traceparent": str(begun)}
    assert await estate.side_of("/api/inventory/17?token=x", headers=headers) == "monolith"
    sent = {name.lower(): value for name, value in estate.monolith.requests[-1][2].items()}
    found = parse(sent["traceparent"])
    assert found is not None
    assert begun is None or (found.trace == begun.trace and found.span != begun.span)
    assert "baggage" not in sent
    return found


@pytest.mark.parametrize("sampling", [0.0, 1.0])
async def test_the_facade_decides_whatever_a_client_says(estate: Estates, sampling: float) -> None:
    await begin(estate, Destination("otlp", f"http://127.0.0.1:{free_port()}", sampling))
    for begun in (None, new(), new()._replace(sampled=False)):
        assert (await handed_on(estate, begun)).sampled is (sampling == 1.0)


async def test_a_share_is_sampled_and_always_the_same(estate: Estates) -> None:
    await begin(estate, Destination("otlp", f"http://127.0.0.1:{free_port()}", 0.5))
    ids = [new() for _ in range(60)]
    found = [(await handed_on(estate, each)).sampled for each in ids]
    assert 10 < sum(found) < 50  # six standard deviations
    assert [(await handed_on(estate, each)).sampled for each in ids] == found


async def test_zipkins_tracer_hands_on_the_standards_header_as_well(estate: Estates) -> None:
    await begin(estate, Destination("zipkin", f"http://127.0.0.1:{free_port()}", 0.0))
    assert not (await handed_on(estate, None)).sampled
    begun = new()
    assert (await handed_on(estate, begun)).sampled


async def test_without_traces_nothing_is_touched(estate: Estates) -> None:
    begun = new()
    await estate.side_of("/api/inventory/17", headers={"traceparent": str(begun)})
    assert estate.monolith.requests[-1][2]["traceparent"] == str(begun)

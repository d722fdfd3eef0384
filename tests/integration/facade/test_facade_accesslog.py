"""The access log of a real Envoy: what is in it, and that nothing is lost by a rotation."""

from __future__ import annotations

from facade_estate import Estates

from stranglerfig.facade.accesslog import AccessLog, Observation, rotate
from stranglerfig.foundation import clock


async def observed(log: AccessLog, count: int) -> list[Observation]:
    found: list[Observation] = []

    async def enough() -> bool:
        found.extend(log.read())
        return len(found) >= count

    await clock.until(enough, timeout=5, what=f"{count} observations")
    return found


async def test_what_is_measured(estate: Estates) -> None:
    await estate.control.apply([estate.routing(reads=100)])
    log = AccessLog(estate.control.access_log)
    begun = clock.epoch()
    await estate.side_of("/api/inventory/1?a=b", headers={"traceparent": "00-aa-bb-01", "x-request-id": "mine"})
    await estate.side_of("/api/inventory/1", headers={"x-fig-pin": "inventory=monolith"})
    await estate.side_of("/other")
    async with estate.client.post(estate.url + "/api/inventory/reserve", data=b"12345"):
        pass
    await estate.service.stop()
    async with estate.client.get(estate.url + "/api/inventory/2") as answer:
        assert answer.status == 503
    read, pinned, other, write, failed = await observed(log, 5)
    assert (read.route, read.side, read.status, read.flags) == ("inventory:read:0", "service", 200, "-")
    assert (read.context, read.kind, read.path, read.method) == ("inventory", "read", "/api/inventory/1?a=b", "GET")
    assert (read.traceparent, read.request_id) == ("00-aa-bb-01", "mine")
    assert abs(read.time - begun) < 5
    assert read.upstream_us is not None
    assert read.duration_us is not None
    assert 0 < read.upstream_us < read.duration_us < 5_000_000
    assert (pinned.route, pinned.variant, pinned.side) == ("inventory:read:0", "pinned", "monolith")
    assert (other.route, other.context, other.kind, other.cluster) == ("pass", None, "pass", "monolith")
    assert (write.route, write.kind, write.side, write.bytes_in) == ("inventory:write:1", "write", "monolith", 5)
    assert write.bytes_out > 0
    assert (failed.status, failed.failed, failed.held) == (503, True, False)
    assert failed.flags != "-"


async def test_rotation_loses_nothing(estate: Estates) -> None:
    log = AccessLog(estate.control.access_log)
    assert not await rotate(estate.control)
    for number in range(30):
        await estate.side_of(f"/{number}")
        if number == 10:
            await observed(log, 1)
            place = log.place
            log = AccessLog(estate.control.access_log, place)
        if number == 15:

            async def written() -> bool:
                return estate.control.access_log.stat().st_size > 0

            await clock.until(written, timeout=5, what="lines")
            assert await rotate(estate.control, above=0)
    rest: list[Observation] = []

    async def all_of_them() -> bool:
        rest.extend(log.read())
        return bool(rest) and rest[-1].path == "/29"

    await clock.until(all_of_them, timeout=5, what="the last line")
    paths = [one.path for one in rest]
    assert paths == [f"/{number}" for number in range(30 - len(paths), 30)]
    assert len(paths) >= 19

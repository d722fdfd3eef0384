"""A trace out of Jaeger or Zipkin, by their query interfaces."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson

from stranglerfig.foundation.errors import FigError
from stranglerfig.telemetry.tree import Told, from_jaeger, from_zipkin

TIMEOUT = 20.0


async def read(url: str, trace: str) -> list[Told]:
    """The spans of a trace, in no order; whether ``url`` is Jaeger's or Zipkin's is found out by asking.

    Args:
        url: the base of the query interface: ``http://127.0.0.1:16686``.
        trace: 32 hexadecimal digits.

    Raises:
        FigError: ``unknown_trace``, ``traces_unreachable``.
    """
    base = url.rstrip("/")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:
            # Jaeger answers in JSON also when it does not know the trace; Zipkin has no such path.
            found = await _json(session, f"{base}/api/traces/{trace}")
            if isinstance(found, dict) and ("data" in found or "errors" in found):
                return _some(from_jaeger(found), trace)
            async with session.get(f"{base}/api/v2/trace/{trace}") as answer:
                text = await answer.read()
                if answer.status == 404 and b"not found" in text and trace.encode() in text:
                    return _some([], trace)
                if answer.status == 200:
                    return _some(from_zipkin(orjson.loads(text)), trace)
    except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _unreachable(url, repr(error)) from error
    raise _unreachable(url, "it answers neither as Jaeger nor as Zipkin does")


async def _json(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        try:
            return orjson.loads(await answer.read())
        except orjson.JSONDecodeError:
            return None


def _some(found: list[Told], trace: str) -> list[Told]:
    if not found:
        raise FigError(
            "unknown_trace",
            f"there is no trace {trace}: it was not sampled, has not arrived yet, or was forgotten",
            "Look again after a few seconds; see telemetry.sampling.",
            trace=trace,
        )
    return found


def _unreachable(url: str, why: str) -> FigError:
    return FigError(
        "traces_unreachable",
        f"no trace can be read from {url}: {why}",
        "Check that it runs, and that it is the query interface's address (Jaeger's is on port 16686).",
        url=url,
    )

"""Traces as values: the W3C trace context, where spans go, and a trace as it is read back."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

LINK: Final = "link."
"""Begins the names of the tags that hold a span's links in Zipkin, which has no links."""
_FORM = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")


class TraceContext(NamedTuple):
    """Where in which trace something happens (W3C Trace Context, level 1).

    Attributes:
        trace: 32 hexadecimal digits, not all zero.
        span: 16 hexadecimal digits, not all zero: the caller's span.
    """

    trace: str
    span: str
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"

    def child(self) -> TraceContext:
        """The same trace, a new span."""
        return self._replace(span=secrets.token_hex(8))


def new() -> TraceContext:
    """The beginning of a trace."""
    return TraceContext(secrets.token_hex(16), secrets.token_hex(8))


def parse(traceparent: str | None) -> TraceContext | None:
    """A ``traceparent`` header; None for a missing or invalid one, which by the standard is to be ignored."""
    match = _FORM.match(traceparent.strip()) if traceparent else None
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return TraceContext(trace, span, bool(int(flags, 16) & 1))


@dataclass(frozen=True)
class Destination:
    """Where spans go.

    Attributes:
        form: how they are told: OTLP over HTTP, or Zipkin's JSON (version 2).
        url: the base of the endpoint, without a slash at its end: ``http://127.0.0.1:4318``.
        sampling: the share of requests that the façade samples, 0 to 1; all others follow its decision.
    """

    form: Literal["otlp", "zipkin"]
    url: str
    sampling: float = 1.0

"""Identifiers: time-ordered, so that rows and logs sort by birth."""

from __future__ import annotations

import secrets
import uuid

from stranglerfig.foundation import clock


def new_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7) as text: 48 bits of milliseconds, then randomness."""
    milliseconds = int(clock.epoch() * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    value |= 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))


def nonce() -> str:
    """Sixteen random hexadecimal digits, for markers and fences."""
    return secrets.token_hex(8)

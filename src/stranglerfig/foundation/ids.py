"""Identifiers: time-ordered, so that rows and logs sort by birth."""

from __future__ import annotations

import secrets
from typing import Final

from stranglerfig.foundation import clock

_FIXED: Final = 0b1111 << 76 | 0b11 << 62
_VERSION: Final = 7 << 76 | 0b10 << 62
"""The version, and the variant of RFC 9562."""


def new_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7) as text: 48 bits of milliseconds, then randomness."""
    milliseconds = int(clock.epoch() * 1000) & (1 << 48) - 1
    value = milliseconds << 80 | int.from_bytes(secrets.token_bytes(10), "big")
    told = f"{value & ~_FIXED | _VERSION:032x}"
    return f"{told[:8]}-{told[8:12]}-{told[12:16]}-{told[16:20]}-{told[20:]}"


def nonce() -> str:
    """Sixteen random hexadecimal digits, for markers and fences."""
    return secrets.token_hex(8)

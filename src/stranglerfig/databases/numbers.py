"""Floats as PostgreSQL writes them: the text that two servers and a log can compare. Pure."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from fractions import Fraction


def float8(found: float | str) -> str:
    """Shortest digits that read back the same, with PostgreSQL's rule for exponents (its ``d2s.c``)."""
    if isinstance(found, str):
        return found  # NaN, Infinity, -Infinity
    value = float(found)
    text = repr(value)
    if abs(value) < 1e15:
        return text.removesuffix(".0") if "e" not in text else _exponent(text, 15)
    # Only up here a few digits may lie exactly between two floats: Python takes them, PostgreSQL does not.
    beside = (math.nextafter(value, -math.inf), math.nextafter(value, math.inf))
    if not _inside(text, value, *beside):
        text = next(t for n in (15, 16) if float(t := f"{value:.{n}e}") == value and _inside(t, value, *beside))
    return _exponent(text, 15)


def float4(found: float | str) -> str:
    """The same for four bytes (``f2s.c``)."""
    if isinstance(found, str):
        return found
    packed = struct.pack("f", found)
    (value,) = struct.unpack("f", packed)
    text = ""
    for digits in range(6 if abs(value) > 1.2e-38 else 1, 10):
        text = f"{value:.{digits}g}"
        if struct.pack("f", float(text)) == packed and (abs(value) < 1e6 or _inside(text, value, *_beside(packed))):
            break
    return _exponent(text, 6)


def _beside(packed: bytes) -> tuple[float, float]:
    """The four-byte floats next to a finite one, away from zero last."""
    (number,) = struct.unpack("I", packed)
    below, above = (struct.unpack("f", struct.pack("I", number + step))[0] for step in (-1, 1))
    return below, above


def _inside(text: str, value: float, below: float, above: float) -> bool:
    """Whether ``text`` is nearer to ``value`` than to its neighbours; not at the same distance."""
    exact, given = Fraction(text), Fraction(value)
    return all(math.isinf(other) or 2 * exact != given + Fraction(other) for other in (below, above))


def _exponent(text: str, most: int) -> str:
    """``text``, any decimal form, as PostgreSQL writes a float: with an exponent below -4 and from ``most`` on."""
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    power = 0 if shown == "0" else len(digits) + exponent - 1
    minus = "-" if sign else ""
    if power < -4 or power >= most:
        fraction = f".{shown[1:]}" if len(shown) > 1 else ""
        return f"{minus}{shown[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{minus}0.{'0' * (-power - 1)}{shown}"
    whole = shown[: power + 1].ljust(power + 1, "0")
    fraction = shown[power + 1 :]
    return f"{minus}{whole}.{fraction}" if fraction else f"{minus}{whole}"

"""The page of one extraction."""

from __future__ import annotations

from stranglerfig.console.api import Route
from stranglerfig.console.reading import Reading


def routes(reading: Reading) -> list[Route]:
    """What this page asks."""
    return []

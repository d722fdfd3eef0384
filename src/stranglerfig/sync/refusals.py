"""What a target refuses: whether an error speaks of a row or of the server, and what a flow that stands says."""

from __future__ import annotations

from typing import Any

import psycopg

from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.model import NeedsOrder

# SQLSTATE classes that speak of a row or a statement, not of the server: data, constraints, names, triggers' refusals.
_ABOUT_DATA = frozenset({"0A", "21", "22", "23", "42", "44", "P0", "FI"})


class Stopped(Exception):
    """The flow stands at a change until a person decides: ``parked`` is its row in ``fig.parked``."""

    def __init__(self, parked: int, error: FigError) -> None:
        super().__init__(error.message)
        self.parked = parked
        self.error = error


def is_about_data(error: BaseException) -> bool:
    """Whether the target refused a row or a statement, rather than being away or busy."""
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "")[:2] in _ABOUT_DATA
    return isinstance(error, (NeedsOrder, FigError))


def final(error: BaseException) -> bool:
    """Whether it speaks of the flow as a whole, so that no single change is to blame."""
    return isinstance(error, FigError) and error.code in (
        "overtaken",
        "snapshot_on_owner",
        "snapshot_orphans",
        "snapshot_backward",
    )


def said(error: Exception) -> tuple[str, str]:
    """An error's code, and what it says."""
    if isinstance(error, FigError):
        return error.code, error.message
    if isinstance(error, psycopg.Error):
        parts = [error.diag.message_primary or str(error), error.diag.message_detail, error.diag.context]
        return error.sqlstate or "error", "; ".join(p for p in parts if p)
    return "error", str(error)


def stopped_error(change: dict[str, Any], said: str, parked: int) -> FigError:
    """What a flow that stands says: the row, what the database said, and what to do."""
    row = change.get("after") or change.get("before")
    return FigError(
        "change_refused",
        f"a change of {change['table']} cannot be applied: {said}",
        f"fig sync parked says what leads out; then fig sync retry {parked}, or, to leave the change out, fig sync"
        f" skip {parked}.",
        table=change["table"],
        operation=change["op"],
        row=row,
        parked=parked,
    )

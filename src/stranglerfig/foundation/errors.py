"""The one base of every error that a user may see: a code, what happened, what to do, and the facts."""

from __future__ import annotations

from typing import Any


class FigError(Exception):
    """Something that was refused or failed, said so that its reader can act.

    Attributes:
        code: a stable snake_case name; ``fig explain CODE`` expands it.
        message: what happened and where, one sentence, without secrets.
        remedy: what to do about it, one sentence; may be empty when nothing can be done.
        context: the facts (JSON-able), for ``--json`` and the audit trail.
    """

    def __init__(self, code: str, message: str, remedy: str = "", **context: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def as_dict(self) -> dict[str, Any]:
        """The error as ``--json`` prints it."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy, "context": self.context}

"""What the product needs of a registry, be it ours in the control database or another one reached by its URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stranglerfig.schemas.formats import Level, Problem, Text
from stranglerfig.schemas.subjects import Given, Version


class Registry(Protocol):
    """Subjects, their versions and the rules that hold between them.

    Raises (all): FigError ``registry_unreachable`` or ``database_unreachable``.
    """

    async def prepare(self) -> None:
        """Make ready: bring our own tables forward, see that another registry answers."""
        ...

    async def register(
        self, subject: str, schema: Given, *, by: str, normalize: bool = False, level: Level | None = None
    ) -> Version:
        """Register ``schema``; the same schema again is the version it already has.

        Args:
            by: who does it, for the history (another registry does not keep it).
            level: the compatibility of a subject that has none of its own yet.

        Raises:
            FigError: ``schema_invalid``; ``schema_incompatible`` with the ``problems``; ``registry_closed``.
        """
        ...

    async def problems(self, subject: str, schema: Given) -> list[Problem]:
        """Why ``schema`` could not be registered now; empty when it could (``schema_invalid`` when it is none)."""
        ...

    async def versions(self, subject: str) -> Sequence[Version]:
        """The versions in force, oldest first; none for a subject that is unknown."""
        ...

    async def subjects(self) -> list[str]:
        """The subjects that have versions in force, by name."""
        ...

    async def level(self, subject: str) -> Level:
        """The compatibility that a subject's next version must have."""
        ...

    async def text(self, schema: Given) -> Text:
        """The schema with the texts that it refers to (``schema_invalid`` when one is unknown)."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

"""A real controller whose steps touch nothing and whose gates let pass: for who may do what, when, and who agreed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from stranglerfig.extraction.controller import Controller
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.stages import Place
from stranglerfig.extraction.store import Standing, Store


class Walk:
    """Stands in for what steps do to databases and routes; where the extraction stands is real."""

    def __init__(self, context: ContextParts, store: Store, hook: Callable[[], Awaitable[None]]) -> None:
        self.context, self.settings, self.store = context, context.settings, store
        self._hook = hook

    def effects(self, standing: Standing, place: Place) -> list[str]:
        return [f"go to {place}"]

    async def plan(self, standing: Standing) -> dict[str, Any]:
        return {"text": "planned"}

    async def ready_for(self, standing: Standing, place: Place) -> None:
        await self._hook()

    async def enter(self, standing: Standing, place: Place, *, by: str, gate: Any) -> Standing:
        return await self.store.enter(standing, place, by=by, gate=gate)

    async def leave(self, standing: Standing, place: Place, *, by: str, gate: Any) -> Standing:
        return await self.store.enter(standing, place, by=by)


class Gateless(Controller):
    """The controller with steps that touch nothing, and gates that let pass."""

    async def _pass_gate(self, *_: Any) -> None:
        return None

    def _steps(self, context: str, store: Store, progress: Any, *, seconds: float | None = None) -> Any:
        return Walk(self._parts.contexts[context], store, self.hook)

    async def hook(self) -> None:
        """What happens between the first look at a policy and the step."""

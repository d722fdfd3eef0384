"""What the controller makes of queue routes: the router's table, what a plan warns of, what a cut-over wants."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stranglerfig.extraction import messages
from stranglerfig.extraction.cutover_plan import CutoverResult
from stranglerfig.extraction.ports import HoldStats
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.extraction.stages import Place, Stage
from stranglerfig.extraction.store import Standing
from stranglerfig.facade.messages import ContextTable
from stranglerfig.facade.routing_client import RouterClient
from stranglerfig.foundation.errors import FigError


def settings(**queue: Any) -> ExtractionSettings:
    return ExtractionSettings.model_validate(
        {
            "context": "inventory",
            "service": {"url": "http://127.0.0.1:1", "database": "postgresql://a@b/c"},
            "routes": {"writes": [{"queue": "in", "types": ["AdjustStock", "ReserveItem"]}]},
            "queues": {"in": {"monolith": "mono", "service": "svc"} | queue},
            "tables": [{"from": "public.inventory", "to": "item", "key": {"id": "id"}}],
        }
    )


def standing(stage: Stage, step: str = "", owner: str = "monolith") -> Standing:
    return Standing("inventory", Place(stage, step), 1, 1, owner, 0, {})


@pytest.mark.parametrize(
    ("found", "fenced", "table"),
    [
        (standing(Stage.SYNC), False, ContextTable("inventory", "monolith", 0.0)),
        (standing(Stage.READS, "10"), False, ContextTable("inventory", "monolith", 10.0)),
        (standing(Stage.READS, "100"), True, ContextTable("inventory", "fenced", 100.0)),
        (standing(Stage.WRITES, owner="service"), False, ContextTable("inventory", "service", 100.0)),
        (standing(Stage.WRITES, owner="service"), True, ContextTable("inventory", "fenced", 100.0)),
        # The way back, before the stage's row has followed the data: the reads stay where they were.
        (standing(Stage.WRITES), False, ContextTable("inventory", "monolith", 100.0)),
    ],
)
def test_messages_go_where_requests_go(found: Standing, fenced: bool, table: ContextTable) -> None:
    assert messages.table(settings(), found, fenced=fenced) == table


def test_a_plan_says_which_commands_could_be_done_twice_and_when() -> None:
    (without,) = messages.warnings(settings())
    assert without.startswith("AdjustStock, ReserveItem of in: no command_id is declared, so each could be done twice")
    assert "When a cut-over lies between, the second time is at the other side." in without
    (with_id,) = messages.warnings(settings(command_id="message_id"))
    assert "both sides must know it by its message_id" in with_id and "done twice" not in with_id


@pytest.mark.parametrize("nodes", [None, ()])
def test_a_cutover_of_commands_wants_to_know_what_is_in_flight(nodes: tuple[str, ...] | None) -> None:
    router = None if nodes is None else RouterClient("http://127.0.0.1:1", Path("table.json"), nodes)
    with pytest.raises(FigError) as caught:
        messages.require_knowledge(SimpleNamespace(router=router), settings())  # type: ignore[arg-type]
    assert caught.value.code == "in_flight_unknown"


def test_the_result_of_a_cutover_tells_of_commands_where_some_waited() -> None:
    alone = CutoverResult("forward", 1, 10.0, HoldStats(3, 1, 2, 3), {}).as_dict()
    assert "held_commands" not in alone
    both = CutoverResult("forward", 1, 10.0, HoldStats(3, 1, 2, 3).with_commands(7, 20.0, 30.0), {}).as_dict()
    assert (both["held_requests"], both["held_commands"], both["commands_max_ms"]) == (3, 7, 30.0)


async def test_without_a_router_nothing_is_asked_of_one() -> None:
    parts: Any = SimpleNamespace(router=None, contexts={"inventory": SimpleNamespace(settings=settings())})
    await messages.apply_tables(parts, None)  # type: ignore[arg-type]
    await messages.hold_commands(parts, None, "inventory", 1, timeout=1)  # type: ignore[arg-type]
    assert await messages.held_commands(parts, "inventory", 1, HoldStats(1)) == HoldStats(1)

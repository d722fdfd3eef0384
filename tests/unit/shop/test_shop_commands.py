"""The ledger sees commands that were done out of order or answered in two ways; they reach the application's code."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.shop.commands import ask
from examples.shop.ledger import Findings, Lines, Side, _Judgement


def judged(writes: list[dict[str, Any]], repeated: list[dict[str, Any]]) -> Findings:
    findings = Findings()
    _Judgement(Lines(writes, repeated=repeated), Side({}, {}, {}), {}, findings, False, 1).commands()
    return findings


def line(number: int, done_at: str, item: int = 1, run: str = "1-a") -> dict[str, Any]:
    return {"key": f"{run}:{number}", "command": number, "item_id": item, "done_at": done_at}


@pytest.mark.parametrize(
    ("writes", "misordered"),
    [
        ([line(1, "10:00"), line(2, "10:01")], 0),
        ([line(2, "10:01"), line(1, "10:00")], 0),
        ([line(1, "10:01"), line(2, "10:00")], 1),
        ([line(1, "10:01"), line(2, "10:00", item=2)], 0),
        ([line(1, "10:01"), line(2, "10:01")], 1),
        ([line(9, "10:01"), line(1, "10:02", run="1-b")], 0),
        ([line(9, "10:01"), line(10, "10:02")], 0),
    ],
)
def test_commands_of_an_item_are_done_in_their_order(writes: list[dict[str, Any]], misordered: int) -> None:
    assert judged(writes, []).counts["misordered"] == misordered


def test_an_answer_again_is_no_contradiction_unless_it_says_something_else() -> None:
    assert judged([], [{"repeated": "a", "same": True}]).counts["contradicted"] == 0
    assert judged([], [{"repeated": "a", "same": False}]).counts["contradicted"] == 1


async def test_a_command_is_a_request_of_the_application() -> None:
    async def adjust(request: Request) -> JSONResponse:
        return JSONResponse({"got": await request.json(), "key": request.headers["idempotency-key"]}, 201)

    app = Starlette(routes=[Route("/api/inventory/adjust", adjust, methods=["POST"])])
    status, body = await ask(app, "/api/inventory/adjust", b'{"delta": 1}', {"idempotency-key": "k"})
    assert status == 201 and body == b'{"got":{"delta":1},"key":"k"}'
    assert (await ask(app, "/nowhere", b"", {}))[0] == 404

"""Kafka Connect's answers in our words: here they are played, the contract tests ask the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stranglerfig.capture import connect as module
from stranglerfig.capture.connect import Connect
from stranglerfig.foundation.errors import FigError

Answer = tuple[int, Any]


class Played:
    """Answers that are given in turn, the last one for ever; what was asked."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path_qs))
        waiting = self.answers[f"{request.method} {request.path_qs}"]
        status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(body, str):
            return web.Response(status=status, text=body)
        return web.json_response(body, status=status) if body is not None else web.Response(status=status)


@asynccontextmanager
async def playing(answers: dict[str, list[Answer]]) -> AsyncIterator[tuple[Connect, Played]]:
    played = Played(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", played.answer)
    async with TestServer(app) as server, Connect(str(server.make_url("/"))) as connect:
        yield connect, played


STATUS = {
    "connector": {"state": "RUNNING"},
    "tasks": [{"state": "FAILED", "trace": "a.b.SomeException: no password s3cret\n\tat x"}],
}
CONFIG = {"connector.class": "io.debezium.X", "database.password": "s3cret"}


async def test_a_rebalance_is_waited_out_and_said_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = (409, {"error_code": 409, "message": "Cannot complete request because of a conflicting operation"})
    async with playing({"PUT /connectors/x/stop": [busy, busy, (204, None)]}) as (connect, played):
        await connect.stop("x")
        assert len(played.asked) == 3
    monkeypatch.setattr(module, "REBALANCE_SECONDS", 0.3)
    async with playing({"PUT /connectors/x/stop": [busy]}) as (connect, _):
        with pytest.raises(FigError) as raised:
            await connect.stop("x")
    assert raised.value.code == "connect_rebalancing" and "conflicting operation" in raised.value.message


async def test_a_connector_is_made_stopped_or_given_its_configuration() -> None:
    answers: dict[str, list[Answer]] = {
        "GET /connectors/x": [(404, {"message": "no"}), (200, {})],
        "POST /connectors": [(201, {})],
        "PUT /connectors/x/config": [(200, {})],
    }
    async with playing(answers) as (connect, played):
        await connect.configure("x", CONFIG)
        await connect.configure("x", CONFIG)
    assert [method for method, _ in played.asked] == ["GET", "POST", "GET", "PUT"]


async def test_an_older_connect_that_does_not_know_the_initial_state_is_given_the_configuration() -> None:
    answers: dict[str, list[Answer]] = {
        "GET /connectors/x": [(404, {"message": "no"})],
        "POST /connectors": [(400, {"message": 'Unrecognized field "initial_state"'})],
        "PUT /connectors/x/config": [(201, {})],
    }
    async with playing(answers) as (connect, played):
        await connect.configure("x", CONFIG)
    assert played.asked[-1] == ("PUT", "/connectors/x/config")


async def test_what_is_wrong_is_said_field_by_field_and_without_the_password() -> None:
    found = {"configs": [
        {"value": {"name": "database.hostname", "errors": ["Unable to connect with s3cret"]}},
        {"value": {"name": "topic.prefix", "errors": []}},
    ]}  # fmt: skip
    answers: dict[str, list[Answer]] = {
        "GET /connectors/x": [(200, {})],
        "PUT /connectors/x/config": [(400, {"message": "invalid: s3cret"})],
        "PUT /connector-plugins/X/config/validate": [(200, found), (500, "broken")],
        "GET /connectors/x/status": [(200, STATUS), (404, {})],
    }
    async with playing(answers) as (connect, _):
        with pytest.raises(FigError) as raised:
            await connect.configure("x", CONFIG)
        assert raised.value.context["fields"] == {"database.hostname": ["Unable to connect with ***"]}
        with pytest.raises(FigError) as bare:
            await connect.configure("x", CONFIG)
        assert "invalid: ***" in bare.value.message and "s3cret" not in str(bare.value.as_dict())
        status = await connect.status("x")
        assert status is not None and status.failed and "***" in str(status.trace)
        assert await connect.status("x") is None


async def test_where_the_plugin_is_missing_it_is_said_where_it_goes() -> None:
    said = "Failed to find any class that implements Connector and which name matches io.debezium.X"
    answers: dict[str, list[Answer]] = {
        "GET /connectors/x": [(404, {})],
        "POST /connectors": [(500, {"message": said})],
        "PUT /connector-plugins/X/config/validate": [(404, {"message": said})],
    }
    async with playing(answers) as (connect, _):
        with pytest.raises(FigError) as raised:
            await connect.configure("x", CONFIG)
    assert raised.value.code == "connector_invalid" and "plugin.path" in raised.value.remedy


async def test_any_other_answer_is_refused_with_its_words() -> None:
    async with playing({"DELETE /connectors/x/offsets": [(405, "not here")]}) as (connect, _):
        with pytest.raises(FigError) as raised:
            await connect.forget_offsets("x")
    assert raised.value.code == "connect_refused" and "405: not here" in raised.value.message


async def test_a_connector_is_stopped_taken_up_again_and_removed() -> None:
    answers: dict[str, list[Answer]] = {
        "PUT /connectors/x/stop": [(204, None)],
        "PUT /connectors/x/resume": [(202, None)],
        "DELETE /connectors/x": [(204, None), (404, {})],
        "GET /connectors/x/status": [
            (200, {"connector": {"state": "STOPPED"}, "tasks": [{"state": "RUNNING"}]}),
            (200, {"connector": {"state": "STOPPED"}, "tasks": []}),
        ],
    }
    async with playing(answers) as (connect, _):
        await connect.stop("x")
        await connect.resume("x")
        await connect.delete("x")
        await connect.delete("x")
        await connect.until_stopped("x", timeout=5)


async def test_a_connect_that_is_not_there_is_unreachable() -> None:
    async with Connect("http://127.0.0.1:1") as connect:
        with pytest.raises(FigError) as raised:
            await connect.status("x")
    assert raised.value.code == "connect_unreachable" and "127.0.0.1:1" in raised.value.message

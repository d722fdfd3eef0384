"""Answers: JSON that the database has rendered already goes out as it is."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response


class BadRequest(Exception):
    """The request cannot be understood."""


def rendered(text: str, status: int = 200) -> Response:
    """JSON text as the database wrote it."""
    return Response(text, status, media_type="application/json")


def answer(content: Any, status: int = 200) -> Response:
    """A Python value as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def refusal(code: str, status: int, **facts: Any) -> Response:
    """A business refusal."""
    return answer({"error": code, **facts}, status)


async def body(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    try:
        content = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest("the body is not JSON") from error
    if not isinstance(content, dict):
        raise BadRequest("the body is not a JSON object")
    return content


def integer(content: dict[str, Any], name: str, *, least: int | None = None) -> int:
    """A whole number out of the body."""
    value = content.get(name)
    if type(value) is not int or (least is not None and value < least) or abs(value) >= 2**31:
        raise BadRequest(f"{name} is missing or not a whole number in range")
    return value


def idempotency_key(request: Request) -> str:
    """The key that makes a repeated request the same request."""
    key = request.headers.get("idempotency-key", "")
    if not key or len(key) > 200:
        raise BadRequest("the header Idempotency-Key is missing")
    return key

"""What the shop's services answer and are asked: JSON, refusals, idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from starlette.requests import Request
from starlette.responses import Response

from stranglerfig.foundation.errors import FigError


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks: the idempotency key, and the trace that it is part of."""

    key: str
    trace: str | None


class BadRequest(Exception):
    """The request cannot be understood."""


def rendered(text: str | bytes, status: int = 200) -> Response:
    """JSON text."""
    return Response(text, status, media_type="application/json")


def refusal(code: str, status: int, **facts: Any) -> Response:
    """A refusal."""
    return rendered(orjson.dumps({"error": code, **facts}), status)


def integer(content: dict[str, Any], name: str, *, least: int | None = None) -> int:
    """A whole number out of the body."""
    value = content.get(name)
    if type(value) is not int or (least is not None and value < least) or abs(value) >= 2**31:
        raise BadRequest(f"{name} is missing or not a whole number in range")
    return value


async def command(request: Request) -> tuple[dict[str, Any], Asked]:
    """Body of a write, and who asks."""
    try:
        content = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise BadRequest("the body is not JSON") from error
    key = request.headers.get("idempotency-key", "")
    if not isinstance(content, dict) or not key or len(key) > 200:
        raise BadRequest("a JSON object and the header Idempotency-Key are wanted")
    return content, Asked(key, request.headers.get("traceparent"))


async def _unavailable(_: Request, error: Exception) -> Response:
    """What the database refused or could not do; the client may ask again with the same key."""
    return refusal("database", 503, reason=str(error).strip().split("\n", 1)[0])


async def _bad_request(_: Request, error: Exception) -> Response:
    return refusal("bad_request", 400, reason=str(error))


TROUBLES: Any = {psycopg.Error: _unavailable, FigError: _unavailable, BadRequest: _bad_request}
"""What an application answers to what goes wrong: an application's ``exception_handlers``."""

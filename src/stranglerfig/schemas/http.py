"""What every route of the registry's server needs: parameters and bodies read, answers written, errors numbered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
import psycopg
from aiohttp import web

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import dialect
from stranglerfig.schemas.store import LATEST
from stranglerfig.schemas.subjects import Deleted, subject_name

log = logging.getLogger(__name__)
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LARGEST_BODY = 4 * 1024 * 1024
"""Bytes of a request; a larger one is answered 413."""


def answer(value: Any, status: int = 200) -> web.Response:
    """A value as the dialect's JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type=dialect.CONTENT_TYPE)


def failed(number: int, message: str) -> web.Response:
    """An error as the dialect's JSON."""
    return answer({"error_code": number, "message": message}, dialect.status_of(number))


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure becomes a number and a message; what we did not foresee is logged and answered 500."""
    try:
        return await handler(request)
    except FigError as error:
        number = dialect.number_of(error)
        return failed(number, f"{error.message} {error.remedy}".strip())
    except web.HTTPException as error:
        return failed(error.status, f"HTTP {error.status} {error.reason}")
    except psycopg.Error as error:
        log.warning("the registry's database refused: %s", error, extra={"action": "registry_failed"})
        return failed(dialect.STORE_FAILED, "The registry's database could not do it; try again.")


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is true or false; absent is false."""
    return request.query.get(name, "").lower() == "true"


def deleted(request: web.Request) -> Deleted:
    """Which versions ``deleted`` and ``deletedOnly`` ask for; the latter comes first."""
    if flag(request, "deletedOnly"):
        return Deleted.ONLY
    return Deleted.ALSO if flag(request, "deleted") else Deleted.NOT


def page(request: web.Request, items: Sequence[T]) -> Sequence[T]:
    """The part of a list that ``offset`` and ``limit`` ask for; a negative limit is none."""
    offset, limit = max(_number(request, "offset", 0), 0), _number(request, "limit", -1)
    return items[offset : offset + limit] if limit >= 0 else items[offset:]


def _number(request: web.Request, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError:
        raise dialect.bad_request(f"'{name}' is not a number") from None


def subject(request: web.Request) -> str:
    """The subject in the path, decoded."""
    return subject_name(request.match_info["subject"])


def version(request: web.Request) -> int:
    """The version in the path; ``latest`` and -1 are the newest.

    Raises:
        FigError: ``bad_schema_version``.
    """
    text = request.match_info.get("version", "latest")
    if text in ("latest", "-1"):
        return LATEST
    if text.isascii() and text.isdigit() and 0 < int(text) < 2**31:
        return int(text)
    raise FigError(
        "bad_schema_version",
        f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1]"
        ' and the string "latest".',
        version=text,
    )


def schema_id(request: web.Request) -> int:
    """The id in the path; one that cannot be is like one that is not known (-1 finds nothing)."""
    text = request.match_info["id"]
    return int(text) if text.isascii() and text.isdigit() and int(text) < 2**31 else -1


async def body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        HTTPBadRequest: it is no JSON. FigError: ``bad_registry_request`` when it is no object.
    """
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise web.HTTPBadRequest(reason="Bad Request: the body is not JSON") from None
    if not isinstance(found, dict):
        raise dialect.bad_request("the body is not an object")
    return found

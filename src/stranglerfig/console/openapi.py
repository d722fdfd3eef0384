"""The API's OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0), made of the routes' own models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import stranglerfig
from stranglerfig.console.api import EVENT_STREAM, Refused, Route

_PART = re.compile(r"\{(\w+)\}")
_REF = "#/components/schemas/{model}"


def schemas(routes: Sequence[Route]) -> dict[str, Any]:
    """The JSON Schema of every model that the routes speak of, by name."""
    answers: list[type[BaseModel]] = [Refused, *(route.answer for route in routes)]
    given = [model for route in routes for model in (route.query, route.body) if model is not None]
    wanted = [(model, "serialization") for model in answers] + [(model, "validation") for model in given]
    _, found = models_json_schema(dict.fromkeys(wanted), ref_template=_REF)  # type: ignore[arg-type]
    return dict(sorted(found["$defs"].items()))


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document."""
    known = schemas(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "stranglerfig console", "version": stranglerfig.__version__},
        "paths": paths,
        "components": {
            "schemas": known,
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": _model(route.answer)}
    if route.streams:
        content[EVENT_STREAM] = {"schema": {"type": "string"}}
    refusals = {400, 403, 503, *route.statuses, *(() if route.public else (401,))}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PART.findall(route.path)
    ]
    if route.query is not None:
        shape = known[route.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": schema}
            for name, schema in shape["properties"].items()
        ]
    found: dict[str, Any] = {
        "operationId": _PART.sub(r"\1", f"{route.method.lower()}{route.path}").strip("/").replace("/", "_"),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": content},
            **{str(status): _refused(status) for status in sorted(refusals)},
        },
        "security": [] if route.public else [{"session": []}],
    }
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": _model(route.body)}}
    return found


def _model(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}}


def _refused(status: int) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {"application/json": _model(Refused)}}

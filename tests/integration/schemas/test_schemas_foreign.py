"""Every route of the registry, asked with what no client would send: it refuses, and never fails or hangs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stranglerfig.schemas.routes import SchemaRoutes
from stranglerfig.schemas.routes_settings import SettingsRoutes
from stranglerfig.schemas.server import RegistryServer
from stranglerfig.schemas.store import SchemaStore
from tests.http_foreign import asked

ANYTHING = [{"type": kind} for kind in ("string", "integer", "boolean", "null", "array", "object")]
TEXTS = ['"string"', '{"type": "record", "name": "A", "fields": [{"name": "a", "type": "A"}]}', '{"type": "object"}']
GIVEN = {
    "schema": {"anyOf": [{"type": "string", "enum": TEXTS}, *ANYTHING]},
    "schemaType": {"anyOf": [{"type": "string", "enum": ["AVRO", "JSON", "PROTOBUF"]}, *ANYTHING]},
    "references": {
        "anyOf": [
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"}, "subject": {"type": "string"}, "version": {"type": "integer"}
                    },
                },
            },
            *ANYTHING,
        ]
    },
    "compatibility": {"anyOf": [{"type": "string", "enum": ["NONE", "FULL", "BACKWARD_TRANSITIVE"]}, *ANYTHING]},
    "mode": {"anyOf": [{"type": "string", "enum": ["READWRITE", "IMPORT", "READONLY"]}, *ANYTHING]},
    "id": {"anyOf": ANYTHING},
    "version": {"anyOf": ANYTHING},
}  # fmt: skip
ASKED = ("deleted", "permanent", "normalize", "verbose", "format", "offset", "limit", "subjectPrefix", "force")


def document(store: SchemaStore) -> dict[str, Any]:
    """OpenAPI of all that is routed, so that no route is left out: anything may come, anything but a failure go."""
    paths: dict[str, Any] = {}
    for route in (*SchemaRoutes(store).routes(), *SettingsRoutes(store).routes()):
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        operation: dict[str, Any] = {
            "parameters": [
                *(
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in re.findall(r"\{(\w+)\}", path)
                ),
                *({"name": name, "in": "query", "schema": {"type": "string"}} for name in ASKED),
            ],
            "responses": {"default": {"description": ""}},
        }
        if route.method in ("POST", "PUT"):
            body = {"anyOf": [{"type": "object", "properties": GIVEN}, *ANYTHING]}
            operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
        paths.setdefault(path, {})[route.method.lower()] = operation
    return {"openapi": "3.1.0", "info": {"title": "registry", "version": "1"}, "paths": paths}


@pytest.mark.timeout(300)
async def test_nothing_breaks_it(server: RegistryServer, store: SchemaStore, ask: Any, tmp_path: Path) -> None:
    await ask.register("names-value", TEXTS[0])
    url = f"http://127.0.0.1:{server.port}"
    described = document(store)
    said = await asked(tmp_path, url, described, checks="not_a_server_error")
    assert re.search(rf"Tested: {sum(len(path) for path in described['paths'].values())}\b", said), said[-3000:]
    await asked(tmp_path, url, described, checks="not_a_server_error", values={"subject": "names-value", "id": 1})
    assert (await ask("GET", "/schemas/types"))[0] == 200

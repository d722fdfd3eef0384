"""Requests that nobody would send, made from an OpenAPI document by schemathesis (https://schemathesis.readthedocs.io)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLES = int(os.environ.get("FIG_HTTP_EXAMPLES", "15"))
"""Requests for each operation beside those that its document's edges ask for; a thousand are for a night."""
PATIENCE = 20.0
"""Seconds in which an answer must have come."""


async def asked(
    folder: Path,
    url: str,
    document: Mapping[str, Any],
    *,
    checks: str = "all",
    headers: Mapping[str, str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> str:
    """Ask all that ``document`` describes, always the same; returns what was tested.

    Args:
        checks: which of schemathesis' checks must hold, by name.
        values: what parameters of these names are, instead of anything: so that there is something there.

    Raises:
        AssertionError: with what was found, and the request that shows it.
    """
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    config = folder / "schemathesis.toml"
    pairs = "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in (values or {}).items())
    config.write_text(f"[parameters]\n{pairs}" if pairs else "")
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["--config-file", str(config), "run", str(file), "--url", url, "--checks", checks]
    # Rules between two fields of a body cannot be told in its schema.
    command += ["--exclude-checks", "positive_data_acceptance"]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--generation-deterministic", "--no-color"]
    command += ["--request-timeout", str(PATIENCE)]
    for name, value in (headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    text = said.decode()
    assert process.returncode == 0, text[-8000:]
    return text

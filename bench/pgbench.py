"""``pgbench``, which comes with the embedded PostgreSQL: many small transactions at a rate, or as fast as they go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from psycopg import conninfo

from stranglerfig.runtime.embedded import binaries


def command(
    dsn: str, script: Path, *, clients: int, arguments: list[str], durable: bool = True
) -> subprocess.Popen[str]:
    """Start it; ``arguments`` are its own (``--transactions``, ``--rate``, ``--time`` …)."""
    parts = conninfo.conninfo_to_dict(dsn)
    environment = dict(os.environ) | {
        "PGOPTIONS": f"-c synchronous_commit={'on' if durable else 'off'}",
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGUSER": str(parts["user"]),
    }
    return subprocess.Popen(
        [
            str(binaries() / "pgbench"),
            *("--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--file={script}"),
            *arguments,
            str(parts["dbname"]),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout: float) -> str:
    """Wait for its end; what it said.

    Raises:
        RuntimeError: when it failed.
    """
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        raise RuntimeError(f"pgbench did not end: {said[-500:]}") from None
    if process.returncode:
        raise RuntimeError(f"pgbench failed: {said[-500:]}")
    return said

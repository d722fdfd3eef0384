"""What git says of a folder's repository, by its command."""

from __future__ import annotations

import asyncio
from pathlib import Path


class GitFailed(Exception):
    """There is no git, or it gives this reason."""


async def git(folder: Path, *arguments: str) -> str:
    """What a git command prints, run in a folder.

    Raises:
        GitFailed: with what it complains of, line by line.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "git", "-C", str(folder), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise GitFailed("there is no git on this machine") from error
    out, said = await process.communicate()
    if process.returncode:
        raise GitFailed(*(said.decode(errors="replace").strip().splitlines() or ["git gives no reason"]))
    return out.decode(errors="replace")

"""Which modules change together, from git: small commits only, as one that changes everything says nothing."""

from __future__ import annotations

from pathlib import Path

from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.git import GitFailed, git
from stranglerfig.seams.model import Commit, Coverage, Evidence

MOST_COMMITS = 2000
MOST_FILES = 30
"""Of sources in one commit: beyond it, somebody renamed or reformatted."""


async def collect(folder: Path, source: Path) -> Evidence:
    """The last commits of the repository that ``folder`` is in; paths are those below ``source``.

    Raises:
        FigError: ``no_git`` when there is no repository, or no git.
    """
    root = Path((await _git(folder, "rev-parse", "--show-toplevel")).strip())
    text = await _git(
        folder,
        "log",
        f"--max-count={MOST_COMMITS}",
        "--no-merges",
        "--name-only",
        "--format=%x00%h %s",
        "--",
        "*.py",
        "*.java",
    )
    return parse(text, root, source)


def parse(text: str, root: Path, source: Path) -> Evidence:
    """The evidence in what ``git log`` printed: of each commit a line ``NUL hash subject``, then its files."""
    commits, seen, huge = list[Commit](), 0, 0
    for part in text.split("\0")[1:]:
        first, *files = [line for line in part.splitlines() if line]
        seen += 1
        if len(files) > MOST_FILES:
            huge += 1
            continue
        paths = [root / file for file in files]
        modules = frozenset(str(path.relative_to(source)) for path in paths if path.is_relative_to(source))
        if len(modules) > 1:
            commit, _, subject = first.partition(" ")
            commits.append(Commit(commit, modules, subject))
    said = (
        f"{seen} commits, {len(commits)} of which change several modules; {huge} with over {MOST_FILES} files left out"
    )
    return Evidence(commits=tuple(commits), coverage=(Coverage("git", "read", said),))


async def _git(folder: Path, *arguments: str) -> str:
    try:
        return await git(folder, *arguments)
    except GitFailed as error:
        raise FigError(
            "no_git",
            f"git cannot read the history of {folder}: {error.args[-1]}",
            "Name a folder inside a git repository, or leave --git out.",
            folder=str(folder),
        ) from error

"""The steps by which our own tables were made, as they landed: ``python -m tests.landed_steps`` adds new ones.

A step that has landed is never edited: a database that has run it does not run it again, so that old installations and
new ones would differ. ``landed_steps.txt`` has the digest of each (of the text without lines of comments).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from stranglerfig.databases import ownership, versions
from stranglerfig.foundation import postgres
from stranglerfig.foundation.sql import load
from stranglerfig.kit import service
from stranglerfig.runtime import tables
from stranglerfig.sagas import instances
from stranglerfig.sync import target

FILE = Path(__file__).with_suffix(".txt")
SOURCE = Path(postgres.__file__).parents[1]
MARIADB = {
    ("stranglerfig.databases.mariadb", "messages.sql"): ("database", "message", "applied"),
    ("stranglerfig.databases.mariadb", "ownership.sql"): ("table", "guarded", "guard"),
    ("stranglerfig.sync.mariadb", "queries.sql"): ("marker", "parked"),
}
"""Statements that make what is ours in a MariaDB, which are run as often as anybody comes: there are no steps there."""


def rooms() -> list[postgres.Tables]:
    """Every room that keeps tables in a PostgreSQL."""
    control = [tables.tables_of(room) for room in tables.ROOMS]
    return [*control, ownership.TABLES, versions.TABLES, target.TABLES, service.TABLES, instances.TABLES]


def declared() -> set[str]:
    """The rooms that the sources declare, wherever that is."""
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("postgres.Tables"):
                found.add(ast.literal_eval(node.args[0]))
    return found


def steps() -> Iterator[tuple[str, str]]:
    """Each step as ``room number file``, with the digest of what it does."""
    for room in rooms():
        for number, file in enumerate(room.steps, start=1):
            yield f"{room.room} {number} {file}", digest(files(room.package).joinpath(file).read_text())
    for (package, file), names in MARIADB.items():
        queries = load(package, file)
        for name in names:
            yield f"mariadb - {file}:{name}", digest(getattr(queries, name))


def digest(text: str) -> str:
    """Of a step's statements; how it is commented may change."""
    lines = (line.rstrip() for line in re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE).splitlines())
    return hashlib.sha256("\n".join(filter(None, lines)).encode()).hexdigest()[:16]


def landed() -> dict[str, str]:
    """What was recorded."""
    return dict(line.rsplit(" ", 1) for line in FILE.read_text().splitlines()) if FILE.exists() else {}


def record() -> None:
    """Add the steps that are new; what was recorded stays as it is."""
    known = landed()
    lines = [f"{step} {known.get(step, made)}" for step, made in steps()]
    gone = [f"{step} {made}" for step, made in known.items() if step not in dict(steps())]
    FILE.write_text("\n".join(sorted(lines + gone)) + "\n")


if __name__ == "__main__":
    record()

"""The evidence of statements that a server counted: which tables they join or write together, and how often."""

from __future__ import annotations

from collections.abc import Iterable

from stranglerfig.seams.model import LONGEST, Coverage, Evidence, Use
from stranglerfig.seams.statements import Parse, looks_like_sql, touched


def executed(rows: Iterable[tuple[str, int]], where: str, parse: Parse = touched) -> Evidence:
    """The evidence of statements, each with how often it was executed; text that the role may not see is counted.

    Args:
        rows: each statement's text, and its number.
        where: who counted them.
        parse: says what a text touches.
    """
    uses, unparsed, total = list[Use](), 0, 0
    for text, calls in rows:
        if not looks_like_sql(text):
            continue
        total += 1
        found = parse(text)
        if found is None:
            unparsed += 1
        elif len(found.tables) > 1:
            said = shown(text)
            uses.append(Use("statement", said[:60], where, found.reads, found.writes, times=calls, excerpt=said))
    said = f"{total} statements, {len(uses)} of them over several tables"
    said += f"; {unparsed} do not parse" if unparsed else ""
    return Evidence(uses=tuple(uses), coverage=(Coverage("statements", "partly" if unparsed else "read", said),))


def shown(text: str) -> str:
    """A text on one line, as far as it is kept as evidence."""
    return " ".join(text.split())[:LONGEST]

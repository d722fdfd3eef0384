"""What is parked, on the page of the log: looked at, tried again or left out, and what that would do in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import Field

from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.console.slowly import Slowly
from stranglerfig.runtime import unhandled

Kind = Literal["event", "change"]


class ParkedRow(Model):
    """An event that a service, or a change that sync could not handle.

    ``of`` is the service, or the context and direction; ``behind`` how many later ones of its key wait for it (null:
    all that came after it); a ``tripwire`` can only be looked at.
    """

    kind: Kind
    of: str
    number: int
    what: str
    key: str
    error: str
    at: datetime
    attempts: int
    behind: int | None
    state: Literal["waiting", "retry", "tripwire"]


class ParkedPage(Model):
    """All that is parked, the newest first. ``trouble`` says what could not be asked."""

    parked: list[ParkedRow]
    trouble: list[str]


class ParkedOne(Model):
    """One of them, whole."""

    row: ParkedRow
    whole: dict[str, Any]


class ParkedQuery(Model):
    """Which one."""

    kind: Kind
    of: str = Field(max_length=300)
    number: int = Field(ge=0, lt=2**63)


class ParkedWord(ParkedQuery):
    """What becomes of it. With ``dry_run`` nothing is done but said."""

    word: Literal["retry", "discard"]
    dry_run: bool = True


class ParkedConsequence(Model):
    """What a decision does, in words, and whether it is done."""

    words: str
    done: bool


def routes(reads: Reading) -> list[Route]:
    """What may be asked of it."""

    async def listed() -> ParkedPage:
        rows, trouble = await unhandled.listed(reads.project)
        return ParkedPage(parked=[_row(row) for row in rows], trouble=trouble)

    slowly = Slowly(listed, every=2.0)

    async def page(_: Asked) -> ParkedPage:
        return await slowly()

    async def one(asked: Asked) -> ParkedOne:
        query: ParkedQuery = asked.query
        row, whole = await unhandled.inspected(reads.project, query.kind, query.of, query.number)
        return ParkedOne(row=_row(row), whole=orjson.loads(orjson.dumps(whole, default=str)))

    async def decide(asked: Asked) -> ParkedConsequence:
        said: ParkedWord = asked.body
        decided = await unhandled.decide(
            reads.project, said.kind, said.of, said.number, said.word, dry_run=said.dry_run
        )
        slowly.forget()
        return ParkedConsequence(words=decided.consequence, done=decided.done)

    return [
        Route("/api/parked", ParkedPage, page, "What could not be handled and waits for somebody.", live=True),
        Route("/api/parked/one", ParkedOne, one, "One of them, whole.", query=ParkedQuery, statuses=(404,)),
        Route(
            "/api/parked/decide", ParkedConsequence, decide, "Have one tried again, or left out; look with dry_run.",
            method="POST", body=ParkedWord, statuses=(404, 409),
        ),
    ]  # fmt: skip


def _row(row: unhandled.Parked) -> ParkedRow:
    return ParkedRow(**row._asdict())

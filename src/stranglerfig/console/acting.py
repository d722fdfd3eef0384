"""What may be done from the console: the same commands as ``fig``'s, asked of the controller and followed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from stranglerfig.access.settings import Guarded
from stranglerfig.console.api import Asked, Model, Route
from stranglerfig.console.reading import Reading
from stranglerfig.extraction import commands, requests
from stranglerfig.foundation.errors import FigError


class Wanted(Model):
    """A command. ``override`` is the reason to pass a gate that does not pass; ``confirm`` repeats the context's name.

    ``approve`` and ``decline`` are about the next step, into ``stage``; ``plan`` is the hash of what was looked at.

    With ``dry_run`` nothing is done but said: what would be, and what that means.
    """

    verb: Literal["advance", "rollback", "verify", "abort", "approve", "decline"]
    dry_run: bool = True
    override: str | None = Field(default=None, max_length=2000, pattern=r"\S")
    reason: str | None = Field(default=None, max_length=2000)
    repair: bool = False
    wait: float | None = Field(default=None, ge=0, le=3600)
    confirm: str | None = Field(default=None, max_length=100)
    stage: Guarded | None = None
    plan: str | None = Field(default=None, max_length=64)


class Said(Model):
    """One thing that the controller says of a command."""

    at: datetime
    kind: Literal["progress", "note", "done", "failed"]
    text: str
    data: dict[str, Any]


class CommandState(Model):
    """A command, and what was said of it so far (the newest hundred)."""

    id: int
    context: str
    verb: str
    dry_run: bool
    by: str
    state: Literal["pending", "running", "done", "failed"]
    asked_at: datetime
    said: list[Said]


def routes(reading: Reading) -> list[Route]:
    """What may be done."""

    async def submit(asked: Asked) -> CommandState:
        context, wanted = asked.path["context"], asked.body
        reading.settings(context)
        if wanted.verb == "approve" and not wanted.dry_run:
            await _not_her_own(reading, context, asked.person)
        number = await commands.submit(
            reading.control,
            context,
            "approve" if wanted.verb == "decline" else wanted.verb,
            arguments(context, wanted),
            f"{asked.by} (console)",
            asked_from=f"console, {asked.origin}",
            token=asked.token,
        )
        return await state(reading, number)

    async def command(asked: Asked) -> CommandState:
        return await state(reading, _number(asked))

    def followed(asked: Asked) -> AsyncIterator[CommandState]:
        return follow(reading, _number(asked))

    return [
        Route(
            "/api/extractions/{context}/commands",
            CommandState,
            submit,
            "Ask something of the controller; look first, with dry_run.",
            method="POST",
            body=Wanted,
            statuses=(404, 409),
        ),
        Route(
            "/api/commands/{command}",
            CommandState,
            command,
            "What the controller says of a command, until it is done or failed.",
            stream=followed,
            statuses=(404,),
        ),
    ]


def arguments(context: str, wanted: Wanted) -> dict[str, Any]:
    """What the controller is given, as ``fig`` gives it.

    Raises:
        FigError: ``not_confirmed``, ``bad_request``.
    """
    match wanted.verb:
        case "advance":
            if wanted.override is not None and not wanted.override.strip():
                raise FigError("bad_request", "an override wants a reason", "Say why: it stands in the report.")
            said = {"override": wanted.override, "reason": wanted.reason}
            return {"dry_run": wanted.dry_run, "wait": wanted.wait, **said}
        case "rollback":
            return {"dry_run": wanted.dry_run, "reason": wanted.reason}
        case "verify":
            return {"dry_run": wanted.dry_run, "repair": wanted.repair}
        case "approve" | "decline":
            if wanted.stage is None:
                raise FigError("bad_request", "an approval wants the stage", "Say which stage is to be entered.")
            if wanted.verb == "decline" and not (wanted.reason or "").strip():
                raise FigError("bad_request", "declining wants a reason", "Say why: whoever asked reads it.")
            decline = wanted.reason if wanted.verb == "decline" else None
            return {"stage": wanted.stage, "plan": wanted.plan, "decline": decline, "dry_run": wanted.dry_run}
        case _:
            commands.confirmed(context, wanted.confirm, wanted.dry_run)
            return {"dry_run": wanted.dry_run}


async def _not_her_own(reading: Reading, context: str, person: str) -> None:
    """Refuse an approval by whoever asked for the step (``own_request``): the controller would not count it."""
    async with reading.store() as store:
        standing = await store.known(context)
    if standing is None:
        return
    async with reading.session() as conn:
        found = await requests.waiting(conn, context, standing.visit)
    if found is not None and found.person == person:
        raise FigError("own_request", f"{person} asked for this step, and somebody else must approve it", "Ask one.")


def _number(asked: Asked) -> int:
    text = asked.path["command"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _unknown(text)
    return int(text)


def _unknown(number: object) -> FigError:
    return FigError("unknown_command", f"there is no command {number}", "See the audit trail.")


async def state(reading: Reading, number: int) -> CommandState:
    """A command as it is now.

    Raises:
        FigError: ``unknown_command``.
    """
    async with reading.store() as store:
        found = await store.asked(number)
        if found is None:
            raise _unknown(number)
        said = await store.told(number, last=100)
    return CommandState(
        id=number,
        context=found["context"],
        verb=found["verb"],
        dry_run=bool(found["args"].get("dry_run")),
        by=found["asked_by"],
        state=found["state"],
        asked_at=found["asked_at"],
        said=[
            Said.model_validate({"at": at, "kind": kind, "text": text, "data": data}) for at, kind, text, data in said
        ],
    )


async def follow(reading: Reading, number: int) -> AsyncIterator[CommandState]:
    """The command now and after each thing said of it, until its end.

    Raises:
        FigError: ``unknown_command``; ``controller_silent`` when nobody takes it up.
    """
    now = await state(reading, number)
    yield now
    if now.state in ("done", "failed"):
        return
    async for _ in commands.follow(reading.control, number):
        yield await state(reading, number)

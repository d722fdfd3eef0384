"""How anything outside asks the controller: a row, and its events. The asker may die; what was asked goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stranglerfig.access import signing
from stranglerfig.changes.flows import Flows
from stranglerfig.extraction.store import Store
from stranglerfig.foundation import clock, postgres
from stranglerfig.foundation.errors import FigError


@dataclass(frozen=True, slots=True)
class CommandEvent:
    """One thing that the controller says while it works.

    ``progress`` has ``done``, ``total``, ``rate`` (a second) and ``remaining`` (seconds) in ``data`` where known;
    ``done`` has the result; ``failed`` has code, message, remedy and context.
    """

    at: datetime
    kind: Literal["progress", "note", "done", "failed"]
    text: str
    data: dict[str, Any]


async def submit(
    control_dsn: str,
    context: str,
    verb: str,
    args: Mapping[str, Any],
    by: str,
    *,
    asked_from: str = "",
    token: str | None = None,
) -> int:
    """Ask; returns the command's id.

    Args:
        by: who asks, as it says of itself; with a ``token`` the controller finds out by itself.
        asked_from: ``user@host, pid 4711``, or an address of the console.
        token: what the command is signed with: a token, or a session of the console. It is not kept.

    Raises:
        FigError: ``token_refused`` when ``token`` is not even the form of one.
    """
    signature = None if token is None else signing.sign(token, context, verb, args, asked_from)
    store = await Store.open(control_dsn, what="cli")
    try:
        return await store.submit(context, verb, args, by, asked_from=asked_from, signature=signature)
    finally:
        await store.close()


async def follow(control_dsn: str, command_id: int, *, patience: float = 15.0) -> AsyncIterator[CommandEvent]:
    """What the controller says about a command, until it is done or failed.

    Raises:
        FigError: ``controller_silent`` when no controller took the command within ``patience`` seconds.
    """
    async with postgres.session(control_dsn, what="cli") as conn:
        seen = 0
        asked = clock.monotonic()
        while True:
            rows = await postgres.fetch(
                conn,
                "SELECT id, at, kind, text, data FROM fig.command_event WHERE command = %s AND id > %s ORDER BY id",
                (command_id, seen),
            )
            for number, at, kind, text, data in rows:
                seen = number
                yield CommandEvent(at, kind, text, data)
                if kind in ("done", "failed"):
                    return
            if not seen and clock.monotonic() - asked > patience:
                state = await postgres.value(conn, "SELECT state FROM fig.command WHERE id = %s", (command_id,))
                if state == "pending":
                    raise FigError(
                        "controller_silent",
                        f"no controller took the command within {patience:g} s; it stays asked",
                        "Is `fig up` running? `fig ps` shows it.",
                        command=command_id,
                    )
            await asyncio.sleep(0.1)


async def status(control_dsn: str, context: str | None = None) -> dict[str, Any]:
    """Where the extractions stand: a list under ``extractions``."""
    store = await Store.open(control_dsn, what="cli")
    try:
        async with postgres.session(control_dsn, what="cli") as conn:
            names = [
                row[0]
                for row in await postgres.fetch(
                    conn,
                    "SELECT context FROM fig.extraction WHERE %s::text IS NULL OR context = %s ORDER BY 1",
                    (context, context),
                )
            ]
        flows = await Flows(control_dsn).all()
        return {"extractions": [await _status(store, name, flows) for name in names]}
    finally:
        await store.close()


async def _status(store: Store, context: str, flows: list[Any]) -> dict[str, Any]:
    standing = await store.standing(context)
    visits = await store.visits(context)
    series = await store.series(context, last=1)
    milestones = await store.milestones(context)
    return {
        "context": context,
        "stage": standing.place.stage.value,
        "step": standing.place.step,
        "since": visits[-1]["entered_at"] if visits else None,
        "owner": standing.owner,
        "epoch": standing.epoch,
        "gate": visits[-1]["gate"] if visits else None,
        "now": series[-1] if series else None,
        "flows": {
            flow.direction.value: {
                "capture": flow.capture if flow.capture_on else {"state": "off"},
                "sync": flow.sync if flow.sync_on else {"state": "off"},
            }
            for flow in flows
            if flow.context == context
        },
        "warnings": [*standing.facts.get("warnings", []), *taken_back(milestones), *_ignored(milestones)],
        "milestones": milestones[-5:],
    }


def _ignored(milestones: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the last change of the service's addresses is not in force."""
    said = [m for m in milestones if m["kind"] == "configuration"]
    return [f"a change of extraction.yaml is not in force: {m['refused']}" for m in said[-1:] if m.get("refused")]


def taken_back(milestones: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was taken back last, while nothing has been switched since."""
    switched = [m for m in milestones if m["kind"] in ("rollback", "cutover", "switch")]
    backs = [m for m in switched[-2:] if m["kind"] == "rollback"]
    return [f"{back['stage']} was taken back at {back['at']:%H:%M:%S}: {back['cause']}" for back in backs[-1:]]


def confirmed(context: str, confirm: str | None, dry_run: bool) -> None:
    """Refuse what cannot be undone until its name was repeated.

    Raises:
        FigError: ``not_confirmed``.
    """
    if not dry_run and confirm != context:
        raise FigError(
            "not_confirmed",
            "this cannot be undone, and "
            + ("was not confirmed" if confirm is None else f"{confirm!r} is not {context!r}"),
            f"Repeat the name: --confirm {context} (or look first, with --dry-run).",
            context=context,
        )

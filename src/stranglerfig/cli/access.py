"""``fig token``, ``approve``, ``approvals`` and ``audit``: who may act, who agreed, and who did what."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar, get_args

import click
from rich.console import Console
from rich.table import Table

from stranglerfig.access import approvals as given
from stranglerfig.access import audit as trail
from stranglerfig.access import credentials
from stranglerfig.access.model import Principal, Role, local, not_permitted
from stranglerfig.access.settings import Guarded
from stranglerfig.cli.extraction import ask, asker, dry_run_option, origin
from stranglerfig.cli.main import Fig
from stranglerfig.foundation import postgres
from stranglerfig.foundation.errors import FigError

T = TypeVar("T")
_LASTS = re.compile(r"(\d+)([dh])")


def _lasting(text: str) -> timedelta:
    match = _LASTS.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise FigError("usage", f"{text!r} is not how long a token lasts", "Write it as 30d or 12h.")
    return timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})


async def _with(fig: Fig, work: Callable[[postgres.Connection], Awaitable[T]]) -> T:
    async with postgres.session(fig.control, what="cli") as conn:
        await credentials.migrate(conn)
        return await work(conn)


async def _approver(fig: Fig, conn: postgres.Connection, action: str) -> Principal:
    """Who changes tokens: an approver by ``FIG_TOKEN``; without ``access``, or before any approver has a token, anyone.

    Raises:
        FigError: ``token_missing``, ``token_refused``, ``not_permitted``; refusals are in the audit trail.
    """
    if fig.token is not None:
        who = (await credentials.identify(conn, fig.token)).principal(origin())
        if who.role is Role.APPROVER:
            return who
        error = not_permitted(who, action, Role.APPROVER)
    elif fig.project.estate.access is None or not await credentials.approvers(conn, without=""):
        return local(asker(), origin())
    else:
        who = Principal(asker(), "", Role.VIEWER, "unverified", origin())
        error = FigError("token_missing", f"'{action}' wants an approver", "Set FIG_TOKEN to an approver's token.")
    await trail.record(conn, trail.Entry(who, action, "refused", code=error.code))
    raise error


@click.group()
def token() -> None:
    """Tokens for the command line (FIG_TOKEN) and for programs that use the console's API.

    Example: fig token create anna --role operator
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What it may do.")
@click.option("--expires", metavar="TIME", help="How long it lasts: 30d, 12h; for good without.")
@click.option("--for", "person", metavar="PERSON", help="Who holds it, when NAME does not say; approvals count by it.")
@dry_run_option
@click.pass_obj
def create(fig: Fig, name: str, role: str, expires: str | None, person: str | None, dry_run: bool) -> None:
    """Make a token and print it, once: only its hash is kept.

    The first ones are made by whoever reaches the control database; once an approver has a token, only approvers make
    and revoke tokens.

    Example: fig token create anna --role operator --expires 30d
    """
    lasts = None if expires is None else _lasting(expires)
    if not name.strip() or (person is not None and not person.strip()):
        raise FigError("usage", "a token wants a name", "Name who holds it: fig token create anna --role operator.")

    async def work(conn: postgres.Connection) -> dict[str, Any]:
        who = await _approver(fig, conn, "token-create")
        made = {"name": name, "person": person or name, "role": role, "expires": expires, "dry_run": dry_run}
        if dry_run:
            return made
        async with conn.transaction():
            id_, text = await credentials.create(
                conn,
                kind="token",
                name=name,
                person=person or name,
                role=Role(role),
                how="token",
                by=who.name,
                lasts=lasts,
            )
            await trail.record(conn, trail.Entry(who, "token-create", "done", details={"id": id_, **made}))
        return {"id": id_, **made, "token": text}

    made = fig.run(_with(fig, work))
    fig.print(
        made,
        f"a token for {name} would be made"
        if dry_run
        else f"{made['token']}\nKeep it now, it is not shown again. Use it: export FIG_TOKEN=…",
    )


@token.command("list")
@click.option("--all", "all_", is_flag=True, help="Also those that were revoked or have expired.")
@click.pass_obj
def list_(fig: Fig, all_: bool) -> None:
    """The tokens: whose, which role, until when, when last used. Never the tokens themselves.

    Example: fig token list --all
    """
    rows = fig.run(_with(fig, lambda conn: credentials.listed(conn, all_=all_)))
    if fig.json:
        fig.print(rows, "")
        return
    table = Table(box=None)
    for column in ("name", "person", "role", "made", "by", "until", "last used", ""):
        table.add_column(column)
    for row in rows:
        state = "" if row["valid"] else f"revoked by {row['ended_by']}" if row["ended_at"] else "expired"
        until = "for good" if row["expires_at"] is None else f"{row['expires_at']:%Y-%m-%d %H:%M}"
        table.add_row(
            *(row["name"], row["person"], row["role"], f"{row['created_at']:%Y-%m-%d %H:%M}", row["created_by"]),
            *(until, f"{row['seen_at']:%Y-%m-%d %H:%M}", state),
        )
    Console().print(table)


@token.command()
@click.argument("name")
@dry_run_option
@click.pass_obj
def revoke(fig: Fig, name: str, dry_run: bool) -> None:
    """End the token NAME (or with that id) at once; approvals given with it no longer count.

    Example: fig token revoke anna
    """

    async def work(conn: postgres.Connection) -> dict[str, Any]:
        who = await _approver(fig, conn, "token-revoke")
        found = [row for row in await credentials.listed(conn) if name.lower() in (row["id"], row["name"].lower())]
        if not found:
            raise FigError("unknown_token", f"no token that counts is called '{name}'", "fig token list shows them.")
        if not dry_run:
            async with conn.transaction():
                await credentials.end(conn, found[0]["id"], by=who.name)
                details = {"id": found[0]["id"], "name": found[0]["name"]}
                await trail.record(conn, trail.Entry(who, "token-revoke", "done", details=details))
        return {"id": found[0]["id"], "name": found[0]["name"], "dry_run": dry_run}

    found = fig.run(_with(fig, work))
    fig.print(found, f"{found['name']} {'would be' if dry_run else 'is'} revoked")


@click.command()
@click.argument("context")
@click.argument("stage", type=click.Choice(get_args(Guarded)))
@click.option("--plan", metavar="HASH", help="Only if the plan is this one; --dry-run shows it.")
@click.option("--withdraw", is_flag=True, help="Take your approval back.")
@click.option("--decline", metavar="REASON", help="Say no: nobody's approval of it so far counts any more.")
@dry_run_option
@click.pass_obj
def approve(
    fig: Fig, context: str, stage: str, plan: str | None, withdraw: bool, decline: str | None, dry_run: bool
) -> None:
    """Agree to the step that comes next, where a policy wants other people's approval of it.

    An approval is for one plan: this step, from this place, with this configuration. Of one person one counts, and the
    one who advances is not counted.

    Example: fig approve inventory writes
    """
    if plan is not None and len(plan) < 12:
        raise FigError("usage", "--plan wants at least 12 digits", "fig approve CONTEXT STAGE --dry-run shows them.")
    if decline is not None and (withdraw or not decline.strip()):
        raise FigError("usage", "--decline wants a reason, and no --withdraw", "Say why: whoever asked reads it.")
    args = {"stage": stage, "plan": plan, "withdraw": withdraw, "decline": decline, "dry_run": dry_run}
    ask(fig, context, "approve", args)


@click.command()
@click.argument("context", required=False)
@click.pass_obj
def approvals(fig: Fig, context: str | None) -> None:
    """Who approved what, until when, and whether it counts for the step that is next.

    Example: fig approvals inventory --json
    """
    rows = fig.run(_with(fig, lambda conn: given.listed(conn, context)))
    if fig.json:
        fig.print(rows, "")
        return
    table = Table(box=None)
    for column in ("context", "stage", "plan", "who", "when", "until", "counts"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(row["context"], row["stage"], row["plan"][:12], row["person"], f"{row['at']:%Y-%m-%d %H:%M}"),
            *(f"{row['expires_at']:%Y-%m-%d %H:%M}", "yes" if row["counts"] else "no"),
        )
    Console().print(table)


@click.command()
@click.option("--context", help="Only this context's.")
@click.option("--last", type=click.IntRange(min=1), default=50, show_default=True, help="How many lines.")
@click.option("--verify", is_flag=True, help="Compute the chain of digests again instead.")
@click.pass_obj
def audit(fig: Fig, context: str | None, last: int, verify: bool) -> None:
    """Who did, or was refused, what, and from where; oldest first.

    Example: fig audit --context inventory --last 20
    """
    if verify:
        found = fig.run(_with(fig, trail.verify))
        if found.broken is not None:
            raise FigError(
                "audit_broken",
                f"line {found.broken} of the audit trail does not follow from the one before",
                "Someone with the owner's rights changed or removed a line: compare with a backup.",
                line=found.broken,
                lines=found.lines,
            )
        fig.print({"lines": found.lines, "digest": found.digest}, f"{found.lines} lines follow, up to {found.digest}")
        return
    rows = fig.run(_with(fig, lambda conn: trail.lines(conn, context=context, last=last)))
    if fig.json:
        fig.print(rows, "")
        return
    table = Table(box=None)
    for column in ("when", "who", "role", "from", "context", "what", "came of it"):
        table.add_column(column, overflow="fold")
    for row in rows:
        came = row["outcome"] if not row["code"] else f"{row['outcome']}: {row['code']}"
        table.add_row(
            *(f"{row['at']:%Y-%m-%d %H:%M:%S}", row["name"], row["role"] if row["person"] else "?", row["origin"]),
            *(row["context"], row["action"], came),
        )
    Console().print(table)

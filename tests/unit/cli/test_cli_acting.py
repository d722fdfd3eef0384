"""Every command of ``fig`` is one that only looks, that writes files or runs here, that asks the controller, or that is
held to a role by ``acting``: a new one is none of them until somebody says so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import stranglerfig.cli
from stranglerfig.cli.main import fig


def words(text: str) -> frozenset[str]:
    return frozenset(" ".join(each.split()) for each in text.split(","))


LOOKS = words("""
approvals, audit, ps, status, watch, explain, trace, alerts list, alerts targets, alerts scrape, alerts rules,
alerts dashboard, alerts test, events topics, events tail, events show, events parked, events inspect, events
export, flow list, flow show, flow graph, saga list, saga show, saga graph, projection list, schema check,
schema history, schema diff, schema docs, sync parked, sync conflicts, model lint, model hash, model diff,
model roadmap, model grammar, token list, completion, plan, report
""")
HERE = words("""
up, down, run, console, storm, seams, schema serve, events choose, new service, model fmt, model sign, model
generate
""")
CONTROLLER = words("""
advance, rollback, abort, verify, approve, retire, sync resnapshot, decommission watch, decommission brownout,
decommission retire, decommission report, decommission drop, decommission restore
""")
TOKENS = words("""
token create, token revoke
""")
ACTS = words("""
saga retry, saga resolve, events retry, events discard, events replay, sync skip, sync retry, projection
rebuild, personal destroy, schema register
""")


def commands(group: click.Group = fig, before: tuple[str, ...] = ()) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        here = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, here)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join(here)


def test_each_command_has_its_kind() -> None:
    kinds = (LOOKS, HERE, CONTROLLER, TOKENS, ACTS)
    known = [name for kind in kinds for name in kind]
    assert len(known) == len(set(known))
    assert sorted(known) == sorted(commands())


def test_what_acts_without_the_controller_says_so() -> None:
    """By the action's name, as it stands in the trail: ``acting`` is called for each."""
    text = "".join(file.read_text() for file in Path(inspect.getfile(stranglerfig.cli)).parent.rglob("*.py"))
    named = set(re.findall(r'acting\(\s*fig,\s*f?"([a-z]+)-(?:\{[^}]*\}|[a-z]+)"', text))
    assert named == {name.split()[0] for name in ACTS}

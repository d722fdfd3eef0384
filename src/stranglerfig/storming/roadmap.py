"""In which order the contexts of an estate can be moved, with the reasons, from their models alone.

A context comes after those whose events it needs: until they are moved, such events must be derived from the monolith's
changes. Of those that need nobody, the one that has least in its way comes first. How far a move is, is not told here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stranglerfig.storming.lint import errors
from stranglerfig.storming.model import Context, Model, missing_signatures

_QUESTION = "open_hotspot"
Ties = Mapping[str, tuple[str, ...]]
"""Names of events or commands, by the context that they are of."""


@dataclass(frozen=True, slots=True)
class Step:
    """A context's place in the order.

    Attributes:
        needs: the events of other contexts that its policies and read models hear.
        asks: the commands of other contexts that its policies give.
        early: of ``needs``, the contexts that come after it or have no model.
        waiting: the contexts that hear its events.
        before: what must be done before it can pass prepare.
    """

    context: str
    needs: Ties
    asks: Ties
    early: tuple[str, ...]
    waiting: tuple[str, ...]
    before: tuple[str, ...]

    def reasons(self) -> Iterator[str]:
        """Why it stands where it does, and what that costs, for people."""
        if not self.needs:
            yield "it hears no events of other contexts"
        for slug, events in self.needs.items():
            if slug in self.early:
                yield (
                    f"it hears {', '.join(events)} of {slug}, which is still in the monolith then: "
                    "derived there from its changes"
                )
            else:
                yield f"it hears {', '.join(events)} of {slug}, which has been moved by then"
        for slug, commands in self.asks.items():
            yield f"its policies ask {slug} for {', '.join(commands)}"
        if self.waiting:
            yield f"its events are heard by {', '.join(self.waiting)}"


@dataclass(frozen=True, slots=True)
class Roadmap:
    """The order; ``unmodelled`` are contexts that are named by others and have no model, with who names them."""

    steps: tuple[Step, ...]
    unmodelled: Ties

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        steps = [{**asdict(step), "reasons": list(step.reasons())} for step in self.steps]
        return {"steps": steps, "unmodelled": {slug: list(by) for slug, by in self.unmodelled.items()}}

    def markdown(self) -> str:
        """For people."""
        lines = ["# Roadmap", "", "The contexts in the order in which they can be moved, as their models say."]
        for number, step in enumerate(self.steps, start=1):
            lines += ["", f"## {number}. {step.context}", "", *(f"- {reason}" for reason in step.reasons())]
            lines += [f"- [ ] {what}" for what in step.before] or [
                "- ready for prepare: no errors, no questions, signed"
            ]
        if self.unmodelled:
            lines += ["", "## Without a model", ""]
            lines += [f"- {slug}: named by {', '.join(by)}" for slug, by in self.unmodelled.items()]
        return "\n".join(lines)


def roadmap(models: Sequence[Model]) -> Roadmap:
    """The order of all contexts of the models; a circle is begun where fewest others are needed."""
    contexts = {context.slug: (model, context) for model in models for context in model.contexts}
    needs = {slug: _events(*found) for slug, found in contexts.items()}
    asks = {slug: _commands(*found) for slug, found in contexts.items()}
    before = {slug: tuple(_before(model)) for slug, (model, _) in contexts.items()}
    waiting = {slug: tuple(other for other in sorted(needs) if slug in needs[other]) for slug in contexts}

    def rank(slug: str) -> tuple[int, int, int, str]:
        unmet = [other for other in needs[slug] if other in left]
        return len(unmet), len(before[slug]), len(needs[slug]) + len(asks[slug]) + len(waiting[slug]), slug

    left, order = set(contexts), list[str]()
    while left:
        order.append(min(left, key=rank))
        left.remove(order[-1])
    moved = dict[str, set[str]]()
    for place, slug in enumerate(order):
        moved[slug] = set(order[:place])
    steps = [
        Step(
            slug,
            needs[slug],
            asks[slug],
            tuple(other for other in needs[slug] if other not in moved[slug]),
            waiting[slug],
            before[slug],
        )
        for slug in order
    ]
    named = sorted({other for slug in contexts for other in (*needs[slug], *asks[slug])} - contexts.keys())
    by = {other: tuple(s for s in sorted(contexts) if other in needs[s] or other in asks[s]) for other in named}
    return Roadmap(tuple(steps), by)


def _events(model: Model, context: Context) -> Ties:
    homes = {event.name: home.slug for home, _, event in model.events()}
    names = [name for policy in context.policies for name in policy.events]
    names += [name for seen in context.readmodels for name in seen.events]
    return _ties(context, names, homes)


def _commands(model: Model, context: Context) -> Ties:
    homes = {command.name: home.slug for home, _, command in model.commands()}
    return _ties(context, [name for policy in context.policies for name in policy.commands], homes)


def _ties(context: Context, names: Sequence[str], homes: Mapping[str, str]) -> Ties:
    found: dict[str, set[str]] = {}
    for name in names:
        of, dot, last = name.rpartition(".")
        slug = of.lower() if dot else homes.get(name, context.slug)
        if slug != context.slug:
            found.setdefault(slug, set()).add(last)
    return {slug: tuple(sorted(found[slug])) for slug in sorted(found)}


def _before(model: Model) -> Iterator[str]:
    found = errors(model)
    for finding in found:
        if finding.code == _QUESTION:
            yield f"answer {finding.place}"
    if others := [finding for finding in found if finding.code != _QUESTION]:
        yield f"mend {len(others)} error(s) of the model, the first: {others[0].place}: {others[0].reason}"
    if missing := missing_signatures(model):
        yield f"have it signed: {', '.join(missing)}"

"""What is wrong or doubtful in a model: each finding with its place, the reason, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stranglerfig.storming.model import TYPES, Aggregate, Command, Context, Event, Field, Model


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


IRREGULAR = _set(
    "sent paid sold bought lost found made left begun withdrawn taken given held put set cut shut kept built done gone "
    "chosen written broken run won told met spent split read frozen thrown drawn grown shown fallen risen driven "
    "stolen hidden bound bid hit let quit caught taught brought sought fought led fed fled laid said become overdrawn "
    "undone rebuilt reset resent repaid resold bestowed born borne dealt meant understood forgotten overridden"
)
_NOT_PAST = _set("need seed feed speed bed red shed embed exceed proceed succeed breed weed bleed hundred indeed")
_TECHNICAL = _set("updated inserted deleted modified saved upserted persisted synced processed handled row record")
_GRAMMAR = frozenset(
    pair.partition(" ")[::2]
    for pair in (
        *("readmodel actor", "actor command", "policy command", "command aggregate", "command external"),
        *("aggregate event", "external event", "event policy", "event readmodel"),
    )
)
"""Which kinds of stickies an arrow may join. A question may point at anything."""
_BY_POLICY = frozenset({("command", "aggregate"), ("aggregate", "event"), ("event", "readmodel")})
"""Arrows that stay within a context: it is policies that lead from one to another."""
_PERSONAL = _set(
    "email mail phone mobile address street birthday birthdate dob firstname lastname surname fullname iban ssn "
    "passport ip customer_name user_name"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend. ``line`` is 1-based in the model's text, 0 when it is about the whole of it."""

    code: str
    severity: str
    line: int
    place: str
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def lint(model: Model) -> list[Finding]:
    """All findings, errors first, then by line. A gate asks for no errors; warnings are for people."""
    parts = (
        *(_names, _wording, _fields, _producers, _edges, _policies, _listeners, _cycles),
        *(_arrows, _direction, _hotspots, _signoff, _unknown),
    )
    found = [finding for part in parts for finding in part(model)]
    return sorted(found, key=lambda f: (f.severity != "error", f.line, f.code, f.place))


def errors(model: Model) -> list[Finding]:
    """The findings that keep the gate shut."""
    return [finding for finding in lint(model) if finding.severity == "error"]


def _error(code: str, line: int, place: str, reason: str, remedy: str) -> Finding:
    return Finding(code, "error", line, place, reason, remedy)


def _warning(code: str, line: int, place: str, reason: str, remedy: str) -> Finding:
    return Finding(code, "warning", line, place, reason, remedy)


def words(name: str) -> list[str]:
    """``StockAdjusted`` → stock, adjusted."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_past(word: str) -> bool:
    """Whether an English word reads as a past participle."""
    return word in IRREGULAR or (word.endswith("ed") and word not in _NOT_PAST)


def _names(model: Model) -> Iterator[Finding]:
    if not model.contexts:
        yield _error("no_context", 0, "model", "there is no bounded context", "Begin with a line 'context Name'.")
    aggregates = [(a.name, a.line, c.name) for c in model.contexts for a in c.aggregates]
    for name, line, context in _repeated(aggregates):
        reason = f"the aggregate {name} stands in more than one place"
        yield _error("aggregate_twice", line, f"{context}.{name}", reason, "An aggregate lives in exactly one context.")
    for name, line, place in _repeated([(e.name, e.line, a.name) for _, a, e in model.events()]):
        reason = f"the event {name} has two producers"
        yield _error(
            "event_with_two_producers", line, f"{place}.{name}", reason, "Name what each of them says happened."
        )
    rest = [(c.name, c.line, a.name) for _, a, c in model.commands()]
    for kind in (
        rest,
        [(r.name, r.line, c.name) for c in model.contexts for r in c.readmodels],
        [(p.name, p.line, c.name) for c in model.contexts for p in c.policies],
        [(c.name, c.line, "model") for c in model.contexts],
    ):
        for name, line, place in _repeated(kind):
            yield _error("duplicate_name", line, f"{place}.{name}", f"{name} is there twice", "Give one another name.")


def _repeated(items: Iterable[tuple[str, int, str]]) -> Iterator[tuple[str, int, str]]:
    seen: set[str] = set()
    for name, line, place in sorted(items, key=lambda item: item[1]):
        if name.lower() in seen:
            yield name, line, place
        seen.add(name.lower())


def _wording(model: Model) -> Iterator[Finding]:
    for _, aggregate, event in model.events():
        spoken, place = words(event.name), f"{aggregate.name}.{event.name}"
        if technical := [word for word in spoken if word in _TECHNICAL]:
            reason = f"'{technical[0]}' is what a database does, not what happened in the business"
            yield _error("technical_name", event.line, place, reason, "Ask a domain expert what they call it.")
        if not any(is_past(word) for word in spoken):
            reason = "an event has happened: its name is in the past tense"
            yield _error("event_not_past", event.line, place, reason, "Write it like StockAdjusted.")
    for _, aggregate, command in model.commands():
        first, place = (words(command.name) or [""])[0], f"{aggregate.name}.{command.name}"
        if (first.endswith("ed") and is_past(first)) or (first.endswith("ing") and len(first) > 5):
            reason = "a command is a wish: its name is an imperative"
            yield _error("command_not_imperative", command.line, place, reason, "Write it like AdjustStock.")


def _carriers(model: Model) -> Iterator[tuple[str, Aggregate, Command | Event | Aggregate]]:
    for context in model.contexts:
        for aggregate in context.aggregates:
            yield f"{context.name}.{aggregate.name}", aggregate, aggregate
            items: tuple[Command | Event, ...] = (*aggregate.commands, *aggregate.events)
            for item in items:
                yield f"{aggregate.name}.{item.name}", aggregate, item


def _fields(model: Model) -> Iterator[Finding]:
    for place, aggregate, item in _carriers(model):
        seen: set[str] = set()
        for f in item.fields:
            yield from _field(f, f"{place}.{f.name}", item.line)
            if f.name in seen:
                yield _error(
                    "duplicate_field", item.line, f"{place}.{f.name}", "the field is there twice", "Remove one."
                )
            seen.add(f.name)
        if isinstance(item, Event):
            yield from _event(item, aggregate, place)


def _field(f: Field, place: str, line: int) -> Iterator[Finding]:
    base = re.sub(r"^list\[(\w+)\]$", r"\1", f.type)
    if base not in TYPES:
        remedy = f"Use one of {', '.join(TYPES)}, list[…] of one of them, and a question mark for optional."
        yield _error("unknown_type", line, place, f"'{f.type}' is not a type", remedy)
    if not f.personal and (f.name in _PERSONAL or {*f.name.split("_"), *words(f.name)} & _PERSONAL):
        reason = f"'{f.name}' looks like personal data and is not marked"
        yield _warning("untagged_personal_data", line, place, reason, f"Write '{f.name}: {f.type} personal'.")


def _event(event: Event, aggregate: Aggregate, place: str) -> Iterator[Finding]:
    names = [f.name for f in event.fields]
    if event.version < 1:
        yield _error("bad_version", event.line, place, "versions begin at 1", "Write v1.")
    if event.key is None:
        reason = "without a key its events have no order among each other"
        yield _warning(
            "event_without_key", event.line, place, reason, "Add 'key' and the field that identifies what changed."
        )
    elif event.key not in names:
        reason = f"the key {event.key} is not a field of the event"
        yield _error("key_not_a_field", event.line, place, reason, "Add the field or choose another key.")
    known = {f.name for f in aggregate.fields} | {f.name for c in aggregate.commands for f in c.fields}
    for name in names:
        if name not in known:
            reason = f"no command of {aggregate.name} brings {name}, and it is not of its state"
            remedy = f"Add it to a command, or to the state: aggregate {aggregate.name}({name}: …)."
            yield _warning("field_from_nowhere", event.line, f"{place}.{name}", reason, remedy)


def _producers(model: Model) -> Iterator[Finding]:
    for context in model.contexts:
        if not context.aggregates:
            reason = "a context without an aggregate does nothing"
            yield _warning(
                "empty_context", context.line, context.name, reason, "Add an aggregate, or remove the context."
            )
        for aggregate in context.aggregates:
            if not aggregate.commands:
                for event in aggregate.events:
                    place, reason = f"{aggregate.name}.{event.name}", "no command leads to it"
                    remedy = f"Add the command to {aggregate.name} that makes it happen."
                    yield _error("event_without_producer", event.line, place, reason, remedy)


def _edges(model: Model) -> Iterator[Finding]:
    kinds = _kinds(model)
    for context in model.contexts:
        for policy in context.policies:
            place = f'{context.name}."{policy.name}"'
            if not policy.events:
                yield _error(
                    "policy_without_event", policy.line, place, "nothing sets it off", "Name an event before '->'."
                )
            if not policy.commands:
                reason = "nothing follows from it"
                yield _error("policy_without_command", policy.line, place, reason, "Name a command after '->'.")
            yield from _edge(model, policy.events, "event", kinds, policy.line, place)
            yield from _edge(model, policy.commands, "command", kinds, policy.line, place)
        for seen in context.readmodels:
            place = f"{context.name}.{seen.name}"
            if not seen.events:
                reason = "it is computed from nothing"
                yield _error("readmodel_without_source", seen.line, place, reason, "Name its events after '<-'.")
            yield from _edge(model, seen.events, "event", kinds, seen.line, place)
            for name in seen.events:
                if (home := _home(model, name)) is not None and home.name != context.name:
                    reason = f"it reads {name} of {home.name} past any policy"
                    remedy = f"Let a policy of {context.name} take the event, or move the read model."
                    yield _warning("edge_across_contexts", seen.line, place, reason, remedy)


def _kinds(model: Model) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for context in model.contexts:
        kinds |= {r.name: "read model" for r in context.readmodels} | {a.name: "aggregate" for a in context.aggregates}
    kinds |= {c.name: "command" for _, _, c in model.commands()}
    return kinds | {e.name: "event" for _, _, e in model.events()}


def _own(model: Model, name: str) -> str:
    """``Sales.OrderPlaced`` as ``OrderPlaced`` when Sales is a context of this model; any other name as it is."""
    home, dot, last = name.rpartition(".")
    return last if dot and model.context(home) is not None else name


def _home(model: Model, event: str) -> Context | None:
    name = _own(model, event)
    return next((context for context, _, e in model.events() if e.name == name), None)


def _edge(
    model: Model, names: Iterable[str], wanted: str, kinds: dict[str, str], line: int, place: str
) -> Iterator[Finding]:
    for name in names:
        own = _own(model, name)
        if "." in own:  # of another model: not ours to check
            continue
        kind = kinds.get(own)
        if kind is None:
            remedy = f"Add it, or write Context.{own} when it belongs to another model."
            yield _error(f"unknown_{wanted}", line, place, f"there is no {wanted} {name}", remedy)
        elif kind != wanted:
            remedy = "An event leads to a policy or a read model, a policy to a command, a command to an aggregate."
            yield _error("edge_outside_grammar", line, place, f"{name} is a {kind}, not a {wanted}", remedy)


def _policies(model: Model) -> Iterator[Finding]:
    events = {event.name: event for _, _, event in model.events()}
    commands = {command.name: command for _, _, command in model.commands()}
    for context in model.contexts:
        for policy in context.policies:
            for cause in policy.events:
                event = events.get(_own(model, cause))
                for wish in policy.commands:
                    command = commands.get(_own(model, wish))
                    if event is None or command is None:
                        continue
                    brought = {f.name for f in event.fields}
                    for name in (f.name for f in command.fields if not f.optional and f.name not in brought):
                        place = f'{context.name}."{policy.name}"'
                        reason = f"{command.name} wants {name}, and {event.name} does not bring it"
                        remedy = f"Add it to {event.name}, make it optional, or say where the policy has it from."
                        yield _warning("field_from_nowhere", policy.line, place, reason, remedy)


def _listeners(model: Model) -> Iterator[Finding]:
    listeners = [policy.events for context in model.contexts for policy in context.policies]
    listeners += [seen.events for context in model.contexts for seen in context.readmodels]
    heard = {name.split(".")[-1] for events in listeners for name in events}
    for _, aggregate, event in model.events():
        if event.name not in heard:
            reason = "nobody in the model listens to it"
            remedy = "Add the policy or read model that needs it, or ask whether it is needed."
            yield _warning("orphan_event", event.line, f"{aggregate.name}.{event.name}", reason, remedy)


def _cycles(model: Model) -> Iterator[Finding]:
    leads = {command.name: {e.name for e in aggregate.events} for _, aggregate, command in model.commands()}
    policies = [
        (context, policy, {_own(model, e) for e in policy.events}, {_own(model, c) for c in policy.commands})
        for context in model.contexts
        for policy in context.policies
    ]
    for context, policy, causes, wishes in policies:
        reached: set[str] = set()
        waiting = [event for command in wishes for event in leads.get(command, ())]
        while waiting:
            event = waiting.pop()
            if event in reached:
                continue
            reached.add(event)
            waiting += [e for _, _, on, then in policies if event in on for c in then for e in leads.get(c, ())]
        if again := reached & causes:
            reason = f"it may set itself off again through {', '.join(sorted(again))}"
            remedy = (
                "Say when it ends, or break the circle; commands are taken to lead to all events of their aggregate."
            )
            yield _warning("policy_cycle", policy.line, f'{context.name}."{policy.name}"', reason, remedy)


@dataclass(frozen=True, slots=True)
class _Note:
    """A sticky as the rules for arrows see it: where it hangs, if the layout says so, and in which context."""

    kind: str
    x: int | None
    inside: str | None
    line: int = 0


def _notes(model: Model) -> dict[str, _Note]:
    """All stickies by the names that layout and wall have for them; a name that several have is nobody's."""
    places = {place.name: place.x for place in model.layout}
    found: list[tuple[str, _Note]] = [(s.name, _Note(s.kind, s.x, s.inside)) for s in model.wall.stickies]
    for context in model.contexts:
        items: list[tuple[str, str, int]] = [("policy", p.name, p.line) for p in context.policies]
        items += [("readmodel", r.name, r.line) for r in context.readmodels]
        for aggregate in context.aggregates:
            items.append(("aggregate", aggregate.name, aggregate.line))
            items += [("command", c.name, c.line) for c in aggregate.commands]
            items += [("event", e.name, e.line) for e in aggregate.events]
        found += [(name, _Note(kind, places.get(name), context.name, line)) for kind, name, line in items]
    found += [(h.name, _Note("hotspot", places.get(h.name), None, h.line)) for h in model.hotspots]
    names = [name for name, _ in found]
    return {name: note for name, note in found if names.count(name) == 1}


def _arrows(model: Model) -> Iterator[Finding]:
    """The wall's arrows that the contexts do not say."""
    notes = _notes(model)
    for link in model.wall.links:
        source, target = notes.get(link.source), notes.get(link.target)
        if source is None or target is None or "hotspot" in (source.kind, target.kind):
            continue
        place, pair = f'"{link.source}" -> "{link.target}"', (source.kind, target.kind)
        if pair not in _GRAMMAR:
            reason = f"an arrow on the wall leads from {_called(source.kind)} to {_called(target.kind)}"
            leads = [_called(to) for of, to in sorted(_GRAMMAR) if of == source.kind]
            remedy = f"{_called(source.kind).capitalize()} leads to {' or '.join(leads)}: ask what comes between."
            yield _warning("edge_outside_grammar", 0, place, reason, remedy)
        elif pair in _BY_POLICY and source.inside and target.inside and source.inside != target.inside:
            reason = f"it leads from {source.inside} into {target.inside} past any policy"
            remedy = f"Let a policy of {target.inside} take an event, or draw the boundary around both."
            yield _warning("edge_across_contexts", 0, place, reason, remedy)


def _called(kind: str) -> str:
    name = {"readmodel": "read model", "external": "external system"}.get(kind, kind)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _direction(model: Model) -> Iterator[Finding]:
    """Time goes from left to right. An aggregate hangs once and takes part all along: its arrows go either way."""
    notes = _notes(model)
    pairs = [(link.source, link.target) for link in model.wall.links]
    for context in model.contexts:
        for policy in context.policies:
            pairs += [(_own(model, event), policy.name) for event in policy.events]
            pairs += [(policy.name, _own(model, command)) for command in policy.commands]
        pairs += [(_own(model, event), seen.name) for seen in context.readmodels for event in seen.events]
    for name, then in sorted(set(pairs)):
        source, target = notes.get(name), notes.get(then)
        if source is None or target is None or (source.kind, target.kind) not in _GRAMMAR:
            continue
        if "aggregate" in (source.kind, target.kind) or source.x is None or target.x is None:
            continue
        if target.x < source.x:
            reason = f"time goes from left to right, and {then} hangs left of {name}, which leads to it"
            remedy = "Move one of them; when it happens a second time, hang a second sticky."
            yield _warning("right_to_left", target.line, f'"{name}" -> "{then}"', reason, remedy)


def _hotspots(model: Model) -> Iterator[Finding]:
    kinds = _kinds(model)
    for hotspot in model.hotspots:
        place = f'"{hotspot.name}"'
        kind = "context" if model.context(hotspot.on) is not None else kinds.get(_own(model, hotspot.on))
        if kind is None:
            reason = f"it is on {hotspot.on}, which is not in the model"
            yield _warning("hotspot_on_nothing", hotspot.line, place, reason, "Put it on something, or remove it.")
        elif hotspot.answer is None and kind != "read model":
            reason = f"the question is open, and {hotspot.on} is generated from the model"
            yield _error("open_hotspot", hotspot.line, place, reason, 'Answer it: add answered "…" to the line.')


def _signoff(model: Model) -> Iterator[Finding]:
    if not model.required:
        remedy = "Add a line such as 'signoff required: domain expert, architect'."
        yield _error("nobody_must_sign", 0, "model", "nobody is asked to agree to the model", remedy)
    for signature in model.signatures:
        if signature.role not in model.required:
            place, reason = f'"{signature.name}"', f"nobody is asked to sign as {signature.role}"
            yield _warning("signature_not_required", signature.line, place, reason, "Remove it, or require the role.")


def _unknown(model: Model) -> Iterator[Finding]:
    scopes = [("model", model.unknown)]
    for context in model.contexts:
        scopes.append((context.name, context.unknown))
        scopes += [(f"{context.name}.{aggregate.name}", aggregate.unknown) for aggregate in context.aggregates]
    for place, lines in scopes:
        for line in lines:
            if not line.startswith("#"):
                reason = f"the line is not understood here: {line}"
                remedy = "Mend it, or mark it as a comment with '#'; a command or event stands under its aggregate."
                yield _error("line_not_understood", 0, place, reason, remedy)

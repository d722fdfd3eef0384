"""The files of a service's project as text: templates, filled with what follows from the model. Pure."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from typing import NamedTuple

from stranglerfig.foundation.errors import FigError
from stranglerfig.storming.model import Aggregate, Event, Field, Model
from stranglerfig.storming.service.derive import Decision, Message, Plan, Step, View, snake
from stranglerfig.storming.text import parse

_WIDTH = 120
_OTHERS = frozenset({"prometheus_client", "psycopg", "pytest", "starlette", "stranglerfig", "tests", "uvicorn"})
# By type of the model's: of Python, of PostgreSQL, what a row begins with, and an example.
_TYPES = {
    "int": ("int", "bigint", "0", "7"),
    "str": ("str", "text", '""', '"seven"'),
    "bool": ("bool", "boolean", "False", "True"),
    "decimal": ("Decimal", "numeric", "Decimal(0)", 'Decimal("7.5")'),
    "float": ("float", "double precision", "0.0", "7.5"),
    "timestamp": ("dt.datetime", "timestamptz", "None", "dt.datetime(2026, 7, 7, 7, 7, tzinfo=dt.UTC)"),
    "date": ("dt.date", "date", "None", "dt.date(2026, 7, 7)"),
    "uuid": ("UUID", "uuid", "None", "UUID(int=7)"),
}
_IMPORTS = {
    "collections.abc": ("Awaitable", "Callable"),
    "dataclasses": ("field",),
    "decimal": ("Decimal",),
    "typing": ("Any",),
    "uuid": ("UUID",),
    "": (),  # what is not Python's own follows
    "stranglerfig.eventlog.ports": ("EventLog",),
    "stranglerfig.kit": ("Aggregate", "Command", "Event", "Projection", "Refused", "Service", "Transaction", "evolves"),
    "stranglerfig.kit.testing": ("given",),
}


def check_name(name: str) -> None:
    """Refuse a name that a service's package, topics or database could not have.

    Raises:
        FigError: ``bad_service_name``.
    """
    wrong = ""
    if not re.fullmatch(r"[a-z][a-z0-9]{1,29}", name):
        wrong = "a name is 2 to 30 lower-case letters and digits, a letter first"
    elif keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _OTHERS:
        wrong = "Python, or a package that the service needs, has that name"
    if wrong:
        raise FigError(
            "bad_service_name",
            f"a service cannot be named '{name}': {wrong}",
            "Choose one such as billing or emails; with --model it is its context's as well.",
            name=name,
        )


def starter(name: str) -> Model:
    """The model of a service that begins from nothing: one aggregate, one command, one event out and one in."""
    text = files(__package__).joinpath("starter.storm").read_text(encoding="utf-8")
    return parse(text.replace("$title", name.capitalize()))


class Call(NamedTuple):
    """A call, a list, the head of a class: on one line, or one part a line, as the formatter has it."""

    head: str
    parts: Sequence[str | Call]
    tail: str = ")"

    def __str__(self) -> str:
        return f"{self.head}{', '.join(map(str, self.parts))}{self.tail}"

    def at(self, indent: int = 0, *, behind: int = 0) -> str:
        """Its lines; ``behind`` is how many characters follow on the last one."""
        margin = " " * indent
        if indent + len(str(self)) + behind <= _WIDTH:
            return f"{margin}{self}"
        parts = [p.at(indent + 4, behind=1) if isinstance(p, Call) else f"{margin}    {p}" for p in self.parts]
        return "\n".join([margin + self.head, *(f"{part}," for part in parts), margin + self.tail])


def project(plan: Plan) -> dict[str, str]:
    """The text of each file, by its path in the project."""
    name = plan.context.slug
    values = {
        "name": name,
        "NAME": name.upper(),
        "title": plan.context.name,
        "notes": "".join(f"- `{of}`: {what}\n" for of, what in plan.notes) or "Nothing.\n",
        "tables": "\n\n".join(map(_table, plan.aggregates)),
    }
    bodies = {
        "messages": (_message(plan, *each) for each in plan.messages.values()),
        "domain": (_aggregate(plan, each) for each in plan.aggregates),
        "service": _service(plan),
        "tests": _tests(plan),
        "examples": _examples(plan),
    }
    for file, parts in bodies.items():
        values[file] = "\n\n\n".join(parts)
        values[f"{file}_imports"] = _imports(plan, file, values[file])
    return {
        path.replace("package/", f"{name}/"): Template(each.read_text(encoding="utf-8")).substitute(values)
        for path, each in _templates(files(__package__).joinpath("templates"))
    }


def _templates(folder: Traversable, at: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _templates(each, f"{at}{each.name}/")
        else:
            yield at + each.name.removesuffix(".tmpl"), each


def _imports(plan: Plan, file: str, code: str) -> str:
    """What a file's code uses of what there is."""
    code = re.sub(r'"[^"]*"|#.*', "", code)
    own = {
        f"{plan.context.slug}.domain": [a.name for a in plan.aggregates if file != "domain"],
        f"{plan.context.slug}.messages": [*plan.messages] if file != "messages" else [],
    }
    examples = sorted(snake(each).upper() for each in plan.messages) if file == "tests" else []
    own = {module: sorted(names, key=lambda each: (not each.isupper(), each.lower())) for module, names in own.items()}
    sections, lines = list[list[str]](), ["import datetime as dt"] if re.search(r"\bdt\.", code) else []
    for module, names in (*_IMPORTS.items(), ("", ()), *own.items(), ("", ()), (".examples", examples)):
        if used := [each for each in names if re.search(rf"(?<![.\w]){each}\b", code)]:
            line = f"from {module} import {', '.join(used)}"
            lines.append(line if len(line) <= _WIDTH else Call(f"from {module} import (", used).at())
        elif not module:
            sections, lines = [*sections, lines], []
    return "\n\n".join("\n".join(each) for each in (*sections, lines) if each)


def _python(f: Field) -> str:
    found = f"list[{_TYPES[f.type[5:-1]][0]}]" if f.type.startswith("list[") else _TYPES[f.type][0]
    return f"{found} | None" if f.optional else found


def _example(f: Field) -> str:
    return f"[{_TYPES[f.type[5:-1]][3]}]" if f.type.startswith("list[") else _TYPES[f.type][3]


def _can_be_none(f: Field) -> bool:
    """Of a field of a row: whether it begins with nothing."""
    return f.optional or (f.type in _TYPES and _TYPES[f.type][2] == "None")


def _fields(fields: Iterable[Field], *, of_row: bool = False) -> list[str]:
    """Their declarations, those with a default last; a row begins with its id, and defaults."""
    lines = []
    for n, f in enumerate(fields):
        default = ""
        if (n and of_row and _can_be_none(f)) or f.optional:
            default = f"{'' if f.optional else ' | None'} = None"
        elif n and of_row:
            default = f" = {'field(default_factory=list)' if f.type.startswith('list[') else _TYPES[f.type][2]}"
        lines.append(f"    {f.name}: {_python(f)}{default}{'  # personal data' if f.personal else ''}")
    return lines


def _comments(plan: Plan, of: str, indent: int = 0) -> list[str]:
    return [f"{' ' * indent}# Not in the model: {what}." for whose, what in plan.notes if whose == of]


def _message(plan: Plan, home: str, message: Message) -> str:
    ids = [d.aggregate.fields[0].name for d in plan.decisions if d.command is message]
    key = message.key if isinstance(message, Event) else None
    key = key or next((f.name for f in message.fields if f.name in ids), message.fields[0].name)
    parts = [type(message).__name__, f'type="{home}.{message.name}"', f'key="{key}"']
    if isinstance(message, Event) and message.version > 1:
        parts.append(f"version={message.version}")
    head = Call(f"class {message.name}(", parts, "):").at()
    notes = _comments(plan, message.name) if isinstance(message, Event) else []
    fields = _fields(sorted(message.fields, key=lambda f: f.optional))
    return "\n".join([*message.notes, *notes, head, *fields])


def _table(a: Aggregate) -> str:
    id, *rest = a.fields
    columns = [f'    "{id.name}" {_TYPES[id.type][1]} PRIMARY KEY']
    for f in rest:
        kind = "jsonb" if f.type.startswith("list[") else _TYPES[f.type][1]
        columns.append(f'    "{f.name}" {kind}{"" if _can_be_none(f) else " NOT NULL"}')
    return f'CREATE TABLE "{snake(a.name)}" (\n' + ",\n".join(columns) + "\n);"


def _aggregate(plan: Plan, a: Aggregate) -> str:
    head = Call(f"class {a.name}(", ["Aggregate", f'table="{snake(a.name)}"', f'id="{a.fields[0].name}"'], "):")
    lines = [*a.notes, *_comments(plan, a.name), head.at(), *_fields(a.fields, of_row=True)]
    lines += [_method(plan, each) for each in plan.decisions if each.aggregate is a]
    return "\n".join(lines + [_evolves(event, a.fields[1:]) for event in a.events])


def _method(plan: Plan, d: Decision) -> str:
    event = d.event.name if d.event else "Event"
    head = Call(f"def {snake(d.command.name)}(", ["self", f"command: {d.command.name}"], f") -> {event}:")
    lines = ["", head.at(4), *(f"        {each}" for each in (*d.command.notes, *(f"# {q}" for q in d.questions)))]
    if d.open or d.event is None:
        return "\n".join(
            [*lines, f"        # Not in the model: {d.open}. Decide it, and record the event.", _refuse(d.open, 8)]
        )
    id = d.aggregate.fields[0].name
    values = [f"{f.name}={'self' if f.name == id else 'command'}.{f.name}" for f in d.event.fields]
    return "\n".join([*lines, Call("return self.record(", [Call(f"{event}(", values)]).at(8)])


def _refuse(what: str, indent: int) -> str:
    return Call("raise Refused(", ['"not_decided"', f'what="{what}"']).at(indent)


def _same(event: Event, fields: Iterable[Field]) -> list[str]:
    """What a row takes from an event: the fields that both have."""
    said = {(f.name, f.type): f.optional for f in event.fields}
    return [f.name for f in fields if (f.name, f.type) in said and said[f.name, f.type] <= _can_be_none(f)]


def _evolves(event: Event, fields: Iterable[Field]) -> str:
    head = Call(f"def _{snake(event.name)}(", ["self", f"event: {event.name}"], ") -> None:")
    sets = [f"        self.{each} = event.{each}" for each in _same(event, fields)]
    nothing = ["        pass  # the row has no field that the event has"]
    return "\n".join(["", f"    @evolves({event.name})", head.at(4), *(sets or nothing)])


def _service(plan: Plan) -> Iterator[str]:
    name = plan.context.slug
    known = {f"{'events' if isinstance(m, Event) else 'commands'}.{home}" for home, m in plan.messages.values()}
    topics = {topic for topic in known if topic != f"commands.{name}"}
    yield Call("TOPICS = [", [f'"{each}"' for each in sorted(topics)], "]").at()
    yield from (_taken(each) for each in plan.decisions)
    yield from (_reaction(*each) for each in plan.reactions)
    yield from (_view(plan, each) for each in plan.views)
    made = {v.name for v in plan.views}
    left = [(name, what) for name, what in plan.notes if name in {r.name for r in plan.context.readmodels} - made]
    paths = [Call(f'"{_path(d)}": (', [d.command.name, snake(d.command.name)]) for d in plan.decisions]
    commands = Call("COMMANDS: dict[str, tuple[type[Command], Take]] = {", paths, "}").at()
    comments = [f"# {name} is left out: not in the model is {what}." for name, what in left]
    yield "\n".join([*comments, "Take = Callable[[Any, Transaction], Awaitable[Event]]", commands])
    lines = ["def build(database: str, log: EventLog) -> Service:", '    """The service, on a database and a log."""']
    lines.append(f'    service = Service("{name}", database=database, log=log)')
    lines.append(f'    service.keeps("service {name}", "{name}", ("schema.sql",))')
    for event, steps in plan.reactions:
        emits = Call("emits=[", [*dict.fromkeys(each for step in steps for each in _emits(step))], "]")
        lines.append(Call("service.on(", [event.name, emits], f")(whenever_{snake(event.name)})").at(4))
    lines += [f"    service.projection({view.name})" for view in plan.views]
    yield "\n".join([*lines, "    return service"])


def _path(d: Decision) -> str:
    return snake(d.command.name).replace("_", "-")


def _taken(d: Decision) -> str:
    function, event = snake(d.command.name), d.event.name if d.event else "Event"
    head = Call(f"async def {function}(", [f"command: {d.command.name}", "tx: Transaction"], f") -> {event}:").at()
    if d.lost:
        return "\n".join([head, f"    # Not in the model: {d.lost}.", _refuse(d.lost, 4)])
    one = Call("one = await tx.open(", [d.aggregate.name, f"command.{d.aggregate.fields[0].name}"]).at(4)
    return "\n".join([head, one, f"    return one.{function}(command)"])


def _reaction(event: Event, steps: list[Step]) -> str:
    head = Call(f"async def whenever_{snake(event.name)}(", [f"event: {event.name}", "tx: Transaction"], ") -> None:")
    lines = [head.at()]
    for policy, command, decision, open in steps:
        lines.append(f"    # {policy}")
        values = Call(f"{command.name}(", [f"{f.name}=event.{f.name}" for f in command.fields])
        if open:
            lines += [f"    # Not in the model: {open}.", _refuse(open, 4)]
        elif decision is None:
            lines.append(Call("tx.send(", [values]).at(4))
        else:
            lines.append(Call(f"await {snake(command.name)}(", [values, "tx"]).at(4))
    return "\n".join(lines)


def _emits(step: Step) -> list[str]:
    """What may follow from a step: by what was not decided, any event of the aggregate."""
    if step.decision is None:
        return [] if step.open else [step.command.name]
    return [step.decision.event.name] if step.decision.event else [e.name for e in step.decision.aggregate.events]


def _view(plan: Plan, view: View) -> str:
    parts = ["Projection", f'name="{snake(view.name)}"', f'id="{view.fields[0].name}"']
    lines = [*_comments(plan, view.name), Call(f"class {view.name}(", parts, "):").at()]
    lines += _fields(view.fields, of_row=True)
    return "\n".join(lines + [_evolves(event, view.fields[1:]) for event in view.events])


def _examples(plan: Plan) -> Iterator[str]:
    values = [
        Call(f"{snake(m.name).upper()} = {m.name}(", [f"{f.name}={_example(f)}" for f in m.fields]).at()
        for _, m in plan.messages.values()
    ]
    yield "\n".join(values)
    decided = {
        d.command.name: f'"{plan.context.slug}.{d.event.name}"' for d in plan.decisions if _is_derived(d) and d.event
    }
    answered, refused, handled, parked = [], [], [], []
    for d in plan.decisions:
        asked = [f'"{_path(d)}"', snake(d.command.name).upper()]
        if d.command.name in decided and d.event:
            answered.append(Call("(", [*asked, snake(d.event.name).upper()]))
        else:
            refused.append(Call("(", asked))
    for event, steps in plan.reactions:
        if all(not s.open and (s.decision is None or s.command.name in decided) for s in steps):
            said = [
                decided.get(s.command.name) or f'"{plan.messages[s.command.name][0]}.{s.command.name}"' for s in steps
            ]
            handled.append(Call("(", [snake(event.name).upper(), Call("[", said, "]")]))
        else:
            parked.append(snake(event.name).upper())
    projected = [Call("(", [f'"{snake(v.name)}"', snake(v.events[0].name).upper()]) for v in plan.views]
    lists: dict[str, Sequence[str | Call]] = {
        "answered: list[tuple[str, Command, Event]]": answered,
        "not_decided: list[tuple[str, Command]]": refused,
        "handled: list[tuple[Event, list[str]]]": handled,
        "parked: list[Event]": parked,
        "projected: list[tuple[str, Event]]": projected,
    }
    yield "\n".join(Call(f"{head} = [", parts, "]").at() for head, parts in lists.items())


def _is_derived(d: Decision) -> bool:
    return d.event is not None and not d.open and not d.lost


def _tests(plan: Plan) -> Iterator[str]:
    for d in plan.decisions:
        name, id = snake(d.command.name), d.aggregate.fields[0]
        first = f"    start = given({d.aggregate.name}({_example(id)}))"
        when = f"    asked = start.when(lambda one: one.{name}({name.upper()}))"
        if d.open or d.event is None:
            lines = [f"def test_{name}_is_not_decided_yet() -> None:", first, when, '    asked.refused("not_decided")']
        else:
            said = snake(d.event.name).upper()
            lines = [f"def test_{name}_is_decided() -> None:", first, when, f"    asked.then({said})"]
        yield "\n".join(lines)
    for a in plan.aggregates:
        for event in a.events:
            name, same = snake(event.name), set(_same(event, a.fields[1:]))
            start = Call("start = given(", [f"{a.name}({_example(a.fields[0])})", name.upper()]).at(4)
            state = Call(
                "start.when(lambda _: None).state(", [f"{f.name}={_example(f)}" for f in a.fields if f.name in same]
            ).at(4)
            if same:
                yield f"def test_a_row_follows_from_{name}() -> None:\n{start}\n{state}"

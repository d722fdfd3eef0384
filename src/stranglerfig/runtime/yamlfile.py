"""YAML files read so that an error can name its line: the document beside the place of every key.

Read by YAML 1.2's rules for plain words: ``on`` is a key, not a truth, and a date is text.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stranglerfig.foundation.errors import FigError

M = TypeVar("M", bound=BaseModel)
_CHARACTERS = 4_000_000
_NODES = 200_000
"""Of a document: far more than an estate has, far less than nine lines of aliases unfold to."""
REFERENCE = "See docs/reference for every key, or correct the line named."


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  as in the base class


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [*_first, ""] if _tag == "null" else list(_first)
    )
# An exponent without a point is a float to YAML 1.2, and Python's float() agrees; the safe constructor does as well.


@dataclass(frozen=True)
class Document:
    """A file's data and the lines it stands on."""

    path: Path
    data: Any
    node: yaml.Node | None

    def line(self, location: tuple[str | int, ...]) -> int:
        """The line (from 1) of the deepest node that ``location`` leads to."""
        node, line = self.node, 1
        if node is not None:
            line = node.start_mark.line + 1
        for part in location:
            found = _child(node, part)
            if found is None:
                continue  # a part of pydantic's own, such as the name of a union's member
            key, node = found
            line = key.start_mark.line + 1
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def read(path: Path) -> Document:
    """Read ``path``.

    Raises:
        FigError: ``bad_configuration`` when it is not YAML or has a key twice; ``no_configuration`` when there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FigError(
            "no_configuration", f"{path} cannot be read: {error}", "Check the path, or name the project with --project."
        ) from error
    if len(text) > _CHARACTERS:
        raise _bad(path, 1, "", f"the file has more than {_CHARACTERS:,} characters", "Shorten it.")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _check(path, node, {})
        data = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _bad(path, line, "", error.problem or "not YAML", "Correct the YAML of the line named.") from error
    except yaml.YAMLError as error:
        raise _bad(path, 1, "", f"not YAML: {error}", "Correct the file.") from error
    except RecursionError as error:
        raise _bad(path, 1, "", "the YAML is nested too deeply", "Nest less.") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # What the constructors of YAML's own tags raise: "!!int x", "!!timestamp x", a number of 5,000 digits.
        raise _bad(path, 1, "", f"a value cannot be read: {error}", "Correct the file.") from error
    finally:
        if loader is not None:
            loader.dispose()
    return Document(path, data, node)


def _check(path: Path, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Refuse keys that stand twice, aliases within themselves, and aliases that unfold to more than a file should.

    Returns:
        How many nodes it is with all aliases unfolded; ``sizes`` keeps that by node, 0 while one is looked at.
    """
    if (known := sizes.get(id(node))) is not None:
        if not known:
            raise _bad(path, node.start_mark.line + 1, "", "the anchor refers to itself", "Write the value out.")
        return known
    sizes[id(node)] = 0
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_check(path, item, sizes) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _bad(path, line, "", "a key is not a word", "Write KEY: VALUE.")
            if key.value in seen:
                raise _bad(
                    path, line, key.value, f"the key stands here and in line {seen[key.value]}", "Keep one of them."
                )
            seen[key.value] = line
            size += 1 + _check(path, value, sizes)
    if size > _NODES:
        raise _bad(
            path, node.start_mark.line + 1, "", f"aliases unfold to more than {_NODES:,} values", "Write less of it."
        )
    sizes[id(node)] = size
    return size


def parse(document: Document, model: type[M]) -> M:
    """The document as ``model``.

    Raises:
        FigError: ``bad_configuration`` with file, line, path of the key, what was found, what is allowed. When there
            are several mistakes, all are in ``context['mistakes']`` and the message.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        mistakes = sorted((_mistake(document, model, e) for e in _causes(error.errors())), key=lambda m: m["line"])
        first = mistakes[0]
        text = "; ".join(m["text"] for m in mistakes)
        raise FigError(
            "bad_configuration",
            text,
            REFERENCE,
            file=str(document.path),
            line=first["line"],
            key=first["key"],
            mistakes=mistakes,
        ) from None


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without a list's "too short" that only follows from mistakes inside its items."""
    return [
        e
        for e in errors
        if e["type"] != "too_short"
        or not any(len(o["loc"]) > len(e["loc"]) and o["loc"][: len(e["loc"])] == e["loc"] for o in errors)
    ]


def _bad(path: Path, line: int, key: str, problem: str, remedy: str) -> FigError:
    where = f"{path}:{line}: " + (f"{key}: " if key else "")
    return FigError("bad_configuration", where + problem, remedy, file=str(path), line=line, key=key)


def _mistake(document: Document, model: type[BaseModel], error: ErrorDetails) -> dict[str, Any]:
    location, kind = error["loc"], error["type"]
    real = tuple(_real(document.node, location))
    key = dotted(real)
    line = document.line(location)
    found: Any = error["input"]
    if kind == "extra_forbidden":
        keys = allowed(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), keys, n=1)
        problem = f"unknown key; allowed: {', '.join(keys)}" + (f" (did you mean {near[0]!r}?)" if near else "")
        found = str(location[-1])
    elif kind == "missing":
        key = dotted((*real, location[-1]))
        problem = "is missing"
        found = None
    else:
        problem = f"found {_shown(location, found)}; {_wanted(error)}"
    return {
        "file": str(document.path),
        "line": line,
        "key": key,
        "found": _masked(location, found)
        if isinstance(found, str | int | float | bool | None) and not _secret(location)
        else None,
        "problem": problem,
        "text": f"{document.path}:{line}: {key}: {problem}" if key else f"{document.path}:{line}: {problem}",
    }


def _wanted(error: ErrorDetails) -> str:
    return (
        error["msg"]
        .removeprefix("Value error, ")
        .removeprefix("Input should be ")
        .join(("allowed: ", "") if error["msg"].startswith("Input should be ") else ("", ""))
    )


_SECRETS = frozenset(("database", "control", "passwords", "services", "credentials", "dsn", "command"))
"""Keys of what may hold a password, wherever they stand."""
_LOGIN = re.compile(r"//[^/@\s]*@")


def _secret(location: tuple[str | int, ...]) -> bool:
    places = (("broker", "url"), ("facade", "tls"))
    return any(part in _SECRETS for part in location) or location[:2] in places


def _masked(location: tuple[str | int, ...], found: Any) -> Any:
    """``found`` without what may be a password: a mistake is often told with all that stands around it."""
    if isinstance(found, dict):
        return {key: _masked((*location, key), value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_masked((*location, number), value) for number, value in enumerate(found)]
    if not isinstance(found, str):
        return found
    if _secret(location):
        return "…"
    hidden = _LOGIN.sub("//…@", found)
    # Options of an address (kafka://…?sasl.password=…) may be secrets as well.
    return hidden.partition("?")[0] + "?…" if "://" in hidden and "?" in hidden else hidden


def _shown(location: tuple[str | int, ...], found: Any) -> str:
    if _secret(location) and isinstance(found, str):
        return "a text that is not shown"  # it may hold a password
    text = repr(_masked(location, found))
    return text if len(text) <= 80 else text[:77] + "..."


def _real(node: yaml.Node | None, location: tuple[str | int, ...]) -> Iterator[str | int]:
    for part in location:
        found = _child(node, part)
        if found is not None:
            node = found[1]
            yield part


def dotted(location: tuple[str | int, ...]) -> str:
    """``tables[0].from``: the path of a key as people write it."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def allowed(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that the model at ``location`` knows, as the file writes them."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        deeper = [
            m
            for parent in models
            for name, field in parent.model_fields.items()
            if part in (name, field.alias)
            for m in _models(field.annotation)
        ]
        models = deeper or models  # indices and names of a union's members lead nowhere
    return list(dict.fromkeys(field.alias or name for m in models for name, field in m.model_fields.items()))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict, set, frozenset) or get_args(annotation):
        return [m for argument in get_args(annotation) for m in _models(argument)]
    return []

"""Java sources as syntax trees, read and never run or compiled: the one place that knows tree-sitter.

The parser goes on behind what it does not understand, so that a file that does not parse as a whole still says what it
can. Tests, and what builds leave behind, are not read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stranglerfig.foundation.errors import FigError
from stranglerfig.seams.java.syntax import (
    CALL,
    CAST,
    CLASS,
    FIELD,
    JOIN,
    NAME,
    NEW,
    OTHER,
    REFERENCE,
    TEXT,
    Annotation,
    Declaration,
    Expression,
    File,
    Method,
    Type,
    Variable,
)
from stranglerfig.seams.model import Told, untold

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_MOST: Final = 2_000_000
"""Bytes of a file beyond which it is generated."""
_NOT_SOURCES: Final = frozenset({"target", "build", "out", "bin", "node_modules", "test", "tests", "testFixtures"})
_DECLARATIONS: Final = {
    "class_declaration": "class",
    "interface_declaration": "interface",
    "record_declaration": "record",
    "enum_declaration": "enum",
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "s": " ", "\n": ""}


@dataclass(frozen=True, slots=True)
class Read:
    """All files, and the paths of those that were not read or only in part."""

    files: tuple[File, ...]
    broken: tuple[str, ...]


def files(folder: Path) -> list[Path]:
    """The Java files below a folder that are a program's own, in order."""
    return list(_files(folder.resolve()))


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        # Below src/main/java a folder is a package, whatever it is called.
        if "java" not in Path(folder).relative_to(root).parts:
            below[:] = [each for each in below if each not in _NOT_SOURCES]
        below[:] = sorted(each for each in below if not each.startswith("."))
        for name in sorted(names):
            stem = name.removesuffix(".java")
            if stem != name and not stem.endswith(("Test", "Tests", "TestCase", "-info")):
                file = Path(folder) / name
                if file.is_file() and file.stat().st_size <= _MOST:
                    yield file


def read(folder: Path, told: Told = untold) -> Read:
    """Read every Java file below a folder.

    Raises:
        FigError: ``backend_not_installed`` without the parser.
    """
    root, found, broken = folder.resolve(), list[File](), list[str]()
    parser = _parser()
    listed = list(_files(root))
    for number, file in enumerate(listed, start=1):
        told("sources read", number, len(listed))
        path = str(file.relative_to(root))
        try:
            found.append(parse(file.read_bytes(), path, parser))
        except (OSError, RecursionError):
            broken.append(path)
            continue
        if not found[-1].whole:
            broken.append(path)
    return Read(tuple(found), tuple(broken))


def _parser() -> Parser:
    try:
        import tree_sitter
        import tree_sitter_java
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            "the parser for Java is not installed here",
            "pip install stranglerfig[java]",
            package="tree-sitter-java",
        ) from error
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_java.language()))


def parse(text: bytes, path: str, parser: Parser | None = None) -> File:
    """What one file says, whatever it is.

    Raises:
        FigError: ``backend_not_installed``.
        RecursionError: it is nested deeper than this program may call itself.
    """
    tree = (parser or _parser()).parse(text)
    file = File(path, whole=not tree.root_node.has_error)
    _Reader(file).whole(tree.root_node)
    return file


def _said(node: Node | None) -> str:
    return node.text.decode(errors="replace") if node is not None and node.text is not None else ""


def _line(node: Node) -> int:
    return int(node.start_point[0]) + 1


class _Reader:
    """Fills a file from its tree."""

    def __init__(self, file: File) -> None:
        self._file = file

    def whole(self, root: Node) -> None:
        for node in root.named_children:
            match node.type:
                case "package_declaration":
                    self._file.package = _said(_last(node))
                case "import_declaration":
                    self._import(node)
        self._below(root, None)

    def _import(self, node: Node) -> None:
        named = next((each for each in node.named_children if each.type in ("identifier", "scoped_identifier")), None)
        if any(each.type == "asterisk" for each in node.named_children):
            self._file.stars.append(_said(named))
        elif named is not None:
            self._file.imports.setdefault(_said(named), _line(node))

    def _below(self, body: Node, owner: Declaration | None) -> None:
        """The declarations inside of a node, which may be inside of what does not parse."""
        for node in body.named_children:
            if node.type in _DECLARATIONS:
                self._declare(node, owner)
            elif node.type in ("ERROR", "enum_body_declarations"):
                self._below(node, owner)
            elif owner is not None:
                self._member(node, owner)

    def _declare(self, node: Node, owner: Declaration | None) -> None:
        parameters = node.child_by_field_name("type_parameters")
        found = Declaration(
            _DECLARATIONS[node.type],
            _said(node.child_by_field_name("name")),
            _line(node),
            self._file,
            owner,
            tuple(_said(each.named_children[0]) for each in _named(parameters, "type_parameter")),
            self._annotations(node),
        )
        bases = [*_named(node, "superclass", "super_interfaces", "extends_interfaces")]
        found.bases = tuple(self._type(each) for base in bases for each in _types(base))
        self._file.declarations.append(found)
        if found.kind == "record":
            for each in _named(node.child_by_field_name("parameters"), "formal_parameter"):
                variable = self._parameter(each)
                found.fields[variable.name] = variable
        body = node.child_by_field_name("body")
        if body is not None:
            self._below(body, found)

    def _member(self, node: Node, owner: Declaration) -> None:
        match node.type:
            case "field_declaration" | "constant_declaration":
                for each in self._variables(node, self._annotations(node)):
                    owner.fields[each.name] = each
            case "method_declaration" | "constructor_declaration" | "compact_constructor_declaration":
                owner.methods.append(self._method(node))
            case "enum_constant":
                name = _said(node.child_by_field_name("name"))
                owner.fields[name] = Variable(name, Type(owner.name), _line(node))
                for body in _named(node, "class_body"):
                    self._below(body, owner)
            case "block" | "static_initializer":
                method = Method("<init>", _line(node), None)
                self._body(node, method)
                owner.methods.append(method)

    def _method(self, node: Node) -> Method:
        is_method = node.type == "method_declaration"
        returned, body = node.child_by_field_name("type"), node.child_by_field_name("body")
        found = Method(
            _said(node.child_by_field_name("name")) if is_method else "<init>",
            _line(node),
            self._type(returned) if returned is not None else None,
            self._annotations(node),
            has_body=body is not None,
        )
        for each in _named(node.child_by_field_name("parameters"), "formal_parameter", "spread_parameter"):
            variable = self._parameter(each)
            found.variables[variable.name] = variable
            found.parameters += 1
        if body is not None:
            self._body(body, found)
        return found

    def _body(self, node: Node, method: Method) -> None:
        """Its expressions and local variables, those of lambdas and anonymous classes included."""
        if (found := self._expression(node, method)) is not None:
            method.body.append(found)

    def _parameter(self, node: Node) -> Variable:
        given = node.child_by_field_name("type") or next(_types(node), None)
        name = node.child_by_field_name("name")
        if name is None:
            declarator = next(_named(node, "variable_declarator"), None)
            name = declarator.child_by_field_name("name") if declarator is not None else None
        kind = self._type(given) if given is not None else Type("")
        return Variable(_said(name), kind, _line(node), self._annotations(node))

    def _variables(
        self, node: Node, annotations: tuple[Annotation, ...] = (), method: Method | None = None
    ) -> Iterator[Variable]:
        given = node.child_by_field_name("type")
        kind = self._type(given) if given is not None else Type("")
        for each in _named(node, "variable_declarator"):
            value = each.child_by_field_name("value")
            begins = self._expression(value, method) if value is not None else None
            yield Variable(_said(each.child_by_field_name("name")), kind, _line(each), annotations, begins)

    # Types and annotations

    def _type(self, node: Node) -> Type:
        match node.type:
            case "generic_type":
                args = _named(node, "type_arguments")
                first = node.named_children[0] if node.named_children else None
                inner = tuple(self._type(each) for found in args for each in _types(found))
                return Type(self._mention(first), inner)
            case "array_type":
                element = node.child_by_field_name("element")
                return Type("[]", (self._type(element),)) if element is not None else Type("[]")
            case "annotated_type" | "wildcard":
                return next((self._type(each) for each in _types(node)), Type("?"))
        return Type(self._mention(node))

    def _mention(self, node: Node | None) -> str:
        if node is None:
            return ""
        said = "".join(_said(node).split())
        self._file.mentions.setdefault(said, _line(node))
        return said

    def _annotations(self, node: Node) -> tuple[Annotation, ...]:
        modifiers = next(_named(node, "modifiers"), None)
        return tuple(self._annotation(each) for each in _named(modifiers, "annotation", "marker_annotation"))

    def _annotation(self, node: Node) -> Annotation:
        found = Annotation(_said(node.child_by_field_name("name")).rpartition(".")[2], _line(node))
        arguments = node.child_by_field_name("arguments")
        for each in arguments.named_children if arguments is not None else ():
            if each.type == "element_value_pair":
                self._value(_said(each.child_by_field_name("key")), each.child_by_field_name("value"), found)
            else:
                self._value("value", each, found)
        return found

    def _value(self, key: str, node: Node | None, into: Annotation) -> None:
        if node is None:
            return
        if node.type == "element_value_array_initializer":
            for each in node.named_children:
                self._value(key, each, into)
        elif node.type in ("annotation", "marker_annotation"):
            into.nested[key] = (*into.nested.get(key, ()), self._annotation(node))
        elif (value := self._expression(node, None)) is not None:
            into.values[key] = (*into.values.get(key, ()), value)

    # Expressions

    def _expression(self, node: Node, method: Method | None) -> Expression | None:
        """An expression or statement; None where nothing in it is of interest. Variables go into the method."""
        if reader := _EXPRESSIONS.get(node.type):
            return reader(self, node, method)
        match node.type:
            case "string_literal":
                return Expression(TEXT, _line(node), _text(node))
            case "identifier" | "this" | "super" | "true":
                return Expression(NAME, _line(node), _said(node))
            case "type_identifier" | "scoped_type_identifier" | "generic_type":
                return Expression(NAME, _line(node), self._type(node).name)
            case "binary_expression" if any(each.type == "+" for each in node.children):
                return self._sum(node, method)
            case "enhanced_for_statement" | "resource" | "formal_parameter":
                self._bind(node, method)
        found = self._all(node, method)
        return Expression(OTHER, _line(node), args=found) if len(found) > 1 else found[0] if found else None

    def _below_field(self, node: Node, field: str, method: Method | None) -> Expression | None:
        found = node.child_by_field_name(field)
        return self._expression(found, method) if found is not None else None

    def _type_of(self, node: Node) -> Type | None:
        found = node.child_by_field_name("type")
        return self._type(found) if found is not None else None

    def _field(self, node: Node, method: Method | None) -> Expression:
        return Expression(
            FIELD, _line(node), _said(node.child_by_field_name("field")), of=self._below_field(node, "object", method)
        )

    def _scoped(self, node: Node, method: Method | None) -> Expression:
        return Expression(
            FIELD, _line(node), _said(node.child_by_field_name("name")), of=self._below_field(node, "scope", method)
        )

    def _call(self, node: Node, method: Method | None) -> Expression:
        name = node.child_by_field_name("name")
        return Expression(
            CALL,
            _line(name or node),
            _said(name),
            of=self._below_field(node, "object", method),
            args=self._all(node.child_by_field_name("arguments"), method),
        )

    def _new(self, node: Node, method: Method | None) -> Expression:
        """A new object; what the body of an anonymous class says stands behind the arguments."""
        given = self._all(node.child_by_field_name("arguments"), method)
        body = self._all(next(_named(node, "class_body"), None), method)
        return Expression(NEW, _line(node), type=self._type_of(node), args=(*given, *body))

    def _class(self, node: Node, _: Method | None) -> Expression:
        return Expression(CLASS, _line(node), type=next((self._type(each) for each in _types(node)), None))

    def _reference(self, node: Node, method: Method | None) -> Expression:
        of = self._expression(node.named_children[0], method) if node.named_children else None
        return Expression(REFERENCE, _line(node), _said(node).rpartition("::")[2].strip(), of=of)

    def _cast(self, node: Node, method: Method | None) -> Expression:
        return Expression(CAST, _line(node), type=self._type_of(node), of=self._below_field(node, "value", method))

    def _all(self, node: Node | None, method: Method | None) -> tuple[Expression, ...]:
        each = node.named_children if node is not None else ()
        return tuple(found for inner in each if (found := self._expression(inner, method)) is not None)

    def _local(self, node: Node, method: Method | None) -> Expression | None:
        values = list[Expression]()
        for each in self._variables(node, method=method):
            if method is not None:
                method.variables.setdefault(each.name, each)
            if each.value is not None:
                values.append(each.value)
        return Expression(OTHER, _line(node), args=tuple(values)) if values else None

    def _bind(self, node: Node, method: Method | None) -> None:
        kind, name = node.child_by_field_name("type"), node.child_by_field_name("name")
        if method is not None and kind is not None and name is not None:
            method.variables.setdefault(_said(name), Variable(_said(name), self._type(kind), _line(node)))

    def _sum(self, node: Node, method: Method | None) -> Expression:
        """A sum, which of texts is a text: a long one leans to the left, deeper than a program may call itself."""
        parts = list[Expression]()
        at: Node | None = node
        while at is not None and at.type == "binary_expression" and any(each.type == "+" for each in at.children):
            right = at.child_by_field_name("right")
            found = self._expression(right, method) if right is not None else None
            parts.append(found or Expression(OTHER, _line(at)))
            at = at.child_by_field_name("left")
        first = self._expression(at, method) if at is not None else None
        parts.append(first or Expression(OTHER, _line(node)))
        parts.reverse()
        is_text = any(each.kind in (TEXT, JOIN) for each in parts)
        names_only = all(each.kind in (TEXT, JOIN, NAME, FIELD) for each in parts)
        return Expression(JOIN if is_text or names_only else OTHER, _line(node), args=tuple(parts))


_EXPRESSIONS: Final[Mapping[str, Callable[[_Reader, Node, Method | None], Expression | None]]] = {
    "field_access": _Reader._field,
    "scoped_identifier": _Reader._scoped,
    "method_invocation": _Reader._call,
    "object_creation_expression": _Reader._new,
    "class_literal": _Reader._class,
    "method_reference": _Reader._reference,
    "cast_expression": _Reader._cast,
    "local_variable_declaration": _Reader._local,
}


def _last(node: Node) -> Node | None:
    return node.named_children[-1] if node.named_children else None


def _named(node: Node | None, *types: str) -> Iterator[Node]:
    for each in node.named_children if node is not None else ():
        if each.type in types:
            yield each


def _types(node: Node) -> Iterator[Node]:
    """The types directly inside of a node, through the list that several are in."""
    for each in node.named_children:
        if each.type == "type_list":
            yield from _types(each)
        elif each.type in ("wildcard", "annotated_type") or each.type.endswith(("type_identifier", "_type")):
            yield each


def _text(node: Node) -> str:
    parts = list[str]()
    for each in node.named_children:
        said = _said(each)
        parts.append(_ESCAPES.get(said[1:], said[1:]) if each.type == "escape_sequence" else said)
    return "".join(parts)

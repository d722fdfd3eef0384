"""What Python sources say, read as syntax trees and never run: imports, SQL, models, routes, and the tables they touch.

One file becomes a :class:`Module` with its scopes (functions, methods, class bodies, the module's own level), each with
the names it mentions. What a name stands for is resolved by :mod:`.resolving` once all files are read.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stranglerfig.seams.model import Told, untold
from stranglerfig.seams.statements import looks_like_sql

_NOT_SOURCES = frozenset(
    {"tests", "test", "migrations", "node_modules", "site-packages", "__pycache__", "venv", "build"}
)
USER_MODEL = "AUTH_USER_MODEL"
_MOST = 2_000_000
"""Bytes of a file beyond which it is generated."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A dotted name that a scope mentions: ``Product.objects.create``; ``called`` when it is called."""

    name: str
    line: int
    called: bool = False


@dataclass(slots=True)
class Scope:
    """A function, a class body or the module's own level, with the mentions and strings in it."""

    name: str
    line: int
    mentions: list[Mention] = field(default_factory=list)
    strings: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Class:
    """A class: its bases as written, and the assignments of its body (and of its ``Meta``)."""

    name: str
    line: int
    bases: tuple[str, ...]
    values: dict[str, ast.expr]
    meta: dict[str, ast.expr]


@dataclass(frozen=True, slots=True)
class Route:
    """A route as declared: ``handler`` is a dotted name in its module, resolved within the class ``owner``."""

    path: str
    methods: frozenset[str]
    handler: str
    owner: str
    line: int


@dataclass(slots=True)
class Module:
    """What one file says. ``bound`` are names from elsewhere: local name → dotted name; ``stars`` whole modules."""

    name: str
    path: str
    bound: dict[str, str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imports: list[tuple[str, int]] = field(default_factory=list)
    constants: dict[str, tuple[str, int]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    classes: dict[str, Class] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Read:
    """All modules by name, the app labels that their ``apps.py`` declare by package, and files that do not parse."""

    modules: Mapping[str, Module]
    labels: Mapping[str, str]
    broken: tuple[str, ...]


def read(folder: Path, told: Told = untold) -> Read:
    """Read every Python file below a folder, but tests, migrations and what is hidden."""
    root = folder.resolve()
    package = root
    while (package / "__init__.py").is_file():
        package = package.parent
    modules: dict[str, Module] = {}
    labels: dict[str, str] = {}
    broken: list[str] = []
    files = list(_files(root))
    for number, file in enumerate(files, start=1):
        told("sources read", number, len(files))
        path = str(file.relative_to(root))
        try:
            text = file.read_text(encoding="utf-8")
            with warnings.catch_warnings():  # of the monolith's strings, which are not ours to mend
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
            broken.append(path)
            continue
        parts = file.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        module = Module(name or root.name, path)
        _Reader(module, is_package=parts[-1] == "__init__").visit(tree)
        modules[module.name] = module
        for found in module.classes.values():
            label = text_of(found.values.get("label"), module)
            if label and "name" in found.values:
                labels[text_of(found.values["name"], module) or name.rpartition(".")[0]] = label
    return Read(modules, labels, tuple(broken))


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(each for each in below if each not in _NOT_SOURCES and not each.startswith("."))
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("test_") and name != "conftest.py":
                file = Path(folder) / name
                if file.is_file() and file.stat().st_size <= _MOST:
                    yield file


def dotted(node: ast.AST | None) -> str:
    """``a.b.c`` of such an expression, through calls and subscripts (``a().b[0]``); empty for any other."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{owner}.{attr}" if (owner := dotted(value)) else ""
        case ast.Call(func=inner) | ast.Subscript(value=inner) | ast.Await(value=inner):
            return dotted(inner)
    return ""


def text_of(node: ast.expr | None, module: Module) -> str | None:
    """The text of an expression as far as it is known; what is not becomes ``{}``, as a hole of a template."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in module.constants:
            return module.constants[name][0]
        case ast.JoinedStr(values=values):
            return "".join(_hole(value, module) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = text_of(left, module), text_of(right, module)
            return None if first is None and second is None else f"{first or '{}'}{second or '{}'}"
        case ast.BinOp(left=left, op=ast.Mod()):
            return text_of(left, module)
        case ast.Call(func=ast.Attribute(value=value, attr="format" | "strip")):
            return text_of(value, module)
        case ast.Call(func=func, args=[first, *_]) if dotted(func).rpartition(".")[2] in ("text", "SQL", "dedent"):
            return text_of(first, module)
    return None


def _hole(node: ast.expr, module: Module) -> str:
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    return text_of(inner, module) or "{}"


class _Reader(ast.NodeVisitor):
    """Fills a module from its tree."""

    def __init__(self, module: Module, *, is_package: bool) -> None:
        self._module = module
        self._package = module.name.split(".") if is_package else module.name.split(".")[:-1]
        self._classes: list[Class] = []
        self._scope = self._open("", 1)

    def _open(self, name: str, line: int) -> Scope:
        return self._module.scopes.setdefault(name, Scope(name, line))

    def visit_Import(self, node: ast.Import) -> None:
        """``import a.b``, ``import a.b as c``."""
        for alias in node.names:
            self._module.imports.append((alias.name, node.lineno))
            self._module.bound[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """``from a import b``, ``from . import b``."""
        base = self._package[: len(self._package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                self._module.stars.append(source)
                self._module.imports.append((source, node.lineno))
                continue
            whole = f"{source}.{alias.name}" if source else alias.name
            self._module.imports.append((whole, node.lineno))
            self._module.bound[alias.asname or alias.name] = whole

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class: its body is a scope of its own, named as the class."""
        values = _assignments(node.body)
        inner = next((each for each in node.body if isinstance(each, ast.ClassDef) and each.name == "Meta"), None)
        bases = tuple(name for base in node.bases if (name := dotted(base)))
        found = Class(node.name, node.lineno, bases, values, _assignments(inner.body) if inner else {})
        nested = bool(self._classes)
        if not nested:
            self._module.classes[node.name] = found
        before, self._scope = self._scope, self._scope if nested else self._open(node.name, node.lineno)
        self._classes.append(found)
        self.generic_visit(node)
        self._classes.pop()
        self._scope = before

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """A function or method: ``f`` or ``Class.f``; those inside of it belong to it."""
        before = self._scope
        if before.name in ("", self._owner):
            name = f"{self._owner}.{node.name}" if self._owner else node.name
            self._scope = self._open(name, node.lineno)
            for decorator in node.decorator_list:
                self._decorated(decorator, name, node.lineno)
        self.generic_visit(node)
        self._scope = before

    visit_AsyncFunctionDef = visit_FunctionDef

    @property
    def _owner(self) -> str:
        return self._classes[0].name if self._classes else ""

    def visit_Assign(self, node: ast.Assign) -> None:
        """At the module's own level texts are remembered, and models that are looked up by name."""
        if self._scope.name == "" and isinstance(node.targets[0], ast.Name):
            self._remember(node.targets[0].id, node.value, node.lineno)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The same with an annotation."""
        if self._scope.name == "" and isinstance(node.target, ast.Name) and node.value is not None:
            self._remember(node.target.id, node.value, node.lineno)
        self.generic_visit(node)

    def _remember(self, name: str, value: ast.expr, line: int) -> None:
        if (text := text_of(value, self._module)) is not None:
            self._module.constants[name] = (text, line)
        elif model := _looked_up(value):
            self._module.models[name] = model

    def visit_Expr(self, node: ast.Expr) -> None:
        """A string by itself is documentation."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def _text(self, node: ast.expr) -> bool:
        text = text_of(node, self._module)
        if text is not None and looks_like_sql(text):
            self._scope.strings.append((text, node.lineno))
        return text is not None

    def visit_Constant(self, node: ast.Constant) -> None:
        """A string may be SQL."""
        self._text(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """So may one with holes, which may name constants."""
        self._text(node)
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                self.visit(value.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """And one of several parts."""
        if not self._text(node):
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """A mention."""
        self._scope.mentions.append(Mention(node.id, node.lineno))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """A mention of the whole chain; what is called on the way is visited for its arguments."""
        if name := dotted(node):
            self._scope.mentions.append(Mention(name, node.lineno))
        self._inside(node)

    def _inside(self, node: ast.AST) -> None:
        while not isinstance(node, ast.Name):
            match node:
                case ast.Call(func=func, args=args, keywords=keywords):
                    if model := _looked_up(node):
                        self._scope.mentions.append(Mention(f"model:{model}", node.lineno))
                    for each in (*args, *keywords):
                        self.visit(each)
                    node = func
                case ast.Attribute(value=value) | ast.Await(value=value):
                    node = value
                case ast.Subscript(value=value, slice=index):
                    self.visit(index)
                    node = value
                case _:
                    self.visit(node)
                    return

    def visit_Call(self, node: ast.Call) -> None:
        """A call is a mention of what is called; it may declare a route."""
        if name := dotted(node.func):
            self._scope.mentions.append(Mention(name, node.lineno, called=True))
        self._declared(node)
        self._inside(node)

    def _declared(self, node: ast.Call) -> None:
        """Starlette's and FastAPI's ``Route("/x", f, methods=[…])``, Django's ``path("x", f)``."""
        last = dotted(node.func).rpartition(".")[2]
        if last not in ("Route", "APIRoute", "path", "re_path", "add_route", "add_url_rule", "add_api_route"):
            return
        given = {each.arg: each.value for each in node.keywords}
        path = text_of(node.args[0] if node.args else given.get("path") or given.get("rule"), self._module)
        handler = given.get("endpoint") or given.get("view_func") or given.get("view")
        if handler is None and len(node.args) > 1:
            handler = node.args[2 if last == "add_url_rule" and len(node.args) > 2 else 1]
        name = dotted(handler)
        if path is None or not name:
            return
        name = name.removesuffix(".as_view")
        default = frozenset[str]() if last in ("path", "re_path") else frozenset({"GET"})
        path = path if path.startswith(("/", "^")) else f"/{path}"
        route = Route(path, _methods(given.get("methods")) or default, name, self._owner, node.lineno)
        self._module.routes.append(route)

    def _decorated(self, node: ast.expr, handler: str, line: int) -> None:
        """Flask's and FastAPI's ``@app.post("/x")``, ``@app.route("/x", methods=[…])``."""
        if not isinstance(node, ast.Call) or not node.args:
            return
        verb, path = dotted(node.func).rpartition(".")[2], text_of(node.args[0], self._module)
        if path is None or not path.startswith("/") or verb not in ("get", "post", "put", "patch", "delete", "route"):
            return
        given = {each.arg: each.value for each in node.keywords}
        methods = _methods(given.get("methods")) or frozenset({"GET"}) if verb == "route" else {verb.upper()}
        self._module.routes.append(Route(path, frozenset(methods), handler, "", line))


def _assignments(body: list[ast.stmt]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for each in body:
        match each:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found[name] = value
    return found


def _methods(node: ast.expr | None) -> frozenset[str]:
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return frozenset()
    values = [each.value for each in node.elts if isinstance(each, ast.Constant)]
    return frozenset(value.upper() for value in values if isinstance(value, str))


def _looked_up(node: ast.expr) -> str:
    """``label.Model`` of Django's ``get_model("label", "Model")``; ``get_user_model()``'s is in the settings."""
    called = dotted(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    if called == "get_user_model":
        return USER_MODEL
    if isinstance(node, ast.Call) and called == "get_model":
        names = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if len(names) in (1, 2) and "." in (whole := ".".join(names)):
            return whole
    return ""

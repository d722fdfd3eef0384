"""Reads ``.proto`` source text (proto2, proto3, editions) into the model; names are left as written.

Grammar: https://protobuf.dev/reference/protobuf/proto3-spec/ and proto2-spec. Own code, because a check must be quick:
a parser on ANTLR takes twenty times as long, and protoc is a program that wants files (decision 11).
"""

from __future__ import annotations

import bisect
import re
from typing import NoReturn

from stranglerfig.schemas.protobuf.model import MAX_NUMBER, EnumType, Field, File, Message, Method, Ranges, Service
from stranglerfig.schemas.terms import Format, invalid

_TOKEN = re.compile(
    r"""[\s\ufeff]*(?:(?://[^\n]*|/\*.*?\*/)[\s\ufeff]*)*
    (?:(?P<word>\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<mark>[{}\[\]()<>;,=:+\-/]|\.(?!\d))
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?f?)
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<other>\S)|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"{": "}", "[": "]", "<": ">"}
_LABELS = ("optional", "required", "repeated")
_ESCAPE = re.compile(r"\\([abfnrtv\\'\"?]|[0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")
_PLAIN = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34, "?": 63}


def read(text: str, path: str = "") -> File:
    """The file that ``text`` says; ``path`` goes before the lines of mistakes.

    Raises:
        FigError: ``schema_invalid`` with the line.
    """
    return _Reader(text, path).file()


class _Reader:
    def __init__(self, text: str, path: str) -> None:
        self._path = f"{path}: " if path else ""
        self._tokens: list[tuple[str, str, int]] = []
        self._at = 0
        self._scan(text)

    def _scan(self, text: str) -> None:
        self._newlines = [found.start() for found in re.finditer("\n", text)]
        for found in _TOKEN.finditer(text):
            kind, group = found.lastgroup, found.lastindex
            if kind is None or group is None:
                break
            at = found.start(group)
            if kind == "other":
                self._refuse(f"'{found[group]}' does not belong here", self._line(at))
            self._tokens.append((kind, found[group], at))
        # Three of them, because the parser looks up to two tokens ahead.
        self._tokens += [("end", "the end of the text", len(text))] * 3

    def _line(self, at: int | None = None) -> int:
        """The line, from 1, of a place in the text, or of the next token."""
        return bisect.bisect_left(self._newlines, self._tokens[self._at][2] if at is None else at) + 1

    def _refuse(self, why: str, line: int | None = None) -> NoReturn:
        raise invalid(Format.PROTOBUF, f"{self._path}line {line or self._line()}", why)

    def _peek(self) -> str:
        return self._tokens[self._at][1]

    def _next(self, kind: str = "") -> str:
        found, word, _ = self._tokens[self._at]
        if found == "end" or (kind and found != kind):
            self._refuse(f"a {kind or 'statement'} is expected, not {word}")
        self._at += 1
        return word

    def _take(self, word: str) -> bool:
        kind, found, _ = self._tokens[self._at]
        if found == word and kind in ("mark", "word"):
            self._at += 1
            return True
        return False

    def _want(self, word: str) -> None:
        kind, found, _ = self._tokens[self._at]
        if found != word or kind not in ("mark", "word"):
            self._refuse(f"'{word}' is expected, not {found}")
        self._at += 1

    def file(self) -> File:
        file = File()
        if self._peek() in ("syntax", "edition"):
            word = self._next()
            self._want("=")
            file.syntax = self._string()
            self._want(";")
            if (word == "syntax") is not (file.syntax in ("proto2", "proto3")):
                self._at -= 1
                self._refuse(f"the {word} '{file.syntax}' is not known")
        while self._tokens[self._at][0] != "end":
            word = self._next()
            match word:
                case ";":
                    pass
                case "package":
                    file.package = self._next("word")
                    self._want(";")
                case "import":
                    how = self._next() if self._peek() in ("public", "weak", "option") else ""
                    file.imports.append((self._string(), how))
                    self._want(";")
                case "option":
                    self._option(file.options)
                case "message":
                    file.messages.append(self._message(file.package))
                case "enum":
                    file.enums.append(self._enum(file.package))
                case "service":
                    file.services.append(self._service())
                case "extend":
                    self._extend(file.extends, file.messages, file.package)
                case _:
                    self._at -= 1
                    self._refuse(f"{word} does not begin a statement")
        return file

    def _name(self) -> str:
        name = self._next("word")
        if "." in name:
            self._at -= 1
            self._refuse(f"'{name}' is no simple name")
        return name

    def _message(self, outer: str) -> Message:
        line = self._line()
        name = self._name()
        message = Message(name, f"{outer}.{name}" if outer else name, line=line)
        self._body(message)
        return message

    def _body(self, message: Message) -> None:
        self._want("{")
        while not self._take("}"):
            word = self._next()
            after = self._tokens[self._at]
            # 'message', 'enum' and so on are also good names of types and fields: what follows decides.
            declares = after[0] == "word" and self._tokens[self._at + 1][1] == "{"
            if word == ";":
                continue
            if word == "message" and declares:
                message.messages.append(self._message(message.full))
            elif word == "enum" and declares:
                message.enums.append(self._enum(message.full))
            elif word == "oneof" and declares:
                self._oneof(message)
            elif word == "extend" and declares:
                self._extend(message.extends, message.messages, message.full)
            elif word == "option" and (after[1] == "(" or self._tokens[self._at + 1][1] in ("=", ".")):
                self._option(message.options)
            elif word == "reserved" and (after[0] in ("number", "string") or after[1] == "-" or self._lone_names()):
                self._reserved(message.reserved, message.reserved_names, MAX_NUMBER)
            elif word == "extensions" and after[0] == "number":
                self._ranges(message.extensions, MAX_NUMBER)
                self._inline({})
                self._want(";")
            else:
                self._at -= 1
                message.fields.append(self._field(message.messages, message.full))

    def _lone_names(self) -> bool:
        return self._tokens[self._at][0] == "word" and self._tokens[self._at + 1][1] in (",", ";")

    def _field(self, messages: list[Message], outer: str, oneof: str = "") -> Field:
        line = self._line()
        label = ""
        if self._peek() in _LABELS and self._tokens[self._at + 1][0] == "word":
            label = self._next()
        if self._peek() == "map" and self._tokens[self._at + 1][1] == "<":
            return self._map(oneof, label, line)
        kind = self._next("word")
        if kind == "group" and self._tokens[self._at + 1][1] == "=":
            return self._group(messages, outer, label, oneof, line)
        name = self._name()
        part = Field(name, self._number(), kind, label, oneof=oneof, line=line)
        self._inline(part.options)
        self._want(";")
        return part

    def _number(self) -> int:
        self._want("=")
        return self._integer()

    def _map(self, oneof: str, label: str, line: int) -> Field:
        if oneof or label:
            self._refuse("a map has no label and is in no oneof")
        self._next()
        self._want("<")
        key = self._next("word")
        self._want(",")
        value = self._next("word")
        self._want(">")
        name = self._name()
        part = Field(name, self._number(), value, "repeated", key=key, kind="map", line=line)
        self._inline(part.options)
        self._want(";")
        return part

    def _group(self, messages: list[Message], outer: str, label: str, oneof: str, line: int) -> Field:
        name = self._name()
        message = Message(name, f"{outer}.{name}" if outer else name, line=line)
        part = Field(name.lower(), self._number(), message.full, label, "group", oneof=oneof, line=line)
        self._inline(part.options)
        self._body(message)
        messages.append(message)
        return part

    def _oneof(self, message: Message) -> None:
        name = self._name()
        options = message.oneofs.setdefault(name, {})
        self._want("{")
        while not self._take("}"):
            if self._take(";"):
                continue
            if self._peek() == "option" and self._tokens[self._at + 2][1] in ("=", ".", ")"):
                self._next()
                self._option(options)
            else:
                message.fields.append(self._field(message.messages, message.full, name))

    def _extend(self, extends: list[tuple[str, Field]], messages: list[Message], outer: str) -> None:
        whom = self._next("word")
        self._want("{")
        while not self._take("}"):
            if not self._take(";"):
                extends.append((whom, self._field(messages, outer)))

    def _enum(self, outer: str) -> EnumType:
        line = self._line()
        name = self._name()
        enum = EnumType(name, f"{outer}.{name}" if outer else name, line=line)
        self._want("{")
        while not self._take("}"):
            word = self._next()
            if word == ";":
                continue
            if word == "option" and self._peek() != "=":
                self._option(enum.options)
            elif word == "reserved" and self._peek() != "=":
                self._reserved(enum.reserved, enum.reserved_names, 2**31 - 1)
            else:
                enum.values.append((word, self._number()))
                details: dict[str, str] = {}
                self._inline(details)
                if details:
                    enum.details[word] = details
                self._want(";")
        return enum

    def _service(self) -> Service:
        service = Service(self._name())
        self._want("{")
        while not self._take("}"):
            word = self._next()
            if word == "option":
                self._option(service.options)
            elif word == "rpc":
                service.methods.append(self._method())
            elif word != ";":
                self._at -= 1
                self._refuse(f"{word} does not belong in a service")
        return service

    def _method(self) -> Method:
        name = self._name()
        takes_stream, takes = self._side()
        self._want("returns")
        gives_stream, gives = self._side()
        method = Method(name, takes, gives, takes_stream, gives_stream)
        if self._take("{"):
            while not self._take("}"):
                if not self._take(";"):
                    self._want("option")
                    self._option(method.options)
        else:
            self._want(";")
        return method

    def _side(self) -> tuple[bool, str]:
        self._want("(")
        stream = self._peek() == "stream" and self._tokens[self._at + 1][0] == "word" and self._take("stream")
        kind = self._next("word")
        self._want(")")
        return stream, kind

    def _reserved(self, ranges: Ranges, names: list[str], highest: int) -> None:
        if self._tokens[self._at][0] == "number" or self._peek() == "-":
            self._ranges(ranges, highest)
        else:
            while True:
                names.append(self._string() if self._tokens[self._at][0] == "string" else self._name())
                if not self._take(","):
                    break
        self._want(";")

    def _ranges(self, ranges: Ranges, highest: int) -> None:
        while True:
            low = self._integer()
            high = low
            if self._take("to"):
                high = highest if self._take("max") else self._integer()
            if high < low:
                self._refuse(f"{low} to {high} is no range")
            ranges.append((low, high))
            if not self._take(","):
                break

    def _integer(self) -> int:
        sign = -1 if self._take("-") else 1
        word = self._next("number")
        try:
            octal = word.startswith("0") and word.isdigit()
            return sign * (int(word, 8) if octal else int(word, 0))
        except ValueError:
            self._at -= 1
            self._refuse(f"{word} is no whole number")

    def _string(self) -> str:
        parts = [self._next("string")]
        while self._tokens[self._at][0] == "string":
            parts.append(self._next())
        return unquoted(parts)

    def _option(self, options: dict[str, str]) -> None:
        name = self._option_name()
        self._want("=")
        options[name] = self._value()
        self._want(";")

    def _option_name(self) -> str:
        parts: list[str] = []
        while self._peek() != "=":
            if self._take("("):
                parts.append(f"({self._next('word').lstrip('.')})")
                self._want(")")
            elif not self._take("."):
                parts.append(self._next("word").lstrip("."))
        if not parts:
            self._refuse("an option has a name")
        return ".".join(parts)

    def _inline(self, options: dict[str, str]) -> None:
        if not self._take("["):
            return
        while True:
            name = self._option_name()
            self._want("=")
            options[name] = self._value()
            if not self._take(","):
                break
        self._want("]")

    def _value(self) -> str:
        kind, word, _ = self._tokens[self._at]
        if kind == "string":
            return quoted(self._string())
        if word == "{":
            return self._aggregate()
        if self._take("-"):
            return f"-{self._next()}"
        self._take("+")
        return self._next()

    def _aggregate(self) -> str:
        opened = self._next()
        parts = [opened]
        while not self._take(_CLOSING[opened]):
            if self._peek() in _CLOSING:
                parts.append(self._aggregate())
            elif self._tokens[self._at][0] == "string":
                parts.append(quoted(self._string()))
            else:
                parts.append(self._next())
        return " ".join([*parts, _CLOSING[opened]])


def quoted(text: str) -> str:
    """A string literal in the one way the normal form writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def unquoted(literals: list[str]) -> str:
    """What adjacent string literals say together."""

    def plain(found: re.Match[str]) -> str:
        code = found.group(1)
        if code in _PLAIN:
            return chr(_PLAIN[code])
        return chr(int(code[1:], 16) if code[0] in "xXuU" else int(code, 8))

    return "".join(_ESCAPE.sub(plain, literal[1:-1]) for literal in literals)

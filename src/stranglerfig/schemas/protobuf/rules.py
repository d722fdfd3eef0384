"""What may change in a Protobuf schema: the wire's rules (protobuf.dev, "Updating A Message Type"), message by message.

Names of fields are not on the wire and may change; names of messages may not, since a reader asks for them.
Services are ignored. Where the wire leaves a choice, the rules are those of the widely used registry.
"""

from __future__ import annotations

from collections.abc import Iterator

from stranglerfig.schemas.protobuf.model import SCALARS, EnumType, Field, File, Message
from stranglerfig.schemas.terms import Problem, Way

_GROUPS = {
    "int32": "whole numbers",
    "uint32": "whole numbers",
    "int64": "whole numbers",
    "uint64": "whole numbers",
    "bool": "whole numbers",
    "sint32": "zigzag numbers",
    "sint64": "zigzag numbers",
    "fixed32": "four bytes",
    "sfixed32": "four bytes",
    "fixed64": "eight bytes",
    "sfixed64": "eight bytes",
    "string": "text",
    "bytes": "text",
}
"""Types within one group are read as each other; numbers that do not fit are cut off as by a cast in C++."""


class Rules:
    """One comparison of a reader's file with a writer's."""

    def __init__(self, reader: File, writer: File, way: Way) -> None:
        self._reader, self._writer, self._way = reader, writer, way
        self._seen: set[tuple[int, int]] = set()

    def problems(self) -> Iterator[Problem]:
        """Why the reader could not read what the writer wrote."""
        read = {message.name: message for message in self._reader.messages}
        yield from self._messages(read, self._writer.messages)

    def _messages(self, read: dict[str, Message], written: list[Message]) -> Iterator[Problem]:
        for theirs in written:
            ours = read.get(theirs.name)
            path = self._writer.relative(theirs.full)
            if ours is None:
                gone = f"the message {theirs.name} is gone"
                new = f"the message {theirs.name} is new"
                yield self._problem(path, gone if self._way is Way.BACKWARD else new, "MESSAGE_REMOVED")
                continue
            yield from self._message(ours, theirs, path)
            yield from self._messages({message.name: message for message in ours.messages}, theirs.messages)

    def _message(self, ours: Message, theirs: Message, path: str) -> Iterator[Problem]:
        if ours is theirs or (id(ours), id(theirs)) in self._seen:
            return
        self._seen.add((id(ours), id(theirs)))
        read = {part.number: part for part in ours.fields}
        written = {part.number: part for part in theirs.fields}
        for number, part in read.items():
            if number not in written:
                yield from self._only_read(part, theirs, f"{path}.{part.name}")
        for number, part in written.items():
            if (mine := read.get(number)) is not None:
                if mine.kind != "scalar" or (mine.type, mine.kind, mine.label) != (part.type, part.kind, part.label):
                    yield from self._field(mine, part, f"{path}.{part.name}")
            else:
                yield from self._only_written(part, ours, f"{path}.{part.name}")
        yield from self._oneofs(ours, written, path)

    def _only_read(self, part: Field, theirs: Message, path: str) -> Iterator[Problem]:
        if part.label == "required":
            yield self._required(part, path, added=self._way is Way.BACKWARD)
        if self._way is Way.FORWARD:
            return  # a number that the new schema reserves is one that it does not use
        if any(low <= part.number <= high for low, high in theirs.reserved):
            words = f"the field '{part.name}' takes the number {part.number}, which was reserved: events written long "
            yield Problem(path, f"{words}before may carry something else under it", "RESERVED_NUMBER_REUSED")
        if part.name in theirs.reserved_names:
            words = f"the field '{part.name}' takes a name that was reserved"
            yield Problem(
                path, f"{words}: in JSON an older event may mean something else by it", "RESERVED_NAME_REUSED"
            )

    def _only_written(self, part: Field, ours: Message, path: str) -> Iterator[Problem]:
        if part.label == "required":
            yield self._required(part, path, added=self._way is Way.FORWARD)
        elif part.oneof in ours.oneofs:
            change = "is gone from" if self._way is Way.BACKWARD else "is new in"
            words = f"the field '{part.name}' {change} the oneof '{part.oneof}': a reader would find nothing set in it"
            yield Problem(path, words, "ONEOF_FIELD_REMOVED")

    def _field(self, mine: Field, theirs: Field, path: str) -> Iterator[Problem]:
        if (mine.label == "required") != (theirs.label == "required") and mine.label == "required":
            added = self._way is Way.BACKWARD
            words = f"the field '{mine.name}' becomes {'required' if added else 'optional'}"
            yield self._problem(path, words, "REQUIRED_FIELD_ADDED" if added else "REQUIRED_FIELD_REMOVED")
        if mine.kind == theirs.kind == "map":
            yield from self._type(mine.key, "scalar", theirs.key, "scalar", path + "{key}")
        elif "map" in (mine.kind, theirs.kind):
            yield self._changed(path, said(mine), said(theirs), "FIELD_KIND_CHANGED")
            return
        kind, their_kind = self._value_kind(mine, self._reader), self._value_kind(theirs, self._writer)
        yield from self._type(mine.type, kind, theirs.type, their_kind, path)
        repeats = (mine.label == "repeated") != (theirs.label == "repeated")
        # One text, or one message, is read from many (the last, or all merged) and the reverse; numbers are packed.
        if repeats and _GROUPS.get(theirs.type) != "text" and theirs.kind in ("scalar", "enum"):
            yield self._changed(path, said(mine), said(theirs), "FIELD_NUMERIC_LABEL_CHANGED")

    def _value_kind(self, part: Field, file: File) -> str:
        """What a field's type is; of a map's, the value's."""
        if part.kind != "map":
            return part.kind
        if part.type in SCALARS:
            return "scalar"
        return "enum" if isinstance(file.types.get(part.type), EnumType) else "message"

    def _type(self, mine: str, kind: str, theirs: str, their_kind: str, path: str) -> Iterator[Problem]:
        numeric = {"scalar": _GROUPS.get(mine, mine), "enum": "whole numbers"}.get(kind, kind)
        their_numeric = {"scalar": _GROUPS.get(theirs, theirs), "enum": "whole numbers"}.get(their_kind, their_kind)
        if numeric != their_numeric:
            plain = ("scalar", "enum")
            word = "FIELD_SCALAR_KIND_CHANGED" if kind in plain and their_kind in plain else "FIELD_KIND_CHANGED"
            yield self._changed(path, self._reader.relative(mine), self._writer.relative(theirs), word)
            return
        if kind not in ("message", "group"):
            return
        ours, other = self._reader.relative(mine), self._writer.relative(theirs)
        if ours != other:
            yield self._changed(path, ours, other, "FIELD_NAMED_TYPE_CHANGED")
            return
        found, their = self._reader.types.get(mine), self._writer.types.get(theirs)
        if isinstance(found, Message) and isinstance(their, Message):
            yield from self._message(found, their, path)

    def _oneofs(self, ours: Message, written: dict[int, Field], path: str) -> Iterator[Problem]:
        for name in ours.oneofs:
            # Fields that could be set together on one side exclude each other on the other: all but one would be lost.
            pairs = [
                (part, written[part.number]) for part in ours.fields if part.oneof == name and part.number in written
            ]
            moved = [part.name for part, theirs in pairs if not theirs.oneof]
            joined = len(moved) < len(pairs)
            if not moved or (len(moved) == 1 and not joined):
                continue
            said_names = " and ".join(f"'{part}'" for part in moved)
            verb = "moved into" if self._way is Way.BACKWARD else "moved out of"
            words = f"{said_names} {verb} the oneof '{name}'{', which has other fields' if joined else ''}"
            kind = "FIELD_MOVED_TO_EXISTING_ONEOF" if joined else "MULTIPLE_FIELDS_MOVED_TO_ONEOF"
            yield Problem(f"{path}.{name}", f"{words}: of several that are set a reader would see one", kind)

    def _required(self, part: Field, path: str, *, added: bool) -> Problem:
        if added:
            words = f"the required field '{part.name}' is added: events without it are refused by its readers"
            return Problem(path, words, "REQUIRED_FIELD_ADDED")
        words = f"the required field '{part.name}' is removed: readers that still demand it would refuse new events"
        return Problem(path, words, "REQUIRED_FIELD_REMOVED")

    def _changed(self, path: str, reader: str, writer: str, kind: str) -> Problem:
        old, new = (writer, reader) if self._way is Way.BACKWARD else (reader, writer)
        return self._problem(path, f"its type changes from {old} to {new}", kind)

    def _problem(self, path: str, words: str, kind: str) -> Problem:
        return Problem(path, f"{words}: {self._way.harm}", kind)


def said(part: Field) -> str:
    """A field's type in words."""
    kind = part.type.rpartition(".")[2]
    if part.kind == "map":
        return f"map<{part.key}, {kind}>"
    return f"repeated {kind}" if part.label == "repeated" else kind

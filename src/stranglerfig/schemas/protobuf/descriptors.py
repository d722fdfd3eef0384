"""Protobuf's own runtime for a schema: what reads a message's bytes, and the descriptor that some clients ask for."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from stranglerfig.schemas.formats import Text


class Messages:
    """The messages of one schema."""

    def __init__(self, text: Text) -> None:
        pool = descriptor_pool.DescriptorPool()
        for reference in text.references:
            pool.Add(_descriptor(reference.text))
        own = _descriptor(text.text)
        pool.Add(own)
        self._file: Any = pool.FindFileByName(own.name)

    def at(self, place: tuple[int, ...]) -> type[Message]:
        """The message at a place: its number in the file, then in the message around it.

        Raises:
            IndexError: there is none.
        """
        names = list(self._file.message_types_by_name.values())
        found = names[place[0]]
        for number in place[1:]:
            found = found.nested_types[number]
        return message_factory.GetMessageClass(found)

    @staticmethod
    def problem(kind: type[Message], data: bytes) -> tuple[str, str] | None:
        """None when ``data`` is a message of this kind, else (path, what is wrong)."""
        message: Any = kind()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            return "$", f"it cannot be read as {kind.DESCRIPTOR.full_name}: {error}"
        if not message.IsInitialized():
            return "$", f"it lacks {', '.join(message.FindInitializationErrors())}"
        left: Any = UnknownFieldSet(message)
        unknown = sorted({each.field_number for each in left})
        if unknown:
            return "$", f"it has fields that {kind.DESCRIPTOR.full_name} does not have: {unknown}"
        return None


def messages(text: Text) -> Messages:
    """The messages of a schema."""
    return Messages(text)


def _descriptor(text: str) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(base64.b64decode(text))

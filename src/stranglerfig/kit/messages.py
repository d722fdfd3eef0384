"""What services say to each other: events (facts) and commands (wishes), declared once as typed, immutable classes.

Pure: no I/O, no clock. On the wire a message is a CloudEvent with JSON data; its ``dataschema`` names the version, and
upcasters bring what was written in an older version to the one that the code knows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar, dataclass_transform

import orjson
from pydantic import TypeAdapter, ValidationError

from stranglerfig.eventlog import model as log
from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas.subjects import uri, version_of

Data = dict[str, Any]
"""A message's fields as JSON has them: what an upcaster takes and returns."""
Upcaster = Callable[[Data], Data]
M = TypeVar("M", bound="Message")

_TYPE = re.compile(r"[a-z][a-z0-9-]*(\.[A-Za-z][A-Za-z0-9]*)+")


@dataclass(frozen=True)
class Kind:
    """What a message's class declares beside its fields.

    Attributes:
        type: the CloudEvents type, ``inventory.StockAdjusted``; what is before the first dot is the context.
        version: of the fields; grows when they change their meaning or their number.
        key: the field whose messages keep their order (and are about the same thing).
        topic: where its messages go.
        upcasters: by the version that each takes; it returns the next one's data.
    """

    type: str
    version: int
    key: str
    topic: str
    upcasters: dict[int, Upcaster] = field(default_factory=dict)

    @cached_property
    def dataschema(self) -> str:
        """How its messages name their schema."""
        return uri(self.type, self.version)


@dataclass_transform(frozen_default=True)
class Message:
    """The base of :class:`Event` and :class:`Command`, not to be used by itself."""

    __kind__: ClassVar[Kind]
    _prefix: ClassVar[str]

    def __init_subclass__(
        cls, *, type: str | None = None, key: str | None = None, version: int = 1, topic: str | None = None
    ) -> None:
        super().__init_subclass__()
        if Message in cls.__bases__:
            return
        if type is None or key is None:
            raise misdeclared(cls, "it names no type or no key", "class …(Event, type='context.Name', key='field')")
        if not _TYPE.fullmatch(type):
            raise misdeclared(cls, f"'{type}' is not a type", "write context.Name, such as inventory.StockAdjusted")
        dataclass(frozen=True)(cls)
        if key not in (names := [each.name for each in dataclasses.fields(cls)]):  # type: ignore[arg-type]
            raise misdeclared(cls, f"it has no field '{key}', which is to be its key", f"use one of {names}")
        cls.__kind__ = Kind(type, version, key, topic or f"{cls._prefix}.{type.partition('.')[0]}")

    @classmethod
    def upcast(cls, version: int) -> Callable[[Upcaster], Upcaster]:
        """Declare how data of ``version`` become data of the next one: ``@StockAdjusted.upcast(1)``.

        Raises:
            FigError: ``message_misdeclared`` for a version that is not older than the class's, or declared twice.
        """
        kind = cls.__kind__

        def declare(upcaster: Upcaster) -> Upcaster:
            if not 1 <= version < kind.version or version in kind.upcasters:
                older = [each for each in range(1, kind.version) if each not in kind.upcasters]
                raise misdeclared(
                    cls, f"an upcaster from version {version} has no place", f"still without one: {older or 'none'}"
                )
            kind.upcasters[version] = upcaster
            return upcaster

        return declare


class Event(Message):
    """A business fact. Subclasses declare their fields as a dataclass does, and in the class's line what they are::

        class StockAdjusted(Event, type="inventory.StockAdjusted", key="item_id", version=2):
            item_id: int
            delta: int
            reason: str = ""

    ``topic`` is ``events.<context>`` where none is given.
    """

    _prefix = "events"


class Command(Message):
    """A wish, addressed to the context that its type names; ``topic`` is ``commands.<context>`` where none is given."""

    _prefix = "commands"


def kind_of(message: Message | type[Message]) -> Kind:
    """What a message's class declares."""
    return message.__kind__


def key_of(message: Message) -> str:
    """Its key, as the log takes it."""
    return str(getattr(message, message.__kind__.key))


_adapters: dict[type[Message], TypeAdapter[Any]] = {}


def _adapter(cls: type[M]) -> TypeAdapter[M]:
    found = _adapters.get(cls)
    if found is None:
        found = _adapters[cls] = TypeAdapter(cls)
    return found


def fields_of(message: Message) -> Data:
    """Its fields as JSON has them."""
    return _adapter(type(message)).dump_python(message, mode="json")  # type: ignore[no-any-return]


def data_of(message: Message) -> bytes:
    """The same as bytes."""
    return _adapter(type(message)).dump_json(message)


def schema_of(cls: type[Message]) -> dict[str, Any]:
    """The JSON Schema of its data: closed for writers; readers ignore what they do not know."""
    return _adapter(cls).json_schema() | {"additionalProperties": False}


def decode(cls: type[M], event: log.Event) -> M:
    """The message that an event of the log holds, brought forward where it was written in an older version.

    An event that does not say its version is taken as of the class's.

    Raises:
        FigError: ``message_unreadable`` when the data are not as the class says (a poison event, for a consumer).
    """
    kind = cls.__kind__
    written = version_of(event.dataschema)
    try:
        if written is None or written >= kind.version:
            # What is newer may have fields that are not known here: they are left out.
            return _adapter(cls).validate_json(event.data)
        return _adapter(cls).validate_json(orjson.dumps(upcasted(kind, orjson.loads(event.data), written)))
    except (ValidationError, orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise unreadable(event, cls, error) from error


def upcasted(kind: Kind, data: Data, version: int) -> Data:
    """``data`` of ``version`` as data of the kind's version.

    Raises:
        LookupError: there is no upcaster on the way.
    """
    for step in range(version, kind.version):
        if step not in kind.upcasters:
            raise LookupError(f"there is no upcaster from version {step} of {kind.type}")
        data = kind.upcasters[step](data)
    return data


def is_required(f: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass's field has no default."""
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def unreadable(event: log.Event, cls: type[Message], error: Exception) -> FigError:
    """An event's data are not as its class says."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)[0]
        what = f"{'.'.join(map(str, found['loc'])) or 'data'}: {found['msg']}"
    else:
        what = str(error)
    return FigError(
        "message_unreadable",
        f"the event {event.id} is not a {event.type} of version {cls.__kind__.version}: {what}",
        "Mend its producer, or teach the consumer its version with an upcaster; then retry what is parked.",
        event=event.id,
        type=event.type,
        dataschema=event.dataschema,
    )


def misdeclared(cls: type[Any], what: str, remedy: str) -> FigError:
    """A class of a service's is declared so that it cannot be kept to."""
    return FigError("message_misdeclared", f"{cls.__qualname__}: {what}", f"Mend its declaration: {remedy}.")

"""What services say to each other: events (facts) and commands (wishes), declared once as typed, immutable classes.

Pure: no I/O, no clock. On the wire a message is a CloudEvent with JSON data; its ``dataschema`` names the version, and
upcasters bring what was written in an older version to the one that the code knows.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar, dataclass_transform

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from stranglerfig.eventlog import model as log
from stranglerfig.foundation.errors import FigError
from stranglerfig.kit import sealing
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
        personal: by field, the field that names whom its value is about; values are written sealed under that
            subject's key.
        upcasters: by the version that each takes; it returns the next one's data.
    """

    type: str
    version: int
    key: str
    topic: str
    personal: Mapping[str, str] = field(default_factory=dict)
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
        cls,
        *,
        type: str | None = None,
        key: str | None = None,
        version: int = 1,
        topic: str | None = None,
        personal: Mapping[str, str] = types.MappingProxyType({}),
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
        # What a base has declared personal stays so.
        personal = {**(cls.__kind__.personal if hasattr(cls, "__kind__") else {}), **personal}
        if personal:
            _check_personal(cls, key, personal)
        cls.__kind__ = Kind(type, version, key, topic or f"{cls._prefix}.{type.partition('.')[0]}", personal)

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

    ``topic`` is ``events.<context>`` where none is given. ``personal={"email": "customer_id"}`` has a field written
    sealed, under a key of whom another field names; it reads as None once that key is destroyed::

        class CustomerMoved(Event, type="crm.CustomerMoved", key="customer_id", personal={"street": "customer_id"}):
            customer_id: int
            street: str | None = None
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
    """The same as bytes; personal values as they are."""
    return _adapter(type(message)).dump_json(message)


def sealed_data_of(message: Message, keys: sealing.Keys) -> bytes:
    """The same as it is written: personal values sealed.

    Args:
        keys: by subject; those of :func:`subjects_of`.
    """
    kind = message.__kind__
    if not kind.personal:
        return data_of(message)
    return to_json(sealing.seal(kind.type, kind.personal, from_json(data_of(message)), keys))


def subjects_of(message: Message) -> set[str]:
    """Whose personal data it has."""
    personal = message.__kind__.personal
    return {str(getattr(message, by)) for field, by in personal.items() if getattr(message, field) is not None}


def schema_of(cls: type[Message]) -> dict[str, Any]:
    """The JSON Schema of its data: closed for writers; readers ignore what they do not know.

    A personal field has ``x-personal``, and may be a sealed text whatever its type is.
    """
    schema = _adapter(cls).json_schema() | {"additionalProperties": False}
    for name in cls.__kind__.personal:
        found = schema["properties"][name]
        found["x-personal"] = True
        if "anyOf" in found:  # otherwise it may be anything already
            found["anyOf"].append({"type": "string", "pattern": f"^{sealing.FORM}"})
    return schema


def decode(cls: type[M], event: log.Event, keys: sealing.Keys = sealing.NO_KEYS) -> M:
    """The message that an event of the log holds, brought forward where it was written in an older version.

    An event that does not say its version is taken as of the class's. Upcasters are given personal values opened.

    Args:
        keys: by id, those of :func:`keys_wanted` that there are; a value whose key is not among them reads as None.

    Raises:
        FigError: ``message_unreadable`` when the data are not as the class says (a poison event, for a consumer).
    """
    kind = cls.__kind__
    written = version_of(event.dataschema)
    try:
        if kind.personal:
            return _adapter(cls).validate_json(to_json(_opened(kind, event, written, keys)))
        if written is None or written >= kind.version:
            # What is newer may have fields that are not known here: they are left out.
            return _adapter(cls).validate_json(event.data)
        return _adapter(cls).validate_json(orjson.dumps(upcasted(kind, orjson.loads(event.data), written)))
    except (ValueError, LookupError, TypeError) as error:
        raise unreadable(event, cls, error) from error


def keys_wanted(cls: type[Message], event: log.Event) -> list[str]:
    """The ids of the keys that reading an event as of this class may need."""
    return sealing.keys_in(event.data) if cls.__kind__.personal else []


def _opened(kind: Kind, event: log.Event, written: int | None, keys: sealing.Keys) -> Any:
    data = from_json(event.data)
    version = kind.version if written is None else written
    if isinstance(data, dict):
        data = sealing.opened(kind.type, kind.personal, data, keys, is_older=version < kind.version)
    return upcasted(kind, data, version)


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
    is_plain = not cls.__kind__.personal
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)[0]
        what = f"{'.'.join(map(str, found['loc'])) or 'data'}: {found['msg' if is_plain else 'type']}"
    elif is_plain or isinstance(error, sealing.Unopened) or type(error) is LookupError:
        what = str(error)
    else:
        what = type(error).__name__  # what it says may quote personal values, and is kept
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


def _check_personal(cls: type[Any], key: str, personal: Mapping[str, str]) -> None:
    """Refuse personal fields that could not be sealed, or not be read as None.

    Raises:
        FigError: ``message_misdeclared``.
    """
    if not issubclass(cls, Event):
        what = "a command is for another service, which has not the keys of this one"
        raise misdeclared(cls, f"its fields cannot be personal: {what}", "send what it needs, and declare it an event")
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise misdeclared(cls, f"the types of its fields are not known here: {error}", "import them") from error
    fields = {each.name: each for each in dataclasses.fields(cls)}
    for name, by in personal.items():
        if name not in fields:
            raise misdeclared(cls, f"it has no field '{name}', which is to be personal", f"use one of {[*fields]}")
        if by not in fields:
            raise misdeclared(cls, f"it has no field '{by}', which is to name whose '{name}' is", f"use {[*fields]}")
        if name == key:
            raise misdeclared(cls, f"its key '{name}' is personal, and keys are written as they are", "use an id")
        if fields[name].default is not None or type(None) not in typing.get_args(hints[name]):
            what = f"'{name}' is personal, and could not be read as None when its key is destroyed"
            raise misdeclared(cls, what, f"{name}: … | None = None")
        hint = hints[by]
        while hasattr(hint, "__supertype__"):  # a NewType
            hint = hint.__supertype__
        if by in personal or hint not in (str, int) or not is_required(fields[by]):
            what = f"'{by}' names whose '{name}' is, and is not a required str or int that is not personal itself"
            raise misdeclared(cls, what, f"{by}: int")

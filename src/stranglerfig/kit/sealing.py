"""Personal values as they are written: sealed under their subject's key, opened by who has it, nothing once it is gone.

Pure: no I/O, no clock. The cipher is AES-256 in Galois/Counter Mode (NIST SP 800-38D) with a random nonce of 96 bits
for each value; section 8.3 allows 2^32 of them under one key, which is one subject's. Beside the value it authenticates
the event's type, the field, the subject and the key's id: what is moved to another event's type, field or subject does
not open. A value in the place of an older one of the same field and subject does.
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from stranglerfig.foundation.errors import FigError
from stranglerfig.kit.tenants import within

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORM: Final = "fig:sealed:1:"
"""What a sealed value begins with; behind it ``<key's id>.<field that names the subject>:<base64>``, of the nonce, the
ciphertext and its tag."""
_ID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SEALED = re.compile(rf"{FORM}({_ID})\.(\w+):([0-9A-Za-z+/=]+)")
_KEYS = re.compile(rf'"{FORM}({_ID})\.'.encode())
_NONCE: Final = 12
"""Bytes: the length for which section 8.2 lets it be random."""


class Key(NamedTuple):
    """A subject's key. Its bytes are in the cipher alone, which does not show them."""

    id: str
    cipher: AESGCM


Keys = Mapping[str, Key]
"""For sealing, by subject; for opening, by the key's id."""
NO_KEYS: Final[Keys] = MappingProxyType({})


class _Within(dict[str, Key]):
    """A tenant's keys by subject, of those of several tenants by whole subject."""

    def __init__(self, keys: Keys, tenant: str | None) -> None:
        super().__init__()
        self._keys = keys
        self._tenant = tenant

    def __missing__(self, subject: str) -> Key:
        return self._keys[within(self._tenant, subject)]


def keys_of(tenant: str | None, keys: Keys) -> Keys:
    """A tenant's keys by subject.

    Args:
        keys: by subject :func:`~stranglerfig.kit.tenants.within` its tenant.
    """
    return _Within(keys, tenant) if keys else keys


class Unopened(ValueError):
    """What is sealed was changed, or is not where it was sealed."""


class Destroyed(FigError):
    """``personal_key_destroyed``: personal data of a subject were to be written, and its key was destroyed."""


def cipher(key: bytes) -> AESGCM:
    """What seals and opens under a key of 32 bytes.

    Raises:
        FigError: ``backend_not_installed``.
    """
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            "an event has personal fields, which need the package cryptography, and it is not installed",
            "Install it: pip install 'stranglerfig[personal]'.",
            package="cryptography",
        ) from error
    return AESGCM(key)


def seal(type_: str, personal: Mapping[str, str], data: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """An event's data with its personal values sealed; one that is None stays so.

    Args:
        personal: by field, the field that names the subject.
        keys: by subject; those of all values that are not None.
    """
    sealed = dict(data)
    for field, by in personal.items():
        if data[field] is not None:
            key = keys[subject := str(data[by])]
            nonce = secrets.token_bytes(_NONCE)
            box = key.cipher.encrypt(nonce, to_json(data[field]), _beside(type_, field, by, subject, key.id))
            sealed[field] = f"{FORM}{key.id}.{by}:{b64encode(nonce + box).decode()}"
    return sealed


def keys_in(data: bytes) -> list[str]:
    """The ids of the keys that an event's data may need."""
    return [id.decode() for id in _KEYS.findall(data)]


def opened(
    type_: str, personal: Mapping[str, str], data: dict[str, Any], keys: Keys, *, is_older: bool
) -> dict[str, Any]:
    """An event's data with what is sealed opened; None where its key is not among ``keys``. Plain values stay.

    Args:
        keys: by id.
        is_older: whether the data are of an older version, whose fields may have had other names.

    Raises:
        Unopened: a personal field's value was changed, or moved here from elsewhere.
    """
    found = dict(data)
    for field, value in data.items():
        if not isinstance(value, str) or not (is_older or field in personal):
            continue
        if (match := _SEALED.fullmatch(value)) is None:
            continue
        id, by, text = match.groups()
        if id not in keys:
            found[field] = None
            continue
        try:
            found[field] = _open(text, keys[id], _beside(type_, field, by, str(data.get(by)), id))
        except Unopened:
            if field in personal:
                raise Unopened(f"{field}: what is sealed was changed, or belongs to another event") from None
            # Of an older version, a field that is not personal any more, or never was: somebody's text.
    return found


def _open(text: str, key: Key, beside: bytes) -> Any:
    from cryptography.exceptions import InvalidTag

    try:
        box = b64decode(text)
        return from_json(key.cipher.decrypt(box[:_NONCE], box[_NONCE:], beside))
    except (InvalidTag, ValueError) as error:
        raise Unopened from error


def _beside(*where: str) -> bytes:
    """What is authenticated beside the value: as JSON, so that no two places have the same."""
    return to_json([FORM, *where])

"""A command signed with a credential: HMAC-SHA256 (RFC 2104), keyed with the SHA-256 of the credential's secret.

The secret itself stays with who asks. The controller, which has the hash, sees who asked and that nobody changed what
was asked; the nonce makes each signature another, and the command table takes each once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from stranglerfig.access import credentials
from stranglerfig.foundation import ids


def sign(token: str, context: str, verb: str, args: Mapping[str, Any], origin: str) -> dict[str, str]:
    """The signature of a command, to be kept beside it.

    Raises:
        FigError: ``token_refused`` when ``token`` is none.
    """
    id_, key = credentials.split(token)
    body = json.dumps({"context": context, "verb": verb, "args": args, "from": origin, "nonce": ids.new_id()})
    return {"credential": id_, "body": body, "mac": _mac(key, body)}


def credential_of(signature: Mapping[str, Any]) -> str:
    """The id of the credential that a signature says it was made with."""
    return str(signature.get("credential", ""))


def holds(
    signature: Mapping[str, Any], key: bytes, context: str, verb: str, args: Mapping[str, Any], origin: str
) -> bool:
    """Whether it was made with ``key`` (the secret's SHA-256), for exactly this command."""
    body = str(signature.get("body", ""))
    if not hmac.compare_digest(str(signature.get("mac", "")).encode(), _mac(key, body).encode()):
        return False
    said = json.loads(body)
    asked = {"context": context, "verb": verb, "args": dict(args), "from": origin}
    return {name: said.get(name) for name in asked} == asked


def _mac(key: bytes, body: str) -> str:
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()

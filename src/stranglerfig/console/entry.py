"""Who may use the console: a link that opens it once, and the session that it opens.

Both are signed with a key that only the project's owner can read. A link is good for one use within a quarter of an
hour; whoever can run ``fig`` on the project prints another. A session is sent in a header, never in a cookie: a page of
another site cannot send it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole

LINK, SESSION = "link", "session"
LASTS = {LINK: 15 * 60, SESSION: 12 * 3600}
"""Seconds that each is good for."""


class Entry:
    """The door of one project; its key and the links that were used are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = b""

    def link_token(self, by: str) -> str:
        """What a link ends in, for ``by`` (``user@host``)."""
        return self._signed(LINK, by)

    def admit(self, token: str) -> str:
        """Spend a link's token; returns a session.

        Raises:
            FigError: ``console_link``.
        """
        said = self._read(LINK, token)
        spent = self._spent()
        if said is None or said["id"] in spent:
            raise FigError(
                "console_link",
                "this link was used, or is no longer valid",
                "Print another: fig ps, or fig console --link.",
            )
        now = clock.epoch()
        kept = {number: until for number, until in spent.items() if until > now} | {said["id"]: said["until"]}
        self._write("spent.json", orjson.dumps(kept))
        return self._signed(SESSION, said["by"])

    def who(self, session: str) -> str:
        """Who a session belongs to.

        Raises:
            FigError: ``console_session``.
        """
        said = self._read(SESSION, session)
        if said is None:
            raise FigError(
                "console_session", "you are not signed in, or no longer", "Open a new link: fig ps, fig console --link."
            )
        return str(said["by"])

    def _signed(self, kind: str, by: str) -> str:
        said = {"by": by, "id": secrets.token_urlsafe(9), "until": clock.epoch() + LASTS[kind]}
        body = base64.urlsafe_b64encode(orjson.dumps(said)).decode().rstrip("=")
        return f"{body}.{self._mac(kind, body)}"

    def _read(self, kind: str, token: str) -> dict[str, Any] | None:
        body, _, mac = token.partition(".")
        if not hmac.compare_digest(_bytes(mac), self._mac(kind, body).encode()):
            return None
        said: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return said if said["until"] > clock.epoch() else None

    def _mac(self, kind: str, body: str) -> str:
        if not self._key:
            self._key = self._secret()
        digest = hmac.digest(self._key, _bytes(f"{kind} {body}"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _secret(self) -> bytes:
        """The key; made by whoever needs it first, and the same for all who come at once."""
        file = self._folder / "key"
        try:
            return file.read_bytes()
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f".key.{secrets.token_hex(4)}")
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was first: its key counts
                file.hardlink_to(draft)
        finally:
            draft.unlink(missing_ok=True)
        return file.read_bytes()

    def _spent(self) -> dict[str, float]:
        try:
            found: dict[str, float] = orjson.loads((self._folder / "spent.json").read_bytes())
            return found
        except (OSError, ValueError):
            return {}

    def _write(self, name: str, data: bytes) -> None:
        with written_whole(self._folder / name, replace=True) as draft:
            draft.touch(mode=0o600)
            draft.write_bytes(data)


def _bytes(text: str) -> bytes:
    """What a header may hold, whatever it is."""
    return text.encode("utf-8", "surrogateescape")

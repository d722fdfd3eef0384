"""How the controller asks the façade's processes over HTTP: their refusals come back as the errors that they were."""

from __future__ import annotations

from typing import Any

import aiohttp

from stranglerfig.foundation.errors import FigError


class Asking:
    """A process's HTTP interface.

    Args:
        url: its base URL.
        who: what it is called in an error.
        code: the error's code when it does not answer.
    """

    def __init__(self, url: str, *, who: str, code: str) -> None:
        self._url = url.rstrip("/")
        self._who, self._code = who, code
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, method: str, path: str, timeout: float, body: Any = None) -> dict[str, Any]:
        """One request; ``timeout`` (seconds) is what the process itself is given.

        Raises:
            FigError: what it refused with; ``code`` when it does not answer.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            async with self._session.request(
                method, self._url + path, json=body, timeout=aiohttp.ClientTimeout(total=timeout + 1)
            ) as answer:
                found: dict[str, Any] = await answer.json()
                if answer.status >= 400:
                    raise FigError(found["code"], found["message"], found["remedy"], **found["context"])
                return found
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FigError(
                self._code,
                f"the {self._who} {self._url} does not answer: {error or type(error).__name__}",
                "It is started again by itself within a second; then try again.",
                url=self._url,
            ) from error

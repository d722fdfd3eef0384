"""Whom a TLS client of ours believes: authorities of the system's or of one's own, and the name it asks for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trust:
    """Whom a server's certificate must come from.

    Attributes:
        ca: file with the authorities' certificates (PEM); the system's when None.
        server_name: the name it is asked for and must be made out to; the address's own host when None.
    """

    ca: str | None = None
    server_name: str | None = None

    def client(self) -> dict[str, Any]:
        """What a request of aiohttp's is given: ``ssl``, and ``server_hostname`` where another one is wanted.

        Raises:
            OSError, ssl.SSLError: the file is missing, or holds no certificates.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return {"ssl": context} | ({"server_hostname": self.server_name} if self.server_name else {})

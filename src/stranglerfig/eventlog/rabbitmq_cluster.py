"""The brokers of a RabbitMQ cluster: connections made when they are needed, and to a stream's leader."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from rstream.constants import OffsetType

from stranglerfig.eventlog.rabbitmq_wire import (
    DOES_NOT_EXIST,
    INTERNAL_ERROR,
    NO_PUBLISHER,
    NOT_AVAILABLE,
    Chunk,
    Login,
    Lost,
    Refused,
    Seat,
    Wire,
)
from stranglerfig.foundation.errors import FigError

Address = tuple[str, int]
_PORT: Final = 5552
_TLS_PORT: Final = 5551
_PROBES: Final = 40


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``rabbitmq://user:password@host:5552,host:5552/vhost?name=value`` stands for.

    Attributes:
        segment_bytes: size of a stream's segments; only whole ones expire, and never the last.
        tls: from ``?tls=true``; the system's authorities, or those in the file ``?ca=``.
    """

    brokers: tuple[Address, ...]
    login: Login
    segment_bytes: int | None
    tls: ssl.SSLContext | None = field(repr=False, default=None)

    @classmethod
    def of(cls, url: str) -> Self:
        """Read the address of a log."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        secure = options.get("tls") == "true"
        user, _, hosts = parts.netloc.rpartition("@")
        name, _, password = (user or "guest:guest").partition(":")
        brokers = []
        for host in hosts.split(","):
            address, _, port = host.rpartition(":") if ":" in host else (host, "", "")
            brokers.append((address, int(port or (_TLS_PORT if secure else _PORT))))
        return cls(
            tuple(brokers),
            Login(unquote(name), unquote(password), unquote(parts.path.lstrip("/")) or "/"),
            int(options["segment_bytes"]) if "segment_bytes" in options else None,
            ssl.create_default_context(cafile=options.get("ca")) if secure else None,
        )

    @property
    def shown(self) -> str:
        """The brokers, without a password."""
        return ",".join(f"{host}:{port}" for host, port in self.brokers)


class Cluster:
    """Connections to brokers, each shared by as many streams as it has seats. Broken ones are replaced on demand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wires: dict[tuple[Address | None, str], list[Wire]] = {}
        self._opening: dict[tuple[Address | None, str], asyncio.Lock] = {}
        self._leaders: dict[str, Address | None] = {}
        self._probing = asyncio.Semaphore(_PROBES)

    async def any(self) -> Wire:
        """A connection to whichever broker answers, for what any of them can do."""
        return await self._wire(None, "any", lambda _: True)

    async def seat(
        self, stream: str, use: str, arrived: Callable[[Chunk], None], ended: Callable[[Exception], None]
    ) -> Seat:
        """A place for ``stream`` on a connection to its leader, where what was acknowledged is seen first.

        Args:
            use: what shares a connection; appending and reading do not, since the server stops listening to a
                connection that publishes faster than it can write.
        """
        if stream not in self._leaders:
            self._leaders[stream] = await (await self.any()).leader(stream)
        found: list[Seat | None] = [None]

        def taken(wire: Wire) -> bool:
            found[0] = wire.seat(stream, arrived, ended)
            return found[0] is not None

        try:
            await self._wire(self._leaders[stream], use, taken)
        except Lost:
            self.forget(stream)
            raise
        assert found[0] is not None
        return found[0]

    def forget(self, stream: str) -> None:
        """Ask again where the leader of ``stream`` is."""
        self._leaders.pop(stream, None)

    async def _wire(self, address: Address | None, use: str, suits: Callable[[Wire], bool]) -> Wire:
        key = (address, use)
        async with self._opening.setdefault(key, asyncio.Lock()):
            wires = self._wires[key] = [wire for wire in self._wires.get(key, []) if wire.lost is None]
            for wire in wires:
                if suits(wire):
                    return wire
            wire = await self._open(address)
            wires.append(wire)
            suits(wire)
            return wire

    async def _open(self, address: Address | None) -> Wire:
        why = Lost("no broker is named")
        for host, port in self.settings.brokers if address is None else (address,):
            try:
                return await Wire.open(host, port, self.settings.login, self.settings.tls)
            except Lost as error:
                why = error
        raise why

    async def probe(self, stream: str, kind: OffsetType, value: int | None = None, *, most: int = 1) -> list[Chunk]:
        """The first chunks that there are from a place on; none when there is nothing yet."""
        found: list[Chunk] = []
        async with self._probing:
            seat = await self.seat(stream, "read", found.append, _ignore)
            try:
                await seat.subscribe(kind, value, most)
                await seat.wire.fence()
            finally:
                await seat.leave()
        return found

    async def end(self, stream: str) -> int:
        """The offset of the next message."""
        found = await self.probe(stream, OffsetType.LAST)
        return found[-1].next if found else 0

    async def close(self) -> None:
        """Let go of all connections."""
        for wires in self._wires.values():
            for wire in wires:
                await wire.close()
        self._wires.clear()

    def translated(self, error: Lost | Refused) -> FigError:
        """The error as ours."""
        brokers = self.settings.shown
        if isinstance(error, Lost) or error.code in _PASSING:
            return FigError(
                "log_unreachable",
                f"RabbitMQ's streams at {brokers} do not answer: {error}",
                "Check that its brokers run, with the plugin rabbitmq_stream. An append whose answer was lost may be "
                "repeated; the id tells.",
                brokers=brokers,
            )
        return FigError(
            "log_refused",
            f"RabbitMQ at {brokers} refuses: {error}",
            "See the response codes of RabbitMQ's stream protocol; user, virtual host or rights may forbid it.",
            brokers=brokers,
            response_code=error.code,
        )


_PASSING = frozenset({NOT_AVAILABLE, INTERNAL_ERROR, DOES_NOT_EXIST, NO_PUBLISHER})
"""Codes of a broker that is starting, or has let go of a stream for a moment."""


def _ignore(_: Exception) -> None:
    pass

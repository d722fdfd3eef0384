"""What the façade measured, request by request: its access log, read on from where one stopped.

Written by Envoy as JSON lines with microseconds; the place of reading is (file identity, offset), so that a reader goes
on after its own restart and after a rotation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from stranglerfig.facade.envoy import EnvoyControl
from stranglerfig.facade.model import PASS, Side

READ_AT_ONCE = 1 << 20
KEEP_BYTES = 256 << 20
_TEXTS = frozenset({str, type(None)})
_NUMBERS = frozenset({int, type(None)})


@dataclass(frozen=True, slots=True)
class Observation:
    """One request as the façade saw it.

    Attributes:
        time: its begin, seconds since 1970.
        route: ``<context>:<kind>:<number>``, or ``pass`` for what no context names.
        variant: which of the route's entries took it: empty, ``pinned`` (a tester's header), ``own`` (read your
            writes), ``held`` (went through the fence), ``fence`` (ended there).
        cluster: where it went; None when Envoy answered by itself.
        status: 0 when the client went away before an answer began.
        flags: Envoy's response flags: ``-`` when all went well, ``UF`` connect failed, ``DC`` client went away, …
        duration_us: first byte from the client to last byte to it; None when it did not get that far.
        upstream_us: first byte to the upstream to last byte from it, so that the fence is not in it.
        instance: ``address:port`` of the upstream that answered, or that was tried last.
    """

    time: float
    method: str
    path: str
    route: str
    variant: str
    cluster: str | None
    status: int
    flags: str
    duration_us: int | None
    upstream_us: int | None
    request_id: str | None
    traceparent: str | None
    bytes_in: int
    bytes_out: int
    instance: str | None = None

    @property
    def context(self) -> str | None:
        """The context whose route it was."""
        return None if self.route == PASS else self.route.partition(":")[0]

    @property
    def kind(self) -> Literal["read", "write", "old", "pass"]:
        """What its route is declared as."""
        return "pass" if self.route == PASS else self.route.split(":")[1]  # type: ignore[return-value]

    @property
    def side(self) -> Side | None:
        """Who answered: the monolith, the service, or None (Envoy itself)."""
        if self.cluster is None:
            return None
        return "service" if self.cluster.startswith("service_") else "monolith"

    @property
    def held(self) -> bool:
        """Whether it went through the fence."""
        return self.variant in ("held", "fence")

    @property
    def failed(self) -> bool:
        """Whether its client got no answer, or one that says a server failed; a client that went away is no failure."""
        return self.status >= 500 or (self.status == 0 and "DC" not in self.flags)


def parse(line: bytes) -> Observation | None:
    """One line of the access log, or None when it is none of ours (cut off, empty, or another program's)."""
    try:
        return _observation(orjson.loads(line))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def _observation(found: Any) -> Observation:
    """A line's JSON.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is none of ours.
    """
    texts = [found[name] for name in ("route", "method", "path", "cluster", "flags", "request_id", "traceparent")]
    numbers = [found[name] for name in ("status", "duration_us", "upstream_us", "bytes_in", "bytes_out")]
    if not _TEXTS.issuperset(map(type, texts)) or not _NUMBERS.issuperset(map(type, numbers)):
        raise TypeError("a field has another type")
    name = found["route"] or PASS
    if name != PASS and name.count(":") < 2:
        raise ValueError("a route is called CONTEXT:KIND:NUMBER")
    parts = name.split(":", 3)
    return Observation(
        time=float(found["time"]),
        method=found["method"] or "",
        path=found["path"] or "",
        route=":".join(parts[:3]),
        variant=parts[3] if len(parts) > 3 else "",
        cluster=found["cluster"],
        status=int(found["status"] or 0),
        flags=found["flags"] or "-",
        duration_us=found["duration_us"],
        upstream_us=found["upstream_us"],
        request_id=found["request_id"],
        traceparent=found["traceparent"],
        bytes_in=found["bytes_in"] or 0,
        bytes_out=found["bytes_out"] or 0,
        instance=found.get("instance"),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading stopped: which file (its inode), and how far (bytes)."""

    inode: int
    offset: int


class AccessLog:
    """Reads an access log on, also across rotations (``access.log`` → ``access.log.1``).

    Args:
        path: the file that Envoy writes.
        place: where to go on; None begins with what is in the file now, :meth:`end` with what comes next.
    """

    def __init__(self, path: Path, place: Place | None = None) -> None:
        self._path = path
        self._place = place
        self.skipped = 0

    @property
    def place(self) -> Place | None:
        """Where reading stopped."""
        return self._place

    def end(self) -> None:
        """Go to the end: only what comes from now on is read."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._place = None
            return
        self._place = Place(found.st_ino, found.st_size)

    def read(self) -> Iterator[Observation]:
        """All complete lines that were added since; lines that cannot be read are counted in ``skipped``."""
        old = rotated(self._path)
        try:
            found = self._path.stat()
        except FileNotFoundError:
            found = None
        # Once there is a new file, Envoy writes no more into the old one: only then is its end the end.
        if self._place is not None and old.exists() and old.stat().st_ino == self._place.inode:
            yield from self._drain(old, self._place.offset)
            if found is not None:
                self._place = None
        if found is None:
            return
        same = self._place is not None and self._place.inode == found.st_ino and self._place.offset <= found.st_size
        yield from self._drain(self._path, self._place.offset if same and self._place else 0)

    def _drain(self, path: Path, offset: int) -> Iterator[Observation]:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(offset)
            rest = b""
            while piece := file.read(READ_AT_ONCE):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    observation = parse(line)
                    if observation is not None:
                        yield observation
                    else:
                        self.skipped += 1
                offset += sum(len(line) + 1 for line in lines)
                self._place = Place(inode, offset)
            self._place = Place(inode, offset)


def rotated(path: Path) -> Path:
    """What the log is called after a rotation; one old file is kept."""
    return path.with_name(path.name + ".1")


async def rotate(control: EnvoyControl, *, above: int = KEEP_BYTES) -> bool:
    """Begin a new access log when the present one is larger than ``above`` bytes; says whether it did.

    Nothing is lost: Envoy writes on into the renamed file until it has opened the new one.
    """
    if not _larger(control.access_log, above):
        return False
    control.access_log.rename(rotated(control.access_log))
    await control.reopen_logs()
    return True


def _larger(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size > size

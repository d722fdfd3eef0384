"""Kafka Connect's REST interface, and its failures said as ours (Kafka's manual, "Connect, REST API").

A connector's configuration can hold a password: it is never logged here, and is taken out of what Connect says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
_HEADERS = {"Content-Type": "application/json"}
REBALANCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Status:
    """How a connector stands.

    Attributes:
        state: ``RUNNING``, ``PAUSED``, ``STOPPED``, ``UNASSIGNED``, ``FAILED`` …
        tasks: the states of its tasks.
        trace: why it or a task failed, as Java prints it.
    """

    state: str
    tasks: tuple[str, ...]
    trace: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it needs us."""
        return "FAILED" in (self.state, *self.tasks)


def unreachable(url: str, why: str) -> FigError:
    """The one sentence for a Connect that does not answer."""
    return FigError(
        "connect_unreachable",
        f"Kafka Connect at {url} does not answer: {why}",
        "Check that a worker runs and that connect.url in fig.yaml is where it listens; capture tries again by itself.",
        url=url,
    )


def failed(name: str, status: Status) -> FigError:
    """A failed task, in the words of its trace."""
    return FigError(
        "connector_failed",
        f"the connector {name} failed: {words(status.trace)}",
        "Capture starts it again by itself; when it fails again, mend what the message names.",
        connector=name,
        trace=(status.trace or "").splitlines()[:20],
    )


def words(trace: str | None) -> str:
    """The first line of a Java trace without its class, and the innermost cause when it says something else."""
    lines = (trace or "").strip().splitlines()
    if not lines:
        return "it does not say why"
    first = _message(lines[0])
    causes = [_message(line.removeprefix("Caused by: ")) for line in lines if line.startswith("Caused by: ")]
    return first if not causes or causes[-1] in first else f"{first} ({causes[-1]})"


def _message(line: str) -> str:
    name, separator, said = line.strip().partition(": ")
    return said if separator and "." in name and " " not in name else line.strip()


class Connect:
    """One Connect cluster's interface. Any of its workers answers for all.

    Every method raises ``FigError``: ``connect_unreachable``, ``connect_rebalancing`` (after a minute of it),
    ``connect_refused`` for an answer that is none of those named with the method.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._secret = ""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, stopped, or give it this configuration.

        Raises:
            FigError: ``connector_invalid`` with what is wrong, field by field.
        """
        self._secret = config.get("database.password", "")
        code, said = await self._call("GET", f"/connectors/{quote(name)}")
        if code == 404:
            # initial_state is Kafka 3.7's; an older Connect starts it, and it is stopped at once.
            body = {"name": name, "config": dict(config), "initial_state": "STOPPED"}
            code, said = await self._call("POST", "/connectors", body)
            if code == 400 and "initial_state" in self._text(said):
                code, said = await self._call("PUT", f"/connectors/{quote(name)}/config", dict(config))
        elif code == 200:
            code, said = await self._call("PUT", f"/connectors/{quote(name)}/config", dict(config))
        if code == 400 or (code == 500 and "Failed to find any class" in self._text(said)):
            raise await self._invalid(name, config, said)
        self._expect(code, said, 200, 201)

    async def _invalid(self, name: str, config: Mapping[str, str], said: Any) -> FigError:
        """What is wrong with a configuration, as its validation says."""
        wrong: dict[str, list[str]] = {}
        plugin = config.get("connector.class", "").rpartition(".")[2]
        code, found = await self._call("PUT", f"/connector-plugins/{quote(plugin)}/config/validate", dict(config))
        if code == 200 and isinstance(found, dict):
            for entry in found.get("configs", []):
                if errors := (entry.get("value") or {}).get("errors"):
                    wrong[str(entry["value"].get("name"))] = [self._clean(str(error)) for error in errors]
        listed = "; ".join(f"{field}: {' '.join(errors)}" for field, errors in wrong.items())
        missing = "Failed to find any class" in self._text(said)
        return FigError(
            "connector_invalid",
            f"Kafka Connect does not take the connector {name}: {listed or self._text(said)}",
            f"Install Debezium's connector {plugin} in the workers' plugin.path."
            if missing
            else "Mend what is named: usually the source's address as Connect reaches it, or a right of its role.",
            connector=name,
            fields=wrong,
        )

    async def status(self, name: str) -> Status | None:
        """How the connector stands; None when there is none."""
        code, found = await self._call("GET", f"/connectors/{quote(name)}/status")
        if code == 404:
            return None
        self._expect(code, found, 200)
        tasks = found.get("tasks") or []
        traces = [part["trace"] for part in (found["connector"], *tasks) if part.get("trace")]
        return Status(
            found["connector"]["state"],
            tuple(task["state"] for task in tasks),
            self._clean(traces[0]) if traces else None,
        )

    async def resume(self, name: str) -> None:
        """Let a stopped one go on."""
        await self._do("PUT", name, "/resume")

    async def stop(self, name: str) -> bool:
        """End its tasks; the slot becomes free. Whether there is such a connector. (Kafka 3.5 or later.)"""
        return await self._do("PUT", name, "/stop", 404) != 404

    async def place_offsets(self, name: str, offsets: list[dict[str, Any]]) -> None:
        """Tell a stopped one where it stands: ``partition`` and ``offset`` each. (Kafka 3.6 or later.)"""
        code, said = await self._call("PATCH", f"/connectors/{quote(name)}/offsets", {"offsets": offsets})
        self._expect(code, said, 200)

    async def forget_offsets(self, name: str) -> None:
        """Make a stopped one forget where it stood. (Kafka 3.6 or later.)"""
        await self._do("DELETE", name, "/offsets")

    async def delete(self, name: str) -> None:
        """Remove it; none is no error."""
        code, said = await self._call("DELETE", f"/connectors/{quote(name)}")
        self._expect(code, said, 204, 404)

    async def until_stopped(self, name: str, *, timeout: float) -> None:
        """Wait until a stopped connector's tasks have ended."""

        async def stopped() -> bool:
            found = await self.status(name)
            return found is not None and found.state == "STOPPED" and not found.tasks

        await clock.until(stopped, timeout=timeout, what=f"the connector {name} to stop", at_most=0.2)

    async def _do(self, method: str, name: str, path: str, *borne: int) -> int:
        code, said = await self._call(method, f"/connectors/{quote(name)}{path}")
        self._expect(code, said, 200, 202, 204, *borne)
        return code

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; a rebalance (409) is waited out."""
        answer: tuple[int, Any] = (0, None)

        async def settled() -> bool:
            nonlocal answer
            answer = await self._once(method, path, body)
            return answer[0] != 409

        try:
            await clock.until(settled, timeout=REBALANCE_SECONDS, what="a rebalance", every=0.2, at_most=2.0)
        except FigError as error:
            if error.code != "timed_out":
                raise
            raise FigError(
                "connect_rebalancing",
                f"Kafka Connect at {self.url} has been distributing its work for {REBALANCE_SECONDS:g} s:"
                f" {self._text(answer[1])}",
                "Look at its workers: one that comes and goes makes all begin again; capture tries again by itself.",
                url=self.url,
            ) from error
        return answer

    async def _once(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        assert self._session is not None
        try:
            async with self._session.request(method, self.url + path, json=body, headers=_HEADERS) as answer:
                if answer.content_type == "application/json":
                    return answer.status, await answer.json()
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise unreachable(self.url, str(error) or type(error).__name__) from error

    def _expect(self, code: int, said: Any, *good: int) -> None:
        if code not in good:
            raise FigError(
                "connect_refused",
                f"Kafka Connect at {self.url} answered {code}: {self._text(said)}",
                "Capture needs Kafka Connect 3.6 or later with its whole REST interface; look at its log.",
                url=self.url,
                status=code,
            )

    def _text(self, said: Any) -> str:
        found = said.get("message", said) if isinstance(said, dict) else said
        return self._clean(" ".join(str(found).split())) or "nothing"

    def _clean(self, said: str) -> str:
        return said.replace(self._secret, "***") if len(self._secret) > 2 else said

"""How orders reserve stock: by the inventory API, wherever it is answered."""

from __future__ import annotations

from typing import Any

import aiohttp


class Refused(Exception):
    """The stock cannot be reserved; carries the answer."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(answer.get("error"))
        self.status = status
        self.answer = answer


class Unanswered(Exception):
    """Nobody knows whether the stock was reserved."""


class InventoryApi:
    """The inventory's HTTP API as orders call it; a repeated call with one key reserves once."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._session:
            await self._session.close()

    async def _post(self, path: str, content: dict[str, Any], key: str, trace: dict[str, str]) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=10), connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=300)
            )
        try:
            async with self._session.post(
                f"{self._url}{path}", json=content, headers={"Idempotency-Key": key} | trace
            ) as response:
                if response.status in (404, 409, 422):
                    raise Refused(response.status, await response.json())
                if response.status != 200:
                    raise Unanswered(f"the inventory answered {response.status}")
                return dict(await response.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unanswered(f"the inventory did not answer: {error}") from error

    async def reserve(self, order_id: int, line: int, item_id: int, qty: int, trace: dict[str, str]) -> int:
        """Reserve one line of an order; returns the reservation's id."""
        content = {"item_id": item_id, "qty": qty, "order_id": order_id}
        answer = await self._post("/api/inventory/reserve", content, f"order:{order_id}:{line}", trace)
        return int(answer["reservation_id"])

    async def release(self, order_id: int, line: int, reservation_id: int, trace: dict[str, str]) -> None:
        """Give one line's reservation back."""
        content = {"reservation_id": reservation_id}
        await self._post("/api/inventory/release", content, f"order:{order_id}:{line}:undo", trace)

"""Server spans of an ASGI application: ``app = Traced(app)`` is all that it needs.

The application finds its own span in the ``traceparent`` header of the request, to be handed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from stranglerfig.telemetry import traces

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]
_HEADER = b"traceparent"


class Traced:
    """An application whose sampled requests are spans; others, and those of no trace, pass as they are."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not traces.installed():
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"").decode("latin-1")
        method = scope["method"]
        opened = traces.begin(method, given, "server", **{"http.request.method": method})
        if opened is None:
            await self._app(scope, receive, send)
            return
        others = [each for each in scope["headers"] if each[0] != _HEADER]
        inner = {**scope, "headers": [*others, (_HEADER, str(opened.own).encode())]}
        status = 0

        async def note(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        failure: str | None = None
        try:
            await self._app(inner, receive, note)
        except BaseException as error:
            failure = type(error).__name__
            raise
        finally:
            if failure is None and status >= 500:
                failure = str(status)
            attributes: dict[str, traces.Attribute] = {"http.response.status_code": status}
            if (route := template(inner)) is not None:
                opened = opened._replace(name=f"{method} {route}")
                attributes["http.route"] = route
            traces.end(opened, error=failure, **attributes)


def template(scope: Scope) -> str | None:
    """The route of a request with its parameters' names in place of their values, as Starlette found it; None where no
    route did, or where a value cannot be told apart from the rest: what a path holds may be personal.
    """
    if scope.get("endpoint") is None:
        return None
    parts = str(scope["path"]).split("/")
    for name, value in scope.get("path_params", {}).items():
        if parts.count(str(value)) != 1:
            return None
        parts[parts.index(str(value))] = f"{{{name}}}"
    return "/".join(parts)

"""Routes of what is set: compatibility, mode and normalisation, for one subject or for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiohttp import web

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import dialect, http
from stranglerfig.schemas.formats import Level
from stranglerfig.schemas.store import SchemaStore
from stranglerfig.schemas.subjects import Mode, SubjectSettings

_IGNORED = ("compatibility", "normalize", "validateFields", "compatibilityLevel")


class SettingsRoutes:
    """What clients ask of settings.

    Args:
        store: where they are.
    """

    def __init__(self, store: SchemaStore) -> None:
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        found = []
        for suffix in ("", "/{subject}"):
            found += [
                web.get(f"/config{suffix}", self.config),
                web.put(f"/config{suffix}", self.put_config),
                web.delete(f"/config{suffix}", self.delete_config),
                web.get(f"/mode{suffix}", self.mode),
                web.put(f"/mode{suffix}", self.put_mode),
                web.delete(f"/mode{suffix}", self.delete_mode),
            ]
        return found

    async def config(self, request: web.Request) -> web.Response:
        """The compatibility that holds; a subject's own unless ``defaultToGlobal``."""
        subject = _subject(request)
        holds = await self._store.settings(subject)
        own = holds.own
        if subject and not http.flag(request, "defaultToGlobal") and own.level is None and own.normalize is None:
            raise _unset(subject, "compatibility")
        shown: dict[str, Any] = {"compatibilityLevel": holds.level.value}
        return http.answer(shown | ({"normalize": True} if holds.normalize else {}))

    async def put_config(self, request: web.Request) -> web.Response:
        """Set compatibility, normalisation or both."""
        subject, body = _subject(request), await http.body(request)
        for key, value in body.items():
            if key not in _IGNORED and value is not None:
                raise dialect.bad_request(f"'{key}' is not kept here")
        own = (await self._store.settings(subject)).own
        level, normalize = body.get("compatibility"), body.get("normalize")
        if level is not None:
            own = replace(own, level=_one_of(Level, level, "compatibility"))
        if normalize is not None:
            own = replace(own, normalize=bool(normalize))
        await self._store.put_settings(subject, own)
        shown: dict[str, Any] = {} if own.level is None else {"compatibility": own.level.value}
        return http.answer(shown | ({} if own.normalize is None else {"normalize": own.normalize}))

    async def delete_config(self, request: web.Request) -> web.Response:
        """Forget what is set; answers what was."""
        subject = _subject(request)
        holds = await self._store.settings(subject)
        if subject and holds.own.level is None and holds.own.normalize is None:
            raise _unset(subject, "compatibility")
        await self._store.put_settings(subject, SubjectSettings(mode=holds.own.mode))
        return http.answer({"compatibilityLevel": holds.level.value})

    async def mode(self, request: web.Request) -> web.Response:
        """The mode that holds; a subject's own unless ``defaultToGlobal``."""
        subject = _subject(request)
        holds = await self._store.settings(subject)
        if subject and not http.flag(request, "defaultToGlobal") and holds.own.mode is None:
            raise _unset(subject, "mode")
        return http.answer({"mode": holds.mode.value})

    async def put_mode(self, request: web.Request) -> web.Response:
        """Set the mode; IMPORT only where there is nothing yet, unless ``force``."""
        subject, body = _subject(request), await http.body(request)
        mode = _one_of(Mode, body.get("mode"), "mode")
        own = (await self._store.settings(subject)).own
        await self._store.put_settings(subject, replace(own, mode=mode), force=http.flag(request, "force"))
        return http.answer({"mode": mode.value})

    async def delete_mode(self, request: web.Request) -> web.Response:
        """Forget the mode; answers what it was."""
        subject = _subject(request)
        holds = await self._store.settings(subject)
        if subject and holds.own.mode is None:
            raise _unset(subject, "mode")
        await self._store.put_settings(subject, replace(holds.own, mode=None))
        return http.answer({"mode": (holds.own.mode or holds.mode).value})


def _subject(request: web.Request) -> str:
    return http.subject(request) if "subject" in request.match_info else ""


def _one_of(kind: type[Level] | type[Mode], found: Any, setting: str) -> Any:
    try:
        return kind(str(found).upper())
    except ValueError:
        raise FigError(
            "bad_registry_setting",
            f"Invalid {setting} {found!r}. Valid values are {', '.join(kind)}.",
            setting=setting,
        ) from None


def _unset(subject: str, setting: str) -> FigError:
    return FigError(
        "registry_setting_unset",
        f"Subject '{subject}' does not have subject-level {setting} configured.",
        "Ask with defaultToGlobal=true for what holds.",
        subject=subject,
        setting=setting,
    )

"""The web server of ``fig seams --serve``: the candidates, what if they were otherwise, and drafts of their models.

The edits are in one text file, read for each request: what another browser, another server or an editor wrote there
holds. Who has the link may edit, and write drafts below the project's folder; nobody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from stranglerfig.console import site
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.files import written_whole
from stranglerfig.seams import edits, ranking
from stranglerfig.seams.edits import Edits
from stranglerfig.seams.model import Evidence
from stranglerfig.seams.page import Session
from stranglerfig.storming import drafting
from stranglerfig.storming import text as storm

_STATUSES = {"seams_link": 403, "unknown_candidate": 404, "unknown_table": 404, "file_exists": 409}


class EditsFile:
    """The file in which the edits are kept; none is there before the first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Edits:
        """What it says; no edits when there is none.

        Raises:
            FigError: ``seams_edits_invalid``.
        """
        try:
            return edits.parse(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Edits()
        except (OSError, UnicodeDecodeError) as error:
            raise FigError("seams_edits_invalid", f"{self.path} cannot be read: {error}", "Check the file.") from error
        except FigError as error:
            raise FigError(error.code, f"{self.path}: {error.message}", error.remedy, file=str(self.path)) from error

    def write(self, changed: Edits) -> None:
        """Keep these.

        Raises:
            FigError: ``file_unwritable``.
        """
        with written_whole(self.path, replace=True) as draft:
            draft.write_text(edits.show(changed), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Door:
    """The link's token and the port of last time, kept where only the project's owner reads."""

    path: Path
    said: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Door:
        """What was kept; a new token where nothing was.

        Raises:
            FigError: ``file_unwritable``.
        """
        said: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            said = orjson.loads(path.read_bytes())
        door = cls(path, {"token": said.get("token") or secrets.token_urlsafe(18), "port": said.get("port") or 0})
        door.keep(door.port)
        return door

    @property
    def token(self) -> str:
        """What a link ends in."""
        return str(self.said["token"])

    @property
    def port(self) -> int:
        """Where it was served last; 0 where it was not yet."""
        return int(self.said["port"])

    def keep(self, port: int) -> None:
        """Remember where it is served."""
        self.said["port"] = port
        with suppress(OSError):  # what the next line cannot do either, it says
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path, replace=True) as draft:
            draft.touch(mode=0o600)
            draft.write_bytes(orjson.dumps(self.said))


def draft_of(evidence: Evidence, ranked: ranking.Ranking, name: str) -> str:
    """The first draft of a candidate's model, as text.

    Raises:
        FigError: ``unknown_candidate``.
    """
    tables, routes = ranking.contents(evidence, ranked, name)
    seeds = [drafting.Seed(t.name, tuple((c.name, c.type, c.optional) for c in t.columns), t.key) for t in tables]
    wishes = [drafting.Wish(route.method, route.path, route.tables) for route in routes]
    return storm.show(drafting.draft(name, seeds, wishes))


class SeamsServer:
    """Serves the page of one run's evidence; ``host`` and ``port`` say where once it has started.

    ``arguments`` are those that ``fig`` was given for this evidence, for the command that says the same as the edits.
    """

    def __init__(self, session: Session, file: EditsFile, door: Door, folder: Path, arguments: Sequence[str]) -> None:
        self.session, self.file, self.door = session, file, door
        self.folder = folder.resolve()
        self.arguments = tuple(arguments)
        self.host, self.port = "", 0
        self._runner: web.AppRunner | None = None
        self._one = asyncio.Lock()
        self._run = secrets.token_hex(4)

    async def start(self, host: str, port: int) -> None:
        """Listen; on ``port`` 0 where it listened before, if that is free, else on any free port.

        Raises:
            FigError: ``port_in_use``; ``seams_edits_invalid`` when the file's edits are none.
        """
        self.file.read()
        app = site.application("seams.html", _STATUSES)
        app.router.add_get("/api/graph", self._graph)
        app.router.add_get("/api/seams", self._state)
        app.router.add_get("/api/table", self._table)
        app.router.add_post("/api/steps", self._step)
        app.router.add_post("/api/undo", self._undo)
        app.router.add_post("/api/redo", self._redo)
        app.router.add_post("/api/draft", self._draft)
        self._runner, self.port = await site.listen(app, host, port, self.door.port)
        self.host = host
        self.door.keep(self.port)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def link(self) -> str:
        """What to give to people."""
        return site.link(self.host, self.port, self.door.token)

    def _may(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(token.encode(), self.door.token.encode()):
            raise FigError(
                "seams_link", "this link is not, or no longer, valid", "Open the link that fig seams --serve printed."
            )

    async def _graph(self, request: web.Request) -> web.Response:
        self._may(request)
        told = self.session.graph() | {"name": self.folder.name, "edits": self.file.path.name, "run": self._run}
        return _json(told)

    async def _state(self, request: web.Request) -> web.Response:
        """All figures; nothing when the page has them already."""
        self._may(request)
        changed = self.file.read()
        if request.headers.get("If-None-Match") == self._tag(changed):
            return web.Response(status=304)
        return await self._told(changed)

    async def _told(self, changed: Edits) -> web.Response:
        state = await asyncio.to_thread(self.session.state, changed)
        moves = edits.as_moves(self.session.shown(changed).division, self.session.proposal)
        return _json(state | {"command": command(self.arguments, moves), "run": self._run}, ETag=self._tag(changed))

    def _tag(self, changed: Edits) -> str:
        """Of what the page is told: another for other edits, and for another run."""
        return f'"{self._run}-{hashlib.sha256(edits.show(changed).encode()).hexdigest()[:16]}"'

    async def _table(self, request: web.Request) -> web.Response:
        self._may(request)
        return _json(self.session.table(request.query.get("name", "")))

    async def _step(self, request: web.Request) -> web.Response:
        """A step as the file has them; a move without ``to`` makes a context for its first table."""
        self._may(request)
        asked = await _asked(request)
        return await self._change(lambda changed: self._did(changed, asked))

    def _did(self, changed: Edits, asked: dict[str, Any]) -> Edits:
        match asked:
            case {"move": [str(table), *_], "to": None}:
                asked = {**asked, "to": self.session.fresh(changed, table)}
        return self.session.did(changed, edits.step_of(asked))

    async def _undo(self, request: web.Request) -> web.Response:
        self._may(request)
        return await self._change(Edits.undo)

    async def _redo(self, request: web.Request) -> web.Response:
        self._may(request)
        return await self._change(Edits.redo)

    async def _change(self, change: Callable[[Edits], Edits]) -> web.Response:
        async with self._one:
            before = self.file.read()
            after = await asyncio.to_thread(change, before)
            if after != before:
                self.file.write(after)
        return await self._told(after)

    async def _draft(self, request: web.Request) -> web.Response:
        self._may(request)
        asked = await _asked(request)
        name, replace = str(asked.get("candidate", "")), asked.get("replace") is True
        text = draft_of(self.session.evidence, self.session.shown(self.file.read()).what.ranking, name)
        file = self._within(str(asked.get("file") or f"contexts/{name}/model.storm"))
        with suppress(OSError):  # what the next line cannot do either, it says
            file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file, replace=replace) as draft:
            draft.write_text(text, encoding="utf-8")
        shown = file.relative_to(self.folder)
        return _json({"file": str(shown), "command": shlex.join(["fig", *self._project(), "storm", str(file)])})

    def _project(self) -> Sequence[str]:
        return () if self.folder == Path.cwd() else ("--project", str(self.folder))

    def _within(self, asked: str) -> Path:
        """A model's file below the project's folder: more than that a page may not write."""
        file = (self.folder / asked).resolve()
        if not file.is_relative_to(self.folder) or file.suffix != ".storm":
            raise FigError(
                "draft_elsewhere",
                f"{asked} is no file that ends in .storm below {self.folder}",
                "Name one there; fig seams --draft writes anywhere.",
                file=asked,
            )
        return file


def command(arguments: Sequence[str], moves: dict[str, str]) -> str:
    """The command line that says the same as some moves."""
    asked = [part for table, name in moves.items() for part in ("--move", f"{table}={name}")]
    return shlex.join(["fig", *arguments, *asked])


async def _asked(request: web.Request) -> dict[str, Any]:
    try:
        said = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise FigError("seams_edits_invalid", f"no JSON: {error}", "Load the page again.") from error
    return said if isinstance(said, dict) else {}


def _json(told: Any, **headers: str) -> web.Response:
    body = orjson.dumps(told, default=str)
    return web.Response(body=body, content_type="application/json", headers=headers)

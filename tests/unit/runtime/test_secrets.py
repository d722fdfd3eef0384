"""Secrets by command, and mistakes that are told without them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stranglerfig.changes.settings import DatabaseReference
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import processes
from stranglerfig.runtime.secrets import ambient, look_up
from stranglerfig.runtime.settings import load_project

ESTATE = "name: shop\nmonolith: {url: http://127.0.0.1:1, database: %s}\n"


def said(folder: Path, program: str, *, timeout: str = "30s", anew: bool = False) -> str:
    reference = DatabaseReference.model_validate({"command": [sys.executable, "-c", program], "timeout": timeout})
    assert program not in repr(reference)
    return look_up(reference, folder, {**os.environ, "TOKEN": "t0ken"}, anew=anew)


def test_a_command_is_run_once_where_the_project_is(tmp_path: Path) -> None:
    program = "import os; open('runs', 'a').write('x'); print(os.getcwd(), os.environ['TOKEN'])\n"
    assert said(tmp_path, program) == f"{tmp_path} t0ken" == said(tmp_path, program)
    assert (tmp_path / "runs").read_text() == "x"
    said(tmp_path, program, anew=True)
    assert (tmp_path / "runs").read_text() == "xx"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; print('pl4nted'); sys.exit('pl4nted')", "ended with status 1"),
        ("print()", "printed nothing"),
        ("import os; os.write(1, b'\\xffpl4nted')", "no text"),
        ("import os; os.write(1, b'x' * 2000000)", "more than"),
    ],
)
def test_what_a_failing_command_says_is_not_shown(tmp_path: Path, program: str, why: str) -> None:
    with pytest.raises(FigError) as caught:
        said(tmp_path, program)
    assert caught.value.code == "secret_missing" and why in caught.value.message
    assert "pl4nted" not in str(caught.value.as_dict()) and caught.value.__cause__ is None


def test_a_command_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    shell = ["sh", "-c", "sleep 600 & echo $! > child; wait"]
    reference = DatabaseReference.model_validate({"command": shell, "timeout": "2s"})
    with pytest.raises(FigError) as caught:
        look_up(reference, tmp_path, os.environ)
    assert "2 s" in caught.value.message
    child, deadline = int((tmp_path / "child").read_text()), clock.monotonic() + 30
    while processes.alive(child):
        assert clock.monotonic() < deadline, "it lives on"
        clock.block(0.02)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FigError) as caught:
        look_up(DatabaseReference(command=("no-such-program", "pl4nted")), tmp_path, {})
    assert "no-such-program" in caught.value.message and "pl4nted" not in str(caught.value.as_dict())


@pytest.mark.parametrize(
    "text",
    [
        ESTATE % "{env: A, dsn: 'host=h password=pl4nted'}",
        ESTATE % "['postgresql://u:pl4nted@h/x']",
        ESTATE % "{command: pl4nted}",
        ESTATE % "{env: A}" + "log: kafka9://u:pl4nted@h\n",
        ESTATE % "{env: A}" + "log: {url: 'nats://h?token=pl4nted', env: B}\n",
        ESTATE % "{env: A}" + "services: [x, pl4nted]\n",
        ESTATE % "{env: A}" + "services: {a: {dsn: pl4nted, file: b}}\n",
        ESTATE % "{env: A}" + "schemas: 'http://ann:pl4nted@r:8081'\n",
        ESTATE % "{env: A}" + "telemetry: {otlp: 'ftp://ann:pl4nted@r:8081'}\n",
        ESTATE % "{env: A}" + "broker: {url: {url: 'amqp://u:pl4nted@h', env: C}}\n",
        ESTATE % "{env: A}" + "facade: {tls: {certificate: a, key: {env: A, command: [pl4nted]}}}\n",
        "name: shop\nmonolith: 'postgresql://u:pl4nted@h/x'\n",
    ],
)
def test_a_mistake_is_told_without_the_secret_beside_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "fig.yaml").write_text(text)
    with pytest.raises(FigError) as caught:
        load_project(tmp_path, {})
    assert caught.value.code == "bad_configuration"
    assert "pl4nted" not in str(caught.value.as_dict())


def test_a_server_of_ours_gets_no_secret() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "HOME": "/root", "SHOP_DSN": "pl4nted", "PGPASSWORD": "pl4nted"}
    assert ambient(given) == {"PATH": "/bin", "LC_ALL": "C", "HOME": "/root"}

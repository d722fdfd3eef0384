"""A service that ``fig new`` wrote, as generated: its tests pass, its types hold, it runs, and ends when it is told."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stranglerfig.foundation import clock
from stranglerfig.runtime.embedded import free_port
from tests.conftest import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
FIG = Path(sys.executable).with_name("fig")
MODEL = Path(__file__).parents[3] / "examples/shop/estate/contexts/inventory/model.storm"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints that must not fail."""
    # Whoever runs us may measure coverage: the service's own tests are not what is measured.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("COV_CORE", "COVERAGE_", "PYTEST_"))}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def checked(folder: Path, postgres: Server, name: str) -> None:
    """The project's own tests, types and lint, with the packages that are here."""
    python = f"PYTHON={sys.executable}"
    dsn = {f"{name.upper()}_TEST_DSN": postgres.embedded.dsn()}
    assert " passed" in run("make", "test", python, "ARGS=-p no:cacheprovider", cwd=folder, **dsn)
    # What mypy knows of the kit serves both projects.
    assert "Success" in run("make", "lint", python, cwd=folder, MYPY_CACHE_DIR=str(folder.parents[1] / "mypy"))


class Process:
    """The service, running."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        environment = os.environ | {"BILLING_DSN": dsn, "BILLING_PORT": str(port)}
        self.process = subprocess.Popen([sys.executable, "-m", "billing"], cwd=folder, env=environment)

    def ask(self, path: str, body: Any = None, key: str = "") -> tuple[int, str]:
        """Status (0: it does not answer) and text; a POST when there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Idempotency-Key": key})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""


async def test_a_service_from_nothing_passes_its_tests_runs_and_ends(tmp_path: Path, postgres: Server) -> None:
    assert "billing is in billing" in run(FIG, "new", "service", "billing", cwd=tmp_path)
    folder = tmp_path / "billing"
    checked(folder, postgres, "billing")

    dsn = postgres.database()
    service = Process(folder, dsn)
    try:

        async def healthy() -> bool:
            assert service.process.poll() is None, "it ended"
            return service.ask("/health") == (200, '{"status":"ok"}')

        await clock.until(healthy, timeout=60, what="the service to be healthy")
        command = {"item_id": "a", "title": "First"}
        for _ in range(2):
            assert service.ask("/api/billing/register-item", command, "k1") == (200, '{"item_id":"a","title":"First"}')
        assert service.ask("/api/billing/register-item", command)[0] == 400
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert conn.execute("SELECT * FROM item").fetchall() == [("a", "First")]

            async def told() -> bool:
                there = conn.execute("SELECT to_regclass('registered_items')").fetchone() != (None,)
                return there and conn.execute("SELECT * FROM registered_items").fetchall() == [("a", "First")]

            await clock.until(told, timeout=30, what="the read model, by outbox and log")
            assert conn.execute("SELECT count(*) FROM fig.answer").fetchone() == (1,)

            async def sent() -> bool:
                return conn.execute("SELECT count(*) FROM fig.outbox").fetchone() == (0,)

            await clock.until(sent, timeout=30, what="what was sent to leave the outbox")
        status, metrics = service.ask("/metrics")
        assert status == 200
        assert 'billing_request_seconds_count{route="/api/billing/register-item",status="200"} 2.0' in metrics
        assert 'billing_request_seconds_count{route="/api/billing/register-item",status="400"} 1.0' in metrics
        assert 'fig_service_outbox_messages{service="billing"} 0.0' in metrics
        assert 'fig_service_outbox_oldest_seconds{service="billing"} 0.0' in metrics
        assert re.search(r'^fig_service_handled_total{subscription="billing[^"]*"} 0.0$', metrics, re.MULTILINE)
        assert re.search(
            r'^fig_service_parked_messages{service="billing",subscription="[^"]*"} 0.0$', metrics, re.MULTILINE
        )
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 0
    finally:
        service.process.kill()
        service.process.wait()


def test_a_service_from_the_shops_model_passes_its_tests(tmp_path: Path, postgres: Server) -> None:
    told = run(FIG, "new", "service", "inventory", "--model", MODEL, "--to", "service", cwd=tmp_path)
    assert "AdjustStock: what StockAdjusted says of on_hand, reserved" in told
    checked(tmp_path / "service", postgres, "inventory")

"""The shop under ``fig up``, driven by the installed command: what acceptance tests of whole extractions share.

Small tables, a modest load that never stops, gates whose evidence grows in a second or two. Servers and ``fig up`` are
started once per module; a test asks with :meth:`Shop.go` for the place where it begins, and ends with
:meth:`Shop.sound`, which holds every write of the load against the databases.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from examples.shop import ledger
from examples.shop.estate import Estate
from stranglerfig.runtime.datadir import DataDirectory

CONTEXT = "inventory"
FIG = str(Path(sys.executable).with_name("fig"))
MIX = {"reads": 45, "writes": 50, "orders": 5}
VALUES = {
    "samples": 60,
    "error_below": 0.5,
    "shadow_samples": 20,
    "shadow_below": 0.3,
    "latency_samples": 300,
    "lag_samples": 300,
    "no_worse_samples": 10,
    "guard_samples": 5,
    "shadow_share": 100,
    "quiet_seconds": 11,
    "brownout_seconds": 1,
    "watch_seconds": 1,
}
GATES = {
    "sync": {"cdc_latency": {"below": "30s", "share": 0.5, "samples": 10}},
    "reads": {
        "latency": {"below": "30s", "share": 0.5, "samples": 10},
        "error_rate": {"below": 0.5, "samples": 10},
        "shadow_mismatch": {"below": 0.3, "samples": 10},
        "no_worse": {"samples": 5, "margin": 10},
        "guard_samples": 5,
        "steps": [10, 100],
    },
    "writes": {
        "error_rate": {"below": 0.5, "samples": 10},
        "adjust_end_to_end": {"below": "30s", "share": 0.5, "samples": 10},
        "reverse_lag": {"below": "30s", "share": 0.5, "samples": 10},
    },
}
PLACES = [
    ("prepare", ""),
    ("build", ""),
    ("sync", ""),
    ("reads", "shadow"),
    ("reads", "10"),
    ("reads", "100"),
    ("writes", ""),
    ("decommission", "watch"),
    ("decommission", "brownout"),
    ("decommission", "retire"),
    ("decommission", "report"),
    ("done", ""),
]
SYNC, READS, WRITES = ("sync", ""), ("reads", "100"), ("writes", "")
BUSY = (
    *("lag_too_large", "budget_exhausted", "marker_not_applied", "timed_out", "fence_not_closed", "writes_in_flight"),
    *("gate_inconclusive", "tables_locked"),
)


def until(condition: Callable[[], Any], what: str, timeout: float = 60, every: float = 0.05) -> Any:
    """Wait for something, with a deadline."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}, in vain"
        time.sleep(every)
    return found


class Refused(Exception):
    """A command's refusal."""

    def __init__(self, command: str, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"fig {command} ({status}): {error['message']} [{error['code']}]")
        self.status = status
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.remedy: str = error.get("remedy", "")
        self.context: dict[str, Any] = error.get("context", {})


class Asked:
    """A running ``fig`` command; its standard output and error go to files, so that nobody must read them."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.arguments = " ".join(command[3:])
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill it where it still runs."""
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """What it has said so far."""
        found = []
        for line in self._out.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [line for line in found if isinstance(line, dict)]

    def result(self, timeout: float = 120) -> dict[str, Any]:
        """What it ended with: text and data of its last line, or its whole answer.

        Raises:
            Refused: what it was refused with.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(
                f"fig {self.arguments} has not ended after {timeout:g} s: {self.lines()[-3:]}"
            ) from None
        if status:
            text = self._err.read_text()
            try:
                error = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                error = {"code": "unknown", "message": text[-3000:]}
            raise Refused(self.arguments, status, error)
        lines = self.lines()
        if lines and "kind" in lines[-1]:
            return {"text": lines[-1]["text"], **lines[-1]["data"]}
        try:
            whole = json.loads(self._out.read_text() or "{}")
        except ValueError:
            return {}
        return whole if isinstance(whole, dict) else {"list": whole}


class Shop:
    """The estate, its ``fig up`` and its load.

    Args:
        root: where everything is written.
        reserve: how the monolith's orders reserve stock, ``table`` or ``api``.
        estate: another one than the shop on PostgreSQL.
        gates, extraction: what differs in ``extraction.yaml``.
    """

    def __init__(
        self,
        root: Path,
        *,
        items: int = 600,
        rate: float = 45,
        reserve: str = "api",
        messages: bool = False,
        both: bool = False,
        catalogue: bool = False,
        estate: Estate | None = None,
    ) -> None:
        made = {"messages": messages, "both": both, "catalogue": catalogue}
        self.estate = estate or Estate(root, items=items, settings={"fsync": "off"}, **made)
        self.context = CONTEXT
        self.rate = rate
        self.mix = MIX
        self.reserve = reserve
        self.data = DataDirectory(self.estate.project / ".fig")
        self._number = 0
        self._asked: list[Asked] = []
        self._forgiven = 0

    def of(self, context: str) -> Shop:
        """The same shop, for who asks of another context."""
        other = copy.copy(self)
        other.context = context
        return other

    # ---- life

    def start(self, *, load: bool = True, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Start the databases, the applications, ``fig up`` and the load."""
        estate = self.estate
        estate.start_databases()
        estate.deploy_monolith(reserve=self.reserve)
        estate.deploy_service()
        estate.write_project(VALUES)
        self.configure(change)
        # The second context comes later (take_up).
        later = self.of("catalogue").file
        if estate.catalogue:
            later.rename(later.with_suffix(".later"))
        self.up()
        if load:
            self.load()

    def take_up(self, context: str) -> Shop:
        """Give ``fig up``, while it runs, the second context; returns the shop for who asks of it."""
        other = self.of(context)
        self.estate.deploy_catalogue()
        other.configure(source=other.file.with_suffix(".later"))
        other.known()
        return other

    def known(self) -> None:
        """Wait until ``extraction.yaml`` is in force as it is."""

        def as_it_is() -> bool:
            state = self.data.state()
            assert state.get("refused") is None, state["refused"]
            return float(state.get("taken_up") or 0) > self.file.stat().st_mtime and all(
                row["state"] == "ready" for row in state["roles"]
            )

        until(as_it_is, "extraction.yaml to be taken up")

    def configure(self, change: Callable[[dict[str, Any]], None] | None = None, *, source: Path | None = None) -> None:
        """Rewrite ``extraction.yaml``, whole: small evidence, quick checks, and what ``change`` does to it."""
        # YAML 1.1, which the library speaks, takes the key `on` for a truth; quoted it is a word.
        settings = yaml.safe_load((source or self.file).read_text().replace(" on:", ' "on":'))
        settings["gates"] = json.loads(json.dumps(GATES))
        settings["service"]["checks"] = [{"run": "true", "coverage": "coverage.json"}]
        (self.estate.project / "coverage.json").write_text('{"totals": {"percent_covered": 95}}')
        if change is not None:
            change(settings)
        new = self.file.with_suffix(".new")
        new.write_text(yaml.safe_dump(settings, sort_keys=False))
        new.rename(self.file)

    @property
    def file(self) -> Path:
        """``extraction.yaml``."""
        return self.estate.project / "contexts" / self.context / "extraction.yaml"

    def up(self) -> dict[str, Any]:
        """``fig up --detach``."""
        found = self.fig("up", "--detach")
        self.control: str = found["addresses"]["control database"]
        return found

    def load(self) -> None:
        """Start the load, and wait for its first answers."""
        self.estate.start_load(rate=self.rate, mix=self.mix)
        until(lambda: self.estate.load_status().get("state") == "running", "the load", 30)

    def stop(self) -> None:
        """End everything."""
        try:
            self.estate.stop_load()
            self.fig("down")
        finally:
            for asked in self._asked:
                asked.end()
            self.estate.stop()

    # ---- the command

    def environment(self) -> dict[str, str]:
        """What the command is started with."""
        return dict(os.environ) | self.estate.environment() | {"FIG_KILL_AT": f"@{self.data.path / 'kill-at'}"}

    def ask(self, *arguments: str, json_lines: bool = True, **environment: str) -> Asked:
        """Start a command, and let it run."""
        self._number += 1
        command = [FIG, "--project", str(self.estate.project), *(["--json"] if json_lines else []), *arguments]
        log = self.estate.root / "logs" / f"fig-{self._number}"
        asked = Asked(command, self.environment() | environment, log)
        self._asked = [*(one for one in self._asked if one.running()), asked]
        return asked

    def fig(self, *arguments: str, timeout: float = 120) -> dict[str, Any]:
        """Run a command to its end.

        Raises:
            Refused: what it was refused with.
        """
        return self.ask(*arguments).result(timeout)

    def text(self, *arguments: str) -> str:
        """What a command prints for a person."""
        done = subprocess.run(
            [FIG, "--project", str(self.estate.project), *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"fig {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def refusal(self, *arguments: str) -> Refused:
        """Run a command that must be refused; what it was refused with."""
        try:
            said = self.fig(*arguments)
        except Refused as refused:
            assert refused.remedy or refused.code == "nothing_behind", f"{refused} does not say what to do"
            return refused
        raise AssertionError(f"fig {' '.join(arguments)} was not refused: {said}")

    def advance(self, *more: str, timeout: float = 120) -> dict[str, Any]:
        """``fig advance``, waiting for evidence."""
        return self._patiently("advance", self.context, "--wait", "60", *more, timeout=timeout)

    def rollback(self, *more: str) -> dict[str, Any]:
        """``fig rollback``."""
        return self._patiently("rollback", self.context, *more)

    def decommission(self, step: str) -> dict[str, Any]:
        """``fig decommission``, which waits for no evidence by itself."""
        return self._patiently("decommission", step, self.context)

    def _patiently(self, *arguments: str, timeout: float = 120) -> dict[str, Any]:
        """Ask again what a busy machine alone refuses: a stream that is behind, a proof that takes too long."""
        deadline = time.monotonic() + 90
        while True:
            try:
                return self.fig(*arguments, timeout=timeout)
            except Refused as refused:
                cause = refused.context.get("cause", {}).get("code", refused.code)
                if cause not in BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def status(self) -> dict[str, Any]:
        """``fig status --json``."""
        return dict(self.fig("status", self.context)["extractions"][0])

    def go(self, place: tuple[str, str]) -> None:
        """Advance or roll back until the extraction is at ``place``."""
        for _ in range(30):
            now = self.place()
            if now == place:
                return
            if now[0] == "aborted" or PLACES.index(now) < PLACES.index(place):
                self.advance()
            else:
                self.rollback()
        raise AssertionError(f"{place} was not reached from {self.place()}")

    # ---- looking

    def value(self, dsn: str, statement: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as conn:
            row = conn.execute(statement.encode(), parameters).fetchone()
            return None if row is None else row[0]

    def place(self) -> tuple[str, str]:
        """Stage and step, from the control database."""
        with psycopg.connect(self.control, connect_timeout=5) as conn:
            row = conn.execute("SELECT stage, step FROM fig.extraction WHERE context = %s", (self.context,)).fetchone()
        return (row[0], row[1]) if row else PLACES[0]

    def ownership(self) -> dict[str, tuple[str, int]]:
        """State and epoch of both ownership rows."""
        found = {}
        service = self.estate.service_dsn if self.context == CONTEXT else self.estate.catalogue_dsn
        for side, dsn in (("monolith", self.estate.monolith_dsn), ("service", service)):
            with psycopg.connect(dsn, connect_timeout=5) as conn:
                row = conn.execute(
                    "SELECT state, epoch FROM fig.ownership WHERE context = %s", (self.context,)
                ).fetchone()
                found[side] = (row[0], row[1]) if row else ("", 0)
        return found

    def owner(self) -> str:
        """Who owns, by the ownership rows; empty where nobody does."""
        return next((side for side, (state, _) in self.ownership().items() if state == "owner"), "")

    def flow(self, direction: str, part: str) -> dict[str, Any]:
        """What capture or sync reported last about a direction."""
        found = self.value(
            self.control,
            f"SELECT {part} FROM fig.flow WHERE context = %s AND direction = %s",
            self.context,
            direction,
        )
        return dict(found or {})

    def left_behind(self) -> dict[str, list[str]]:
        """What of us is in the two databases: slots, publications, guards, ownership rows."""
        found = {}
        for side, dsn in (("monolith", self.estate.monolith_dsn), ("service", self.estate.service_dsn)):
            with psycopg.connect(dsn, autocommit=True) as conn:
                installed = conn.execute("SELECT to_regclass('fig.ownership') IS NOT NULL").fetchone()
                rows = conn.execute(
                    "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
                    " UNION ALL SELECT pubname::text FROM pg_publication"
                    " UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'fig%' AND NOT tgisinternal"
                    + (" UNION ALL SELECT context FROM fig.ownership" if installed == (True,) else "")
                )
                found[side] = [row[0] for row in rows]
        return found

    # ---- processes

    def roles(self) -> dict[str, dict[str, Any]]:
        """The processes of ``fig up``, by role."""
        return {row["role"]: row for row in self.data.state().get("roles", [])}

    def pid(self, role: str) -> int:
        """A role's process, which is ready."""
        return int(until(lambda: self.roles()[role]["state"] == "ready" and self.roles()[role]["pid"], f"{role}'s pid"))

    def kill(self, role: str) -> int:
        """``kill -9`` of a role; returns the process id it had."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, role: str, old: int, timeout: float = 60) -> None:
        """Wait until another process does a role's work."""

        def there() -> bool:
            row = self.roles()[role]
            return bool(row["state"] == "ready" and row["pid"] != old)

        until(there, f"{role} to be back", timeout)

    def kill_at(self, point: str) -> Path:
        """Have the controller kill itself when it next comes to ``point``; the file goes when it has."""
        file = self.data.path / "kill-at"
        file.write_text(point)
        return file

    # ---- the load

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The load's failed requests so far, without those that a test has explained."""
        return ledger.read(self.estate.ledger).failures[self._forgiven :]

    def forgive(self) -> int:
        """The failures so far are explained by the fault itself; how many they were."""
        self.silent()
        found = len(self.failures)
        self._forgiven += found
        return found

    def silent(self) -> None:
        """Stop the traffic, and wait until every answer is in the ledger."""
        if "load" not in self.estate.programs:
            return
        self.estate.steer(rate=0)
        asked = time.time()

        def ended() -> bool:
            now = self.estate.load_status()
            return bool(now.get("at", 0) > asked + 1.1 and not now.get("in_flight"))

        until(ended, "the load's last answers", 40)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No traffic meanwhile."""
        self.silent()
        yield
        self.estate.steer(rate=self.rate)

    def sound(self, owner: str, *, equal: bool = True, failed: bool = False) -> dict[str, Any]:
        """Hold the ledger against the databases: nothing lost, doubled, made up or failed, both sides equal.

        Args:
            owner: who must own the data.
            equal: whether the other side must say the same (it is given time to).
            failed: whether failed requests are expected of the fault; they are explained from then on.
        """
        with self.quiet():
            if owner != "-":
                assert self.owner() == owner, f"{self.ownership()}"
            deadline = time.monotonic() + 25
            while True:
                found = ledger.check(
                    self.estate.ledger,
                    self.estate.monolith_dsn,
                    self.estate.service_dsn,
                    "service" if owner == "service" else "monolith",
                    seed=self.estate.seed,
                )
                if not equal or not found["unequal_sides"] or time.monotonic() > deadline:
                    break
                time.sleep(0.3)
            failures = self.failures
            self._forgiven += len(failures)
        wrong = {kind: found[f"{kind}_writes"] for kind in ("lost", "duplicated", "phantom") if found[f"{kind}_writes"]}
        wrong |= {kind: found[kind] for kind in ("misordered_commands", "contradicted_answers") if found[kind]}
        if equal and found["unequal_sides"]:
            wrong["unequal"] = found["unequal_sides"]
        assert not wrong, f"{wrong}: {found['examples'][:10]}"
        assert failed or not failures, f"{len(failures)} failed requests, such as {failures[:5]}"
        return found | {"failed": len(failures)}

"""The worked scenario, for real: a shop loses its Inventory module to an event-driven service, under load, and back,
and again.

``python -m examples.shop.demo [--quick] [--bidirectional] [--checkouts N] [--rate N] [--items N] [--seed N] [--log LOG]
[--capture ENGINE] [--report DIR] [--keep]``

The script is the operator: it starts the estate, then asks ``fig`` (subprocesses, the installed command) for each step.
Nothing here has a way into the product that another estate would not have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from examples.servers.logs import NAMES, connected, served
from examples.shop import ledger, replay
from examples.shop.estate import Estate
from examples.shop.lowstock.__main__ import summary as low_stock
from stranglerfig.eventlog import open_log
from stranglerfig.eventlog.ports import EventLog
from stranglerfig.foundation import clock

CONTEXT = "inventory"
# The load follows what a stage has to show: evidence about changes, about reads, about writes.
SYNCING = {"reads": 50, "writes": 40, "orders": 10}
READING = {"reads": 90, "writes": 6, "orders": 4}
WRITING = {"reads": 10, "writes": 85, "orders": 5}
BUYING = {"reads": 10, "writes": 45, "checkouts": 45}
READ_RATE = 1.3
"""Reads are cheap, so of them there are more."""
LEAVING = {"reads": 60, "writes": 30, "orders": 10}

# Full: what the scenario asserts. Quick: smaller evidence; what is loosened shows as such in the report.
FULL = {
    "samples": 50_000,
    "error_below": 0.0001,
    "shadow_samples": 5_000,
    "shadow_below": 0.001,
    "latency_share": 0.99,
    "margin": 1.5,
    "latency_samples": 5_000,
    "lag_share": 0.99,
    "lag_samples": 2_000,
    "no_worse_samples": 2_000,
    "guard_samples": 30,
    "shadow_share": 15,
    "quiet_seconds": 7,
    "brownout_seconds": 5,
    "watch_seconds": 5,
}
QUICK = {
    "samples": 1_250,
    "error_below": 0.004,
    "shadow_samples": 480,
    "shadow_below": 0.01,
    "latency_share": 0.95,
    "margin": 2.0,
    "latency_samples": 1_000,
    "lag_share": 0.9,  # a few seconds in which an engine that has just begun stands still would want minutes of samples
    "lag_samples": 300,
    "no_worse_samples": 240,
    "guard_samples": 5,
    "shadow_share": 50,
    "quiet_seconds": 7,
    "brownout_seconds": 2,
    "watch_seconds": 2,
}


NOTHING = (
    "lost_writes",
    "duplicated_writes",
    "phantom_writes",
    "failed_requests",
    "misordered_commands",
    "repeated_answers",
    "contradicted_answers",
)
"""What the ledger must not have found."""


class Failed(Exception):
    """An act did not go as the scenario says."""


class Stage:
    """What the audience sees: lines that stay, and (on a terminal) a view of stage, traffic, lag and evidence."""

    def __init__(self, estate: Estate) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._estate = estate
        self._begun = clock.monotonic()
        self._now = ""
        self._status: dict[str, Any] = {}
        self._live = Live(console=self.console, get_renderable=self._view, refresh_per_second=4, transient=True)
        self._watch: subprocess.Popen[str] | None = None
        self._last_plain = 0.0

    def __enter__(self) -> Stage:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.terminate()
            self._watch.wait()
        if self.console.is_terminal:
            self._live.stop()

    def follow(self, watch: subprocess.Popen[str]) -> None:
        """Take the view from a running ``fig watch --json``."""
        self._watch = watch

        def read() -> None:
            assert watch.stdout is not None
            for line in watch.stdout:
                try:
                    found = json.loads(line)["extractions"]
                except (ValueError, KeyError):
                    continue
                self._status = found[0] if found else {}

        threading.Thread(target=read, daemon=True).start()

    def _kpis(self) -> list[dict[str, Any]]:
        """The KPIs of the gate of the present place, as ``fig watch`` last told."""
        return list((self._status.get("gate") or {}).get("kpis", []))

    def await_evidence(self, stage: str, step: str, timeout: float, *, of: str = "", later: str = "") -> bool:
        """Wait until ``fig watch`` says that a place's KPIs want no more samples; False once it is another place.

        Args:
            of: those whose name begins so.
            later: and is not this.
        """
        elsewhere = 0

        def judged() -> bool:
            nonlocal elsewhere
            here = (self._status.get("stage"), self._status.get("step")) == (stage, step)
            elsewhere = 0 if here else elsewhere + 1
            kpis = [k for k in self._kpis() if k["name"].startswith(of) and k["name"] != later]
            return elsewhere > 5 or (here and bool(kpis) and not any(k["needed"] for k in kpis))

        def seen() -> str:
            wanting = [k for k in self._kpis() if k["needed"]]
            return "".join(f", {k['name']} {k['samples']:,} of {k['samples'] + k['needed']:,}" for k in wanting)

        until(judged, timeout, "the evidence", self, every=1, seen=seen)
        return not elsewhere

    def act(self, number: int, title: str) -> None:
        """A new act begins."""
        self.say("")
        self.say(f"[bold]Act {number}. {title}[/bold]", markup=True)

    def say(self, text: str, *, markup: bool = False) -> None:
        """A line that stays."""
        stamp = f"{clock.monotonic() - self._begun:6.1f}s  " if text else ""
        self.console.print(f"{stamp}{text}", markup=markup)
        self._now = ""

    def progress(self, text: str) -> None:
        """Something that moves: in the view on a terminal, a line every few seconds elsewhere."""
        self._now = text
        if not self.console.is_terminal and clock.monotonic() - self._last_plain > 5:
            self._last_plain = clock.monotonic()
            self.console.print(f"{clock.monotonic() - self._begun:6.1f}s    {text}{self._traffic()}", markup=False)

    def _traffic(self) -> str:
        load = self._estate.load_status()
        if not load:
            return ""
        return f"  [{load['rate']:.0f}/s, p99 {load['p99_ms']:.0f} ms, failed {load['failed']}]"

    def _view(self) -> Table:
        table = Table.grid(padding=(0, 2))
        status, now = self._status, (self._status.get("now") or {})
        place = f"{status.get('stage', '-')} {status.get('step', '')}"
        table.add_row(
            "stage", f"[bold]{place}[/bold]   owner {status.get('owner', '-')}, epoch {status.get('epoch', 0)}"
        )
        table.add_row("traffic", self._traffic().strip().strip("[]") or "-")
        lags = ", ".join(
            f"{k.split('_')[1]} {now[k]:.0f} ms" for k in ("lag_forward_ms", "lag_reverse_ms") if now.get(k)
        )
        table.add_row("lag p99", lags or "-")
        for kpi in self._kpis():
            done, total = kpi["samples"], kpi["samples"] + kpi["needed"]
            share = done / total if total else 1.0
            bar = "█" * round(share * 20) + "░" * (20 - round(share * 20))
            table.add_row(kpi["name"], f"{bar} {kpi['verdict']:<12} {done:,} of {total:,}  {kpi['says']}")
        table.add_row("now", self._now)
        return table


class Fig:
    """The installed command, asked as an operator would."""

    def __init__(self, estate: Estate, stage: Stage) -> None:
        self._stage = stage
        self._environment = {
            k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")
        } | estate.environment()
        if "COVERAGE_PROCESS_START" in os.environ:
            self._environment["COVERAGE_PROCESS_START"] = os.environ["COVERAGE_PROCESS_START"]
        self._command = [str(Path(sys.executable).with_name("fig")), "--project", str(estate.project)]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; JSON Lines come from its output."""
        return subprocess.Popen(
            [*self._command, "--json", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, quiet: bool = False) -> dict[str, Any]:
        """Run a command to its end, showing its progress; its last line as data.

        Raises:
            Refused: what it was refused with.
        """
        if not quiet:
            self._stage.say(f"$ fig {' '.join(arguments)}")
        process = self.start(*arguments)
        assert process.stdout is not None and process.stderr is not None
        last: dict[str, Any] = {}
        raw: list[str] = []
        errors: list[str] = []
        drain = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)  # type: ignore[union-attr]
        drain.start()
        for line in process.stdout:
            raw.append(line)
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if not isinstance(found, dict) or "kind" not in found:
                continue
            last = found
            if last.get("kind") == "progress":
                data = last["data"]
                amount = f": {data['done']:,} of {data['total']:,}" if data.get("total") else ""
                rate = f", {data['rate']:,.0f}/s" if data.get("rate") else ""
                left = f", about {data['remaining']:.0f} s left" if data.get("remaining") else ""
                self._stage.progress(f"{last['text']}{amount}{rate}{left}")
            elif last.get("kind") in ("note", "done") and not quiet:
                self._stage.say(f"  {last['text']}")
        status = process.wait()
        drain.join(5)
        if status:
            raise Refused(status, "".join(errors), " ".join(arguments))
        if last:
            return dict(last["data"])
        try:
            whole = json.loads("".join(raw))
        except ValueError:
            return {}
        return dict(whole) if isinstance(whole, dict) else {"list": whole}


class Refused(Exception):
    """A command's refusal: ``code``, ``message``, ``remedy``."""

    def __init__(self, status: int, text: str, command: str) -> None:
        try:
            error = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            error = {"code": "unknown", "message": text.strip()[-2000:], "remedy": ""}
        super().__init__(f"fig {command} was refused ({status}): {error['message']} [{error['code']}]")
        self.code, self.message, self.remedy = error["code"], error["message"], error["remedy"]
        self.context = error.get("context", {})


def until(
    condition: Callable[[], Any],
    timeout: float,
    what: str,
    stage: Stage,
    *,
    every: float = 0.5,
    seen: Callable[[], str] = str,
) -> Any:
    """Wait for something with a deadline; look ``every`` so many seconds, and tell what is ``seen`` so far."""
    deadline = clock.monotonic() + timeout
    while not (found := condition()):
        if clock.monotonic() > deadline:
            raise Failed(f"waited {timeout:g} s for {what}, in vain")
        stage.progress(f"waiting for {what}{seen()}")
        clock.block(every)
    return found


class Demo:
    """The acts, in order."""

    def __init__(self, options: argparse.Namespace, root: Path) -> None:
        self.options = options
        self.mode: dict[str, Any] = dict(QUICK if options.quick else FULL)
        if options.checkouts:
            # As much as can be shown by so many of which none fails: with 95 %, all but three in n.
            self.mode["saga_success"] = (
                f"saga_success: {{above: {1 - 3 / options.checkouts:.6f}, sagas: [checkout.Checkout], within: 60s,"
                f" samples: {options.checkouts}, service: checkout}}"
            )
        self.estate = Estate(
            root,
            items=options.items,
            seed=options.seed,
            log=options.log,
            connect=options.connect,
            messages=options.messages,
            both=options.bidirectional,
        )
        self.report = Path(options.report).resolve()
        self.wait = str(240 if options.quick else 480)

    def run(self) -> dict[str, Any]:
        """Play all acts; returns the report."""
        with Stage(self.estate) as self.stage:
            try:
                self.set_up()
                self.act_1()
                self.act_2()
                self.act_3()
                self.act_4()
                self.act_5()
                if self.options.bidirectional:
                    return self.both_ledger()
                self.act_6()
                return self.act_7()
            except (Failed, Refused, KeyboardInterrupt) as error:
                return self.give_up(error)
            finally:
                self.tear_down()

    # ---- set-up

    def set_up(self) -> None:
        """Start the estate as its operators run it, with its load already through the façade."""
        estate, stage = self.estate, self.stage
        self.begun = clock.monotonic()
        stage.say(
            f"Starting the shop: {estate.items:,} items, two PostgreSQL servers, monolith, service"
            f"{', RabbitMQ' if estate.messages else ''} (in {estate.root})"
        )
        estate.start_databases(progress=lambda *found: stage.progress("seeding " + " ".join(map(str, found))))
        estate.deploy_monolith(reserve="table")
        estate.deploy_service("good")
        estate.write_project(self.mode)
        self.fig = Fig(estate, stage)
        up = self.fig("up", "--detach")
        stage.say(
            f"  fig is up after {up['seconds']:.1f} s: " + ", ".join(f"{k} {v}" for k, v in up["addresses"].items())
        )
        self.addresses = up["addresses"]
        estate.start_load(rate=self.options.rate, mix=SYNCING)
        until(lambda: estate.load_status().get("requests", 0) > 100, 30, "the first traffic", stage)
        stage.follow(self.fig.start("watch", CONTEXT, "--every", "1"))

    # ---- acts

    def act_1(self) -> None:
        """Prepare and build."""
        self.stage.act(1, "Prepare and build: the model is signed, the schemas registered, the service's own tests run")
        self.seams()
        self.fig("model", "lint", CONTEXT)
        self.fig("plan", CONTEXT)
        self.fig("advance", CONTEXT, "--wait", self.wait)

    def seams(self) -> None:
        """Where to begin: what the running monolith says of itself, and what people have made of the draft."""
        estate, stage = self.estate, self.stage
        draft = estate.root / "draft.storm"
        found = self.fig(
            "seams", "--source", str(estate.monolith_code), "--sample", "3s", "--draft", CONTEXT, str(draft)
        )
        ours = next(each for each in found["candidates"] if each["name"] == CONTEXT)
        stage.say(f"  of {len(found['candidates'])} candidates, begin with {found['first']}; of {CONTEXT} it says:")
        for sign, claims in (("+", ours["reasons"]), ("-", ours["doubts"])):
            for claim in claims:
                stage.say(f"    {sign} {claim['text']}")
        if ours["front"] != 1:
            raise Failed("the inventory is not among the first to move")
        model = estate.project / "contexts" / CONTEXT / "model.storm"
        corrected = self.fig("model", "diff", str(model), str(draft), quiet=True)["changes"]
        stage.say(f"  people have made the signed model of its draft, in {len(corrected):,} corrections")

    def act_2(self) -> None:
        """Sync."""
        self.stage.act(2, "Sync: snapshot, stream, equal under writes")
        self.fig("advance", CONTEXT, "--wait", self.wait)
        self.fig("verify", CONTEXT)

    def act_3(self) -> None:
        """Reads, with a bad release on the way."""
        estate, stage = self.estate, self.stage
        stage.act(3, "Reads: shadow, 1 %, 10 %; a bad release is caught and taken back by itself; then 100 %")
        self.reach("reads, shadow")
        estate.steer(mix=READING, rate=READ_RATE * self.options.rate)
        self.reach("reads at 10 %")
        stage.say("The team deploys a bad release of the service: wrong answers, and 100 ms slower, for some items")
        estate.deploy_service("bad")
        until(lambda: self.place() == ("reads", "shadow"), 120, "the KPIs to take the switch back", stage)
        cause = next(m["cause"] for m in reversed(self.status()["milestones"]) if m["kind"] == "rollback")
        stage.say(f"  taken back by itself: {cause}")
        estate.deploy_service("good")
        stage.say("The good release again")
        self.reach("reads at 100 %")

    def act_4(self) -> None:
        """Writes: over, back, over again."""
        fig, estate, stage = self.fig, self.estate, self.stage
        stage.act(4, "Writes: the cut-over under load, back, and over again")
        self.settle_reads()
        if estate.both:
            stage.say("The monolith's orders go on writing the table; what they count is added up")
        else:
            self.move_orders()
        self.reach("writes")
        # Comparing whole tables, as a cut-over and fig verify do, takes its share of the machine as well.
        estate.steer(mix=WRITING, rate=0.7 * self.options.rate)
        self.dwell(3 if self.options.quick else 10)
        fig("rollback", CONTEXT, "--reason", "to show the way back")
        self.dwell(2 if self.options.quick else 5)
        self.reach("writes")

    def settle_reads(self) -> None:
        """Until all reads have been good for long enough."""
        while not self.stage.await_evidence("reads", "100", float(self.wait)):
            self.stage.say("  taken back meanwhile: once more")
            self.reach("reads at 100 %")

    def move_orders(self) -> None:
        """The orders still write the table: fig says so, and the team moves them to the API."""
        stage = self.stage
        try:
            self.fig("advance", CONTEXT)
        except Refused as refused:
            stage.say(f"  refused, as it should be: {refused.message[:160]} [{refused.code}]")
            if refused.code != "writers_remain":
                raise
        else:
            raise Failed("orders still write the table, and fig did not say so")
        self.estate.deploy_monolith(reserve="api")
        stage.say("The team switches the monolith: its orders now reserve through the API")
        until(self.no_writer, 60, "the guards to see no other writer", stage, every=3)

    def act_5(self) -> None:
        """The nightly job, and a consumer that nobody knew of."""
        estate, stage = self.estate, self.stage
        what = "writes beside the service" if estate.both else "meets the fence"
        stage.act(5, f"The nightly job {what}; the monolith's copy follows; a late consumer catches up")
        status, said = estate.nightly()
        stage.say(f"  the nightly job ended with {status}: {said.splitlines()[-1][:160] if said else ''}")
        if (status == 0) != estate.both:
            raise Failed("the nightly job was not treated as remaining_writers says")
        if not estate.both:
            self.refusal_counted()
        lowstock = estate.start_lowstock(self.addresses["control database"])
        self.dwell(2)
        lowstock.kill()
        estate.start_lowstock(self.addresses["control database"])
        so_far = asyncio.run(self.said_so_far())

        def caught_up() -> bool:
            try:
                return low_stock(estate.low_stock)["position"] >= so_far
            except sqlite3.OperationalError:  # it has not made its tables yet
                return False

        until(caught_up, 60, "the low-stock service to catch up", stage)
        found = low_stock(estate.low_stock)
        stage.say(
            "  the low-stock service was started late, killed, and started again; it has caught up: "
            f"{found['items']:,} items, {found['low']:,} of them low"
        )
        self.fig("verify", CONTEXT)
        estate.steer(rate=self.options.rate)
        while not stage.await_evidence("writes", "", float(self.wait), later="saga_success"):
            stage.say("  taken back meanwhile: once more")
            estate.steer(mix=READING, rate=READ_RATE * self.options.rate)
            self.settle_reads()
            self.reach("writes")
            estate.steer(mix=WRITING, rate=self.options.rate)
        if self.options.checkouts:
            self.checkouts()

    def checkouts(self) -> None:
        """Business transactions across monolith and service: each ends in time, done or taken back."""
        estate, stage = self.estate, self.stage
        stage.say(f"Customers buy: {self.options.checkouts:,} checkouts as sagas, every tenth more as a flow")
        # A service is not begun on a machine that has nothing left; nor is there as much left beside it as before.
        estate.steer(rate=0.25 * self.options.rate)
        self.dwell(1)
        estate.deploy_checkout(self.addresses["control database"])
        # Each is ten messages and requests.
        estate.steer(mix=BUYING, rate=0.5 * self.options.rate)
        if not stage.await_evidence("writes", "", 60 + self.options.checkouts / 10, of="saga_success"):
            raise Failed("the writes were taken back while customers bought")
        estate.steer(mix=LEAVING, rate=0.5 * self.options.rate)
        flows: list[dict[str, Any]] = []
        until(lambda: self.checked_out(flows), 60, "the last checkouts to end as they are drawn", stage)
        counts = self.fig("saga", "list", "--service", "checkout", quiet=True)["counts"]["checkout.Checkout"]
        stage.say(
            "  sagas: " + ", ".join(f"{counts[state]:,} {state}" for state in ("completed", "compensated"))
            + f"; {len(flows):,} flows, all done"
        )  # fmt: skip

    def checked_out(self, flows: list[dict[str, Any]]) -> bool:
        """Whether all of them have ended, and are seen to have; ``flows`` are then those that nobody conducted."""
        if ledger.open_checkouts(self.estate.ledger, self.estate.monolith_dsn):
            return False
        counts = self.fig("saga", "list", "--service", "checkout", quiet=True)["counts"].get("checkout.Checkout", {})
        if counts.keys() & {"running", "waiting", "compensating", "needs operator"}:
            return False
        most = str(self.options.checkouts)
        flows[:] = self.fig("flow", "list", "--service", "checkout", "--last", most, quiet=True).get("list", [])
        return all(flow["state"] == "done" for flow in flows)

    def refusal_counted(self) -> None:
        """Who was refused is named."""
        refused = until(
            lambda: [w for w in self.fig("plan", CONTEXT, quiet=True)["writers"] if w["mode"] == "refused"],
            20,
            "the refusal to be counted",
            self.stage,
        )
        self.stage.say(
            f"  counted and named: {refused[0]['application']} "
            f"({refused[0]['operation']} {refused[0]['table']}, {refused[0]['count']} times)"
        )

    def both_ledger(self) -> dict[str, Any]:
        """The tables cannot leave while they are written; what both sides wrote is in both."""
        estate, stage = self.estate, self.stage
        stage.act(6, "The ledger: what both sides wrote, held against both databases")
        try:
            self.reach("decommission, watch")
        except Refused as refused:
            stage.say(f"  no decommissioning, as it should be: {refused.message[:160]} [{refused.code}]")
            if refused.code != "writers_stay":
                raise
        else:
            raise Failed("tables that are written were about to leave")
        estate.stop_load()
        self.fig("verify", CONTEXT)  # behind markers both ways: all that was written is in by now
        conflicts = self.fig("sync", "conflicts", CONTEXT, "--last", "1000000", quiet=True).get("list", [])
        outcomes = Counter(
            f"{c['outcome']} at the {'service' if c['direction'] == 'forward' else 'monolith'}" for c in conflicts
        )
        stage.say(
            f"  {len(conflicts):,} conflicts: " + (", ".join(f"{n:,} {o}" for o, n in outcomes.items()) or "none")
        )
        found = ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "service", seed=estate.seed)
        self.say_ledger(found)
        return self.finish("completed", found | {"conflicts": len(conflicts)}, {})

    def say_ledger(self, found: dict[str, Any]) -> None:
        """Its figures."""
        figures = (f"{key.replace('_', ' ')} {value:,}" for key, value in found.items() if isinstance(value, int))
        self.stage.say("  " + ", ".join(figures))
        for example in found["examples"]:
            self.stage.say(f"  {example}")
        for failure in found["failures"]:
            self.stage.say(f"  failed: {failure}")

    def act_6(self) -> None:
        """Decommission."""
        fig, estate, stage = self.fig, self.estate, self.stage
        stage.act(6, "Decommission: watched, browned out, retired, reported, dropped; the monolith goes on")
        # From here the same two cores also run the monolith's tests, compare whole tables and write the archive.
        estate.steer(mix=LEAVING, rate=self.options.rate / 2)
        self.reach("decommission, retire")
        code = estate.reduced_monolith()
        estate.deploy_monolith(code=code)
        stage.say("The team deploys the monolith without its inventory module")
        self.reach("decommission, report")
        fig("decommission", "drop", CONTEXT, "--confirm", CONTEXT)
        self.dwell(2)

    def act_7(self) -> dict[str, Any]:
        """The ledger."""
        estate, stage = self.estate, self.stage
        stage.act(7, "The ledger: every write of the load, held against the databases")
        estate.stop_load()
        found = ledger.check(estate.ledger, estate.monolith_dsn, estate.service_dsn, "service", seed=estate.seed)
        self.say_ledger(found)
        replayed = asyncio.run(self.replayed())
        stage.say(
            f"  levels replayed from the log alone: {replayed['items']:,} items, {replayed['differences']} differences"
        )
        return self.finish("completed", found, replayed)

    async def replayed(self) -> dict[str, Any]:
        """The stock levels, rebuilt from the log and nothing else."""
        log = self.log()
        try:
            # The last events are on their way for a moment after the last answer.
            deadline = clock.monotonic() + 15
            while (found := await replay.compare(log, self.estate.service_dsn))["differences"]:
                if clock.monotonic() > deadline:
                    break
                await asyncio.sleep(0.5)
            return found
        finally:
            await log.close()

    async def said_so_far(self) -> int:
        """Where the inventory's events end, summed over the partitions."""
        log = self.log()
        try:
            topic = await log.topic(replay.TOPIC)
            return sum(topic.next_positions) if topic else 0
        finally:
            await log.close()

    def log(self) -> EventLog:
        """A client of the event log."""
        control = self.addresses["control database"]
        return open_log(control if self.estate.log == "postgres" else self.estate.log, state=control)

    # ---- small things

    def reach(self, place: str) -> None:
        """Advance until there. What a noisy moment takes back is tried again, as an operator would; a few times."""
        taken_back, at = 0, ""
        while at != place:
            try:
                at = self.fig("advance", CONTEXT, "--wait", self.wait)["place"]
            except Refused as refused:
                taken_back += 1
                if refused.code not in ("rolled_back", "gate_failed", "cutover_aborted") or taken_back > 3:
                    raise
                self.stage.say(f"  {refused.message[:200]} [{refused.code}]")

    def status(self) -> dict[str, Any]:
        """Where the extraction stands."""
        return dict(self.fig("status", CONTEXT, quiet=True)["extractions"][0])

    def place(self) -> tuple[str, str]:
        """Its stage and step."""
        status = self.status()
        return status["stage"], status["step"]

    def no_writer(self) -> bool:
        """Whether the guards saw nobody but those who are known."""
        writers = self.fig("plan", CONTEXT, quiet=True)["writers"]
        return not [w for w in writers if w["recent"] and not w["explained"]]

    def dwell(self, seconds: float) -> None:
        """Let traffic go on."""
        end = clock.monotonic() + seconds
        while clock.monotonic() < end:
            self.stage.progress("traffic goes on")
            clock.block(0.2)

    def finish(self, outcome: str, found: dict[str, Any], replayed: dict[str, Any]) -> dict[str, Any]:
        """Write the report; returns it."""
        facts = {
            "outcome": outcome,
            "mode": "quick" if self.options.quick else "full",
            "duration_seconds": round(clock.monotonic() - self.begun, 1),
            "ledger": found,
            "replay": replayed,
            "client_series": str(self.estate.ledger.with_name(self.estate.ledger.name + ".series.jsonl")),
        }
        extra = self.estate.root / "facts.json"
        extra.write_text(json.dumps(facts))
        self.fig("report", CONTEXT, "--output", str(self.report), "--facts", str(extra), quiet=True)
        report: dict[str, Any] = json.loads((self.report / "report.json").read_text())
        self.stage.say("")
        self.stage.say(f"Outcome: {report['outcome']}. {self.report}/report.html")
        return report

    def give_up(self, error: BaseException) -> dict[str, Any]:
        """Say what went wrong, and leave what there is of a report."""
        self.stage.say(f"FAILED: {error or type(error).__name__}")
        try:
            self.estate.stop_load()
            return self.finish("failed", {}, {})
        except (Exception, KeyboardInterrupt) as second:  # noqa: BLE001  the first error is the one to show
            self.stage.say(f"  (and no report could be written: {second})")
            return {"outcome": "failed"}

    def tear_down(self) -> None:
        """End everything that was started."""
        if hasattr(self, "fig"):
            try:
                self.fig("down", quiet=True)
            except Refused as refused:
                self.stage.say(str(refused))
        self.estate.stop()


def passed(report: dict[str, Any], *, both: bool = False) -> bool:
    """Whether the report says what the exit status 0 promises; ``both``: both sides wrote.

    Where both sides write, each publishes the levels as it sees them: they cannot be replayed to one state.
    """
    found = report.get("ledger") or {}
    nothing = all(found.get(key) == 0 for key in NOTHING)
    proven = bool(report.get("verification")) and report["verification"][-1]["differences"] == 0
    replayed = found.get("unequal_sides") == 0 if both else (report.get("replay") or {}).get("differences") == 0
    return report.get("outcome") == "completed" and nothing and proven and replayed


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most two and a half minutes, with smaller evidence")
    parser.add_argument("--messages", action="store_true", help="half of the writes come as commands by RabbitMQ")
    parser.add_argument(
        "--bidirectional", action="store_true", help="the monolith's orders never stop writing the inventory's tables"
    )
    parser.add_argument(
        "--checkouts",
        type=int,
        default=None,
        help="sagas whose success the gate asserts, at least 300 or 0 (1,500; quick: 300; 30,000 for 99.99 %%)",
    )
    parser.add_argument(
        "--rate", type=float, default=None, help="requests a second (240; quick: 160; with Debezium two thirds of it)"
    )
    parser.add_argument("--items", type=int, default=None, help="items in the catalogue (100,000; quick: 20,000)")
    parser.add_argument("--seed", type=int, default=1, help="what everything random follows from")
    parser.add_argument(
        "--log",
        default="postgres",
        help=f"the event log: an address as fig.yaml has it, or {', '.join(NAMES)}: such a server is started here",
    )
    parser.add_argument(
        "--capture",
        choices=("native", "debezium"),
        default="native",
        help="what reads the databases; for debezium a Kafka Connect is started here",
    )
    parser.add_argument("--report", default="demo-report", help="folder of report.json and report.html")
    parser.add_argument("--keep", action="store_true", help="keep the data directory for a look afterwards")
    options = parser.parse_args()
    # Kafka, Connect and Debezium need as much of a small machine as all the rest.
    options.rate = options.rate or (160 if options.quick else 240) * (2 / 3 if options.capture == "debezium" else 1)
    if options.checkouts is None:
        options.checkouts = 0 if options.bidirectional else 300 if options.quick else 1_500
    options.items = options.items or (20_000 if options.quick else 100_000)
    # Below /tmp, which the account that runs PostgreSQL may pass; a checkout below /root it may not.
    root = Path(tempfile.mkdtemp(prefix="stranglerfig-demo-"))
    root.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with (
            served(options.log, root) as options.log,
            connected(options.capture, options.log, root) as options.connect,
        ):
            report = Demo(options, root).run()
    finally:
        if options.keep:
            print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    return 0 if passed(report, both=options.bidirectional) else 1


if __name__ == "__main__":
    sys.exit(main())

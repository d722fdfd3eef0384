"""Walk an extraction through its stages with the ``fig`` of an earlier commit, and keep each moment for the tests.

``make upgrade-states REVISION=…`` unpacks that commit and runs this file with the commit's own ``stranglerfig``, shop
and driver on ``PYTHONPATH``: nothing but this file and ``upgrade_frozen`` is of today.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shop_driver import CONTEXT, PLACES, READS, WRITES, Shop, until
from upgrade_frozen import SEGMENT, advance_wal, dump, facts, veiled, write

from stranglerfig.runtime.embedded import EmbeddedPostgres

AHEAD = 12 * SEGMENT
"""Where the sources' WAL begins: beyond what a test's server has written when it takes a frozen database up."""
WHOLE = ("control", "monolith", "service")
SLOWLY = 12.0
"""Requests a second: as few as the gates' evidence lets pass in a while."""


class Freezer:
    """The shop of then, and where its moments go."""

    def __init__(self, shop: Shop, out: Path, *, all_: bool) -> None:
        self.shop = shop
        self.out = out
        self.all = all_

    @property
    def audited(self) -> bool:
        """Whether this ``fig`` has an audit trail."""
        return find_spec("stranglerfig.access") is not None

    def quiet(self) -> None:
        """No traffic, and nothing on its way from one side to the other."""
        self.shop.silent()
        seen: list[Any] = [None] * 4

        def still() -> bool:
            seen.append(self._positions())
            return all(each == seen[-1] for each in seen[-4:-1])

        until(still, "the flows to be quiet", 60, every=0.5)

    def _positions(self) -> tuple[Any, ...]:
        shop = self.shop
        found: list[Any] = []
        for dsn in (shop.estate.monolith_dsn, shop.estate.service_dsn):
            if shop.value(dsn, "SELECT to_regclass('fig.applied')::text") is not None:
                found.append(shop.value(dsn, "SELECT string_agg((lsn, log_position)::text, ',') FROM fig.applied"))
        return (*found, shop.value(shop.control, "SELECT count(*) FROM fig.command WHERE state <> 'done'"))

    def freeze(self, name: str) -> None:
        """Keep this moment: ``fig`` ends, and begins again."""
        self.quiet()
        said = self.said()
        self.shop.fig("down")
        self.keep(name, said, "control")
        self.shop.up()
        self.shop.estate.steer(rate=SLOWLY)

    def freeze_dead(self, name: str, point: str) -> None:
        """Keep the moment in which all of ``fig`` dies in the midst of a cut-over."""
        shop = self.shop
        # The gate wants evidence, so the traffic goes on; from the fence on nothing is written.
        said = self.said()
        pending = shop.kill_at(point)
        up = int(shop.data.state()["pid"])
        os.kill(up, signal.SIGSTOP)  # nobody is to start the controller again
        asked = shop.ask("advance", CONTEXT, "--wait", "60")
        try:
            until(lambda: not pending.exists(), f"the controller to come to {point}", 90, every=0.001)
        finally:
            os.kill(up, signal.SIGKILL)
            asked.end()
        shop.silent()
        until(lambda: shop.data.holder() is None, "fig to be gone", 30)
        self.keep(name, said, *WHOLE)
        shop.up()
        until(lambda: shop.place() == WRITES, "the cut-over's end", 60)
        shop.estate.steer(rate=SLOWLY)

    def said(self) -> dict[str, Any]:
        """What this ``fig`` says of itself, as long as it runs."""
        return {
            "status": self.shop.fig("status", CONTEXT)["extractions"][0],
            "audit": self.shop.fig("audit", "--last", "1000")["list"] if self.audited else [],
        }

    def keep(self, name: str, said: dict[str, Any], *kept: str) -> None:
        """Dump the databases ``kept``, with what this ``fig`` said of them."""
        shop, estate = self.shop, self.shop.estate
        server = EmbeddedPostgres(shop.data.path / "postgres")
        server.start()
        try:
            addresses = {
                "monolith_server": f"127.0.0.1:{estate.shop_server.port}",
                "service_server": f"127.0.0.1:{estate.inventory_server.port}",
                "control_server": f"127.0.0.1:{server.port}",
                "monolith": f"127.0.0.1:{estate.monolith_port}",
                "service": f"127.0.0.1:{estate.service_port}",
                "facade": f"127.0.0.1:{estate.facade_port}",
                "project": str(estate.project),
                "root": str(estate.root),
                "environment": sys.prefix,
                "person": f"{getpass.getuser()}@{socket.gethostname()}",
            }
            said |= {
                "place": shop.place(),
                "ownership": shop.ownership() if self._owned() else {},
                "sources": {"monolith": facts(estate.monolith_dsn), "service": facts(estate.service_dsn)},
            }
            databases = dict(zip(WHOLE, (shop.control, estate.monolith_dsn, estate.service_dsn), strict=True))
            texts = {each: dump(databases[each], addresses) for each in kept}
            write(self.out / name, texts, json.loads(veiled(json.dumps(said, default=str), addresses)))
        finally:
            server.stop()
        print(name, {each.name: each.stat().st_size for each in sorted((self.out / name).iterdir())}, flush=True)

    def _owned(self) -> bool:
        estate = self.shop.estate
        return all(
            self.shop.value(dsn, "SELECT to_regclass('fig.ownership')::text") is not None
            for dsn in (estate.monolith_dsn, estate.service_dsn)
        )


def walk(freezer: Freezer) -> None:
    """Each stage once, with what lies beside the straight way."""
    shop = freezer.shop
    if not freezer.all:
        shop.go(READS)
        freezer.freeze_dead("ceded", "after:cede")
        return
    for place in PLACES[:3]:
        shop.go(place)
        freezer.freeze(place[0])
    shop.fig("abort", CONTEXT, "--confirm", CONTEXT)
    freezer.freeze("aborted")
    shop.go(("sync", ""))
    for step in ("shadow", "10", "100"):
        shop.go(("reads", step))
        freezer.freeze(f"reads-{step}")
    freezer.freeze_dead("ceded", "after:cede")
    freezer.freeze("writes")
    shop.go(READS)
    freezer.freeze("rolled-back")
    shop.go(WRITES)
    for step in ("watch", "brownout", "retire"):
        shop.decommission(step)
        freezer.freeze(f"decommission-{step}")
    shop.estate.deploy_monolith(code=shop.estate.reduced_monolith())
    shop.fig("decommission", "report", CONTEXT)
    freezer.freeze("decommission-report")
    shop.fig("decommission", "drop", CONTEXT, "--confirm", CONTEXT)
    freezer.freeze("done")


def main(out: Path, *, all_: bool) -> None:
    """Keep all moments below ``out``, or the one in the midst of a cut-over."""
    root = Path(tempfile.mkdtemp(prefix="fig-freeze-"))
    root.chmod(0o755)
    shop = Shop(root, items=600, rate=SLOWLY, reserve="api")
    try:
        shop.start(load=False)
        for dsn in (shop.estate.monolith_dsn, shop.estate.service_dsn):
            advance_wal(dsn, AHEAD)
        shop.load()
        walk(Freezer(shop, out, all_=all_))
    finally:
        shop.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), all_="--all" in sys.argv)

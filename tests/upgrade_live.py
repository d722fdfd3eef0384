"""An upgrade as an operator does it, under load: ``make upgrade FROM=REVISION``.

The shop's extraction is brought to a stage by the ``fig`` of an earlier commit (unpacked from git), which ends; this
one is started on what it left, and goes on. Printed: how long that took and what the load lost meanwhile; every write
is held against both databases.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "acceptance"))
from shop_driver import READS, WRITES, Refused, Shop  # noqa: E402


class Changing(Shop):
    """A shop whose ``fig`` is of the commit in ``source``; its other programs are today's."""

    source: Path | None = None

    def environment(self) -> dict[str, str]:
        """With that commit's package before today's."""
        found = super().environment()
        if self.source is not None:
            found["PYTHONPATH"] = os.pathsep.join((str(self.source / "src"), found["PYTHONPATH"]))
        return found

    def up(self) -> dict[str, Any]:
        """Without the settings that this ``fig`` does not know yet: its operators would not have written them."""
        while True:
            try:
                return super().up()
            except Refused as refused:
                unknown = re.search(r"^(\S+\.yaml):(\d+): [\w.]+: unknown key", refused.message)
                if unknown is None:
                    raise
                lines = Path(unknown[1]).read_text().splitlines()
                del lines[int(unknown[2]) - 1]
                Path(unknown[1]).write_text("\n".join(lines) + "\n")


def unpacked(revision: str, folder: Path) -> Path:
    """The sources of a commit."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", revision, "src"], cwd=REPOSITORY, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def steps(shop: Shop) -> str:
    """The control database's rooms, with the steps that have run."""
    rooms = "SELECT string_agg(room || ' ' || step, ', ' ORDER BY room) FROM (SELECT room, max(step) AS step"
    return str(shop.value(shop.control, f"{rooms} FROM fig.migration GROUP BY 1) AS x"))


def change(shop: Changing, source: Path | None) -> dict[str, float]:
    """End the ``fig`` that runs and start that of ``source`` (today's: None): seconds of both, and failed requests."""
    began = time.monotonic()
    shop.fig("down")
    down = time.monotonic()
    shop.source = source
    shop.up()
    up = time.monotonic()
    shop.silent()
    failed = [float(each["at"]) for each in shop.failures]
    away = max(failed) - min(failed) if failed else 0.0
    times = {"down_s": down - began, "up_s": up - down, "away_s": away, "failed_requests": shop.forgive()}
    return {name: round(value, 2) for name, value in times.items()}


def main(revision: str, place: tuple[str, str]) -> None:
    """Change over at ``place``, go back a step and forth again, and try the way down."""
    root = Path(tempfile.mkdtemp(prefix="fig-upgrade-"))
    root.chmod(0o755)
    shop = Changing(root, reserve="api", rate=30)
    old = shop.source = unpacked(revision, root / "old")
    try:
        shop.start()
        shop.go(place)
        owner = shop.owner()
        print(f"{revision}, {shop.place()}, {owner or 'nobody'} owns: {steps(shop)}", flush=True)
        said = change(shop, None)
        assert shop.place() == place and shop.owner() == owner, shop.place()
        print(f"changed over: {said}: {steps(shop)}", flush=True)
        shop.estate.steer(rate=shop.rate)
        shop.sound(owner, failed=True)
        for each in (READS, WRITES):
            shop.go(each)
            shop.sound(shop.owner())
        print(f"back and forth again, nothing lost: {shop.place()}", flush=True)
        shop.fig("down")
        shop.source = old
        try:
            print(f"the way down: {shop.up()}", flush=True)
        except Refused as refused:
            print(f"the way down: {refused} {refused.remedy}", flush=True)
        shop.source = None
        if shop.data.holder() is None:
            shop.up()
        assert shop.place() == WRITES and shop.owner() == "service"
    finally:
        shop.source = None
        shop.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--stage", choices=("reads", "writes"), default="writes")
    asked = parser.parse_args()
    main(asked.revision, READS if asked.stage == "reads" else WRITES)

"""What an earlier version left in the midst of a cut-over, taken up by ``fig up`` of this one, and taken further."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from shop_driver import CONTEXT, READS, VALUES, WRITES, Shop, until

from stranglerfig.databases import ownership
from stranglerfig.runtime.embedded import EmbeddedPostgres
from tests import upgrade_frozen
from tests.upgrade_frozen import Moment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]
WHOLE = [moment for moment in upgrade_frozen.moments() if moment.whole]


@pytest.fixture(params=WHOLE, ids=lambda moment: moment.name)
def moment(request: pytest.FixtureRequest) -> Moment:
    """One whose three databases were kept."""
    found: Moment = request.param
    return found


@pytest.fixture
def thawed(moment: Moment) -> Iterator[Shop]:
    """The shop as it was then: its servers, its applications, fig's data directory; nothing of fig runs."""
    root = Path(tempfile.mkdtemp(prefix="fig-upgrade-"))
    root.chmod(0o755)
    shop = Shop(root, items=600, reserve="api")
    estate = shop.estate
    control = EmbeddedPostgres(shop.data.path / "postgres")
    try:
        estate.start_databases()
        shop.data.prepare()
        control.start()
        addresses = {
            "monolith_server": f"127.0.0.1:{estate.shop_server.port}",
            "service_server": f"127.0.0.1:{estate.inventory_server.port}",
            "control_server": f"127.0.0.1:{control.port}",
            "monolith": f"127.0.0.1:{estate.monolith_port}",
            "service": f"127.0.0.1:{estate.service_port}",
            "facade": f"127.0.0.1:{estate.facade_port}",
            "project": str(estate.project),
            "root": str(estate.root),
        }
        upgrade_frozen.restore(moment.sql("control"), control.create_database("fig"), addresses)
        control.stop()
        for server, database, side in (
            (estate.shop_server, "shop", "monolith"),
            (estate.inventory_server, "inventory", "service"),
        ):
            upgrade_frozen.thaw(server, database, moment.sql(side), moment.said["sources"][side], addresses)
        with psycopg.connect(estate.monolith_dsn) as conn:  # the shop's own change since
            conn.execute("ALTER TABLE products ADD COLUMN IF NOT EXISTS revision integer NOT NULL DEFAULT 0")
        estate.deploy_monolith(reserve="api")
        estate.deploy_service()
        estate.write_project(VALUES)
        shop.configure()
        yield shop
    finally:
        control.stop()
        shop.stop()
        shutil.rmtree(root, ignore_errors=True)


def test_a_cut_over_that_an_earlier_version_began_is_finished_and_taken_back(thawed: Shop, moment: Moment) -> None:
    shop = thawed
    epoch = shop.ownership()["monolith"][1]
    assert shop.ownership() == {side: tuple(row) for side, row in moment.said["ownership"].items()}
    assert shop.ownership()["monolith"][0] == "ceded" and shop.owner() == ""

    shop.up()
    until(lambda: shop.place() == WRITES, "the cut-over's end", 60)
    assert shop.owner() == "service" and shop.ownership()["service"][1] == epoch
    for dsn in (shop.estate.monolith_dsn, shop.estate.service_dsn):
        with psycopg.connect(dsn) as conn:
            found = conn.execute("SELECT max(step) FROM fig.migration WHERE room = 'ownership'").fetchone()
            assert found == (len(ownership.TABLES.steps),)
    shop.load()
    assert shop.fig("verify", CONTEXT)["differences"] == 0
    assert {line["action"] for line in shop.fig("audit", "--last", "1000")["list"]} >= {"advance"}

    shop.go(READS)
    assert shop.owner() == "monolith" and shop.ownership()["monolith"][1] > epoch
    with shop.quiet():
        assert not shop.failures, shop.failures[:3]
    assert shop.fig("verify", CONTEXT)["differences"] == 0

    a_later_version_is_left_alone(shop)


def a_later_version_is_left_alone(shop: Shop) -> None:
    """As this version meets it that was started again by mistake: nothing starts, nothing changes."""
    with psycopg.connect(shop.control) as conn:
        conn.execute("INSERT INTO fig.migration (room, step, file) VALUES ('extraction', 99, 'later.sql')")
    assert shop.refusal("status").code == "newer_schema"
    shop.fig("down")
    refused = shop.refusal("up", "--detach")
    assert refused.code == "newer_schema" and "99" in refused.message and shop.data.holder() is None
    assert shop.owner() == "monolith"

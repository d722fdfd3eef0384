"""A configuration that was changed while the service owns: neither a flow nor a command goes on with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stranglerfig.changes.model import Direction
from stranglerfig.databases import ownership
from stranglerfig.extraction.controller import Controller
from stranglerfig.extraction.made import made_with
from stranglerfig.extraction.parts import ContextParts
from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.foundation import postgres as pg
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.wiring import sync_job
from tests.conftest import Server

SCHEMA = "CREATE TABLE thing (id bigint PRIMARY KEY, name text)"


def parts(dsn: str, writers: str) -> ContextParts:
    settings = ExtractionSettings.model_validate(
        {
            "context": "things",
            "service": {"url": "http://127.0.0.1:1", "database": dsn},
            "routes": {},
            "remaining_writers": writers,
            "tables": [
                {
                    **{"from": "public.thing", "to": "thing", "key": {"id": "id"}},
                    **{"columns": {"name": "name"}, "reverse": {"name": "name"}},
                }
            ],
        }
    )
    return ContextParts(settings, Path(), dsn)


class Owned:
    """Both databases, the service's with an ownership row, and a control database that knows of no retirement."""

    def __init__(self, monolith: str, service: str, control: str) -> None:
        self.monolith, self.service, self.control = monolith, service, control

    async def start(self, writers: str) -> Any:
        """Make the job of the forward flow, as the role sync does when it starts."""
        project: Any = SimpleNamespace(
            estate=SimpleNamespace(monolith=SimpleNamespace(database=self.monolith)), reveal=lambda dsn: dsn
        )
        flow: Any = SimpleNamespace(context="things", direction=Direction.FORWARD)
        return await sync_job(project, {"things": parts(self.service, writers)}, flow, self.control)

    async def command(self, writers: str, verb: str) -> Any:
        """What the controller does with a command."""
        context = parts(self.service, writers)

        async def standing(_: str) -> Any:
            return SimpleNamespace(owner="service")

        controller: Any = Controller.__new__(Controller)
        controller._steps = lambda *_, **__: SimpleNamespace(context=context, settings=context.settings)
        command: Any = SimpleNamespace(context="things", verb=verb, args={}, id=1)
        store: Any = SimpleNamespace(standing=standing)
        return await controller._dispatch(command, store)


@pytest.fixture
async def owned(postgres: Server, postgres_b: Server) -> Owned:
    made = Owned(postgres.database(), postgres_b.database(), postgres.database())
    async with (
        pg.session(made.monolith, what="test") as monolith,
        pg.session(made.service, what="test") as service,
        pg.session(made.control, what="test") as control,
    ):
        for conn in (monolith, service):
            await conn.execute(SCHEMA)
        await control.execute(
            "CREATE SCHEMA fig; CREATE TABLE fig.extraction (context text, facts jsonb);"
            " INSERT INTO fig.extraction VALUES ('things', '{}')"
        )
        await ownership.install(
            service, "things", side="service", owner=True, tables=["public.thing"], enforcing=True, epoch=1
        )
        kept = made_with(parts(made.service, "bidirectional").settings)
        await ownership.enforce(service, "things", True, made_with=kept)
        await ownership.enforce(service, "things", True)  # what is kept stays
    return made


async def test_a_flow_does_not_start_with_other_writers(owned: Owned) -> None:
    assert (await owned.start("bidirectional")).rules is not None
    with pytest.raises(FigError) as refused:
        await owned.start("refuse")
    assert refused.value.code == "configuration_changed"


@pytest.mark.parametrize("verb", ["plan", "verify", "advance", "rollback", "abort", "resnapshot"])
async def test_no_command_goes_on_with_other_writers(owned: Owned, verb: str) -> None:
    with pytest.raises(FigError) as refused:
        await owned.command("refuse", verb)
    assert refused.value.code == "configuration_changed"


async def test_a_service_that_does_not_own_binds_nobody(owned: Owned) -> None:
    async with pg.session(owned.service, what="test") as conn:
        await conn.execute("UPDATE fig.ownership SET state = 'ceded'")
    assert (await owned.start("refuse")).rules is None


async def test_what_an_earlier_version_installed_binds_nobody(owned: Owned) -> None:
    async with pg.session(owned.service, what="test") as conn:
        await conn.execute("ALTER TABLE fig.ownership DROP COLUMN made_with")
    assert (await owned.start("refuse")).rules is None

"""Envoy's life: its binary, its bootstrap, what is said when it is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from facade_estate import Estates

from stranglerfig.facade.envoy import EnvoyControl, binary
from stranglerfig.facade.model import Estate
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from stranglerfig.telemetry.model import Destination

ESTATE = Estate("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")


def test_binaries(tmp_path: Path) -> None:
    assert binary().name == "envoy"
    assert binary(str(binary())) == binary()
    with pytest.raises(FigError) as caught:
        binary(str(tmp_path / "none"))
    assert caught.value.code == "no_envoy"


async def test_an_envoy_that_is_away(tmp_path: Path) -> None:
    control = EnvoyControl(tmp_path, f"127.0.0.1:{free_port()}", ESTATE)
    assert control.version() is None
    assert not await control.ready()
    with pytest.raises(FigError) as caught:
        await control.apply([])
    assert caught.value.code == "envoy_unreachable"
    await control.close()


async def test_the_bootstrap_with_traces_and_names_is_taken(tmp_path: Path, estate: Estates) -> None:
    control = EnvoyControl(
        tmp_path / "other", "127.0.0.1:0", Estate("https://localhost:1", "http://localhost:2", "http://127.0.0.1:3")
    )
    control.prepare([estate.routing()], listen="127.0.0.1:0", traces=Destination("otlp", "http://127.0.0.1:4318"))
    process = await asyncio.create_subprocess_exec(
        *control.command(), "--mode", "validate", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output


async def test_a_restart_keeps_the_tables_unless_told(estate: Estates) -> None:
    await estate.control.apply([estate.routing(reads=100)])
    version = estate.control.version()
    estate.control.prepare([estate.routing()], listen=f"127.0.0.1:{estate.port}")
    assert estate.control.version() == version
    estate.control.prepare([estate.routing()], listen=f"127.0.0.1:{estate.port}", keep=False)
    assert estate.control.version() != version

"""``extraction.yaml`` read again: what has changed is told once, what cannot be read is told too."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stranglerfig.extraction.addresses import taken_up
from stranglerfig.extraction.settings import ExtractionSettings, ServiceSettings
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.rereading import Rereading
from stranglerfig.runtime.settings import load_project

ESTATE = "name: shop\nmonolith: {url: http://127.0.0.1:8001, database: {env: SHOP_DSN}}\n"
EXTRACTION = """\
context: inventory
service: {SERVICE, database: {env: X}}
routes: {reads: [{path: "/api/inventory/{itemId}"}]}
tables: [{from: public.inventory, to: item, key: {id: id}}]
"""


def written(file: Path, service: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(EXTRACTION.replace("SERVICE", service))


def test_changes_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "fig.yaml").write_text(ESTATE)
    file = tmp_path / "contexts" / "inventory" / "extraction.yaml"
    written(file, "url: http://127.0.0.1:1")
    changed = Rereading(load_project(tmp_path, {}))
    assert not changed()
    written(file, "urls: [http://127.0.0.1:1, http://127.0.0.1:22]")
    found = changed()["inventory"]
    assert isinstance(found, ExtractionSettings)
    assert found.service.addresses == ("http://127.0.0.1:1", "http://127.0.0.1:22")
    assert not changed()
    file.write_text("context: [")
    assert isinstance(changed()["inventory"], FigError) and not changed()
    file.write_text(EXTRACTION.replace("SERVICE", "url: http://127.0.0.1:1").replace("context: inv", "context: other"))
    other = changed()["inventory"]
    assert isinstance(other, FigError) and "was when fig was started" in other.message
    file.unlink()
    assert isinstance(changed()["inventory"], FigError) and not changed()
    written(file, "url: http://127.0.0.1:1")
    assert isinstance(changed()["inventory"], ExtractionSettings)


def test_only_where_it_listens_is_taken_up() -> None:
    old = ServiceSettings(url="http://127.0.0.1:1", database="postgresql://a@h/x")  # type: ignore[arg-type]
    new = ServiceSettings(urls=("http://127.0.0.1:2/",), health="/up", database="postgresql://b@h/y")  # type: ignore[arg-type]
    found = taken_up(old, new)
    assert (found.addresses, found.health, found.database) == (("http://127.0.0.1:2",), "/up", old.database)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"url": "http://a", "urls": ["http://b"]},
        {"urls": ["http://a", "https://b"]},
        {"urls": ["http://a", "http://a/"]},
        {"url": "ftp://a"},
        {"url": "http://a/path"},
    ],
)
def test_addresses_that_cannot_be(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings.model_validate({"database": "postgresql://a@h/x", **given})

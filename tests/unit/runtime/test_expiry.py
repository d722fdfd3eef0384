"""How long certificates are valid still, by the key that names each."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from stranglerfig.foundation import clock
from stranglerfig.runtime import expiry
from stranglerfig.runtime.settings import Project, load_project
from tests.authority import Authority

DAY = 86_400
ESTATE = """\
name: shop
monolith:
  url: https://127.0.0.1:1
  database: {env: SHOP}
  tls: {ca: two.pem}
facade: {listen: "127.0.0.1:8080", tls: {certificate: site.pem, key: {file: site.key}}}
log: {env: LOG}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    authority = Authority(tmp_path / "authority")
    for number, (name, days) in enumerate((("site", 30), ("ours", 5), ("long", 400), ("brief", 9)), start=1):
        authority.issue(name, number, days=days)
        (tmp_path / f"{name}.pem").write_text((authority.folder / f"{name}.pem").read_text())
    # A chain ends with its first; of authorities one that is left is enough.
    both = (tmp_path / "brief.pem").read_text() + (tmp_path / "long.pem").read_text()
    (tmp_path / "two.pem").write_text(both)
    (tmp_path / "site.pem").write_text((tmp_path / "site.pem").read_text() + both)
    (tmp_path / "fig.yaml").write_text(ESTATE)
    shop = f"postgresql://a@h/shop?sslmode=verify-full&sslrootcert={tmp_path}/long.pem&sslcert={tmp_path}/ours.pem"
    return load_project(
        tmp_path,
        {
            "SHOP": shop,
            "LOG": f"kafka://k:9093?ssl.ca.location={tmp_path}/gone.pem&ssl.certificate.location={tmp_path}/ours.pem",
        },
    )


def test_each_is_told_by_its_key(project: Project) -> None:
    found = expiry.left(project)
    assert {name: round(seconds / DAY) for name, seconds in found.items()} == {
        "facade.tls.certificate": 9,
        "monolith.tls.ca": 400,
        "sslrootcert of monolith.database": 400,
        "sslcert of monolith.database": 5,
        "ssl.certificate.location of log": 5,
    }
    assert expiry.left(project, clock.now() + timedelta(days=6))["sslcert of monolith.database"] < 0


def test_a_secret_that_is_away_is_told_by_who_needs_it(project: Project) -> None:
    assert expiry.left(Project(project.directory, project.estate, {})) == {}

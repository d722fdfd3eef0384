"""Approvals want to know people: without ``access`` they are refused where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.settings import load_project

ESTATE = "name: shop\nmonolith: {url: 'http://127.0.0.1:9', database: 'postgresql://a@127.0.0.1/b'}\n"
CONTEXT = (
    "context: things\nservice: {url: 'http://127.0.0.1:9', database: 'postgresql://a@127.0.0.1/c'}\nroutes: {}\n"
    "tables: [{from: public.thing, to: thing, key: {id: id}}]\npolicy: {approvals: {writes: 2}}\n"
)


def test_approvals_in_fig_yaml_want_access(tmp_path: Path) -> None:
    file = tmp_path / "fig.yaml"
    file.write_text(ESTATE + "policy: {approvals: {writes: 2}}\n")
    with pytest.raises(FigError) as refused:
        load_project(tmp_path, {})
    assert refused.value.code == "bad_configuration" and "needs access" in refused.value.message
    file.write_text(ESTATE + "access: {}\npolicy: {approvals: {writes: 2}}\n")
    assert load_project(tmp_path, {}).estate.policy.approvals == {"writes": 2}


def test_approvals_in_extraction_yaml_want_access(tmp_path: Path) -> None:
    (tmp_path / "contexts" / "things").mkdir(parents=True)
    (tmp_path / "contexts" / "things" / "extraction.yaml").write_text(CONTEXT)
    (tmp_path / "fig.yaml").write_text(ESTATE)
    with pytest.raises(FigError) as refused:
        _ = load_project(tmp_path, {}).extractions
    assert refused.value.context["key"] == "policy.approvals" and "extraction.yaml:5" in refused.value.message
    (tmp_path / "fig.yaml").write_text(ESTATE + "access: {}\n")
    assert load_project(tmp_path, {}).extractions["things"].policy.approvals == {"writes": 2}

"""Which licences may be: SPDX expressions held to a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.dependencies import Rules, bundled, page, said

RULES = Rules(
    allowed=frozenset({"MIT", "Apache-2.0"}),
    conditional={"LGPL-3.0-only": frozenset({"psycopg"})},
    words={"License :: OSI Approved :: MIT License": "MIT"},
    stated={"silent": "MIT"},
)


@pytest.mark.parametrize(
    ("name", "licences"),
    [
        ("one", ["MIT"]),
        ("two", ["MIT", "Apache-2.0"]),
        ("both", ["Apache-2.0 AND MIT"]),
        ("either", ["GPL-3.0-only OR MIT"]),
        ("nested", ["MIT AND (GPL-3.0-only OR Apache-2.0)"]),
        ("psycopg", ["LGPL-3.0-only"]),
    ],
)
def test_what_may_be(name: str, licences: list[str]) -> None:
    assert RULES.refusal(name, licences) is None


@pytest.mark.parametrize(
    ("licences", "why"),
    [
        (["GPL-3.0-only"], "another is under GPL-3.0-only, which is not allowed"),
        (["MIT", "GPL-3.0-only"], "under GPL-3.0-only"),
        (["MIT AND GPL-3.0-only"], "under MIT AND GPL-3.0-only"),
        (["LGPL-3.0-only"], "under LGPL-3.0-only"),
        (["Apache-2.0 WITH LLVM-exception"], "which is not allowed"),
        (["free as in beer"], "no SPDX expression"),
        ([], "names no licence"),
    ],
)
def test_what_may_not(licences: list[str], why: str) -> None:
    assert why in (RULES.refusal("another", licences) or "")


def test_entries_that_nothing_needs_are_said() -> None:
    assert RULES.unused({"psycopg": ["LGPL-3.0-only"], "silent": []}) == []
    assert RULES.unused({"silent": ["MIT"]}) == [
        "`conditional` names psycopg, which is not installed",
        "`stated` names silent, which is not installed or says its licence",
    ]


def test_the_pages_packages_are_those_of_the_lock_without_tools() -> None:
    lock = {
        "packages": {
            "": {"name": "pages"},
            "node_modules/yjs": {"version": "13.0.0", "license": "MIT"},
            "node_modules/@xyflow/react/node_modules/zustand": {"version": "4.0.0", "license": "MIT"},
            "node_modules/@xyflow/react": {"version": "12.0.0"},
            "node_modules/vite": {"version": "8.0.0", "license": "MIT", "dev": True},
        }
    }
    found = {str(part.purl): said(part, RULES) for part in bundled(lock)}
    assert found == {
        "pkg:npm/yjs@13.0.0": ["MIT"],
        "pkg:npm/zustand@4.0.0": ["MIT"],
        "pkg:npm/%40xyflow/react@12.0.0": [],
    }
    assert "| @xyflow/react | 12.0.0 | npm | ? |" in page(bundled(lock), RULES)


def test_the_file_is_read() -> None:
    rules = Rules.read(Path(__file__).parents[3] / "deploy/licences.yaml")
    assert "MIT" in rules.allowed and "psycopg" in rules.conditional["LGPL-3.0-only"]
    assert not rules.allowed & set(rules.conditional)

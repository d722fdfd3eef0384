"""Which changes of a configuration are refused while the service owns."""

from __future__ import annotations

from typing import Any

import pytest

from stranglerfig.extraction.made import changed, made_with
from stranglerfig.extraction.settings import ExtractionSettings

TABLE: dict[str, Any] = {
    "from": "public.inventory",
    "to": "stock",
    "key": {"item_id": "item_id"},
    "columns": {"on_hand": "quantity", "name": "name"},
    "reverse": {"quantity": "on_hand", "name": "name"},
    "conflicts": {"rule": None, "delta": ["on_hand"]},
}


def settings(writers: str = "bidirectional", **changes: Any) -> ExtractionSettings:
    table = {**TABLE, **changes}
    if writers == "refuse":
        table.pop("conflicts")
    return ExtractionSettings.model_validate(
        {
            "context": "inventory",
            "service": {"url": "http://127.0.0.1:1", "database": "postgresql://127.0.0.1/x"},
            "routes": {},
            "remaining_writers": writers,
            "tables": [table],
        }
    )


BOTH = made_with(settings())


def test_the_same_is_not_refused() -> None:
    assert changed("inventory", BOTH, made_with(settings())) is None
    assert changed("inventory", BOTH, made_with(settings(columns={"name": "name", "on_hand": "quantity"}))) is None
    assert changed("inventory", {}, BOTH) is None, "an earlier version kept nothing"


def test_a_rule_may_be_given() -> None:
    ruled = settings(conflicts={"rule": "service wins", "delta": ["on_hand"]})
    assert changed("inventory", BOTH, made_with(ruled)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {"on_hand": "quantity"}},
        {"reverse": {"quantity": "on_hand", "name": "upper(name)"}},
        {"conflicts": {"rule": None, "delta": []}},
        {"to": "level"},
    ],
)
def test_another_mapping_is_refused_where_both_write(change: dict[str, Any]) -> None:
    error = changed("inventory", BOTH, made_with(settings(**change)))
    assert error is not None
    assert (error.code, error.context["key"]) == ("configuration_changed", "tables")
    assert "public.inventory → public.stock" in error.message
    assert "Set it back" in error.remedy and "fig rollback" in error.remedy


def test_other_writers_are_refused_either_way() -> None:
    alone = made_with(settings("refuse"))
    for was, now in ((BOTH, alone), (alone, BOTH)):
        error = changed("inventory", was, now)
        assert error is not None
        assert error.context["key"] == "remaining_writers"
        assert f"remaining_writers is {now['remaining_writers']}" in error.message
        assert f"remaining_writers: {was['remaining_writers']}" in error.remedy


def test_where_one_side_writes_a_mapping_may_change() -> None:
    assert made_with(settings("refuse")) == made_with(settings("refuse", columns={"name": "name"}))

"""What identifies a schema, what may be a subject, and which settings hold."""

from __future__ import annotations

import pytest

from stranglerfig.foundation.errors import FigError
from stranglerfig.schemas import dialect
from stranglerfig.schemas.estate import topic_of
from stranglerfig.schemas.formats import Format, Level
from stranglerfig.schemas.subjects import (
    Given,
    Mode,
    Pointer,
    SubjectSettings,
    digest,
    effective,
    subject_name,
    uri,
    version_of,
)


def test_white_space_does_not_make_another_schema_and_all_else_does() -> None:
    one = Given(Format.JSON, '{"type": "object", "title": "ü"}')
    assert digest(one) == digest(Given(Format.JSON, ' {"type":"object","title":"\\u00fc"}\n'))
    others = [
        Given(Format.AVRO, one.text),
        Given(Format.JSON, '{"title": "ü", "type": "object"}'),
        Given(Format.JSON, one.text, (Pointer("a", "b", 1),)),
        Given(Format.JSON, one.text, (Pointer("a", "b", 2),)),
        Given(Format.PROTOBUF, "message A {}"),
        Given(Format.PROTOBUF, "message B {}"),
    ]
    assert len({digest(each) for each in (one, *others)}) == len(others) + 1


@pytest.mark.parametrize("name", ["", "x" * 501, "a\nb", ":.context:orders", "__GLOBAL", "__EMPTY", ":.:"])
def test_what_cannot_be_a_subject(name: str) -> None:
    with pytest.raises(FigError) as refused:
        subject_name(name)
    assert dialect.number_of(refused.value) == 42208


def test_the_default_context_may_be_written() -> None:
    assert subject_name(":.:orders-value") == "orders-value"


def test_settings_lie_over_each_other() -> None:
    nothing = SubjectSettings()
    assert effective(nothing, nothing).level is Level.BACKWARD
    assert effective(SubjectSettings(level=Level.FULL), nothing).level is Level.FULL
    assert effective(SubjectSettings(level=Level.FULL), SubjectSettings(level=Level.NONE)).level is Level.NONE
    assert effective(nothing, SubjectSettings(normalize=True)).normalize is True
    assert effective(SubjectSettings(normalize=True), SubjectSettings(normalize=False)).normalize is False
    assert effective(SubjectSettings(mode=Mode.IMPORT), SubjectSettings(mode=Mode.READWRITE)).mode is Mode.READWRITE
    assert effective(SubjectSettings(mode=Mode.READONLY), SubjectSettings(mode=Mode.IMPORT)).mode is Mode.READONLY


def test_an_event_names_its_version() -> None:
    assert version_of(uri("inventory.StockAdjusted", 3)) == 3
    assert version_of(None) is version_of("https://elsewhere/3") is version_of("fig:schemas/x/latest") is None


def test_a_subjects_topic_is_in_its_name() -> None:
    assert topic_of("orders-value") == topic_of("orders-key") == "orders"
    assert topic_of("inventory.StockAdjusted") == "events.inventory"


def test_each_code_has_its_number_and_back() -> None:
    numbers = (409, 422, 40401, 40402, 40403, 42201, 42202, 42205, 42206, 42207, 42208, 50001, 50002)
    for number in numbers:
        assert dialect.number_of(FigError(str(dialect.code_of(number)), "")) == number
    assert dialect.code_of(40406) == dialect.code_of(40404) == "schema_soft_deleted"
    assert dialect.number_of(FigError("schema_soft_deleted", "", version=1)) == 40406
    assert dialect.code_of(42204) == "bad_registry_setting" and dialect.code_of(12345) is None
    assert dialect.number_of(FigError("unexpected", "")) == 500 and dialect.status_of(50001) == 500
    with pytest.raises(FigError):
        dialect.parsed({"subject": "s"})

"""Events as Parquet: columns, kinds of flattened fields, bounded row groups; read back with the library itself."""

from __future__ import annotations

import builtins
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pyarrow import parquet as reading

from stranglerfig.eventlog import parquet
from stranglerfig.eventlog.model import Event, Record
from stranglerfig.eventlog.parquet import Fields, Kind, Row, parquet_file
from stranglerfig.foundation.errors import FigError

TIME = datetime(2026, 3, 4, 9, 0, 0, 123456, tzinfo=UTC)


def row(number: int, document: Any = None, data: bytes | None = None) -> Row:
    text = None if data is not None else orjson.dumps(document).decode()
    event = Event(f"e{number}", "/shop", "x.Y", TIME, data or (text or "").encode(), partitionkey="k")
    return Row(Record("t", 1, number, event, TIME), 0, text, data, document)


def written(path: Path, rows: list[Row]) -> Any:
    fields = Fields()
    for one in rows:
        fields.see(one.document)
    with parquet_file(path, fields.kinds) as file:
        for one in rows:
            file.write(one)
    assert file.count == len(rows)
    return reading.read_table(path)


def test_attributes_are_columns_and_data_is_text_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with parquet_file(path) as file:
        file.write(row(1, {"n": 1}))
        file.write(row(2, data=b"\xff\x00"))
    table = reading.read_table(path)
    first, second = table.to_pylist()
    assert first["id"] == "e1" and first["time"] == first["appended_at"] == TIME
    assert (first["topic"], first["partition"], first["position"], first["partitionkey"]) == ("t", 1, 1, "k")
    assert (first["data"], first["data_bytes"], first["subject"]) == ('{"n":1}', None, None)
    assert (second["data"], second["data_bytes"]) == (None, b"\xff\x00")
    assert not [name for name in table.column_names if name.startswith("data.")]


def test_fields_get_the_column_that_holds_all_their_values(tmp_path: Path) -> None:
    documents = [
        {"id": 1, "price": 1, "open": True, "name": "a", "mixed": 1, "nested": {"x": [1]}, "big": 2**63, "none": None},
        {"id": 2, "price": 1.5, "open": None, "name": "b", "mixed": "one", "nested": None, "huge": 2**60},
        ["no", "object"],
        {"huge": 0.5},
    ]
    table = written(tmp_path / "t.parquet", [row(number, one) for number, one in enumerate(documents)])
    kinds = {name: str(table.schema.field(f"data.{name}").type) for name in ("id", "price", "open", "name", "none")}
    assert kinds == {"id": "int64", "price": "double", "open": "bool", "name": "string", "none": "string"}
    first, second, third, fourth = (
        {name[5:]: value for name, value in one.items() if name.startswith("data.")} for one in table.to_pylist()
    )
    assert (first["id"], first["price"], first["open"], first["name"]) == (1, 1.0, True, "a")
    assert (first["mixed"], second["mixed"], first["nested"]) == ("1", '"one"', '{"x":[1]}')
    assert (first["big"], second["huge"], fourth["huge"]) == (str(2**63), float(2**60), 0.5)
    assert set(third.values()) == {None}


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (None, Kind.TEXT, Kind.TEXT), (Kind.INTEGER, None, Kind.INTEGER), (None, None, None),
        (Kind.INTEGER, Kind.NUMBER, Kind.NUMBER), (Kind.BOOLEAN, Kind.INTEGER, Kind.JSON),
        (Kind.JSON, Kind.TEXT, Kind.JSON), (Kind.TEXT, Kind.TEXT, Kind.TEXT),
    ],
)  # fmt: skip
def test_the_wider_kind_holds_both(one: Kind | None, other: Kind | None, both: Kind | None) -> None:
    assert parquet.wider(one, other) is both is parquet.wider(other, one)


def test_fields_that_are_data_are_refused() -> None:
    fields = Fields()
    with pytest.raises(FigError) as refused:
        for number in range(600):
            fields.see({f"item-{number}": 1})
    assert refused.value.code == "too_many_fields"


def test_row_groups_are_bounded_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    path = tmp_path / "t.parquet"
    written(path, [row(number, {"n": number}) for number in range(25)])
    groups = reading.ParquetFile(path).metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [10, 10, 5]
    monkeypatch.setattr(parquet, "GROUP_BYTES", 3000)
    with parquet_file(path) as file:
        for number in range(4):
            file.write(row(number, data=bytes(1500)))
    assert reading.ParquetFile(path).metadata.num_row_groups == 2
    with parquet_file(path):
        pass
    assert reading.read_table(path).num_rows == 0


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [name for name in sys.modules if name.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(FigError) as refused, parquet_file(tmp_path / "t.parquet"):
        pass
    assert refused.value.code == "format_not_installed"

"""Events as a Parquet file: CloudEvents attributes as columns, the data as text or bytes, its fields, too.

Written in row groups of bounded size, so that a topic of any length needs the memory of one group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

from stranglerfig.eventlog.model import Record
from stranglerfig.foundation.errors import FigError

GROUP_ROWS: Final = 50_000
GROUP_BYTES: Final = 32_000_000
MOST_FIELDS: Final = 500
PREFIX: Final = "data."
_ATTRIBUTES: Final = (
    *("id", "source", "type", "subject", "time", "dataschema", "datacontenttype", "partitionkey"),
    *("traceparent", "correlationid", "causationid", "tenantid"),
)


class Kind(StrEnum):
    """What a field of the data holds, over all rows."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    JSON = "json"
    """Of several kinds, or with parts of its own: as JSON text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: an event, or one of the changes that a record holds.

    Attributes:
        ordinal: which of the record's, from 0.
        text: the data where it is text (JSON among it), else None and ``data`` has its bytes.
        document: the decoded data where it is JSON.
    """

    record: Record
    ordinal: int
    text: str | None
    data: bytes | None = None
    document: Any = None


class Fields:
    """The top-level fields of many documents, each with the kind that holds all its values."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind | None] = {}

    def see(self, document: Any) -> None:
        """Learn from one more document; what is no object has no fields.

        Raises:
            FigError: ``too_many_fields``: the fields are data, such as ids, and not a shape.
        """
        if not isinstance(document, dict):
            return
        for name, value in document.items():
            self.kinds[name] = wider(self.kinds.get(name), kind_of(value))
        if len(self.kinds) > MOST_FIELDS:
            raise FigError(
                "too_many_fields",
                f"the data has more than {MOST_FIELDS} different fields: they cannot each be a column",
                "Export without --flatten; the column data has everything.",
                most=MOST_FIELDS,
            )


def kind_of(value: Any) -> Kind | None:
    """The kind that holds ``value``; None for null, which every kind holds."""
    if value is None:
        return None
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return Kind.INTEGER if -(2**63) <= value < 2**63 else Kind.JSON
    if isinstance(value, float):
        return Kind.NUMBER
    return Kind.TEXT if isinstance(value, str) else Kind.JSON


def wider(one: Kind | None, other: Kind | None) -> Kind | None:
    """The kind that holds what both hold."""
    if one is None or other is None or one is other:
        return one or other
    return Kind.NUMBER if {one, other} == {Kind.INTEGER, Kind.NUMBER} else Kind.JSON


class ParquetFile:
    """A file that is being written; see :func:`parquet_file`."""

    def __init__(self, path: Path, fields: Mapping[str, Kind | None], *, wide: bool) -> None:
        import pyarrow
        from pyarrow import parquet

        times, texts = pyarrow.timestamp("us", tz="UTC"), pyarrow.string()
        kinds = {
            Kind.BOOLEAN: pyarrow.bool_(),
            Kind.INTEGER: pyarrow.int64(),
            Kind.NUMBER: pyarrow.float64(),
        }
        columns = [
            ("topic", texts),
            ("partition", pyarrow.int32()),
            ("position", texts if wide else pyarrow.int64()),
            ("ordinal", pyarrow.int32()),
            ("appended_at", times),
            *((name, times if name == "time" else texts) for name in _ATTRIBUTES),
            ("data", texts),
            ("data_bytes", pyarrow.binary()),
        ]
        # No value at all was seen of None: a column of text holds nothing as well as any.
        self._fields = {name: kind or Kind.TEXT for name, kind in fields.items()}
        columns += [(PREFIX + name, kinds.get(kind, texts)) for name, kind in self._fields.items()]
        self._schema = pyarrow.schema(columns)
        self._pyarrow = pyarrow
        self._position: type[int] | type[str] = str if wide else int
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0
        self.count = 0

    def write(self, row: Row) -> None:
        """Add a row."""
        record, event = row.record, row.record.event
        document = row.document if isinstance(row.document, dict) else {}
        self._rows.append(
            (
                *(record.topic, record.partition, self._position(record.position), row.ordinal, record.appended_at),
                *(getattr(event, name) for name in _ATTRIBUTES),
                *(row.text, row.data),
                *(_cell(document.get(name), kind) for name, kind in self._fields.items()),
            )
        )
        # Flattened fields are as large again as the data that they are of.
        self._bytes += (2 if document else 1) * (len(row.text or "") + len(row.data or b"")) + 200
        self.count += 1
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added as a row group."""
        if self._rows:
            columns = [
                self._pyarrow.array(values, field.type)
                for field, values in zip(self._schema, zip(*self._rows, strict=True), strict=True)
            ]
            self._writer.write_table(self._pyarrow.Table.from_arrays(columns, schema=self._schema))
            self._rows, self._bytes = [], 0

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def _cell(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind is Kind.NUMBER:
        return float(value)  # of integers beyond 2**53 Arrow would refuse what JSON's readers round anyway
    return orjson.dumps(value).decode() if kind is Kind.JSON else value


@contextmanager
def parquet_file(
    path: Path, fields: Mapping[str, Kind | None] | None = None, *, wide: bool = False
) -> Iterator[ParquetFile]:
    """A Parquet file at ``path`` for the length of a block.

    Args:
        wide: whether positions are larger than 64 bits hold, as Kinesis' are: they are text then.
        fields: the data's top-level fields that become columns ``data.<field>``, each with its kind.

    Raises:
        FigError: ``format_not_installed``.
    """
    try:
        file = ParquetFile(path, fields or {}, wide=wide)
    except ModuleNotFoundError as error:
        raise FigError(
            "format_not_installed",
            f"writing Parquet needs the package {error.name}, which is not installed",
            "Install it: pip install 'stranglerfig[parquet]'. Or export JSON Lines.",
            package=error.name,
        ) from error
    try:
        yield file
        file.flush()
    finally:
        file.close()

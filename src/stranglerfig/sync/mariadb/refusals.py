"""What cannot be brought into a MariaDB, and whose fault a refusal of the server's is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg

from stranglerfig.changes.mapping import Entry, Mapping
from stranglerfig.changes.model import Direction
from stranglerfig.databases.mariadb import types
from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.sync.mariadb.statements import Table
from stranglerfig.sync.model import NeedsOrder
from stranglerfig.sync.refusals import is_about_data
from stranglerfig.sync.target import SyncJob

BUSY: Final = (1205, 1213)
"""Somebody else holds rows: waited for too long, or a deadlock, of which the whole transaction died."""
# Numbers that speak of a row or a statement, and not of the server (MariaDB's manual, "Error codes"): constraints,
# values, foreign keys, names, rights, what triggers refuse.
_ABOUT_DATA: Final = frozenset(
    {
        1048, 1052, 1054, 1062, 1064, 1118, 1136, 1142, 1143, 1146, 1169, 1216, 1217, 1264, 1265, 1292, 1293,
        1364, 1365, 1366, 1367, 1406, 1411, 1416, 1423, 1424, 1441, 1442, 1451, 1452, 1525, 1526, 1557, 1586,
        1644, 1690, 1748, 1761, 1762, 1906, 3140, 4025, 4078, 4161,
    }
)  # fmt: skip
# Of SQLSTATE: cardinality, values, constraints, views' conditions, and what triggers signal, whatever its number.
_DATA_CLASSES: Final = frozenset(("21", "22", "23", "44", "45"))
_NOT_DATA: Final = frozenset(
    (
        "overtaken",
        "snapshot_backward",
        "snapshot_on_owner",
        "database_unreachable",
        "backend_not_installed",
        "rows_busy",
    )
)
_INEXACT: Final = frozenset(("float", "double", "time"))


def about_data(error: BaseException) -> bool:
    """Whether a row or a statement was refused, rather than the server being away or busy."""
    if isinstance(error, FigError):
        if error.code == "statement_refused":
            state = str(error.context.get("sqlstate", ""))
            return error.context.get("errno") in _ABOUT_DATA or state[:2] in _DATA_CLASSES
        return error.code not in _NOT_DATA
    return isinstance(error, NeedsOrder) or (isinstance(error, psycopg.Error) and is_about_data(error))


@contextmanager
def waited(context: str) -> Iterator[None]:
    """Within it, what somebody else holds is told as such.

    Raises:
        FigError: ``rows_busy``.
    """
    try:
        yield
    except FigError as error:
        if not mysql.refused(error, *BUSY):
            raise
        raise FigError(
            "rows_busy",
            f"rows of '{context}' are held by somebody else in the monolith's database: {error.message}",
            "Nothing: sync tries again. When it lasts, look for an open transaction in information_schema.innodb_trx.",
            context=context,
        ) from error


def code(error: FigError) -> str:
    """What a parked change names the refusal by."""
    return str(error.context["errno"]) if error.code == "statement_refused" else error.code


def check_job(job: SyncJob) -> None:
    """Refuse what only PostgreSQL can be a target of.

    Raises:
        FigError: ``partitions_unsupported``, ``bidirectional_unsupported``.
    """
    assert job.direction is Direction.REVERSE, "a service is a PostgreSQL"
    if job.parted or job.partition:
        raise partitioned()
    if job.rules is not None:
        raise bidirectional(job.context)


def partitioned() -> FigError:
    """Several partitions."""
    return FigError(
        "partitions_unsupported",
        "changes for a MariaDB cannot be divided over several partitions yet",
        "Write partitions: 1 into extraction.yaml.",
    )


def bidirectional(context: str) -> FigError:
    """Both sides write."""
    return FigError(
        "bidirectional_unsupported",
        f"'{context}' has remaining_writers: bidirectional, which a monolith on MariaDB cannot have: nothing there says"
        " which version a row's change was",
        "Write remaining_writers: refuse into extraction.yaml, and move the remaining writers with the context.",
        context=context,
    )


def snapshot_backward() -> FigError:
    """A snapshot of the service's rows."""
    # Emptying the monolith's tables is nothing that a lost slot may cause.
    return FigError(
        "snapshot_backward",
        "a snapshot of the service's tables is in the log, but the monolith's rows are never copied anew",
        "Start the reverse capture without a snapshot, and bring the rows together with fig verify --repair.",
    )


def check_columns(entry: Entry, table: Table) -> None:
    """Refuse keys that cannot be found again by their value, and columns that no value can be given to.

    Raises:
        FigError: ``reverse_key_type``, ``undeliverable_types``, ``mapping_unknown_column``.
    """
    for assignment in (*entry.key, *entry.columns):
        native = table.natives.get(assignment.column)
        if native is None:
            raise FigError(
                "mapping_unknown_column",
                f"{entry.target} has no column {assignment.column} any more, or computes it",
                "Make the mapping fit the table's new shape.",
                table=entry.target,
            )
        if (why := types.undeliverable(native)) is not None:
            raise FigError(
                "undeliverable_types",
                f"{entry.target} has columns that cannot be written: {native.name}: {why}",
                "Change these columns.",
                table=entry.target,
            )
    for assignment in entry.key:
        native = table.natives[assignment.column]
        if native.type in _INEXACT:
            raise FigError(
                "reverse_key_type",
                f"{entry.target}.{native.name} belongs to the key and is a {native.type}: a row could not be found"
                " again by its value",
                "Give the table another primary key.",
                table=entry.target,
                column=native.name,
            )


def check_truncate(mapping: Mapping, tables: Sequence[str]) -> None:
    """Refuse to empty a table of the monolith that has rows which are no service's.

    Raises:
        FigError: ``truncate_refused``.
    """
    for entry in mapping.forward:
        if entry.target in tables and entry.where:
            raise FigError(
                "truncate_refused",
                f"{entry.target} was truncated in the service; {entry.source} has rows besides those of its mapping"
                f" (where {entry.where}), which would go as well",
                "Delete the rows in the monolith that are meant, then leave this change out with fig sync skip.",
                table=entry.source,
            )

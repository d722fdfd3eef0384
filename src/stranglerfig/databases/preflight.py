"""Preflight: what stands in the way of an extraction, found before anything is touched, each with its remedy.

The judgements are pure functions over the catalogue's facts; the two entry points read the facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from stranglerfig.databases import catalogue
from stranglerfig.databases.model import Column, Finding, ForeignKey, Table, Trigger, split_name
from stranglerfig.databases.model import Sequence as DatabaseSequence
from stranglerfig.foundation import postgres
from stranglerfig.foundation.postgres import Connection
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "preflight.sql")
_BOUNDED = re.compile(r"^(character varying|character|bit varying|bit|numeric)\(([\d,]+)\)$")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a source's tables need a target to have."""

    extensions: tuple[str, ...] = ()
    collations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A source table and one of its targets; ``columns`` maps target column → source column, where it is just that."""

    source: str
    target: str
    columns: Mapping[str, str] = field(default_factory=dict)


async def source_findings(
    conn: Connection,
    tables: Sequence[str],
    direction: str,
    *,
    accepted_foreign_keys: Sequence[str] = (),
    long_transaction: float = 60,
) -> list[Finding]:
    """What stands in the way of capturing ``tables`` (``schema.table``) from the database of ``conn``.

    ``accepted_foreign_keys`` are labels (``schema.table.constraint``) that the user has decided about;
    ``long_transaction`` in seconds is when an open transaction is too old to begin beside.
    """
    tables, findings = await _enterable(conn, tables)
    found = await catalogue.tables(conn, tables)
    findings += _missing(tables, found)
    findings += await _server_findings(conn, source=True)
    findings += await _rights(conn, tables)
    findings += await _transaction_findings(conn, long_transaction)
    for table in found.values():
        findings += table_findings(table)
    keys = catalogue.crossing(await catalogue.foreign_keys(conn, tables), tables)
    findings += foreign_key_findings(keys, accepted_foreign_keys)
    findings += trigger_findings(await catalogue.triggers(conn, tables), direction)
    findings += sequence_findings(await catalogue.sequences(conn, tables))
    return findings


async def target_findings(
    conn: Connection,
    tables: Sequence[str],
    direction: str,
    *,
    requirements: Requirements | None = None,
    must_be_empty: bool | None = None,
) -> list[Finding]:
    """What stands in the way of applying changes to ``tables`` in the database of ``conn``.

    ``must_be_empty``: whether rows in them refuse (default: in the forward direction, before the snapshot).
    """
    tables, findings = await _enterable(conn, tables)
    found = await catalogue.tables(conn, tables)
    findings += _missing(tables, found)
    findings += await _server_findings(conn, source=False)
    findings += await _rights(conn, tables)
    for table in found.values():
        findings += [finding for finding in table_findings(table) if finding.code in _ALSO_AT_TARGET]
    findings += trigger_findings(await catalogue.triggers(conn, tables), direction)
    wanted = requirements or Requirements()
    names = {"extensions": list(wanted.extensions), "collations": list(wanted.collations)}
    for kind, name in await postgres.fetch(conn, _sql.lacking, names):
        statement = (f"CREATE EXTENSION {name}",) if kind == "extension" else ()
        findings.append(
            Finding(
                f"{kind}_missing",
                "refuse",
                f"the {kind} '{name}', which the source's tables use, is missing in the target",
                f"Create the {kind} '{name}' in the target database.",
                {"name": name},
                statement,
            )
        )
    if must_be_empty if must_be_empty is not None else direction == "forward":
        findings += await _emptiness(conn, found)
    return findings


async def requirements(conn: Connection, tables: Sequence[str]) -> Requirements:
    """The extensions and collations that ``tables`` in the source ``conn`` use."""
    extensions = await postgres.fetch(conn, _sql.extensions, {"names": list(tables)})
    found = await catalogue.tables(conn, tables)
    collations = {c.collation for table in found.values() for c in table.columns if c.collation}
    return Requirements(tuple(row[0] for row in extensions), tuple(sorted(collations)))


def grants(findings: Iterable[Finding]) -> list[str]:
    """The SQL statements that would mend the findings, each once, in their order."""
    return list(dict.fromkeys(statement for finding in findings for statement in finding.statements))


_ALSO_AT_TARGET = {"deferrable_key", "row_security"}


def _missing(names: Sequence[str], found: Mapping[str, Table]) -> list[Finding]:
    return [
        Finding(
            "unknown_table",
            "refuse",
            f"there is no table {name} in this database",
            "Correct its name in extraction.yaml (schema.table), or create it first.",
            {"table": name},
        )
        for name in names
        if name not in found
    ]


async def _enterable(conn: Connection, tables: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """The tables whose schema this role may enter (the others cannot even be looked up), and a finding per other."""
    role = sql.Identifier(str(await postgres.value(conn, "SELECT current_user"))).as_string()
    schemas = [split_name(name)[0].strip('"') for name in tables]
    closed = {
        str(row[0])
        for row in await postgres.fetch(
            conn,
            "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) AND NOT has_schema_privilege(oid, 'USAGE')",
            (schemas,),
        )
    }
    findings = []
    for schema in sorted(closed):
        statement = f"GRANT USAGE ON SCHEMA {sql.Identifier(schema).as_string()} TO {role}"
        findings.append(_right("missing_schema_usage", f"{role} may not enter schema {schema}", (statement,)))
    return [name for name, schema in zip(tables, schemas, strict=True) if schema not in closed], findings


async def _server_findings(conn: Connection, *, source: bool) -> list[Finding]:
    row = await postgres.one(conn, _sql.server)
    assert row is not None
    wal_level, keep, slots, senders, role, database, superuser, replication, create, replica = row
    who, where = sql.Identifier(role).as_string(), sql.Identifier(database).as_string()
    findings = []
    if source:
        findings += server_findings(wal_level, keep, slots, senders)
        if not (superuser or replication):
            findings.append(
                _right("missing_replication", f"{who} may not replicate", (f"ALTER ROLE {who} REPLICATION",))
            )
    if not (superuser or create):
        findings.append(
            _right(
                "missing_create",
                f"{who} may not create a publication or a schema in {where}",
                (f"GRANT CREATE ON DATABASE {where} TO {who}",),
            )
        )
    functions = [row[0] for row in await postgres.fetch(conn, _sql.origin_functions)]
    if functions and not superuser:
        statements = tuple(f"GRANT EXECUTE ON FUNCTION pg_catalog.{name} TO {who}" for name in functions)
        findings.append(
            _right("missing_origin_functions", f"{who} may not use replication origins in {where}", statements)
        )
    if not (superuser or replica):
        statement = f"GRANT SET ON PARAMETER session_replication_role TO {who}"
        findings.append(_right("missing_replica_role", f"{who} may not set session_replication_role", (statement,)))
    if not superuser:
        findings.append(
            Finding(
                "ddl_guard_unavailable",
                "warn",
                "DDL on the context's tables cannot be refused during a cut-over: an event trigger takes a superuser",
                "Let nobody change the tables while a cut-over runs (a few seconds), or install as a superuser.",
                {"role": role},
            )
        )
    return findings


def _right(code: str, message: str, statements: tuple[str, ...]) -> Finding:
    return Finding(code, "refuse", message, "Run: " + "; ".join(statements), {}, statements)


def server_findings(wal_level: str, keep: str, slots: int, senders: int) -> list[Finding]:
    """What the settings of a server say; ``slots`` and ``senders`` are those still free."""
    findings = []
    if wal_level != "logical":
        findings.append(
            Finding(
                "wal_level",
                "refuse",
                f"wal_level is '{wal_level}': changes cannot be captured",
                "Set wal_level = logical and restart the server.",
                {"found": wal_level},
                ("ALTER SYSTEM SET wal_level = 'logical'",),
            )
        )
    for name, free in (("max_replication_slots", slots), ("max_wal_senders", senders)):
        if free < 1:
            findings.append(
                Finding(
                    "no_free_replication_slots" if name == "max_replication_slots" else "no_free_wal_senders",
                    "refuse",
                    f"none of {name} is free",
                    f"Raise {name} and restart the server, or drop what is not used any more.",
                    {"setting": name},
                )
            )
    if keep == "-1":
        findings.append(
            Finding(
                "wal_retention_unlimited",
                "warn",
                "max_slot_wal_keep_size is unlimited: a capture that stands still fills the server's disk",
                "Set max_slot_wal_keep_size to what the disk can spare; fig watches the slot in any case.",
                {"found": keep},
            )
        )
    return findings


async def _rights(conn: Connection, tables: Sequence[str]) -> list[Finding]:
    role = sql.Identifier(str(await postgres.value(conn, "SELECT current_user"))).as_string()
    findings = []
    for name, table, lacks, owns, owner in await postgres.fetch(conn, _sql.rights, {"names": list(tables)}):
        if not owns:
            statement = f"GRANT {owner} TO {role}"
            findings.append(
                _right(
                    "not_table_owner",
                    f"{role} may not publish {name} or guard it: that takes the rights of its owner {owner}",
                    (statement,),
                )
            )
        if lacks:
            statement = f"GRANT {', '.join(lacks)} ON {table} TO {role}"
            findings.append(_right("missing_table_rights", f"{role} lacks {', '.join(lacks)} on {name}", (statement,)))
    return findings


async def _transaction_findings(conn: Connection, seconds: float) -> list[Finding]:
    findings = []
    for pid, application, user, age, statement in await postgres.fetch(
        conn, _sql.old_transactions, {"seconds": seconds}
    ):
        findings.append(
            Finding(
                "long_transaction",
                "refuse",
                f"a transaction of {application or user} has been open for {age:.0f} s",
                f"Let it end, or end it with SELECT pg_terminate_backend({pid}).",
                {"pid": pid, "application": application, "user": user, "seconds": age, "statement": statement},
            )
        )
    for gid, owner, age in await postgres.fetch(conn, _sql.prepared):
        findings.append(
            Finding(
                "prepared_transaction",
                "refuse",
                f"the prepared transaction '{gid}' of {owner} has been waiting for {age:.0f} s",
                f"Commit or roll it back: COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'.",
                {"gid": gid, "owner": owner, "seconds": age},
            )
        )
    return findings


def table_findings(table: Table) -> list[Finding]:
    """What stands in the way of capturing or applying one table."""
    name = table.qualified
    identifier = sql.Identifier(table.schema, table.name).as_string()
    findings = []
    if not table.identity_columns and table.kind != "partition":
        findings.append(
            Finding(
                "no_replica_identity",
                "refuse",
                f"{name} has no replica identity: once published, its updates and deletes would fail at the source",
                f"Add a primary key, or run: ALTER TABLE {identifier} REPLICA IDENTITY FULL",
                {"table": name},
                (f"ALTER TABLE {identifier} REPLICA IDENTITY FULL",),
            )
        )
    for unique in table.uniques:
        if unique.deferrable:
            findings.append(
                Finding(
                    "deferrable_key",
                    "refuse",
                    f"{unique.name} on {name} is deferrable: applying changes could let a duplicate in",
                    "Make the constraint NOT DEFERRABLE.",
                    {"table": name, "constraint": unique.name},
                )
            )
    generated = [column.name for column in table.columns if column.generated]
    if generated:
        findings.append(
            Finding(
                "generated_columns",
                "warn",
                f"{name} has generated columns that are not in the change stream: {', '.join(generated)}",
                "Map the columns they are computed from.",
                {"table": name, "columns": generated},
            )
        )
    if table.kind == "partitioned":
        findings.append(
            Finding(
                "partitioned_table",
                "warn",
                f"{name} is partitioned ({len(table.leaves)} leaves): it is published as its root; a leaf's TRUNCATE "
                "and rows of an attached partition are not in the stream",
                "Do not attach, detach or truncate partitions during the extraction; fig verify would find it.",
                {"table": name, "leaves": list(table.leaves)},
            )
        )
    if table.kind == "partition":
        findings.append(
            Finding(
                "partition_named",
                "refuse",
                f"{name} is a partition of {table.root}",
                f"Name {table.root} in extraction.yaml instead.",
                {"table": name, "root": table.root},
            )
        )
    if table.row_security:
        findings.append(
            Finding(
                "row_security",
                "warn",
                f"{name} has row level security: a role that it applies to would not see all rows",
                "Let the role own the table or have BYPASSRLS.",
                {"table": name},
            )
        )
    return findings


def foreign_key_findings(keys: Iterable[ForeignKey], accepted: Sequence[str]) -> list[Finding]:
    """Foreign keys that cross the boundary; those in ``accepted`` (by label) only warn."""
    return [
        Finding(
            "foreign_key_crosses",
            "warn" if key.label in accepted else "refuse",
            f"the foreign key {key.label} crosses the boundary: it refers to {key.refers_to}",
            "Change the code that relies on it, then accept it by name in extraction.yaml: "
            f"accepted_foreign_keys: [{key.label}]",
            {"constraint": key.label, "refers_to": key.refers_to, "definition": key.definition},
        )
        for key in keys
    ]


def trigger_findings(triggers: Iterable[Trigger], direction: str) -> list[Finding]:
    """Users' triggers: what they write is captured as rows; they do not fire when changes are applied."""
    return [
        Finding(
            "trigger",
            "warn",
            f"the trigger {trigger.name} on {trigger.table} "
            + ("fires" if trigger.enabled in "AR" else "does not fire")
            + f" when {direction} changes are applied here; what it writes at the source arrives as rows of its own",
            "Make sure that what it does is not needed twice, or not missing, on the other side.",
            {"table": trigger.table, "trigger": trigger.name, "definition": trigger.definition},
        )
        for trigger in triggers
        if trigger.enabled != "D"
    ]


def sequence_findings(sequences: Iterable[DatabaseSequence]) -> list[Finding]:
    """Sequences are not in the change stream; unowned ones are not even seen to belong to the table."""
    return [
        Finding(
            "sequence" if sequence.owned else "unowned_sequence",
            "warn",
            f"{sequence.table}.{sequence.column} takes its values from the sequence {sequence.name}"
            + ("" if sequence.owned else ", which the table does not own"),
            "The cut-over sets the target's sequences above it; nothing has to be written for that.",
            {"sequence": sequence.name, "table": sequence.table, "column": sequence.column},
        )
        for sequence in sequences
    ]


async def _emptiness(conn: Connection, found: Mapping[str, Table]) -> list[Finding]:
    findings = []
    for name, table in found.items():
        query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table.schema, table.name))
        try:
            cursor = await conn.execute(query)
            row = await cursor.fetchone()
        except psycopg.errors.InsufficientPrivilege:  # found by the rights already
            continue
        if row and row[0]:
            findings.append(
                Finding(
                    "target_not_empty",
                    "refuse",
                    f"the target table {name} has rows: the copy would mix with them",
                    "Empty it, or go back to the stage before with fig rollback, which clears what it had copied.",
                    {"table": name},
                )
            )
    return findings


def constraint_findings(
    source: Mapping[str, Table], target: Mapping[str, Table], pairs: Sequence[Pair]
) -> list[Finding]:
    """What the source's tables enforce and the target's do not: the way back would jam on the first row that breaks it.

    Checks are compared by their text, through the columns that are mapped as they are.
    """
    findings: list[Finding] = []
    lacking: dict[str, tuple[str, str]] = {}
    kept: set[str] = set()
    for pair in pairs:
        here, there = source.get(pair.source), target.get(pair.target)
        if here is None or there is None:
            continue
        names = {source_column: column for column, source_column in pair.columns.items()}
        for label, what, holds in _constraints(here, there, names):
            if holds:
                kept.add(label)
            else:
                lacking.setdefault(label, (what, pair.target))
    for label, (what, where) in lacking.items():
        if label not in kept:
            findings.append(
                Finding(
                    "target_lacks_constraint",
                    "warn",
                    f"{where} does not enforce {what}: a row that breaks it could not come back",
                    f"Add the constraint to {where}, or see to it that the service keeps it.",
                    {"constraint": label, "target": where},
                )
            )
    return findings


def _constraints(here: Table, there: Table, names: Mapping[str, str]) -> Iterable[tuple[str, str, bool]]:
    """(label, description, whether the target holds it) of each constraint whose columns are all mapped as they are."""
    for column in here.columns:
        if (mirror := there.column(names.get(column.name, ""))) is None:
            continue
        label = f"{here.qualified}.{column.name}"
        if column.not_null:
            yield f"{label}.not_null", f"NOT NULL of {label}", mirror.not_null
        if _BOUNDED.match(column.type):
            yield f"{label}.type", f"the bounds of {label} ({column.type})", _as_narrow(column, mirror)
    for unique in here.uniques:
        if unique.plain and all(column in names for column in unique.columns):
            wanted = {names[column] for column in unique.columns}
            holds = any(set(other.columns) <= wanted and other.plain for other in there.uniques)
            yield f"{here.qualified}.{unique.name}", f"the unique constraint {unique.name} of {here.qualified}", holds
    there_checks = {_plain(check.expression) for check in there.checks}
    for check in here.checks:
        renamed = _plain(check.expression, {c.name: names.get(c.name, f"{c.name} unmapped") for c in here.columns})
        label = f"{here.qualified}.{check.name}"
        yield label, f"the check {check.name} {check.expression} of {here.qualified}", renamed in there_checks


def _as_narrow(column: Column, mirror: Column) -> bool:
    mine, other = _BOUNDED.match(column.type), _BOUNDED.match(mirror.type)
    if mine is None or other is None or mine[1] != other[1]:
        return False
    (length, *scale), (other_length, *other_scale) = ([int(n) for n in m[2].split(",")] for m in (mine, other))
    mine_scale, theirs = (scale or [0])[0], (other_scale or [0])[0]
    return other_length - theirs <= length - mine_scale and theirs <= mine_scale


def _plain(expression: str, names: Mapping[str, str] | None = None) -> str:
    """An expression's text without casts of literals, spaces and outer brackets; identifiers renamed."""
    text = re.sub(r"::(\"[^\"]+\"|[a-z_]+( varying| precision)?)(\([\d,]+\))?", "", expression)
    if names:
        text = re.sub(r"\"?\b([A-Za-z_]\w*)\b\"?", lambda m: names.get(m[1], m[0]), text)
    return re.sub(r"[\s()\"]+", "", text)

"""Preflight on MariaDB: what stands in the way of capturing from it, found before anything is touched.

The judgements are pure functions over facts; :func:`source_findings` reads the facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stranglerfig.databases import preflight
from stranglerfig.databases.catalogue import crossing
from stranglerfig.databases.mariadb import catalogue, types
from stranglerfig.databases.mariadb.catalogue import Described, Rules
from stranglerfig.databases.model import Finding
from stranglerfig.foundation import mysql
from stranglerfig.foundation.errors import FigError
from stranglerfig.foundation.mysql import Connection, quote, quote_table
from stranglerfig.foundation.sql import load

_sql = load(__package__ or "", "preflight.sql")
_TIMED_OUT: Final = 1969
_DENIED: Final = (1142, 1143)
_LOOK_SECONDS: Final = 5
_KEPT_SECONDS: Final = 86_400
_ON_ALL: Final = ("REPLICATION SLAVE", "BINLOG MONITOR")
_ON_OURS: Final = (
    *("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX"),
    *("CREATE ROUTINE", "EXECUTE", "CREATE TEMPORARY TABLES"),
)
_ON_TABLES: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRIGGER", "ALTER")
"""Reading; the way back; guards; AUTO_INCREMENT."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself.

    Attributes:
        kept: for how many seconds it keeps its binary log; 0: for ever.
        trusting: whether whoever may make a trigger may do so while there is a binary log.
    """

    version: str
    log_bin: bool
    format: str
    row_image: str
    compressed: bool
    sql_mode: frozenset[str]
    kept: int
    user: str
    trusting: bool = True


async def server(conn: Connection) -> Server:
    """Ask the server. (MySQL, which has not all of these settings, is told apart by its version alone.)

    Raises:
        FigError: ``not_mariadb``.
    """
    version = str(await conn.value("SELECT @@version"))
    if "mariadb" not in version.lower():
        raise FigError(
            "not_mariadb",
            f"the monolith's database is MySQL {version}; only MariaDB is supported",
            "Its replication differs (GTIDs, snapshots with a position); move the monolith's tables to MariaDB first.",
            version=version,
        )
    row = await conn.one(_sql.server)
    assert row is not None
    _, log_bin, form, image, compressed, mode, days, seconds, user, trusting = (str(value) for value in row)
    return Server(
        version,
        log_bin == "1",
        form,
        image,
        compressed == "1",
        frozenset(mode.split(",")),
        int(seconds) or int(days),
        user,
        trusting == "1",
    )


def server_findings(found: Server) -> list[Finding]:
    """What the server's settings say."""
    findings = []
    if not found.log_bin:
        findings.append(
            Finding(
                "binlog_off",
                "refuse",
                "the server writes no binary log: changes cannot be captured",
                "Set log_bin and server_id in its configuration and restart it.",
            )
        )
    wanted = (("binlog_format", found.format, "ROW"), ("binlog_row_image", found.row_image, "FULL"))
    for name, value, needed in wanted:
        if found.log_bin and value != needed:
            findings.append(
                Finding(
                    name,
                    "refuse",
                    f"{name} is {value}: the binary log does not say whole rows",
                    f"Set {name} = {needed}, also in the configuration; open sessions keep the old value.",
                    {"found": value},
                    (f"SET GLOBAL {name} = {needed}",),
                )
            )
    if found.compressed:
        findings.append(
            Finding(
                "log_bin_compress",
                "refuse",
                "log_bin_compress is ON: Debezium may not read compressed events",
                "Set log_bin_compress = OFF.",
                {},
                ("SET GLOBAL log_bin_compress = OFF",),
            )
        )
    if 0 < found.kept < _KEPT_SECONDS:
        findings.append(
            Finding(
                "binlog_kept_shortly",
                "warn",
                f"the binary log is kept for {found.kept} s: a capture that stands still for longer begins anew",
                "Raise binlog_expire_logs_seconds to the longest time that capture may be away, a few days.",
                {"found": found.kept},
            )
        )
    if missing := sorted({"NO_ZERO_DATE", "NO_ZERO_IN_DATE"} - found.sql_mode):
        findings.append(
            Finding(
                "zero_dates_allowed",
                "warn",
                f"sql_mode lacks {', '.join(missing)}: a date such as 0000-00-00 may be written, and arrives as null",
                "Add them to sql_mode where the application can live with it; fig verify finds such rows.",
                {"missing": missing},
            )
        )
    return findings


_GRANT = re.compile(r"GRANT (.+?) ON (?:TABLE )?(\*|`(?:[^`]|``)*`)\.(\*|`(?:[^`]|``)*`) TO ")


@dataclass(frozen=True, slots=True)
class Right:
    """What a GRANT gives: privileges on the databases and tables that two patterns of LIKE name."""

    privileges: frozenset[str]
    database: str
    table: str

    def on(self, database: str, table: str) -> bool:
        """Whether it holds there; ``*`` stands for all."""
        return _like(self.database, database) and self.table in ("*", table)


def _like(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    parts = re.split(r"(\\.|%|_)", pattern)
    made = (".*" if p == "%" else "." if p == "_" else re.escape(p[1:] if p[:1] == "\\" else p) for p in parts)
    return re.fullmatch("".join(made), name) is not None


def rights(grants: Iterable[str]) -> list[Right]:
    """What lines of SHOW GRANTS give. (What is given on single columns is left out.)"""
    found = []
    for line in grants:
        if match := _GRANT.match(line):
            privileges = frozenset(part.strip() for part in re.sub(r"\w+ \(.*?\)", "", match[1]).split(","))
            database, table = (part.strip("`").replace("``", "`") for part in (match[2], match[3]))
            found.append(Right(privileges, database, table))
    return found


def right_findings(user: str, held: Sequence[Right], tables: Sequence[str]) -> list[Finding]:
    """The rights that are missing."""
    account = "@".join(f"'{part}'" for part in user.rsplit("@", 1))
    wanted = [
        ("missing_replication", ("*", "*"), _ON_ALL),
        ("missing_create", ("fig", "*"), _ON_OURS),
        *(("missing_table_rights", table.partition(".")[::2], _ON_TABLES) for table in tables),
    ]
    findings = []
    for code, place, needed in wanted:
        has = frozenset[str]().union(*(right.privileges for right in held if right.on(*place)))
        lacking = [privilege for privilege in needed if not has & {privilege, "ALL PRIVILEGES"}]
        if lacking:
            where = ".".join(part if part in ("*", "fig") else quote(part) for part in place)
            statement = f"GRANT {', '.join(lacking)} ON {where} TO {account}"
            findings.append(
                Finding(
                    code,
                    "refuse",
                    f"{user} lacks {', '.join(lacking)} on {where}",
                    f"Run: {statement}",
                    {"where": where},
                    (statement,),
                )
            )
    return findings


def trigger_right_findings(found: Server, held: Sequence[Right]) -> list[Finding]:
    """Guards are triggers, which a server with a binary log takes from everybody only where it was told to."""
    powerful = any({"SUPER", "ALL PRIVILEGES"} & right.privileges for right in held if right.on("*", "*"))
    if found.trusting or powerful or not found.log_bin:
        return []
    return [
        Finding(
            "triggers_not_trusted",
            "refuse",
            f"{found.user} may not make triggers, which guards are: there is a binary log, and"
            " log_bin_trust_function_creators is OFF",
            "Set log_bin_trust_function_creators = ON, also in the configuration: with whole rows in the binary log a"
            " replica does not run triggers for them.",
            {},
            ("SET GLOBAL log_bin_trust_function_creators = ON",),
        )
    ]


def table_findings(found: Described) -> list[Finding]:
    """What stands in the way of capturing one table."""
    name = found.table.qualified
    findings = []
    if found.engine != "InnoDB":
        findings.append(
            Finding(
                "not_transactional",
                "refuse",
                f"{name} is a table of {found.engine}: its rows belong to no transaction",
                f"Run: ALTER TABLE {quote_table(name)} ENGINE=InnoDB",
                {"table": name, "engine": found.engine},
                (f"ALTER TABLE {quote_table(name)} ENGINE=InnoDB",),
            )
        )
    if found.versioned:
        findings.append(
            Finding(
                "system_versioned",
                "refuse",
                f"{name} is system-versioned: rows of its history would arrive as rows of the table",
                "Keep the history elsewhere, or drop the versioning for the extraction.",
                {"table": name},
            )
        )
    if not found.table.primary_key:
        findings.append(
            Finding(
                "no_replica_identity",
                "refuse",
                f"{name} has no primary key: a changed row could not be told",
                "Add a primary key.",
                {"table": name},
            )
        )
    if lost := _lost(found):
        findings.append(
            Finding(
                "undeliverable_types",
                "refuse",
                f"{name} has columns that cannot be captured: {lost}",
                "Change these columns, for they cannot be left out of the stream.",
                {"table": name},
            )
        )
    if generated := [column.name for column in found.native if column.generated]:
        findings.append(
            Finding(
                "generated_columns",
                "warn",
                f"{name} has generated columns that are not captured: {', '.join(generated)}",
                "Map the columns they are computed from.",
                {"table": name, "columns": generated},
            )
        )
    return findings


def _lost(found: Described) -> str:
    listed = [(column.name, types.undeliverable(column)) for column in found.native if not column.generated]
    return "; ".join(f"{name}: {why}" for name, why in listed if why is not None)


def cascade_findings(keys: Iterable[Rules], tables: Sequence[str]) -> list[Finding]:
    """Foreign keys that change rows of the tables behind the binary log's back."""
    return [
        Finding(
            "cascade_not_logged",
            "refuse",
            f"the foreign key {rules.key.label} changes rows by itself (ON DELETE {rules.on_delete}, ON UPDATE"
            f" {rules.on_update}), and MariaDB writes nothing of that into its binary log",
            "Let the application delete and update the rows that refer, and make the foreign key RESTRICT.",
            {"constraint": rules.key.label, "definition": rules.key.definition},
        )
        for rules in keys
        if rules.silent and rules.key.table in tables
    ]


async def check(conn: Connection, tables: Sequence[str]) -> dict[str, Described]:
    """Refuse a source that cannot be captured; what its tables are.

    Raises:
        FigError: ``not_mariadb``, ``missing_table``, or the code of the first finding that refuses.
    """
    found = server_findings(await server(conn))
    described = await catalogue.describe(conn, tables)
    if missing := [name for name in tables if name not in described]:
        raise FigError(
            "missing_table",
            f"the source has no table {', '.join(missing)}",
            "Correct the tables in extraction.yaml: database.table.",
            tables=missing,
        )
    for each in described.values():
        found += table_findings(each)
    found += cascade_findings(await catalogue.foreign_keys(conn, tables), tables)
    for finding in found:
        if finding.severity == "refuse":
            raise FigError(finding.code, finding.message, finding.remedy, **finding.context)
    return described


async def source_findings(
    conn: Connection, tables: Sequence[str], direction: str, *, accepted_foreign_keys: Sequence[str] = ()
) -> list[Finding]:
    """What stands in the way of capturing ``tables`` (``database.table``); parameters as for PostgreSQL."""
    try:
        facts = await server(conn)
    except FigError as error:
        if error.code != "not_mariadb":
            raise
        return [Finding(error.code, "refuse", error.message, error.remedy, error.context)]
    findings = server_findings(facts)
    held = rights([str(line) for (line,) in await conn.fetch(_sql.grants)])
    findings += right_findings(facts.user, held, tables)
    findings += trigger_right_findings(facts, held)
    described = await catalogue.describe(conn, tables)
    findings += [
        Finding(
            "unknown_table",
            "refuse",
            f"there is no table {name} in this database",
            "Correct its name in extraction.yaml (database.table), or let our user see it.",
            {"table": name},
        )
        for name in tables
        if name not in described
    ]
    for each in described.values():
        findings += table_findings(each)
    keys = await catalogue.foreign_keys(conn, tables)
    findings += cascade_findings(keys, tables)
    findings += preflight.foreign_key_findings(crossing([rules.key for rules in keys], tables), accepted_foreign_keys)
    findings += preflight.trigger_findings(await catalogue.triggers(conn, tables), direction)
    findings += preflight.sequence_findings(catalogue.counters(list(described.values())))
    findings += await _zero_dates(conn, described)
    return findings


async def _zero_dates(conn: Connection, described: Mapping[str, Described]) -> list[Finding]:
    """Rows with dates that are none; a table too large to be looked through in a few seconds is named."""
    # Names are quoted.
    # ruff: noqa: S608
    findings = []
    for name, table in described.items():
        dated = [quote(c.name) for c in table.native if c.type in ("date", "datetime", "timestamp")]
        if not dated:
            continue
        wrong = " OR ".join(f"year({c}) = 0 OR month({c}) = 0 OR dayofmonth({c}) = 0" for c in dated)
        statement = f"SELECT 1 FROM {quote_table(name)} WHERE {wrong} LIMIT 1"
        try:
            if await conn.value(f"SET STATEMENT max_statement_time={_LOOK_SECONDS} FOR {statement}") is None:
                continue
        except FigError as error:
            if mysql.refused(error, *_DENIED):  # found by the rights already
                continue
            if not mysql.refused(error, _TIMED_OUT):
                raise
            findings.append(
                Finding(
                    "zero_dates_unknown",
                    "warn",
                    f"{name} is too large to be looked through for dates such as 0000-00-00",
                    "The snapshot refuses the first that it meets; look for them beforehand.",
                    {"table": name},
                )
            )
            continue
        findings.append(
            Finding(
                "zero_date",
                "refuse",
                f"{name} has rows with dates such as 0000-00-00, which PostgreSQL does not know",
                f"Set them to null or to a date: SELECT * FROM {quote_table(name)} WHERE {wrong}",
                {"table": name},
            )
        )
    return findings

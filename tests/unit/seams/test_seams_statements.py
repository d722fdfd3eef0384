"""Which tables statements read and write."""

from __future__ import annotations

import pytest

from stranglerfig.seams.postgres import executed
from stranglerfig.seams.statements import Touched, looks_like_sql, touched


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        (
            "SELECT * FROM orders o JOIN public.customers c ON c.id = o.customer_id WHERE o.id = %s",
            "orders customers",
            "",
        ),
        ("INSERT INTO a.log SELECT id FROM b WHERE at::date > %(day)s", "b", "a.log"),
        ("UPDATE stock SET n = n - l.qty FROM lines l WHERE l.item = stock.id AND l.x %% 2 = 0", "lines", "stock"),
        ("DELETE FROM a USING b WHERE a.id = b.id", "b", "a"),
        ("MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE", "s", "t"),
        ("TRUNCATE t", "", "t"),
        ("COPY t FROM STDIN", "", "t"),
        ("WITH x AS (UPDATE a SET n = 1 RETURNING id) INSERT INTO b SELECT id FROM x", "", "a b"),
        ("SELECT f(a) FROM generate_series(1, $1), pg_class, information_schema.columns", "", ""),
        ("SELECT {columns} FROM t WHERE {condition} AND x = :name", "t", ""),
        ("SELECT 1; DELETE FROM t", "", "t"),
    ],
)
def test_what_a_statement_reads_and_writes(text: str, reads: str, writes: str) -> None:
    assert touched(text) == Touched(frozenset(reads.split()), frozenset(writes.split()))


@pytest.mark.parametrize("text", ["SELECT FROM WHERE )", "LOCK TABLE x", ""])
def test_what_does_not_parse_says_nothing(text: str) -> None:
    assert touched(text) is None


def test_only_what_begins_as_sql_is_parsed() -> None:
    assert looks_like_sql("\n-- why\nSELECT a FROM b") and looks_like_sql("with x as (select 1) select 2 ")
    assert not any(map(looks_like_sql, ("Selected from the list", "Updates the docs", "SELECT", "Delete it")))


def test_statements_that_ran_are_evidence_when_they_join_tables() -> None:
    found = executed(
        [("SELECT * FROM a JOIN b ON a.id = b.id", 40), ("SELECT * FROM a", 9), ("UPDATE a SET SET x", 2), ("BEGIN", 9)]
    )
    (use,) = found.uses
    assert (use.tables, use.times) == ({"a", "b"}, 40)
    (said,) = found.coverage
    assert said.state == "partly" and said.said == "3 statements, 1 of them over several tables; 1 do not parse"

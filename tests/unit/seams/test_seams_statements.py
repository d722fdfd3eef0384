"""Which tables statements read and write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.seams.executed import executed
from stranglerfig.seams.statements import Touched, body, looks_like_sql, touched


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
    assert not any(
        map(
            looks_like_sql,
            ("Selected from the list", "Updates the docs", "Update orders failed", "SELECT", "Delete it"),
        )
    )


def test_statements_that_ran_are_evidence_when_they_join_tables() -> None:
    found = executed(
        [
            ("SELECT * FROM a JOIN b ON a.id = b.id", 40),
            ("SELECT * FROM a", 9),
            ("UPDATE a SET SET x", 2),
            ("BEGIN", 9),
        ],
        "pg_stat_statements",
    )
    (use,) = found.uses
    assert (use.tables, use.times) == ({"a", "b"}, 40)
    (said,) = found.coverage
    assert said.state == "partly" and said.said == "3 statements, 1 of them over several tables; 1 do not parse"


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("BEGIN IF EXISTS (SELECT 1 FROM a WHERE (x) = 1) THEN INSERT INTO b VALUES (1); END IF; END", "a", "b"),
        ("FOR r IN SELECT * FROM a LOOP UPDATE b SET n = 1; PERFORM f() FROM c; END LOOP;", "a c", "b"),
        ("RETURN (SELECT CASE WHEN n > 1 THEN 2 END FROM a);", "a", ""),
        ("INSERT INTO a SELECT id FROM b ON CONFLICT DO NOTHING; SELECT n, m INTO x, y FROM c;", "b c", "a"),
        ("WITH WITH SELECT ) ( UPDATE", "", ""),
    ],
)
def test_what_a_routine_touches_within_its_own_language(text: str, reads: str, writes: str) -> None:
    assert body(text) == Touched(frozenset(reads.split()), frozenset(writes.split()))


WORDS = st.sampled_from(["SELECT", "a", "FROM", "b", "(", ")", ";", "UPDATE", "SET", "THEN", "WITH"])


@given(st.text(max_size=80) | st.lists(WORDS).map(" ".join))
def test_no_routine_is_too_strange(text: str) -> None:
    assert isinstance(body(text), Touched)

"""Generated writes for the engines of capture: every type, every kind of change."""

from __future__ import annotations

import random
from collections.abc import Iterator

from psycopg import sql as statements

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "fine", really');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN moment AS timestamp(3);
CREATE TYPE pair AS (a int, b text);
CREATE EXTENSION vector;
CREATE TABLE numbers (id bigint PRIMARY KEY, i2 smallint, i4 int, i8 bigint, n numeric, n2 numeric(10,2), f4 float4,
    f8 float8, po positive, pr price, oi oid, bo boolean);
CREATE TABLE times (id bigint PRIMARY KEY, ts timestamp, ts0 timestamp(0), ts3 timestamp(3), mo moment, tz timestamptz,
    tz3 timestamptz(3), d date, tm time, tm0 time(0), iv interval, iv2 interval(2));
CREATE TABLE texts (id bigint PRIMARY KEY, t text, v varchar(20), c char(5), b bytea, nm name, ch "char", mo mood,
    u uuid, j json, jb jsonb, jp jsonpath, b1 bit(1), b5 bit(5), b16 bit(16), inet_ inet, cidr_ cidr, mac macaddr,
    mac8 macaddr8, tv tsvector, tq tsquery, pr pair, lsn pg_lsn, rc regclass, x8 xid8, sn pg_snapshot);
CREATE TABLE shapes (id bigint PRIMARY KEY, i4r int4range, i8r int8range, tsr tsrange, tzr tstzrange, dr daterange,
    nr numrange, imr int4multirange, i8mr int8multirange, nmr nummultirange, tmr tsmultirange, tzmr tstzmultirange,
    dmr datemultirange, pt point, ln line, ls lseg, bx box, pa path, pg polygon, ci circle,
    v vector(3), h halfvec(3), s sparsevec(5));
ALTER TABLE shapes REPLICA IDENTITY FULL;
CREATE TABLE arrays (id bigint PRIMARY KEY, i2 smallint[], i4 int[], i8 bigint[], t text[], v varchar(9)[], c char(3)[],
    ts timestamp[], ts3 timestamp(3)[], tz timestamptz[], d date[], tm time[], bo boolean[], u uuid[], jb jsonb[],
    j json[], b bytea[], f4 float4[], f8 float8[], mo mood[], oi oid[], po positive[], ine inet[], cid cidr[],
    mac macaddr[], i4r int4range[], tsr tsrange[], pr pair[], tv tsvector[]);
ALTER TABLE arrays REPLICA IDENTITY FULL;
CREATE TABLE fat (id int PRIMARY KEY, t text, v varchar, b bytea, j json, jb jsonb, i4 int[], i8 bigint[], d date[],
    t_ text[], u uuid[], b_ bytea[], jb_ jsonb[], pr pair, tv tsvector, n int);
CREATE TABLE fat_whole (id int PRIMARY KEY, t text, f8 float8[], n int);
ALTER TABLE fat_whole REPLICA IDENTITY FULL;
CREATE TABLE by_index (id int PRIMARY KEY, k int NOT NULL UNIQUE, t text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_k_key;
CREATE TABLE keyless (a int, t text);
CREATE TABLE made (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
CREATE TABLE parted (id int, t text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (1000) TO (9000);
CREATE TABLE two_keys (a int, b text, n int, PRIMARY KEY (a, b));
CREATE TABLE odd_names ("I d" int PRIMARY KEY, "va""l,ue" text);
CREATE FUNCTION fat_text(seed int) RETURNS text LANGUAGE sql AS
    'SELECT string_agg(md5(i::text || seed), '''') FROM generate_series(1, 300) i';
"""
TABLES = tuple(
    f"public.{name}"
    for name in [
        "numbers",
        "times",
        "texts",
        "shapes",
        "arrays",
        "fat",
        "fat_whole",
        "by_index",
        "keyless",
        "made",
        "parted",
        "two_keys",
        "odd_names",
    ]
)

_VALUES: dict[str, dict[str, list[str]]] = {
    "numbers": {
        "i2": ["-32768", "32767", "0"],
        "i4": ["-2147483648", "2147483647"],
        "i8": ["-9223372036854775808", "9223372036854775807"],
        "n": ["1e30", "-0.00", "NaN", "Infinity", "-Infinity", "1e-20", "1e-130", "0.00000001", "100",
              "123456789012345678901234567890.1234567890123456789"],
        "n2": ["0.00", "12345678.90", "-0.01"],
        "f4": ["0.1", "NaN", "-Infinity", "3.4028235e38", "1e-40", "1.17549435e-38", "16777216", "100000", "1e6",
               "0.0001", "1e-5", "-0", "33554432"],
        "f8": ["0.1", "NaN", "Infinity", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "2e23", "-0",
               "8.41e21", "9007199254740993", "1e15", "999999999999999", "1e14", "1e-5", "0.0001", "123456.789"],
        "po": ["5"],
        "pr": ["3.10"],
        "oi": ["4000000000"],
        "bo": ["true", "false"],
    },
    "times": {
        "ts": ["2024-01-02 03:04:05.6", "1999-12-31 23:59:59.999999", "infinity", "-infinity", "0044-03-15 12:00 BC",
               "4713-01-01 00:00:00 BC", "12345-03-15 12:00", "1969-12-31 23:59:59.5", "0001-01-01", "290000-01-01"],
        "ts0": ["2024-01-02 03:04:05"],
        "ts3": ["2024-01-02 03:04:05.678", "infinity", "-infinity", "0044-03-15 12:00:00.123 BC",
                "1950-01-01 00:00:00.001"],
        "mo": ["2024-01-02 03:04:05.678"],
        "tz": ["2024-01-02 03:04:05.6+02", "infinity", "-infinity", "0044-03-15 12:00+00 BC", "12345-03-15 12:00+00",
               "294276-12-31 23:59:59.999999+00", "1500-02-28 12:34:56.000001+00", "0001-01-01 00:00+00"],
        "tz3": ["2024-01-02 03:04:05.6+02", "2024-01-02 03:04:05+02"],
        "d": ["2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "4713-01-01 BC", "0001-01-01",
              "9999-12-31", "10000-01-01"],
        "tm": ["13:14:15.123456", "24:00:00", "00:00:00", "23:59:59.999999"],
        "tm0": ["24:00:00", "10:11:12"],
        "iv": ["1 year 2 mons -3 days 04:05:06.789", "-1 day -00:00:00.000001", "0", "-1 year 2 days", "1 mon",
               "178000000 years 11 mons 12345678 days -1000000:00:00.5", "-04:05:06", "1 day 00:00:01", "00:00:00.1"],
        "iv2": ["1.25 seconds"],
    },
    "texts": {
        "t": ['tab\there "q" \\ back\u00e9 \U0001f600', "", "\r\n\f", "NULL", "\\N"],
        "v": ["vc"],
        "c": ["ab"],
        "b": ["\\x00ff10", "\\x"],
        "nm": ["name"],
        "ch": ["c"],
        "mo": ["sad", "it's \"fine\", really"],
        "u": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
        "j": ['{"b": 1,  "a":[1,2.50]}', "null"],
        "jb": ['{"b":1,"a":[1,2.50]}', "null"],
        "jp": ["$.a[*]"],
        "b1": ["1", "0"],
        "b5": ["10101", "00001", "00000"],
        "b16": ["1010100001111000", "0000000000000001"],
        "inet_": ["10.1.2.3/24", "::1"],
        "cidr_": ["10.0.0.0/8"],
        "mac": ["08:00:2b:01:02:03"],
        "mac8": ["08:00:2b:01:02:03:04:05"],
        "tv": ["a fat cat"],
        "tq": ["fat & cat"],
        "pr": ['(1,"x y")', '(,"")'],
        "lsn": ["0/16B3748"],
        "rc": ["texts"],
        "x8": ["5"],
        "sn": ["10:20:10,14,15"],
    },
    "shapes": {
        "i4r": ["[1,5)", "empty", "(,)"],
        "i8r": ["[1,5)"],
        "tsr": ["[2024-01-01 00:00, 2024-01-02 00:00)"],
        "tzr": ["[2024-01-01 00:00+05, 2024-01-02 00:00+00)", "[0044-01-01 00:00+00 BC, infinity)"],
        "dr": ["[2024-01-01,2024-02-01)"],
        "nr": ["[1.50,5)", "(,2]", "empty"],
        "imr": ["{[1,3),[5,8)}"],
        "i8mr": ["{[1,3),[9223372036854775800,)}"],
        "nmr": ["{[1.5,3),(5,8.25]}", "{}"],
        "tmr": ["{[2024-01-01 00:00, 2024-01-02 00:00)}"],
        "dmr": ["{[2024-01-01,2024-02-01)}"],
        "tzmr": ["{[2024-01-01 00:00+00, 2024-01-02 00:00+03)}"],
        "pt": ["(1.5,2)", "(1e20,-0)", "(NaN,Infinity)"],
        "ln": ["{1,2,3}"],
        "ls": ["[(0,0),(1.5,1)]"],
        "bx": ["(1,1e-7),(0,0)"],
        "pa": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
        "pg": ["((0,0),(1,1),(1,0))"],
        "ci": ["<(0,0.25),1e20>"],
        "v": ["[1,2.5,1e20]"],
        "h": ["[1,2.5,3]"],
        "s": ["{1:1,3:2.5}/5"],
    },
    "arrays": {
        "i2": ["{1}"],
        "i4": ["{1,NULL,3}", "{}"],
        "i8": ["{9223372036854775807}"],
        "t": ['{"a b","q\\"x",NULL,"NULL",""," {}",a\\\\b,null_,"a,b",\u00e9}'],
        "v": ["{abc}"],
        "c": ["{ab}"],
        "ts": ['{"2024-01-02 03:04:05.6"}', "{infinity}"],
        "ts3": ['{"2024-01-02 03:04:05.678"}'],
        "tz": ['{"2024-01-02 03:04:05.6+02"}'],
        "d": ["{2024-01-02,9999-12-31}"],
        "tm": ["{10:11:12.5}"],
        "bo": ["{t,f,NULL}"],
        "u": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
        "jb": ['{"{\\"a\\": 1}"}'],
        "j": ['{"{\\"a\\":  1}"}'],
        "b": ['{"\\\\x00ff"}'],
        "f4": ["{1.5,NaN,1e20,0.1}"],
        "f8": ["{1.5,NaN,Infinity,1e-7}"],
        "mo": ['{sad,"it\'s \\"fine\\", really"}'],
        "oi": ["{4000000000}"],
        "po": ["{1,2}"],
        "ine": ["{10.1.2.3/24}"],
        "cid": ["{10.0.0.0/8}"],
        "mac": ["{08:00:2b:01:02:03}"],
        "i4r": ['{"[1,5)"}'],
        "tsr": ['{"[2024-01-01 00:00:00,2024-01-02 00:00:00)"}'],
        "pr": ['{"(1,\\"x y\\")"}'],
        "tv": ["{\"'a' 'b'\"}"],
    },
}  # fmt: skip


def _each(table: str) -> Iterator[str]:
    """A row with every column's first value, one with every second …"""
    columns = _VALUES[table]
    for n in range(max(map(len, columns.values()))):
        row = {name: values[n] for name, values in columns.items() if n < len(values)}
        shown = ", ".join(statements.Literal(value).as_string() for value in row.values())
        yield f"INSERT INTO {table} (id, {', '.join(row)}) VALUES ({n + 1}, {shown})"


def types() -> Iterator[str]:
    """Every type that both engines deliver."""
    for table in _VALUES:
        yield from _each(table)
        yield f"INSERT INTO {table} (id) VALUES (1000)"
        yield f"UPDATE {table} SET id = id + 5000 WHERE id = 1"
        yield f"UPDATE {table} SET id = id WHERE id > 1"
        yield f"DELETE FROM {table} WHERE id = 2"


def toast() -> Iterator[str]:
    """Values that the source does not send again."""
    yield (
        "INSERT INTO fat SELECT 1, fat_text(1), fat_text(2), fat_text(3)::bytea, to_json(fat_text(4)),"
        " to_jsonb(fat_text(5)),"
        " (SELECT array_agg(i * 7919 % 100003) FROM generate_series(1, 5000) i),"
        " (SELECT array_agg(i * 7919 % 100003) FROM generate_series(1, 5000) i),"
        " (SELECT array_agg('2024-01-01'::date + i * 7919 % 2000) FROM generate_series(1, 3000) i),"
        " (SELECT array_agg(md5(i::text)) FROM generate_series(1, 500) i),"
        " (SELECT array_agg(md5(i::text)::uuid) FROM generate_series(1, 500) i),"
        " ARRAY[fat_text(6)::bytea], ARRAY[to_jsonb(fat_text(7))], row(1, fat_text(8))::pair,"
        " (SELECT string_agg(md5(i::text), ' ')::tsvector FROM generate_series(1, 300) i), 1"
    )
    yield "UPDATE fat SET n = 2"
    yield "UPDATE fat SET t = NULL, b = NULL, i4 = NULL"
    yield "UPDATE fat SET id = 2"
    yield "UPDATE fat SET t = fat_text(9), n = 3"
    yield "DELETE FROM fat"
    yield "INSERT INTO fat_whole SELECT 1, fat_text(1), (SELECT array_agg(i / 7.0) FROM generate_series(1, 2000) i), 1"
    yield "UPDATE fat_whole SET n = 2"
    yield "UPDATE fat_whole SET id = 2"
    yield "UPDATE fat_whole SET f8 = NULL"
    yield "DELETE FROM fat_whole"


def keys() -> Iterator[str]:
    """Keys that change, identities of every kind, deletions, truncations, partitions, names."""
    yield "INSERT INTO by_index VALUES (1, 1, 'a'), (10, 10, 'b')"
    yield "UPDATE by_index SET t = 'c' WHERE id = 1"
    yield "UPDATE by_index SET id = 2 WHERE id = 1"
    yield "UPDATE by_index SET k = 2 WHERE id = 2"
    yield "UPDATE by_index SET k = 3, id = 5 WHERE id = 2"
    yield "DELETE FROM by_index WHERE id = 5"
    yield "INSERT INTO two_keys VALUES (1, 'x', 1), (2, 'y', 2)"
    yield "UPDATE two_keys SET b = 'z' WHERE a = 1"
    yield "UPDATE two_keys SET a = a + 10"
    yield "INSERT INTO keyless VALUES (1, 'a'), (1, 'a')"
    yield "INSERT INTO made VALUES (1, 2)"
    yield "UPDATE made SET a = 3"
    yield "INSERT INTO odd_names VALUES (1, 'x')"
    yield 'UPDATE odd_names SET "I d" = 2'
    yield "INSERT INTO parted VALUES (1, 'a'), (1001, 'b')"
    yield "UPDATE parted SET id = 1002 WHERE id = 1"
    yield "UPDATE parted SET id = 1003 WHERE id = 1002"
    yield "TRUNCATE parted"
    yield "TRUNCATE keyless, made"
    yield "BEGIN; INSERT INTO made VALUES (7, 7); UPDATE made SET id = 8; DELETE FROM made; TRUNCATE made; COMMIT"
    yield "BEGIN; SAVEPOINT a; INSERT INTO made VALUES (9, 9); ROLLBACK TO a; INSERT INTO made VALUES (10, 1); COMMIT"
    yield "BEGIN; INSERT INTO made VALUES (11, 9); ROLLBACK"


def messages() -> Iterator[str]:
    """What others say in the stream."""
    yield "SELECT pg_logical_emit_message(true, 'fig.activated', '{\"epoch\": 3}')"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    yield (
        "BEGIN; INSERT INTO made VALUES (20, 1);"
        " SELECT pg_logical_emit_message(true, 'fig.marker', '{\"nonce\": \"é\"}');"
        f" SELECT pg_logical_emit_message(true, 'traceparent', '{trace}');"
        " INSERT INTO made VALUES (21, 1); COMMIT"
    )
    yield "SELECT pg_logical_emit_message(true, 'other', 'x')"
    yield "SELECT pg_logical_emit_message(true, 'fig.marker', '{\"context\": \"another\"}')"


def mixture(seed: int, count: int) -> Iterator[str]:
    """Transactions over several tables."""
    chance = random.Random(seed)
    for _ in range(count):
        made = []
        for _ in range(chance.randint(1, 8)):
            number = chance.randint(1, 40)
            made.append(
                chance.choice(
                    (
                        f"INSERT INTO numbers (id, n, f8) VALUES ({10000 + number}, {chance.uniform(-9, 9)},"
                        f" {chance.uniform(-1e9, 1e9)!r}) ON CONFLICT (id) DO UPDATE SET f8 = excluded.f8",
                        f"UPDATE numbers SET n = n * 1.1, f4 = {chance.uniform(-1, 1)!r} WHERE id = {10000 + number}",
                        f"DELETE FROM numbers WHERE id = {10000 + number}",
                        f"INSERT INTO two_keys VALUES ({number}, 'k{number % 3}', {number}) ON CONFLICT DO NOTHING",
                        f"UPDATE two_keys SET a = a + 100, n = n + 1 WHERE a = {number}"
                        f" AND NOT EXISTS (SELECT FROM two_keys WHERE a = {number + 100})",
                        f"INSERT INTO times (id, ts, tz, d) VALUES ({20000 + chance.randint(1, 10**9)},"
                        f" now() - interval '{chance.randint(1, 10**6)} hours',"
                        f" now() + interval '{chance.randint(1, 10**9)} us', current_date)",
                    )
                )
            )
        end = "ROLLBACK" if chance.random() < 0.1 else "COMMIT"
        yield f"BEGIN; {'; '.join(made)}; {end}"


def huge(rows: int) -> Iterator[str]:
    """A transaction that is too large to be held."""
    yield (
        f"BEGIN; INSERT INTO made SELECT i, i FROM generate_series(1000, {999 + rows}) i;"
        f" UPDATE made SET a = 0 WHERE id % 10 = 0 AND id >= 1000; DELETE FROM made WHERE id >= 1000; COMMIT"
    )

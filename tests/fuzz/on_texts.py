"""What people and programs write as text: access logs, traceparent, YAML, models, schemas, sources, SQL."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import orjson

from stranglerfig.extraction.settings import ExtractionSettings
from stranglerfig.facade import accesslog
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime import yamlfile
from stranglerfig.runtime.settings import Estate
from stranglerfig.schemas import formats
from stranglerfig.schemas.formats import Format, Text
from stranglerfig.seams import sources as python_sources
from stranglerfig.seams import statements
from stranglerfig.seams.java import reading as java_sources
from stranglerfig.storming import lint, text
from stranglerfig.telemetry import traces
from tests.fuzz import mutate
from tests.fuzz.harness import ROOT, Target

SHOP = ROOT / "examples" / "shop"


def _folder() -> Path:
    """A folder for one file, gone with the process: in memory where there is such a place."""
    memory = Path("/dev/shm")
    made = tempfile.TemporaryDirectory(prefix="fig-fuzz-", dir=memory if memory.is_dir() else None)
    _FOLDERS.append(made)
    return Path(made.name)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def access_log() -> Target:
    """Lines as Envoy writes them, and what a full disk or another program leaves."""
    line = orjson.dumps(
        {
            "time": "1770000000.123456", "method": "GET", "path": "/api/inventory/7", "route": "inventory:read:0:pinned",
            "cluster": "service_inventory", "status": 200, "flags": "-", "duration_us": 1200, "upstream_us": 900,
            "request_id": "r", "traceparent": None, "bytes_in": 0, "bytes_out": 120,
        }
    )  # fmt: skip

    def make(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return mutate.of_bytes(rng, line)
        return orjson.dumps(mutate.of_tree(rng, orjson.loads(line)), option=orjson.OPT_NON_STR_KEYS)

    def take(given: bytes) -> bool:
        found = accesslog.parse(given)
        if found is None:
            return False
        assert (found.kind and found.context != "") or found.route, found
        assert type(found.status) is int and type(found.bytes_in) is int and type(found.failed) is bool
        assert found.side in ("monolith", "service", None) and type(found.held) is bool
        return True

    return Target("access-log", make, take)


_HEADER = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL)


def traceparent() -> Target:
    """Headers of W3C Trace Context: what is taken is one, and goes on as it came."""
    given = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ]
    raw = [each.encode() for each in given]

    def make(rng: Random) -> str:
        if rng.random() < 0.1:
            return rng.choice(given)
        return mutate.of_bytes(rng, rng.choice(raw), raw).decode("utf-8", "surrogateescape")

    def take(header: str) -> bool:
        found = traces.parse(header)
        if found is None:
            return False
        assert _HEADER.fullmatch(header.strip()) and header.strip()[3:52] == f"{found.trace}-{found.span}"
        assert traces.parse(str(found)) == found and found.child().trace == found.trace
        return True

    return Target("trace", make, take)


_YAML_WORDS = [
    "", "null", "~", "true", "0", "-1", "1e999", "9" * 5000, "0x", "[", "]", "{}", "[[[[", "- ", "? ", ": ", "&a", "*a",
    "<<: *a", "!!int x", "!!timestamp x", "!!binary x", "!!python/object:os.system x", "!!set {a}", "'", '"', "|", ">",
    "\t", "#", "%YAML 9.9", "---", "...", "\x00", "\ufeff", "context", "tables", "routes", "gates", "database", "url",
    "1s", "50ms", "0.99", "${HOME}", "../..", "http://[::1", "postgresql://u:p@h:99999/d", "&a [*a]", "{*a : *a}", "é",
]  # fmt: skip
_BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)


def project() -> Target:
    """``fig.yaml`` and ``extraction.yaml``: lines and words altered, and their trees."""
    extraction = SHOP.joinpath("estate/contexts/inventory/extraction.yaml").read_text()
    estate = (
        "name: shop\nmonolith: {url: http://127.0.0.1:8001, database: {env: SHOP}}\nfacade: {listen: 127.0.0.1:8080}\n"
        "log: kafka://broker:9092\ntelemetry: {otlp: http://127.0.0.1:4318}\nlinger: 20ms\n"
    )
    corpus: list[tuple[str, Any]] = [(extraction, ExtractionSettings), (estate, Estate)]
    file = _folder() / "any.yaml"

    def make(rng: Random) -> tuple[bytes, Any]:
        given, model = corpus[int(rng.random() * 2)]
        if rng.random() < 0.003:
            given = _BOMB + given
        if rng.random() < 0.003:
            given = "[" * 2000
        if rng.random() < 0.1:
            return mutate.of_bytes(rng, given.encode()), model
        return mutate.of_text(rng, given, _YAML_WORDS).encode("utf-8", "surrogatepass"), model

    def take(given: tuple[bytes, Any]) -> bool:
        data, model = given
        file.write_bytes(data)
        try:
            yamlfile.parse(yamlfile.read(file), model)
        except FigError as error:
            assert error.code in ("bad_configuration", "no_configuration") or error.code in _SETTINGS, error.code
            assert len(error.message) < 100_000
            return False
        return True

    return Target("yaml", make, take)


_SETTINGS: set[str] = set()

_STORM_WORDS = [
    "context", "aggregate", "event", "command", "policy", "readmodel", "hotspot", "layout", "wall", "signed", "required",
    "on", "then", "Inventory", "(", ")", "{", "}", ":", ",", "->", "@", "9" * 5000, "-1", "uuid", "list<", "?", "#", "",
    "by", "é\u2028", "\x0b", "\x85", "\t", '"', "sha256:", "2026-02-03",
]  # fmt: skip


def storm() -> Target:
    """Models: reading never fails, and what was written down again says the same."""
    given = SHOP.joinpath("estate/contexts/inventory/model.storm").read_text()

    def take(altered: str) -> bool:
        model = text.parse(altered)
        once = text.show(model)
        assert text.show(text.parse(once)) == once, "written down again it is another"
        lint.lint(model)
        return bool(model.contexts)

    return Target("storm", lambda rng: mutate.of_text(rng, given, _STORM_WORDS), take)


_SCHEMAS = {
    Format.AVRO: '{"type": "record", "name": "shop.Order", "fields": [{"name": "id", "type": "long", "default": 1}, '
    '{"name": "s", "type": ["null", {"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "A"}]}, '
    '{"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}}, '
    '{"name": "m", "type": {"type": "map", "values": {"type": "array", "items": "shop.Order"}}}]}',
    Format.JSON: '{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["id"], '
    '"properties": {"id": {"type": "integer", "minimum": 0}, "s": {"$ref": "#/$defs/s"}, "t": {"oneOf": [{"type": '
    '"null"}, {"type": "string", "pattern": "^a+$"}]}}, "$defs": {"s": {"type": "array", "items": {"enum": [1, "a"]}}}}',
    Format.PROTOBUF: 'syntax = "proto3";\npackage shop;\nimport "google/protobuf/timestamp.proto";\nmessage Order {\n'
    "  int64 id = 1;\n  repeated string tags = 2 [deprecated = true];\n  map<string, Line> lines = 3;\n  oneof o {\n"
    "    bytes b = 4;\n    google.protobuf.Timestamp t = 5;\n  }\n  reserved 9 to 11;\n  message Line { double x = 1; }\n"
    "  enum E { A = 0; B = 1; }\n}\n",
}
_PROTO_WORDS = ["message", "enum", "oneof", "reserved", "9" * 400, "=", ";", "{", "}", "<", ">", "[", '"', "import", "Order", "//", "/*", "0x", "-1"]  # fmt: skip


def schemas() -> Target:
    """Schemas as they are handed to the registry: refused as ``schema_invalid``, or kept, compared and kept the same."""

    def make(rng: Random) -> tuple[Format, str]:
        kind = rng.choice(list(_SCHEMAS))
        given = _SCHEMAS[kind]
        if kind is Format.PROTOBUF:
            return kind, mutate.of_text(rng, given, _PROTO_WORDS)
        if rng.random() < 0.3:
            return kind, mutate.of_bytes(rng, given.encode()).decode("utf-8", "replace")
        tree = mutate.of_tree(rng, orjson.loads(given))
        return kind, orjson.dumps(tree, option=orjson.OPT_NON_STR_KEYS).decode()

    def take(given: tuple[Format, str]) -> bool:
        kind, altered = given
        schema = Text(kind, altered)
        try:
            formats.validate(schema)
            once = formats.canonical(schema)
            formats.normal(schema)
        except FigError as error:
            assert error.code in ("schema_invalid", "schema_missing"), error.code
            return False
        assert formats.canonical(Text(kind, once)) == once
        before = Text(kind, _SCHEMAS[kind])
        formats.differences(before, schema)
        assert not formats.differences(schema, schema)
        return True

    return Target("schemas", make, take)


_CODE_WORDS = [
    "", "class", "def", "return", "import", "lambda", "(", ")", "{", "}", "[", "]", ":", ";", "@Entity", "@Table(name =",
    "f'{", '"""', "'", "\\", "SELECT * FROM", "UPDATE", "JOIN", "WITH x AS (", "INSERT INTO", "NULL", "::", "%s", "$1",
    "--", "/*", "9" * 5000, "extends", "new", "<T>", "->", "é", "\x0c", "\t", "async", "await", "match", "CASE WHEN",
    "not " * 300, "-" * 300, "(" * 300,
]  # fmt: skip
_SQL = [
    "SELECT i.id, o.n FROM item i LEFT JOIN public.orders o ON o.item = i.id WHERE i.sku = %s AND o.at > now() - '1 day'",
    "WITH gone AS (DELETE FROM stock WHERE n = 0 RETURNING *) INSERT INTO old SELECT * FROM gone ON CONFLICT DO NOTHING",
    "BEGIN IF EXISTS (SELECT 1 FROM a) THEN UPDATE b SET x = x + 1 WHERE id IN (SELECT id FROM c); END IF; END",
]
_JAVA = """package clinic.owner;
import jakarta.persistence.*;
@Entity @Table(name = "owners") public class Owner extends BaseEntity {
    @OneToMany(cascade = CascadeType.ALL) @JoinColumn(name = "owner_id") private final List<Pet> pets = new ArrayList<>();
    @Query("SELECT o FROM Owner o WHERE o.name = :name") List<Owner> find(@Param("name") String name);
    @GetMapping({"/owners/{id}", BASE + "/x"}) public String show(int id) { return this.repo.findById(id).map(x -> x).get(); }
}
"""


def sources() -> Target:
    """A monolith's Python, Java and SQL: what does not parse is counted as such."""
    python = SHOP.joinpath("monolith/inventory.py").read_text()
    folder = _folder()
    file = folder / "inventory.py"
    parser = java_sources._parser()

    def make(rng: Random) -> tuple[str, str]:
        kind = rng.choice(("python", "java", "sql", "body"))
        given = {"python": python, "java": _JAVA}.get(kind) or rng.choice(_SQL)
        return kind, mutate.of_text(rng, given, _CODE_WORDS)

    def take(given: tuple[str, str]) -> bool:
        kind, altered = given
        if kind == "python":
            file.write_text(altered, encoding="utf-8", errors="surrogatepass")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return not python_sources.read(folder).broken
        if kind == "java":
            try:
                return java_sources.parse(altered.encode("utf-8", "surrogatepass"), "x.java", parser).whole
            except RecursionError:  # as it says
                return False
        if kind == "sql":
            return statements.touched(altered) is not None
        return bool(statements.body(altered).tables)

    return Target("sources", make, take)

"""Which tables a query in Java's sources touches: SQL, or JPA's query language, which speaks of entities."""

from __future__ import annotations

import re

from stranglerfig.seams.java.mapping import Entity, Mapping, Names
from stranglerfig.seams.statements import Touched, looks_like_sql, touched

_MARKED = re.compile(r"\?\d*|#\{[^}]*\}|\$\{[^}]*\}|:\w+(?<!::)")
_VERB = re.compile(r"\s*(SELECT|FROM|UPDATE|DELETE|INSERT|WITH|MERGE)\b", re.IGNORECASE)
_WORD = r"[A-Za-z_$][\w$]*"
_ROOT = re.compile(
    rf"\b(FROM|JOIN(?:\s+FETCH)?|UPDATE|INTO|DELETE)\s+(?:IN\s*\(\s*)?(?!FROM\b)({_WORD}(?:\.{_WORD})*)(?:\s*\))?"
    rf"(?:\s+(?:AS\s+)?(?!(?:SET|WHERE|JOIN|LEFT|INNER|RIGHT|ON|ORDER|GROUP|HAVING|FETCH|WITH|SELECT)\b)({_WORD}))?",
    re.IGNORECASE,
)
_NEXT = re.compile(rf",\s*(?:IN\s*\(\s*)?({_WORD}(?:\.{_WORD})*)(?:\s*\))?\s+(?:AS\s+)?({_WORD})", re.IGNORECASE)
_PATH = re.compile(rf"\b({_WORD})((?:\.{_WORD})+)")
_TEXTS = re.compile(r"'(?:[^']|'')*'")


class Queries:
    """Parses each text once, and counts those that look like queries and cannot be parsed."""

    def __init__(self, mapping: Mapping, names: Names, dialect: str = "postgres") -> None:
        self._mapping = mapping
        self._names = names
        self._dialect = dialect
        self._found: dict[tuple[str, str], Touched | None] = {}
        self.parsed: set[str] = set()
        self.unparsed: set[str] = set()

    def touched(self, text: str, entity: str = "") -> Touched:
        """What a text touches, nothing when it is no query; ``entity`` is what ``#{#entityName}`` stands for."""
        key = (text, entity)
        if key not in self._found:
            whole = text.replace("#{#entityName}", entity) if entity else text
            self._found[key] = self._touched(whole)
        found = self._found[key]
        if found is None:
            self.unparsed.add(text)
        elif found.tables:
            self.parsed.add(text)
        return found or Touched()

    def _touched(self, text: str) -> Touched | None:
        if not _VERB.match(text):
            return Touched()
        if (found := self._jpql(text)) is not None:
            return found
        if not looks_like_sql(text):
            return Touched()
        sql = touched(_MARKED.sub("NULL", text), dialect=self._dialect)
        return self._names.of(sql) if sql is not None else None

    def _jpql(self, text: str) -> Touched | None:
        """What a query over entities touches; None when it names none first."""
        plain = _TEXTS.sub("''", text)
        roots = list(_ROOT.finditer(plain))
        entities = self._mapping.by_name
        if not roots or roots[0][2] not in entities:
            return None
        verb = roots[0][1].upper()
        if verb == "UPDATE" and not re.search(r"\bSET\b", plain, re.IGNORECASE):
            return None  # a sentence
        of: dict[str, Entity] = {}
        reads, writes = set[str](), set[str]()
        for number, root in enumerate(roots):
            found = self._end(root[2], of, reads)
            if found is None:
                continue
            if root[3]:
                of[root[3]] = found
            changes = number == 0 and (verb in ("UPDATE", "INTO", "DELETE") or _deletes(plain))
            (writes if changes else reads).update(found.tables if changes else {found.table})
        for more in _NEXT.finditer(plain):
            if (found := self._end(more[1], of, reads)) is not None:
                of[more[2]] = found
                reads.add(found.table)
        for path in _PATH.finditer(plain):
            if path[1] in of:
                # The last name of a path is a value, or the key that the row has already.
                self._end(path[0].rpartition(".")[0], of, reads)
        return Touched(frozenset(reads - writes), frozenset(writes))

    def _end(self, path: str, of: dict[str, Entity], reads: set[str]) -> Entity | None:
        """The entity that a path (``o.pets``) or a name leads to; what is passed on the way is read."""
        if path in self._mapping.by_name:
            return self._mapping.by_name[path]
        first, *rest = path.split(".")
        found = of.get(first)
        for name in rest:
            link = found.associations.get(name) if found is not None else None
            if link is None:
                return None
            if link.between:
                reads.add(link.between)
            found = self._mapping.of(link.target)
            if found is not None:
                reads.add(found.table)
        return found


def _deletes(text: str) -> bool:
    return text.lstrip()[:6].upper() == "DELETE"

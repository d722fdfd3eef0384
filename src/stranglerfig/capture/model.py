"""What capture decides: whether a slot may be used, whether a table's new shape passes, what is acknowledged.

Pure: facts in, decisions out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stranglerfig.changes.model import Column, Relation, lsn_text
from stranglerfig.changes.spread import Spread
from stranglerfig.foundation.errors import FigError

AGAIN = "Take a new snapshot of this flow: it begins with a new slot."


@dataclass(frozen=True, slots=True)
class Drift:
    """How a table's shape differs from the one that is known."""

    table: str
    added: tuple[Column, ...]
    dropped: tuple[str, ...]
    retyped: tuple[str, ...]
    moved: bool = False

    @property
    def compatible(self) -> bool:
        """Whether changes of the new shape can be taken by whoever knows the old one."""
        return not (self.dropped or self.retyped or self.moved)

    def sentence(self) -> str:
        """What happened, in words."""
        parts = []
        if self.dropped:
            parts.append("dropped or renamed: " + ", ".join(self.dropped))
        if self.retyped:
            parts.append("of another type: " + ", ".join(self.retyped))
        if self.added:
            parts.append("new: " + ", ".join(f"{column.name} {column.type}" for column in self.added))
        if self.moved:
            parts.append("another key")
        return "; ".join(parts)


def compare(known: Relation, found: Relation) -> Drift:
    """What became of a table's columns. (A renamed column is one dropped and one new.)"""
    before = {column.name: column for column in known.columns}
    after = {column.name: column for column in found.columns}
    return Drift(
        found.qualified,
        tuple(column for name, column in after.items() if name not in before),
        tuple(name for name in before if name not in after),
        tuple(name for name, column in after.items() if name in before and before[name].type != column.type),
        _moved({n for n, c in before.items() if c.key}, {n for n, c in after.items() if c.key}),
    )


def _moved(before: set[str], after: set[str]) -> bool:
    """Whether rows can no longer be told by what told them. (REPLICA IDENTITY FULL tells more: it may come and go.)"""
    return not (before <= after or after <= before) or (bool(before) and not after)


def incompatible(drift: Drift) -> FigError:
    """A table's rows are held from the transaction on that first has the new shape."""
    return FigError(
        "incompatible_ddl",
        f"the table {drift.table} changed its shape ({drift.sentence()}); its rows are held",
        "Make the mapping and the target fit the new shape, then resume; or undo the change and take a new snapshot.",
        table=drift.table,
        dropped=list(drift.dropped),
        retyped=list(drift.retyped),
        added=[column.name for column in drift.added],
    )


@dataclass(frozen=True, slots=True)
class Server:
    """Which server this is, and how far its log is written."""

    system: str
    timeline: int
    version: int
    lsn: int


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A slot as ``pg_replication_slots`` shows it."""

    confirmed: int
    restart: int
    wal_status: str | None
    safe_wal_size: int | None
    active_pid: int | None
    plugin: str = "pgoutput"

    @property
    def lost(self) -> bool:
        """Whether the server has given the slot's WAL up."""
        return self.wal_status == "lost"


@dataclass(frozen=True, slots=True)
class PublicationFacts:
    """A publication: its identity and its tables, ``schema.name``."""

    oid: int
    tables: frozenset[str]


_COMPOUND = frozenset({"relations", "accepted", "spreads"})


@dataclass(frozen=True, slots=True)
class State:
    """What capture remembers of a flow, as its newest record in the log.

    Attributes:
        asked: the flow's generation that the slot was made for.
        generation: of the newest snapshot; it grows with each attempt, so that a half-written one is known as such.
        snapshot: ``none`` (not asked for), ``begun``, ``done``.
        acknowledged: no position beyond this was ever acknowledged to the source.
        relations: the tables' shapes at ``acknowledged``.
        accepted: tables whose new shape a person has accepted.
        engine: what reads the source: ``native`` or ``debezium``. Their positions differ, so a flow keeps its engine.
        raw: of Debezium's raw topic, the offset to read on from; -1 before the topic was made.
        gtid: of a MariaDB, the place behind ``acknowledged``, where to read on.
        spreads: how transactions are divided over the topic's partitions, each from a commit LSN on, in order; none
            while there is one partition.
    """

    slot: str
    system: str
    timeline: int
    publication: int
    asked: int
    generation: int
    snapshot: str
    created: int
    acknowledged: int
    relations: tuple[Relation, ...] = ()
    accepted: tuple[str, ...] = field(default=())
    engine: str = "native"
    raw: int = -1
    gtid: str = ""
    spreads: tuple[tuple[int, Spread], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        shown = {
            **{name: getattr(self, name) for name in self.__slots__ if name not in _COMPOUND},
            "relations": [[r.schema, r.name, [[c.name, c.type, c.key] for c in r.columns]] for r in self.relations],
            "accepted": list(self.accepted),
        }
        if self.spreads:
            shown["spreads"] = [[lsn, spread.as_dict()] for lsn, spread in self.spreads]
        return shown

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> State:
        """The inverse of :meth:`as_dict`."""
        relations = tuple(
            Relation(schema, name, tuple(Column(*column) for column in columns))
            for schema, name, columns in found["relations"]
        )
        spreads = tuple((lsn, Spread.from_dict(spread)) for lsn, spread in found.get("spreads", ()))
        return cls(**{**found, "relations": relations, "accepted": tuple(found["accepted"]), "spreads": spreads})

    def accepting(self, table: str) -> State:
        """The state in which ``table``'s next shape is taken as it comes."""
        return replace(self, accepted=tuple({*self.accepted, table}))

    @property
    def spread(self) -> Spread:
        """The newest."""
        return self.spreads[-1][1] if self.spreads else Spread()

    def turning(self, lsn: int, spread: Spread) -> State:
        """The state in which transactions from ``lsn`` on are divided by ``spread``."""
        return replace(self, spreads=(*(self.spreads or ((0, Spread()),)), (lsn, spread)))

    def acknowledging(self, lsn: int, shapes: Mapping[str, Relation]) -> State:
        """The state in which ``lsn`` is acknowledged, where tables have ``shapes``; what is all before it is forgotten:
        former spreads, and which new shapes were accepted that are these. A table whose accepted shape has not come
        yet is in no ``shapes``, and stays known."""
        # A transaction may begin its commit where the one before ends: only beyond that is it in.
        over = [n for n, (begins, _) in enumerate(self.spreads) if begins < lsn]
        return replace(
            self,
            acknowledged=lsn,
            relations=(*(r for r in self.relations if r.qualified not in shapes), *shapes.values()),
            accepted=tuple(table for table in self.accepted if table not in shapes),
            spreads=self.spreads[over[-1] :] if over else self.spreads,
        )

    def baseline(self) -> dict[str, Relation]:
        """The shapes to compare with: those that nobody has accepted anew."""
        return {r.qualified: r for r in self.relations if r.qualified not in self.accepted}


def must_begin(state: State | None, *, wanted: bool, generation: int) -> bool:
    """Whether to begin anew, with a new slot (and snapshot, when ``wanted``)."""
    if state is None or generation > state.asked:
        return True
    return wanted and state.snapshot == "begun"


def check_place(
    state: State, server: Server, slot: SlotFacts | None, publication: PublicationFacts | None, tables: frozenset[str]
) -> None:
    """The position rules: refuse to go on where changes may have been missed.

    Raises:
        FigError: ``source_replaced``, ``source_rewound``, ``slot_lost``, ``changes_skipped``,
            ``publication_dropped``, ``publication_changed``.
    """
    if server.system != state.system:
        raise FigError(
            "source_replaced",
            f"the source is another server now (system identifier {server.system}, it was {state.system})",
            f"Point the configuration at the former server, or: {AGAIN}",
            found=server.system,
            known=state.system,
        )
    if server.lsn < state.acknowledged:
        raise FigError(
            "source_rewound",
            f"the source stands at {lsn_text(server.lsn)}, before {lsn_text(state.acknowledged)}, which was captured: "
            "it was restored from an older state",
            AGAIN,
            found=lsn_text(server.lsn),
            known=lsn_text(state.acknowledged),
        )
    check_slot(state.slot, slot)
    assert slot is not None
    # Debezium acknowledges by itself what Kafka has; how far that may be is known once the raw topic is read.
    if state.engine == "native":
        check_acknowledged(state.slot, slot.confirmed, state.acknowledged)
    check_publication(state, publication, tables)


def check_acknowledged(slot: str, confirmed: int, most: int) -> None:
    """A slot that stands beyond what can have been acknowledged was moved by something else (``changes_skipped``)."""
    if confirmed > most:
        raise FigError(
            "changes_skipped",
            f"the slot {slot} stands at {lsn_text(confirmed)}, beyond {lsn_text(most)}, which"
            " is as far as capture acknowledged it: something else consumed it",
            f"Let nothing else read this slot. {AGAIN}",
            slot=slot,
            found=lsn_text(confirmed),
            known=lsn_text(most),
        )


def check_engine(state: State, wanted: str) -> None:
    """A flow goes on with the engine that it began with (``engine_changed``)."""
    if state.engine != wanted:
        raise FigError(
            "engine_changed",
            f"this flow was begun with capture: {state.engine}, and extraction.yaml says {wanted} now",
            f"Put capture: {state.engine} back, or: {AGAIN}",
            known=state.engine,
            configured=wanted,
        )


def check_slot(name: str, slot: SlotFacts | None) -> None:
    """A slot that is gone or given up is a state with a remedy (``slot_lost``)."""
    if slot is None or slot.lost:
        why = "does not exist any more" if slot is None else "was given up by the server: it needed too much WAL"
        raise FigError(
            "slot_lost",
            f"the replication slot {name} {why}; changes since then are not known",
            f"{AGAIN} (Raise max_slot_wal_keep_size when the WAL budget was too small.)",
            slot=name,
        )


def check_publication(state: State, publication: PublicationFacts | None, tables: frozenset[str]) -> None:
    """PostgreSQL 18 skips changes silently while a slot's publication is missing: so it may never have been."""
    if publication is None or publication.oid != state.publication:
        raise FigError(
            "publication_dropped",
            f"the publication {state.slot} was dropped: changes since then may have been skipped",
            AGAIN,
            publication=state.slot,
        )
    if publication.tables != tables:
        raise FigError(
            "publication_changed",
            f"the publication {state.slot} has the tables {', '.join(sorted(publication.tables))}; configured are "
            f"{', '.join(sorted(tables))}",
            AGAIN,
            publication=state.slot,
            found=sorted(publication.tables),
            configured=sorted(tables),
        )


PERMANENT = frozenset(
    {
        "source_replaced",
        "source_rewound",
        "slot_lost",
        "changes_skipped",
        "publication_dropped",
        "publication_changed",
        "bad_stream",
        "missing_table",
        "wal_level",
        "engine_changed",
        "raw_topic_lost",
        "bad_raw_record",
        "undeliverable_types",
        "foreign_origins",
        "source_too_old",
        "no_tcp_address",
        "connector_invalid",
        "backend_not_installed",
        "not_mariadb",
        "binlog_off",
        "binlog_format",
        "binlog_row_image",
        "log_bin_compress",
        "not_transactional",
        "system_versioned",
        "no_replica_identity",
        "cascade_not_logged",
        "zero_date",
        "binlog_lost",
        "tables_changed",
        "debezium_needed",
        "partitions_unsupported",
        "schema_missing",
        "schema_violation",
    }
)
"""Codes that trying again does not mend by itself: reported as ``failed``, looked at again now and then."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot on its way.

    Attributes:
        rows: rows that the log has.
        pages, pages_total: disk pages read, which is what honest remaining time is reckoned by.
        estimate: rows that the catalogue expects.
        seconds: since it began.
    """

    rows: int = 0
    pages: int = 0
    pages_total: int = 0
    estimate: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """How much is done, 0 … 1."""
        return min(1.0, self.pages / self.pages_total) if self.pages_total else 1.0

    @property
    def total(self) -> int:
        """How many rows it will be: as the catalogue says at first, as what was read says later."""
        return max(self.rows, round(self.rows / self.share) if self.share > 0.05 else self.estimate)

    @property
    def rate(self) -> float:
        """Rows per second so far."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """Seconds still to go; None while nothing honest can be said."""
        if self.share <= 0.02 or self.seconds < 0.2:
            return None
        return self.seconds * (1 - self.share) / self.share

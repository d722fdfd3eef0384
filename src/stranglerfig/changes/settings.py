"""The part of ``extraction.yaml`` that says how rows of one model become rows of the other."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h)\s*$")


def milliseconds(found: Any) -> Any:
    """``50ms``, ``1s``, ``1.5m`` → milliseconds.

    Raises:
        ValueError: anything else, a bare number included: it would not say its unit.
    """
    if isinstance(found, str) and (match := _DURATION.match(found)):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError(f"{found!r} is not a duration; write it with its unit, such as 50ms, 1s or 2m")


Milliseconds = Annotated[float, BeforeValidator(milliseconds)]
"""A duration with its unit, in milliseconds."""


class Settings(BaseModel):
    """Base of what users write: unknown keys are errors, and nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


Rule = Literal["service wins", "monolith wins", "later commit wins"]


class ConflictRules(Settings):
    """What becomes of a row that both sides changed (``remaining_writers: bidirectional``)."""

    rule: Rule | None = Field(
        default=None, description="Whose change stands. Without a rule a conflict stops the flow at the row."
    )
    delta: tuple[str, ...] = Field(
        default=(),
        description="Columns of the service's table that count: the difference of a change is applied, not its value.",
    )


class TableMapping(Settings):
    """One source row → one row of a target table."""

    source: str = Field(alias="from", description="The monolith's table, with its schema: public.inventory.")
    to: str = Field(description="The service's table; public unless it names a schema.")
    key: dict[str, str] = Field(min_length=1, description="Target key column → SQL expression over the source row.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Target column → SQL expression over the source row."
    )
    reverse: dict[str, str] | None = Field(
        default=None, description="Source column → SQL expression over the target row; needed for the writes stage."
    )
    where: str | None = Field(
        default=None, description="SQL condition on the source row; other rows have no target row."
    )
    conflicts: ConflictRules | None = Field(
        default=None, description="What becomes of rows that both sides change; for remaining_writers: bidirectional."
    )

    @property
    def target(self) -> str:
        """``to`` with its schema."""
        return self.to if "." in self.to else f"public.{self.to}"


class DerivedOn(Settings):
    """Which changes a derived event comes from."""

    table: str = Field(description="The monolith's table, with its schema.")
    op: tuple[Literal["c", "u", "d", "r"], ...] = Field(default=("c", "u", "r"), description="Kinds of change.")
    when: str | None = Field(
        default=None, description="SQL condition over new.* (and old.* under REPLICA IDENTITY FULL)."
    )


class DerivedEvent(Settings):
    """A business fact computed from a change while the monolith still owns the data."""

    event: str = Field(description="Event type, such as inventory.InventoryLevelChanged.")
    on: DerivedOn
    key: str = Field(description="SQL expression: the event's key.")
    data: dict[str, str] = Field(description="Field → SQL expression over new.* (old.*).")


class Reference(Settings):
    """An address that may hold a secret: given here, or by the variable or file that holds it, or what prints it."""

    env: str | None = Field(default=None, description="Environment variable that holds it.")
    file: str | None = Field(default=None, description="File that holds it, relative to fig.yaml's folder.")
    command: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Program and arguments that print it, run in fig.yaml's folder: [vault, kv, get, …].",
    )
    timeout: Milliseconds = Field(default=10_000.0, gt=0, description="How long the command may take.")

    @property
    def text(self) -> str | None:
        """The address, when it is given here; a kind of reference that only ever points elsewhere has none."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        here = next((name for name in cls.model_fields if name not in Reference.model_fields), None)
        return {here: given} if isinstance(given, str) and here is not None else given

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.text, self.env, self.file, self.command)) != 1:
            raise ValueError("give an address, or exactly one of env, file and command")
        return self

    def __repr__(self) -> str:
        # An address may hold a password: it never shows.
        program = self.command[0] if self.command else None
        return f"{type(self).__name__}(env={self.env!r}, file={self.file!r}, command={program!r})"


class DatabaseReference(Reference):
    """A database's address: a DSN, or where to find one, so that secrets stay out of files in git."""

    dsn: str | None = Field(default=None, description="postgresql://role@host:port/database")

    @property
    def text(self) -> str | None:
        """The DSN, when it is given here."""
        return self.dsn

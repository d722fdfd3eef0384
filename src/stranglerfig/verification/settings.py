"""What users write about shadow reads: what counts as equal, and how much is compared."""

from __future__ import annotations

from pydantic import Field, field_validator

from stranglerfig.changes.settings import Settings
from stranglerfig.foundation.jsonpath import compile_path

PATHS = "JSONPath: $.a.b, $.items[*].at, $..etag"


class ShadowSettings(Settings):
    """How the answers of monolith and service to the same read are compared."""

    ignore: tuple[str, ...] = Field(default=(), description=f"Parts of the body that may differ ({PATHS}).")
    unordered: tuple[str, ...] = Field(default=(), description=f"Arrays whose order does not matter ({PATHS}).")
    headers: tuple[str, ...] = Field(default=("content-type",), description="Response headers that must be equal.")
    tolerance: float = Field(
        default=0.0, ge=0, description="Absolute difference of two numbers that still counts as equal."
    )
    error_bodies: bool = Field(default=False, description="Whether bodies of answers from 400 on are compared, too.")
    reveal: tuple[str, ...] = Field(
        default=(), description=f"Strings that are kept in samples as they are; others are hashed ({PATHS})."
    )
    baseline: float = Field(
        default=5.0,
        ge=0,
        le=100,
        description="Share of the reads by which the monolith is held against itself, percent.",
    )
    lag: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Seconds that a difference may last and be the sync's lag, not a mismatch.",
    )
    most_per_second: int = Field(
        default=200, ge=1, description="Comparisons per second; what is beyond counts as missing coverage."
    )
    queue: int = Field(default=500, ge=1, description="Copies that wait; what is beyond counts as missing coverage.")
    concurrency: int = Field(default=32, ge=1, le=512, description="Comparisons at a time.")
    timeout: float = Field(default=5.0, gt=0, description="Seconds after which a side that was asked has not answered.")
    max_body_kb: int = Field(default=1024, ge=1, description="Largest body that is compared, KiB.")
    samples: int = Field(default=200, ge=0, description="Samples of differing answers that are kept per context.")

    @field_validator("ignore", "unordered", "reveal")
    @classmethod
    def _paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            compile_path(path)
        return paths

    @field_validator("headers")
    @classmethod
    def _lower(cls, headers: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(header.lower() for header in headers)

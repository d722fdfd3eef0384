"""Identifiers."""

from __future__ import annotations

import uuid

from stranglerfig.foundation import clock, ids


def test_ids_are_uuids_of_version_7_and_sort_by_birth() -> None:
    before = int(clock.epoch() * 1000)
    made = [ids.new_id() for _ in range(1000)]
    after = int(clock.epoch() * 1000)
    told = [uuid.UUID(each) for each in made]
    assert len(set(made)) == 1000 and [str(each) for each in told] == made
    assert {(each.version, each.variant) for each in told} == {(7, uuid.RFC_4122)}
    births = [each.int >> 80 for each in told]
    assert births == sorted(births) and before <= births[0] and births[-1] <= after
    assert len({each.int >> 64 & 0xFFF for each in told}) > 500, "what is beside the version is random as well"


def test_a_nonce_is_sixteen_hexadecimal_digits() -> None:
    assert len(ids.nonce()) == 16 and int(ids.nonce(), 16) >= 0

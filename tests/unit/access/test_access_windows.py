"""Change windows by the clock on a wall: days, midnight, and the two nights on which that clock jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stranglerfig.access.windows import Window, closes, is_open, opens, parse

BERLIN = ZoneInfo("Europe/Berlin")
WORK = "Mon-Fri 09:00-16:00 Europe/Berlin"


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


@pytest.mark.parametrize(
    ("text", "moment", "found"),
    [
        (WORK, "2026-11-23 08:59", False),
        (WORK, "2026-11-23 09:00", True),
        (WORK, "2026-11-23 15:59", True),
        (WORK, "2026-11-23 16:00", False),
        (WORK, "2026-11-21 12:00", False),  # a Saturday
        ("Sat,Sun 00:00-24:00 Europe/Berlin", "2026-11-21 23:59", True),
        ("Fri 22:00-02:00 Europe/Berlin", "2026-11-21 01:59", True),
        ("Fri 22:00-02:00 Europe/Berlin", "2026-11-20 01:59", False),
        ("Sat-Mon 10:00-11:00 Europe/Berlin", "2026-11-22 10:30", True),
        ("daily 03:00-04:00 UTC", "2026-11-22 04:30", True),
    ],
)
def test_a_window_is_open_while_the_clock_shows_its_time(text: str, moment: str, found: bool) -> None:
    assert parse(text).open_at(at(moment)) is found


def test_it_closes_at_the_first_minute_at_which_one_group_has_none_open() -> None:
    groups = [[parse(WORK)], [parse("daily 08:00-12:00 Europe/Berlin"), parse("Mon 12:00-15:30 Europe/Berlin")]]
    assert closes(groups, at("2026-11-23 09:00")) == at("2026-11-23 15:30")
    assert closes(groups, at("2026-11-24 11:59")) == at("2026-11-24 12:00")
    assert closes([[parse("daily 00:00-24:00 UTC")]], at("2026-11-23 09:00")) is None


def test_a_time_that_the_clock_skips_never_opens() -> None:
    # In Berlin the clock went from 02:00 to 03:00 on 2026-03-29, a Sunday.
    window = parse("Sun 02:15-02:45 Europe/Berlin")
    night = datetime(2026, 3, 29, tzinfo=UTC)
    assert not any(window.open_at(night + timedelta(minutes=minute)) for minute in range(24 * 60))
    assert opens([[window]], night) == datetime(2026, 4, 5, 0, 15, tzinfo=UTC)
    across = parse("Sun 02:30-05:00 Europe/Berlin")
    assert opens([[across]], night) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # 03:00, the first it shows


def test_an_hour_that_the_clock_shows_twice_is_open_twice() -> None:
    # From 03:00 back to 02:00 on 2026-10-25.
    window = parse("Sun 02:30-03:00 Europe/Berlin")
    assert window.open_at(at("2026-10-25 02:30")) and window.open_at(at("2026-10-25 02:30", fold=1))
    assert not window.open_at(at("2026-10-25 02:10", fold=1))


def test_the_same_wall_time_is_another_instant_in_summer() -> None:
    window = parse(WORK)
    assert window.open_at(datetime(2026, 7, 1, 7, 0, tzinfo=UTC))
    assert not window.open_at(datetime(2026, 12, 1, 7, 0, tzinfo=UTC))


def test_it_says_when_it_opens() -> None:
    friday = at("2026-11-20 16:00")
    assert opens([[parse(WORK)]], friday) == at("2026-11-23 09:00")
    both = [[parse(WORK)], [parse("Wed 12:00-13:00 UTC")]]
    assert opens(both, friday) == datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    assert opens([[parse("Mon 09:00-10:00 UTC")], [parse("Tue 09:00-10:00 UTC")]], friday) is None
    assert opens([], friday) == friday


def test_no_window_is_always_and_any_of_several_will_do() -> None:
    saturday = at("2026-11-21 12:00")
    assert is_open([], saturday)
    assert is_open([parse(WORK), parse("Sat 11:00-13:00 Europe/Berlin")], saturday)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Mon-Fri 9-16", "write it as"),
        ("Mon-Fri 09:00-16:00 Europe/Atlantis", "time zone"),
        ("Mon-Fri 09:00-16:00 ../../etc/passwd", "time zone"),
        ("Mon-Fri 09:00-16:00 Europe", "time zone"),
        ("Mo-Fr 09:00-16:00 UTC", "is not a day"),
        ("Mon 09:61-16:00 UTC", "time of day"),
        ("Mon 09:00-25:00 UTC", "time of day"),
        ("Mon 09:00-09:00 UTC", "before its end"),
        ("Mon 24:00-10:00 UTC", "before its end"),
    ],
)
def test_what_is_no_window_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


@given(
    st.builds(
        Window,
        st.frozensets(st.integers(0, 6), min_size=1),
        st.integers(0, 719),
        st.integers(720, 1440),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    ),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda found: found.replace(tzinfo=UTC)),  # noqa: DTZ001
)
def test_it_opens_when_it_says_and_not_a_minute_before(window: Window, moment: datetime) -> None:
    found = opens([[window]], moment)
    assert found is not None and found >= moment and window.open_at(found)
    if found - moment >= timedelta(minutes=1):
        assert not window.open_at(found - timedelta(minutes=1))

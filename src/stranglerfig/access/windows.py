"""Change windows: when a stage may be entered, by the clock on a wall of some time zone. Pure.

A window is open while that clock shows one of its times. So a time that daylight saving skips never opens it, and an
hour that is shown twice is open twice; nobody has to know offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FORM = re.compile(
    r"(?P<days>[A-Za-z][A-Za-z,-]*) +(?P<from>\d\d):(?P<from_m>\d\d)-(?P<to>\d\d):(?P<to_m>\d\d) +(?P<zone>\S+)"
)
_AHEAD = timedelta(days=15)
"""How far the next opening is looked for: a weekly window whose time daylight saving skips opens a week later."""


@dataclass(frozen=True, slots=True)
class Window:
    """Days (0 is Monday) and minutes of the day, from ``begins`` up to but without ``ends``; it may pass midnight."""

    days: frozenset[int]
    begins: int
    ends: int
    zone: str

    def open_at(self, moment: datetime) -> bool:
        """Whether it is open at ``moment`` (aware)."""
        shown = moment.astimezone(ZoneInfo(self.zone))
        minute, day = shown.hour * 60 + shown.minute, shown.weekday()
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        return (day in self.days and minute >= self.begins) or ((day - 1) % 7 in self.days and minute < self.ends)


def parse(text: str) -> Window:
    """``Mon-Fri 09:00-16:00 Europe/Berlin``; days also as ``Mon,Wed`` or ``daily``; ``22:00-02:00`` passes midnight.

    Raises:
        ValueError: what is wrong, and what is allowed.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a change window; write it as 'Mon-Fri 09:00-16:00 Europe/Berlin'")
    begins, ends = _minutes(match["from"], match["from_m"]), _minutes(match["to"], match["to_m"])
    if begins == ends or begins == 24 * 60:
        raise ValueError(f"{text!r}: a window has a beginning before its end, such as 00:00-24:00")
    try:
        ZoneInfo(match["zone"])
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{match['zone']!r} is not a time zone; allowed: names such as Europe/Berlin or UTC") from None
    return Window(_days(match["days"]), begins, ends, match["zone"])


def _minutes(hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > 24 * 60:
        raise ValueError(f"'{hour}:{minute}' is not a time of day (00:00 to 24:00)")
    return found


def _days(text: str) -> frozenset[int]:
    if text.lower() == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        end = _day(last) if dash else begin
        found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(found)


def _day(text: str) -> int:
    if (name := text.capitalize()) not in DAYS:
        raise ValueError(f"{text!r} is not a day; allowed: {', '.join(DAYS)}, daily")
    return DAYS.index(name)


def is_open(windows: Iterable[Window], moment: datetime) -> bool:
    """Whether any of them is open; none at all means always."""
    found = list(windows)
    return not found or any(window.open_at(moment) for window in found)


def closes(groups: Iterable[Iterable[Window]], moment: datetime) -> datetime | None:
    """The next minute (UTC) after ``moment`` at which one of ``groups`` has no open window; None: not in 15 days."""
    wanted = [list(group) for group in groups]
    first = moment.astimezone(UTC).replace(second=0, microsecond=0)
    for ahead in range(1, int(_AHEAD.total_seconds() // 60)):
        minute = first + timedelta(minutes=ahead)
        if not all(is_open(group, minute) for group in wanted):
            return minute
    return None


def opens(groups: Iterable[Iterable[Window]], moment: datetime) -> datetime | None:
    """The next minute (UTC) from ``moment`` on at which each of ``groups`` has an open window; None: not in 15 days."""
    wanted = [list(group) for group in groups]
    minute = moment.astimezone(UTC).replace(second=0, microsecond=0)
    if minute < moment:
        minute += timedelta(minutes=1)
    end = minute + _AHEAD
    while minute < end:
        if all(is_open(group, minute) for group in wanted):
            return minute
        minute += timedelta(minutes=1)
    return None

"""The section ``wall`` of ``model.storm``: what hangs on the wall beside the contexts' model, one thing a line.

Names are in quotation marks, for people write sentences on stickies; what a line names is named as in the layout.
"""

from __future__ import annotations

import re

from stranglerfig.storming.model import Area, Comment, Lane, Link, Sticky, Wall

KINDS = ("event", "command", "aggregate", "policy", "readmodel", "external", "actor", "hotspot")
_TEXT = r'"[^"]*"'
_INT = r"-?\d{1,9}"
_STICKY = re.compile(
    rf"sticky (?P<kind>{'|'.join(KINDS)}) (?P<name>{_TEXT})(?: says (?P<spec>{_TEXT}))?"
    rf" (?P<x>{_INT}) (?P<y>{_INT})(?: in (?P<inside>{_TEXT}))?"
)
_AREA = re.compile(rf"context (?P<name>{_TEXT}) (?P<x>{_INT}) (?P<y>{_INT}) (?P<width>{_INT}) (?P<height>{_INT})")
_LANE = re.compile(rf"lane (?P<name>{_TEXT}) (?P<y>{_INT}) (?P<height>{_INT})")
_LINK = re.compile(rf"link (?P<source>{_TEXT}) -> (?P<target>{_TEXT})")
_PIVOTAL = re.compile(rf"pivotal (?P<name>{_TEXT})")
_COMMENT = re.compile(rf"comment on (?P<on>{_TEXT}) by (?P<by>{_TEXT}): (?P<words>{_TEXT})")


class Draft:
    """A section whose lines are still coming."""

    def __init__(self) -> None:
        self._areas: list[Area] = []
        self._stickies: list[Sticky] = []
        self._links: list[Link] = []
        self._pivotal: list[str] = []
        self._comments: list[Comment] = []
        self._lanes: list[Lane] = []

    def take(self, line: str) -> bool:
        """Take an understood line; False for any other."""
        if m := _STICKY.fullmatch(line):
            inside = m["inside"][1:-1] if m["inside"] is not None else None
            spec = (m["spec"] or '""')[1:-1]
            self._stickies.append(Sticky(m["kind"], m["name"][1:-1], int(m["x"]), int(m["y"]), spec, inside))
        elif m := _AREA.fullmatch(line):
            x, y, width, height = (int(m[name]) for name in ("x", "y", "width", "height"))
            self._areas.append(Area(m["name"][1:-1], x, y, width, height))
        elif m := _LANE.fullmatch(line):
            self._lanes.append(Lane(m["name"][1:-1], int(m["y"]), int(m["height"])))
        elif m := _LINK.fullmatch(line):
            self._links.append(Link(m["source"][1:-1], m["target"][1:-1]))
        elif m := _PIVOTAL.fullmatch(line):
            self._pivotal.append(m["name"][1:-1])
        elif m := _COMMENT.fullmatch(line):
            self._comments.append(Comment(m["on"][1:-1], m["by"][1:-1], m["words"][1:-1]))
        else:
            return False
        return True

    def done(self) -> Wall:
        """The section."""
        return Wall(
            tuple(self._areas),
            tuple(self._stickies),
            tuple(self._links),
            tuple(self._pivotal),
            tuple(self._comments),
            tuple(self._lanes),
        )


def show(wall: Wall) -> list[str]:
    """The section's lines."""
    lines = [f'lane "{lane.name}" {lane.y} {lane.height}' for lane in wall.lanes]
    lines += [f'context "{a.name}" {a.x} {a.y} {a.width} {a.height}' for a in wall.areas]
    for s in wall.stickies:
        spec = f' says "{s.spec}"' if s.spec else ""
        inside = f' in "{s.inside}"' if s.inside is not None else ""
        lines.append(f'sticky {s.kind} "{s.name}"{spec} {s.x} {s.y}{inside}')
    lines += [f'link "{link.source}" -> "{link.target}"' for link in wall.links]
    lines += [f'pivotal "{name}"' for name in wall.pivotal]
    lines += [f'comment on "{c.on}" by "{c.by}": "{c.words}"' for c in wall.comments]
    return lines

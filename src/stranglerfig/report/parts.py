"""What our pages are made of: the document with its style, sections, tables, figures, words for values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from stranglerfig.report.charts import number

NOTHING = "\N{EN DASH}"


def document(title: str, *parts: str) -> str:
    """A whole page: one file with no scripts and nothing loaded."""
    style = files(__package__ or "").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{_patterns()}<main>{''.join(parts)}</main>"
        "</body></html>\n"
    )


def _patterns() -> str:
    return (
        '<svg width="0" height="0" class="defs" aria-hidden="true"><defs>'
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="monolith-fill" width="6" height="6"/><line class="hatching" x1="0" x2="0" y1="0" y2="6"/>'
        "</pattern>"
        "</defs></svg>"
    )


def section(name: str, intro: str, *parts: str) -> str:
    """A section with its heading; nothing when it has no parts."""
    body = "".join(parts)
    words = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    return f"<section><h2>{escape(name)}</h2>{words}{body}</section>" if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table; cells are HTML already."""

    def cell(tag: str, index: int, text: str) -> str:
        label = f' data-label="{escape(head[index])}"' if tag == "td" else ' scope="col"'
        style = ' class="n"' if index in numeric else ""
        inner = f"<span>{text}</span>" if tag == "td" else text
        return f"<{tag}{label}{style}>{inner}</{tag}>"

    top = "".join(cell("th", index, escape(text)) for index, text in enumerate(head))
    body = "".join(f"<tr>{''.join(cell('td', i, text) for i, text in enumerate(row))}</tr>" for row in rows)
    kind = ' class="slim"' if len(head) <= 3 else ""  # these stay tables on a phone, too
    return f"<table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def say(value: Any) -> str:
    """A value for people."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, (int, float)) else str(value)


def figure(caption: str, legend: Sequence[tuple[str, str]], picture: str) -> str:
    """A picture with its caption and legend (style, name)."""
    keys = "".join(f'<li><i class="key {style}"></i>{escape(name)}</li>' for style, name in legend)
    return f'<figure><figcaption><b>{escape(caption)}</b><ul class="legend">{keys}</ul></figcaption>{picture}</figure>'

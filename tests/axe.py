"""axe-core (https://github.com/dequelabs/axe-core) in a page: what of WCAG 2.2 AA a program can find broken."""

from __future__ import annotations

from examples.servers import fetch
from examples.servers.fetch import Missing
from tests.conftest import required

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FAULTS = """axe.run(document, {runOnly: %s, resultTypes: ['violations']}).then(({violations}) => violations.flatMap(
  (v) => v.nodes.map((n) => `${v.id}: ${n.target.join(' ')}: ${n.any.concat(n.all).map((c) => c.message)[0]}`)))"""


def script() -> str:
    """The program, to be run in the page."""
    try:
        return (fetch.npm("axe", ["axe-core@4.14.1"]) / "node_modules/axe-core/axe.min.js").read_text()
    except Missing as missing:
        required(str(missing))
        raise

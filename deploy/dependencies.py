"""``python -m deploy.dependencies PYTHON``: what an installed package runs on, as an SBOM, and whether it may be used.

``PYTHON`` is the interpreter of an environment that has the package and nothing else. To what is installed there come
the npm packages that the pages in the package were built from. The SBOM is CycloneDX 1.6 as JSON, held to its schema
(ECMA-424); licences are SPDX expressions, held to ``deploy/licences.yaml``. The list for people is
``docs/reference/dependencies.md``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/dependencies.md"
VERSION = SchemaVersion.V1_6
_spdx = get_spdx_licensing()


@dataclass(frozen=True, slots=True)
class Rules:
    """``licences.yaml``: see there.

    Attributes:
        allowed: SPDX identifiers that every package may have.
        conditional: those that only some may have, with the packages.
        words: what packages say otherwise, in SPDX's words.
        stated: licences of packages that say nothing.
    """

    allowed: frozenset[str]
    conditional: Mapping[str, frozenset[str]]
    words: Mapping[str, str]
    stated: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Rules:
        """From a file of that form."""
        found = yaml.safe_load(path.read_text("utf-8"))
        return cls(
            frozenset(found["allowed"]),
            {entry["licence"]: frozenset(entry["packages"]) for entry in found["conditional"]},
            found["words"],
            {name: entry["licence"] for name, entry in found["stated"].items()},
        )

    def refusal(self, name: str, licences: Iterable[str]) -> str | None:
        """Why a package with these ``licences`` (all of them hold) may not be; None when it may."""
        said = list(licences)
        if not said:
            return f"{name} names no licence: read it, and write it under `stated`"
        for text in said:
            try:
                parsed = _spdx.parse(text, validate=True)
            except ExpressionError as error:
                return f"{name}: {text!r} is no SPDX expression ({error}): write what it means under `words`"
            if not self._holds(name, parsed):
                return f"{name} is under {text}, which is not allowed"
        return None

    def _holds(self, name: str, licence: LicenseExpression) -> bool:
        if not isinstance(licence, _spdx.AND | _spdx.OR):
            key = licence.render()  # with its exception, where it has one
            return key in self.allowed or name in self.conditional.get(key, ())
        held = [self._holds(name, part) for part in licence.args]
        return any(held) if isinstance(licence, _spdx.OR) else all(held)

    def unused(self, packages: Mapping[str, Iterable[str]]) -> list[str]:
        """Entries of the file for packages that are not, or say something else by now."""
        silent = {name for name, said in packages.items() if not list(said)}
        listed = {name for names in self.conditional.values() for name in names}
        return [
            *(f"`conditional` names {name}, which is not installed" for name in sorted(listed - set(packages))),
            *(
                f"`stated` names {name}, which is not installed or says its licence"
                for name in sorted(set(self.stated) - silent)
            ),
        ]


def installed(python: Path) -> Bom:
    """What an environment has, by CycloneDX's own reader."""
    program = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    said = subprocess.run([*program, str(python)], check=True, stdout=subprocess.PIPE).stdout  # noqa: S603 (ours)
    reader: Any = Bom  # a decorator gives it what reads JSON, which its types do not know
    bom: Bom = reader.from_json(json.loads(said))
    return bom


def bundled(lock: Mapping[str, Any]) -> Iterator[Component]:
    """The npm packages of a ``package-lock.json`` (its version 3) that the pages are built from, without the tools."""
    licences = LicenseFactory()
    for place, entry in lock["packages"].items():
        if not place or entry.get("dev") or entry.get("devOptional"):
            continue
        scope, _, name = place.rpartition("node_modules/")[2].rpartition("/")
        yield Component(
            name=name,
            group=scope or None,
            version=entry["version"],
            purl=PackageURL("npm", scope or None, name, entry["version"]),
            bom_ref=place,
            licenses=[licences.make_from_string(entry["license"])] if "license" in entry else [],
        )


def named(component: Component) -> str:
    """How a package is called where it is published."""
    return f"{component.group}/{component.name}" if component.group else component.name


def said(component: Component, rules: Rules) -> list[str]:
    """A package's licences in SPDX's words; all of them hold."""
    texts = (getattr(part, "value", None) or getattr(part, "id", None) or part.name for part in component.licenses)
    return sorted({rules.words.get(text, text) for text in texts})


def page(components: Iterable[Component], rules: Rules) -> str:
    """``dependencies.md``."""
    rows = [
        f"| {named(part)} | {part.version} | {'npm' if part.purl and part.purl.type == 'npm' else 'PyPI'} "
        f"| {' and '.join(said(part, rules) or [rules.stated.get(part.name, '?')])} |\n"
        for part in sorted(components, key=lambda part: (named(part).lower(), part.version or ""))
    ]
    return (
        "<!-- Generated by `make sbom`: do not edit. -->\n\n# Dependencies and their licences\n\n"
        f"What `stranglerfig[all]` runs on, {len(rows)} packages, in the versions that are tested. Those from npm are"
        " inside the package, in the pages that it serves. What may be, and why what asks for more than a notice may,"
        " is in `deploy/licences.yaml`.\n\n| package | version | from | licence |\n|---|---|---|---|\n" + "".join(rows)
    )


@click.command()
@click.argument("python", type=click.Path(exists=True, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Where to write the SBOM.")
@click.option("--check", is_flag=True, help="Do not write the page; exit with 1 when it has drifted.")
def main(python: Path, output: Path, check: bool) -> None:
    """Write the SBOM of the environment of PYTHON, and hold its licences to those that may be."""
    rules = Rules.read(ROOT / "deploy/licences.yaml")
    bom = installed(python)
    for component in bundled(json.loads((ROOT / "web/package-lock.json").read_text("utf-8"))):
        bom.components.add(component)
        bom.register_dependency(component)
    packages = {named(part): said(part, rules) for part in bom.components}
    wrong = [
        refusal
        for name, licences in packages.items()
        if (refusal := rules.refusal(name, licences or [t for t in [rules.stated.get(name)] if t]))
    ]
    wrong += rules.unused(packages)
    text = make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=2)
    if invalid := JsonStrictValidator(VERSION).validate_str(text):
        wrong.append(f"the SBOM is not valid: {invalid}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n", "utf-8")
    listed = page(bom.components, rules)
    if not check:
        PAGE.write_text(listed, "utf-8")
    elif listed != PAGE.read_text("utf-8"):
        wrong.append(f"{PAGE.relative_to(ROOT)} is not of these packages: run `make sbom`")
    for line in sorted(wrong):
        click.echo(line, err=True)
    click.echo(f"{len(packages)} packages, {len(wrong)} things to mend: {output}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

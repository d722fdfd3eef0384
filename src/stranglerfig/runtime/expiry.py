"""When the certificates run out that a project names: the façade's, those of authorities, those that we show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from psycopg.conninfo import conninfo_to_dict

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.settings import Project

EVERY = 60.0
"""Seconds between two looks at the files."""


class Named(NamedTuple):
    """A file of certificates, by the key that names it.

    Attributes:
        authorities: whether it holds whom we trust: one that is left is enough then, where a chain ends with its first.
    """

    key: str
    file: Path
    authorities: bool


def named(project: Project) -> Iterator[Named]:
    """Every file of certificates that the project's files and addresses name."""
    if (own := project.estate.facade.tls) is not None:
        yield Named("facade.tls.certificate", project.directory / own.certificate, False)
    trusts = {"monolith.tls.ca": project.monolith_trust.ca}
    trusts |= {f"service.tls.ca of {name}": each.service.trust.ca for name, each in project.extractions.items()}
    for key, file in trusts.items():
        if file is not None:
            yield Named(key, Path(file), True)
    yield from _of_databases(project)
    if (url := project.log_url) is not None:
        asked = dict(parse_qsl(urlsplit(url).query))
        for name, authorities in (("ssl.ca.location", True), ("ssl.certificate.location", False), ("ca", True)):
            if name in asked:
                yield Named(f"{name} of log", Path(asked[name]), authorities)


def _of_databases(project: Project) -> Iterator[Named]:
    references = {"monolith.database": project.estate.monolith.database, "control": project.estate.control}
    references |= {f"service.database of {name}": each.service.database for name, each in project.extractions.items()}
    for key, reference in references.items():
        dsn = "" if reference is None else project.reveal(reference)
        if not dsn.startswith(("postgresql://", "postgres://")):
            continue
        asked = conninfo_to_dict(dsn)
        for name, authorities in (("sslrootcert", True), ("sslcert", False)):
            if (file := asked.get(name)) not in (None, "", "system"):
                yield Named(f"{name} of {key}", Path(str(file)), authorities)


def left(project: Project, now: datetime | None = None) -> dict[str, float]:
    """Seconds until each runs out, by its key; those that cannot be read are told by who uses them.

    Wants the package cryptography (the extra ``tls``): empty without it.
    """
    try:
        from cryptography import x509
    except ImportError:
        return {}
    now = now or clock.now()
    found = {}
    try:
        files = list(named(project))
    except FigError:  # a secret that is away: told by who needs it
        return {}
    for key, file, authorities in files:
        try:
            ends = [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(file.read_bytes())]
        except (OSError, ValueError):
            continue
        found[key] = ((max if authorities else min)(ends) - now).total_seconds()
    return found

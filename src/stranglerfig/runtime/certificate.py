"""``facade.tls`` of a project: read, checked, handed to Envoy, and again when its files change."""

from __future__ import annotations

import logging
from pathlib import Path

from stranglerfig.facade import certificates
from stranglerfig.facade.certificates import Certificate
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.secrets import look_up
from stranglerfig.runtime.settings import Project

log = logging.getLogger(__name__)


def load(project: Project) -> Certificate | None:
    """The façade's certificate and key as they are now; None without ``facade.tls``.

    Raises:
        FigError: ``secret_missing``, ``bad_certificate``, ``backend_not_installed``.
    """
    named = project.estate.facade.tls
    if named is None:
        return None
    file = project.directory / named.certificate
    try:
        chain = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FigError(
            "bad_certificate",
            f"{file}, which facade.tls.certificate names, cannot be read: {getattr(error, 'strerror', error)}",
            "Write the certificate chain there in PEM, readable by the account that fig runs as.",
            file=str(file),
        ) from error
    key = look_up(named.key, project.directory, project.environment, anew=True)
    return certificates.check(chain, key, file=str(file))


class Keeper:
    """Hands a pair on when one of its files has changed; what is wrong changes nothing and is told once."""

    def __init__(self, project: Project, file: Path) -> None:
        self._project = project
        self._file = file
        self._seen: object = None

    def look(self) -> None:
        """Hand over what is new, if it holds."""
        named = self._project.estate.facade.tls
        if named is None or (seen := self._stamps(named.certificate, named.key.file)) == self._seen:
            return
        try:
            found = load(self._project)
        except FigError as error:
            # The two files of a pair may be written one after the other: the next change is looked at again.
            log.error("the certificate is not exchanged: %s", error, extra={"action": "certificate_refused"})
        else:
            assert found is not None
            certificates.hand_over(found, self._file)
            log.info("the façade's certificate is %r", found, extra={"action": "certificate"})
        self._seen = seen

    def _stamps(self, *files: str | None) -> object:
        return [_stamp(self._project.directory / file) for file in files if file is not None]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

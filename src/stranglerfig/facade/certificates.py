"""The façade's certificate and its key: checked as a pair before Envoy sees them, exchanged under open connections.

Envoy gets both in one file, by the Secret Discovery Service from a watched directory: never a new certificate with an
old key. Connections that are open keep what they were made with; new ones get the new certificate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError

SECRET = "facade"  # noqa: S105  a name, as Envoy is told


@dataclass(frozen=True)
class Certificate:
    """A certificate chain and its key, which belong together and are valid now.

    Attributes:
        chain: PEM, the server's own first.
        key: PEM, without a passphrase.
        serial: the certificate's serial number.
        until: when it expires.
        names: the names it is made out to.
    """

    chain: str
    key: str
    serial: int
    until: datetime
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Certificate(serial={self.serial:x}, until={self.until:%Y-%m-%d}, names={self.names})"


def check(chain: str, key: str, *, file: str, now: datetime | None = None) -> Certificate:
    """The pair, when Envoy may have it.

    Args:
        chain: certificates, PEM.
        key: the first one's private key, PEM.
        file: what the certificate is called in a refusal; the key is never shown.
        now: the moment at which it must be valid.

    Raises:
        FigError: ``bad_certificate`` (unreadable, not yet or no longer valid, or of another key),
            ``backend_not_installed``.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise FigError(
            "backend_not_installed",
            "facade.tls needs the package cryptography, and it is not installed",
            "Install it: pip install 'stranglerfig[tls]'.",
            package="cryptography",
        ) from error
    now = now or clock.now()
    try:
        own = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError as error:
        raise _bad(file, "holds no certificate in PEM", "Write the chain there, the server's own first.") from error
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError):
        remedy = "Give an unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----)."
        raise _bad(
            file, "comes with something that is no private key without a passphrase (not shown)", remedy
        ) from None
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise _bad(file, "is the certificate of another key than facade.tls.key", "Put the two of a pair there.")
    until, since = own.not_valid_after_utc, own.not_valid_before_utc
    if until <= now:
        raise _bad(file, f"expired on {until:%Y-%m-%d %H:%M} UTC", "Renew it.")
    if since > now:
        raise _bad(file, f"is valid only from {since:%Y-%m-%d %H:%M} UTC on", "Check the clock, or wait.")
    return Certificate(chain, key, own.serial_number, until, _names(own))


def _names(certificate: Any) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def _bad(file: str, problem: str, remedy: str) -> FigError:
    return FigError("bad_certificate", f"{file} {problem}", remedy, file=file)


def hand_over(certificate: Certificate, file: Path) -> None:
    """Write the pair where Envoy watches, readable by this account alone; whole or not at all."""
    secret = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "tls_certificate": {
            "certificate_chain": {"inline_string": certificate.chain},
            "private_key": {"inline_string": certificate.key},
        },
    }
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Beside the watched folder, on the same file system: only the rename wakes the watcher.
    draft = file.parent.parent / f".{file.name}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(orjson.dumps({"resources": [secret]}))
    draft.rename(file)


def transport_socket(file: str) -> dict[str, Any]:
    """TLS of a listener whose certificate is in ``file`` (``DownstreamTlsContext``): 1.2 at least, HTTP/2 by ALPN."""
    source = {"path": file, "watched_directory": {"path": file.rpartition("/")[0]}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [
                    {"name": SECRET, "sds_config": {"resource_api_version": "V3", "path_config_source": source}}
                ],
            },
        },
    }

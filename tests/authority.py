"""A certificate authority of a test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from examples.servers import fetch


class Authority:
    """A certificate authority in a folder, as ``openssl`` makes one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                  "-days", "2", "-subj", "/CN=test authority")  # fmt: skip

    def _run(self, *arguments: str) -> None:
        subprocess.run(
            [fetch.debian("openssl", "openssl"), *arguments], cwd=self.folder, check=True, capture_output=True
        )

    def issue(self, name: str, serial: int, *, names: str = "DNS:shop.test,IP:127.0.0.1", days: int = 2) -> None:
        """``NAME.pem`` and ``NAME.key``."""
        (self.folder / "names").write_text(f"subjectAltName={names}\n")
        self._run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                  "-subj", f"/CN={name}")  # fmt: skip
        self._run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", f"{name}.pem",
                  "-days", str(days), "-set_serial", str(serial), "-extfile", "names")  # fmt: skip

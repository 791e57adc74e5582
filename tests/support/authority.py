"""A certificate authority for tests, and the server certificates it issues."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme


class Authority:
    """One CA; its bundle is what TARGET_CA_FILE names."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.bundle = folder / "test-ca.pem"
        self._ca.cert_pem.write_to_path(str(self.bundle))

    def context(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """Return a server's TLS context with a certificate for `names`."""
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = self._ca.issue_cert(
            *(names or ("localhost", "127.0.0.1", "::1")),
            not_before=now - datetime.timedelta(days=30) if expired else None,
            not_after=now - datetime.timedelta(days=1) if expired else None,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def issue(self, folder: Path) -> Path:
        """Write a server's certificate and key for `localhost` to one PEM file there."""
        path = folder / "server.pem"
        self._ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

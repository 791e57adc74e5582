"""A client that speaks TLS to the proxy, and the certificates of both."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.tcp import send_close_notify
from tests.support.wire import DEADLINE, Address, Client, Stream


class TLSClient(Client):
    """One connection over TLS; `context` is what it trusts and shows."""

    def __init__(
        self, address: Address, context: ssl.SSLContext, *, timeout: float = DEADLINE
    ) -> None:
        super().__init__(address, timeout=timeout)
        try:
            self.sock = self.tls = context.wrap_socket(self.sock, server_hostname="localhost")
        except BaseException:
            self.sock.close()
            raise
        self.stream = Stream(self.sock)

    def finish_sending(self) -> None:
        """Send close_notify, and read on. What has come already may be lost."""
        send_close_notify(self.tls)

    def tell_ends_apart(self) -> None:
        """From now on, have an end without close_notify raise SSLEOFError."""
        # An attribute of SSLSocket that is documented as a parameter of wrap_socket() alone.
        setattr(self.tls, "suppress_ragged_eofs", False)  # noqa: B010


class Certificates:
    """An authority, and the files of a server's certificate that it issues."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.authority = folder / "ca.crt"
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self._ca.cert_pem.write_to_path(str(self.authority))
        self.issue()

    def issue(self, name: str = "first", *, days: float = 365) -> None:
        """Replace both files, one after the other; `name` is the organization's.

        The certificate expires in so many days, and began 60 days ago.
        """
        now = datetime.now(timezone.utc)
        leaf = self._ca.issue_cert(
            *("localhost", "127.0.0.1"),
            organization_name=name,
            not_before=now - timedelta(days=60),
            not_after=now + timedelta(days=days),
        )
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(self.key))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "LISTENING_TLS_CERTIFICATE_FILE": str(self.certificate),
            "LISTENING_TLS_KEY_FILE": str(self.key),
        }

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self, shown_by: trustme.CA | None = None) -> ssl.SSLContext:
        """Return a client's context; `shown_by` issues the certificate that it shows."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if shown_by is not None:
            shown_by.issue_cert("client.example.com").configure_cert(context)
        return context


def organization(client: TLSClient) -> str:
    """Return the organization in the certificate that the client was shown."""
    shown = client.tls.getpeercert(binary_form=True)
    assert shown is not None
    subject = x509.load_der_x509_certificate(shown).subject
    (name,) = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(name.value)

"""A certificate that lives as long as the demonstration."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID_FOR = timedelta(days=2)
# Clocks on one machine agree, but a container's may be a little behind its host's.
_BACKDATED = timedelta(hours=1)


class EphemeralCertificate:
    """A certificate for servers on loopback, which it signs itself: clients trust it alone."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        number = x509.random_serial_number()
        # A client that trusts several takes one for another of the same name.
        common_name = f"authproxy demo {number:x}"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        names = [x509.DNSName("localhost")]
        addresses = [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1")]
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(number)
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + _VALID_FOR)
            .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._certificate = certificate.public_bytes(Encoding.PEM)
        self._key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write_bundle(self, path: Path) -> Path:
        """Write the certificate, for clients to trust, and return `path`."""
        path.write_bytes(self._certificate)
        return path

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context with the certificate, for localhost, 127.0.0.1 and ::1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL reads certificates for a context from files only.
        with TemporaryDirectory(prefix="authproxy-") as folder:
            pem = Path(folder) / "server.pem"
            pem.touch(mode=0o600)
            pem.write_bytes(self._key + self._certificate)
            context.load_cert_chain(pem)
        return context

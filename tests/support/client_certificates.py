"""Client certificates of an application, issued by a CA through an intermediate one."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)


class ClientCertificate:
    """A certificate with an RSA key and its chain, in every form that files have."""

    def __init__(self, issuer: trustme.CA, name: str, days: float, starts_in_days: float) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        issued = issuer.issue_cert(
            common_name=name,
            key_type=trustme.KeyType.RSA,
            not_before=now + datetime.timedelta(days=starts_in_days),
            not_after=now + datetime.timedelta(days=days),
        )
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        assert isinstance(key, RSAPrivateKey)
        self.key = key
        self.chain = [x509.load_pem_x509_certificate(pem.bytes()) for pem in issued.cert_chain_pems]
        self.certificate = self.chain[0]

    def pem(self, password: bytes | None = None) -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        return key + self.certificates_pem()

    def certificates_pem(self) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)

    def pfx(self, password: bytes | None = None) -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return pkcs12.serialize_key_and_certificates(
            b"client",
            self.key,
            self.certificate,
            self.chain[1:],
            encryption,
        )


class ClientAuthority:
    """A CA whose intermediate issues client certificates."""

    def __init__(self) -> None:
        root = trustme.CA()
        self._intermediate = root.create_child_ca()
        self.root = x509.load_pem_x509_certificate(root.cert_pem.bytes())
        self._issued: dict[tuple[str, float, float], ClientCertificate] = {}

    def issue(
        self, name: str = "client.example.com", days: float = 365, starts_in_days: float = -1
    ) -> ClientCertificate:
        """Return a certificate; the same each time, as to make an RSA key takes long."""
        asked = (name, days, starts_in_days)
        if asked not in self._issued:
            self._issued[asked] = ClientCertificate(self._intermediate, *asked)
        return self._issued[asked]


@cache
def client_authority() -> ClientAuthority:
    """Return the one authority that does wherever any would."""
    return ClientAuthority()


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file as a rotation does: in one step."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)

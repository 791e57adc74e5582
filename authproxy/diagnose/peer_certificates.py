"""Pure rules: what the certificate of a server says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from authproxy.clock import rfc3339
from authproxy.diagnose.token_claims import printable
from authproxy.files.expiry import Expiry

#: Who issues for Azure's own names.
_AZURE_ISSUERS = ("microsoft", "digicert")
_AZURE = (".azure.com", ".azure.us", ".azure.cn")


@dataclass(frozen=True)
class PeerCertificate:
    """What a server's certificate says, fit to be printed."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_der(cls, der: bytes) -> PeerCertificate | None:
        """Read a certificate; None where it is too odd for `cryptography`, as hostile ones are."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            names: tuple[str, ...] = ()
            for extension in certificate.extensions:
                if isinstance(extension.value, x509.SubjectAlternativeName):
                    hosts = extension.value.get_values_for_type(x509.DNSName)
                    addresses = extension.value.get_values_for_type(x509.IPAddress)
                    names = tuple(printable(str(each)) for each in (*hosts, *addresses))
            return cls(
                subject=_called(certificate.subject) or ", ".join(names[:1]),
                issuer=_called(certificate.issuer),
                names=names,
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
            )
        # ValueError, TypeError, x509.DuplicateExtension, ...: cryptography has no common class
        # for what it cannot read, and a server may present anything.
        except Exception:  # noqa: BLE001
            return None

    @property
    def facts(self) -> dict[str, Any]:
        """What a script reads."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": rfc3339(self.not_before.timestamp()),
            "not_after": rfc3339(self.not_after.timestamp()),
        }

    def ends_soon(self, now: datetime) -> bool:
        """Tell whether there is reason to ask who renews it."""
        return Expiry.of(self.not_before, self.not_after).state(now.timestamp()) != "valid"


def foreign_issuer(host: str, certificate: PeerCertificate) -> str | None:
    """Return who issued for one of Azure's names, if that is not whom Azure has issue."""
    azure = host.lower().removesuffix(".").endswith(_AZURE)
    usual = any(name in certificate.issuer.lower() for name in _AZURE_ISSUERS)
    return certificate.issuer if azure and not usual else None


def _called(name: x509.Name) -> str:
    """Return the common name, or the organization, or the whole."""
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for attribute in name.get_attributes_for_oid(kind):
            return printable(str(attribute.value))
    return printable(name.rfc4514_string())

"""What a tenant of the stand-in Entra holds: applications and managed identities."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from cryptography import x509

from authproxy.demo.stand_ins.signing import ServiceAccountIssuer

#: The tenant of the stand-ins, and what they grant tokens for. Made-up ids
#: keep the form of real ones, since azure-identity checks it.
TENANT = "00000000-0000-4000-8000-00000000aaaa"
METRICS_INGESTION = "https://monitor.azure.com"
METRICS_QUERY = "https://prometheus.monitor.azure.com"


def new_id() -> str:
    """Return a new id in the form that Entra uses everywhere."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class ManagedIdentity:
    """An identity that Azure assigns to a machine."""

    client_id: str = field(default_factory=new_id)
    object_id: str = field(default_factory=new_id)


@dataclass(frozen=True)
class FederatedCredential:
    """Trust in one service account of one cluster, in place of a secret."""

    cluster: ServiceAccountIssuer
    subject: str
    audience: str = "api://AzureADTokenExchange"


@dataclass(frozen=True)
class Application:
    """An app registration with whatever it may prove itself by.

    `certificates` are registered one by one. `trusted_issuer` stands for
    subject-name/issuer authentication: any certificate that this CA issued
    will do, if the assertion carries its chain (x5c).
    """

    client_id: str = field(default_factory=new_id)
    secret: str | None = field(default=None, repr=False)
    certificates: tuple[x509.Certificate, ...] = ()
    trusted_issuer: x509.Certificate | None = None
    federated: tuple[FederatedCredential, ...] = ()
    object_id: str = field(default_factory=new_id)

"""Applications of the stand-in Entra, and what they prove themselves by."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from authproxy.demo.stand_ins.directory import new_id
from authproxy.demo.stand_ins.signing import SigningKey
from tests.support.stand_ins.machine import TOKEN_EXCHANGE


class ServiceAccountIssuer:
    """A stand-in Kubernetes cluster that projects service account tokens.

    What the workload identity webhook mounts at AZURE_FEDERATED_TOKEN_FILE.
    """

    def __init__(
        self,
        issuer: str = "https://cluster.example.com/",
        *,
        signing_key: SigningKey | None = None,
    ) -> None:
        self.issuer = issuer
        self._signing_key = signing_key or SigningKey()

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        return self._signing_key.public_key

    def token(
        self,
        subject: str,
        *,
        now: float,
        audience: str = "api://AzureADTokenExchange",
        lifetime: float = 3600,
    ) -> str:
        """Return a token for `subject` (`system:serviceaccount:<namespace>:<name>`).

        `now` is in epoch seconds, `lifetime` in seconds.
        """
        return self._signing_key.sign(
            {
                "iss": self.issuer,
                "sub": subject,
                "aud": [audience],
                "iat": int(now),
                "nbf": int(now),
                "exp": int(now + lifetime),
                "jti": str(uuid.uuid4()),
            }
        )


@dataclass(frozen=True)
class TokenIssuer:
    """Who signs tokens: the name in `iss`, and the key."""

    issuer: str
    public_key: rsa.RSAPublicKey


@dataclass(frozen=True)
class FederatedCredential:
    """Trust in a service account of a cluster, or an identity of a tenant, in place of a secret."""

    cluster: ServiceAccountIssuer | TokenIssuer
    subject: str
    audience: str = TOKEN_EXCHANGE


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

"""Settings that give the proxy an identity at a stand-in Entra."""

from __future__ import annotations

import time
from pathlib import Path

from authproxy.settings import Settings
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra

#: A resource that the stand-in knows.
AUDIENCE = "https://monitor.azure.com"
SECRET = "kept~under~wraps"


def settings_for(identity_type: str, **given: str | None) -> Settings:
    """Return settings by their attributes' names; what is None or empty is not given."""
    target = {"target_host": "target.example.com", "audience": AUDIENCE}
    every = {**target, "identity_type": identity_type, **given}
    settings, faults = Settings.read({name.upper(): text for name, text in every.items() if text})
    assert not faults
    return settings


def identity_settings(entra: StandInEntra) -> dict[str, str]:
    """Return the settings of a machine with a system-assigned identity."""
    return {
        "IDENTITY_TYPE": "systemassigned",
        "AUDIENCE": AUDIENCE,
        **entra.managed_identity_environment(),
    }


def labelled_pod(entra: StandInEntra, folder: Path) -> dict[str, str]:
    """Return what the workload identity webhook sets in a pod with its label, and the CA."""
    cluster, subject = ServiceAccountIssuer(), "system:serviceaccount:monitoring:authproxy"
    application = entra.register(Application(federated=(FederatedCredential(cluster, subject),)))
    path = folder / "service-account-token"
    path.write_text(cluster.token(subject, now=time.time()))
    return {
        "AZURE_AUTHORITY_HOST": entra.authority_host,
        "AZURE_TENANT_ID": entra.tenant,
        "AZURE_CLIENT_ID": application.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(path),
        "REQUESTS_CA_BUNDLE": str(entra.authority.write_bundle(folder / "entra-ca.pem")),
    }


def application_settings(entra: StandInEntra, folder: Path) -> dict[str, str]:
    """Return the settings of an application that proves itself with a secret."""
    application = entra.register(Application(secret=SECRET))
    return {
        "IDENTITY_TYPE": "aadapplication",
        "AUDIENCE": AUDIENCE,
        "AAD_CLIENT_SECRET": SECRET,
        **entra.application_environment(application, folder / "entra-ca.pem"),
    }

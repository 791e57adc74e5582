"""What a tenant of the stand-in Entra holds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

#: The tenant of the stand-ins, and what they grant tokens for. Made-up ids
#: keep the form of real ones, since azure-identity checks it.
TENANT = "00000000-0000-4000-8000-00000000aaaa"
METRICS_INGESTION = "https://monitor.azure.com"
METRICS_QUERY = "https://prometheus.monitor.azure.com"
#: What a token is for that proves an application.
TOKEN_EXCHANGE = "api://AzureADTokenExchange"

_GROUP = "/subscriptions/00000000-0000-4000-8000-00000000bbbb/resourceGroups/group/providers"
MACHINE = f"{_GROUP}/Microsoft.Compute/virtualMachines/machine"


def new_id() -> str:
    """Return a new id in the form that Entra uses everywhere."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class ManagedIdentity:
    """An identity that Azure assigns to a machine, a user-assigned one unless told otherwise."""

    client_id: str = field(default_factory=new_id)
    object_id: str = field(default_factory=new_id)
    #: For a system-assigned one, the machine's.
    resource_id: str = field(
        default_factory=lambda: (
            f"{_GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/{new_id()}"
        )
    )

"""What a tenant of the stand-in Entra holds."""

from __future__ import annotations

import uuid

#: The tenant of the stand-ins, and what they grant tokens for. Made-up ids
#: keep the form of real ones, since azure-identity checks it.
TENANT = "00000000-0000-4000-8000-00000000aaaa"
METRICS_INGESTION = "https://monitor.azure.com"
METRICS_QUERY = "https://prometheus.monitor.azure.com"


def new_id() -> str:
    """Return a new id in the form that Entra uses everywhere."""
    return str(uuid.uuid4())

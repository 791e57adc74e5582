"""Azure's services by the hosts that they have: data, each with Microsoft's page about it.

What a host says beyond doubt is `certain`; for other services the audience is the likely one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What a target is for, as far as the settings tell."""

    INGESTION = "ingestion"
    QUERY = "query"
    OTHER = "other"


@dataclass(frozen=True)
class Service:
    """A service of Azure: what its hosts end with, and what it takes tokens for.

    `roles` are what callers usually need there, `page` is where Microsoft tells of its
    authentication, `others` are further audiences that it takes.
    """

    name: str
    suffixes: tuple[str, ...]
    audience: str
    roles: str
    page: str
    kind: Kind = Kind.OTHER
    certain: bool = True
    others: tuple[str, ...] = ()

    def has(self, host: str) -> bool:
        """Tell whether a host, in small letters, is one of it: whole labels, and one of its own."""
        return host.endswith(self.suffixes) and not host.startswith(".")


_LEARN = "https://learn.microsoft.com/"
_MONITOR = f"{_LEARN}azure/azure-monitor/"
_VAULT = f"{_LEARN}azure/key-vault/general/authentication-requests-and-responses"
_COGNITIVE = f"{_LEARN}azure/ai-services/authentication"
_CONFIG = f"{_LEARN}azure/azure-app-configuration/rest-api-authentication-azure-ad"
_KUSTO = f"{_LEARN}kusto/api/rest/authentication"
_PUBLISHER = "Monitoring Metrics Publisher"
_VAULT_ROLES = "Key Vault Secrets User"
_AI_ROLES = "Cognitive Services OpenAI User or Cognitive Services User"
_CONFIG_ROLES = "App Configuration Data Reader"
_KUSTO_ROLES = "database role viewer or ingestor"

#: The first whose suffix fits counts, so the special stand before the general.
SERVICES: tuple[Service, ...] = (
    *(
        service
        for top in ("com", "us", "cn")
        for service in (
            Service(
                "Azure Monitor workspace, ingestion",
                (f".metrics.ingest.monitor.azure.{top}",),
                f"https://monitor.azure.{top}",
                _PUBLISHER,
                f"{_MONITOR}metrics/prometheus-remote-write-virtual-machines",
                Kind.INGESTION,
            ),
            Service(
                "Azure Monitor workspace, queries",
                (f".prometheus.monitor.azure.{top}",),
                f"https://prometheus.monitor.azure.{top}",
                "Monitoring Data Reader",
                f"{_MONITOR}metrics/prometheus-api-promql",
                Kind.QUERY,
            ),
            Service(
                "Azure Monitor, logs ingestion",
                (f".ingest.monitor.azure.{top}",),
                f"https://monitor.azure.{top}",
                f"{_PUBLISHER}, on the data collection rule",
                f"{_MONITOR}logs/logs-ingestion-api-overview",
            ),
            Service(
                "Azure OpenAI and AI services",
                (f".openai.azure.{top}", f".cognitiveservices.azure.{top}"),
                f"https://cognitiveservices.azure.{top}",
                _AI_ROLES,
                _COGNITIVE,
            ),
        )
    ),
    Service(
        "Storage",
        tuple(
            f".{service}.core.{cloud}"
            for service in ("blob", "queue", "table", "file", "dfs")
            for cloud in ("windows.net", "usgovcloudapi.net", "chinacloudapi.cn")
        ),
        "https://storage.azure.com",  # the same in all clouds
        "Storage Blob Data Reader or Contributor, or their kin",
        f"{_LEARN}rest/api/storageservices/authorize-with-azure-active-directory",
    ),
    Service("Key Vault", (".vault.azure.net",), "https://vault.azure.net", _VAULT_ROLES, _VAULT),
    Service(
        "Key Vault",
        (".vault.usgovcloudapi.net",),
        "https://vault.usgovcloudapi.net",
        _VAULT_ROLES,
        _VAULT,
    ),
    Service("Key Vault", (".vault.azure.cn",), "https://vault.azure.cn", _VAULT_ROLES, _VAULT),
    Service(
        "Event Grid",
        (".eventgrid.azure.net",),
        "https://eventgrid.azure.net",
        "EventGrid Data Sender",
        f"{_LEARN}azure/event-grid/authenticate-with-microsoft-entra-id",
    ),
    Service(
        "Managed Grafana",
        (".grafana.azure.com",),
        "https://dashboard.azure.com",
        "Grafana Viewer, Editor or Admin",
        f"{_LEARN}azure/managed-grafana/how-to-authenticate-data-plane-api",
    ),
    *(
        Service(
            "Data Explorer",
            (f".kusto.{cloud}",),
            f"https://kusto.kusto.{cloud}",
            _KUSTO_ROLES,
            _KUSTO,
        )
        for cloud in ("windows.net", "usgovcloudapi.net", "chinacloudapi.cn")
    ),
    *(
        Service(
            "App Configuration",
            (f".{older}", f".{newer}"),
            f"https://{newer}",
            _CONFIG_ROLES,
            _CONFIG,
            others=(f"https://{older}",),
        )
        for older, newer in (
            ("azconfig.io", "appconfig.azure.com"),
            ("azconfig.azure.us", "appconfig.azure.us"),
            ("azconfig.azure.cn", "appconfig.azure.cn"),
        )
    ),
    # The same hosts for both services, of which each has an audience of its own.
    Service(
        "Service Bus (Event Hubs: https://eventhubs.azure.net)",
        (
            ".servicebus.windows.net",
            ".servicebus.usgovcloudapi.net",
            ".servicebus.chinacloudapi.cn",
        ),
        "https://servicebus.azure.net",
        "Azure Service Bus Data Sender, or Azure Event Hubs Data Sender",
        f"{_LEARN}azure/service-bus-messaging/authenticate-application",
        certain=False,
    ),
    Service(
        "AI Foundry (models of Azure OpenAI: https://cognitiveservices.azure.com)",
        (".services.ai.azure.com",),
        "https://ai.azure.com",
        _AI_ROLES,
        _COGNITIVE,
        certain=False,
    ),
    Service(
        "Event Grid",
        (".eventgrid.azure.us",),
        "https://eventgrid.azure.us",
        "EventGrid Data Sender",
        f"{_LEARN}azure/event-grid/authenticate-with-microsoft-entra-id",
        certain=False,
    ),
    Service(
        "App Service, Functions or Container Apps (an application of your own)",
        (".azurewebsites.net", ".azurecontainerapps.io"),
        "api://CLIENT_ID_OF_ITS_REGISTRATION",
        "an app role, if it has any",
        f"{_LEARN}azure/app-service/configure-authentication-provider-aad",
        certain=False,
    ),
)


def service_of(host: str) -> Service | None:
    """Return the service that a host belongs to, None where no rule fits.

    Case does not matter, nor does the dot that ends a fully qualified name. A
    rule fits whole labels only: `evilprometheus.monitor.azure.com` has none.
    """
    name = host.lower().removesuffix(".")
    return next((service for service in SERVICES if service.has(name)), None)

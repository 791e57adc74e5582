"""Pure rules: what a target's host implies of the tokens that it takes.

Which audience it wants, so which scope to ask for, and in which cloud Entra ID
gives them.

What is known of Azure's services is in `azure_services`.
"""

from __future__ import annotations

import re

from authproxy.http1.urls import REMOTE_WRITE_PATH, TargetURL
from authproxy.settings.azure_services import Kind, service_of

#: Suffixes of hosts that are in a cloud of its own, by that cloud's Entra ID endpoint.
#: https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
#: https://learn.microsoft.com/azure/china/resources-developer-guide
_CLOUDS = {
    "https://login.microsoftonline.us": (
        ".azure.us",
        ".usgovcloudapi.net",
        ".azurewebsites.us",
        ".azure-api.us",
        ".azurecr.us",
        ".azure-devices.us",
        ".applicationinsights.us",
    ),
    "https://login.chinacloudapi.cn": (
        ".azure.cn",
        ".chinacloudapi.cn",
        ".chinacloudsites.cn",
        ".azure-api.cn",
        ".azurecr.cn",
        ".azure-devices.cn",
        ".trafficmanager.cn",
    ),
}

_DEFAULT = "/.default"

_INGESTION_SCOPE = re.compile(r"https://monitor\.azure\.\w+/")
_QUERY_SCOPE = re.compile(r"https://prometheus\.monitor\.azure\.\w+/")


def is_azure_monitor(scope: str) -> bool:
    """Tell whether tokens for `scope` are for an Azure Monitor workspace."""
    return bool(_INGESTION_SCOPE.match(scope) or _QUERY_SCOPE.match(scope))


def kind_of(url: TargetURL, scope: str) -> Kind:
    """Return what the target is for, by its host, its path and the audience."""
    service = service_of(url.host)
    kind = service.kind if service else Kind.OTHER
    if url.path.endswith(REMOTE_WRITE_PATH) or kind is Kind.INGESTION:
        return Kind.INGESTION
    return Kind.QUERY if service is None and _QUERY_SCOPE.match(scope) else kind


def unfit(host: str, audience: str) -> str | None:
    """Return the audience that a host implies, where a token's `audience` is another.

    None where it fits, and where nothing can be said of it: version 2.0 tokens have a client
    ID for audience, and some services take their own URL as well.
    """
    service, given = service_of(host), audience.lower().removesuffix(_DEFAULT).rstrip("/")
    if service is None or not service.certain or "://" not in given:
        return None
    own = f"https://{host.lower().removesuffix('.')}"
    return None if given in (service.audience, own, *service.others) else service.audience


def scope_for_host(host: str) -> str | None:
    """Return the scope that a target's host implies beyond doubt, or None."""
    service = service_of(host)
    return scope_of(service.audience) if service and service.certain else None


def likely_audience(host: str) -> str | None:
    """Return in words what the host of a service of Azure probably takes tokens for, or None."""
    service = service_of(host)
    return f"{service.audience} ({service.name})" if service else None


def authority_for_host(host: str) -> str | None:
    """Return the Entra ID endpoint of the cloud that a target is in, None for the public one's."""
    name = host.lower().removesuffix(".")
    return next((url for url, suffixes in _CLOUDS.items() if name.endswith(suffixes)), None)


def scope_of(audience: str) -> str:
    """Return the scope for a scope or resource: `/.default` where it is missing.

    A resource keeps its own trailing slash (`https://x/` gives
    `https://x//.default`): Entra ID takes all before `/.default` literally.
    """
    return audience if audience.endswith(_DEFAULT) else f"{audience}{_DEFAULT}"


def check_audience(audience: str) -> str:
    """Return `audience`, or raise ValueError with what is wrong with it."""
    if any(not "!" <= char <= "~" for char in audience):
        raise ValueError("it holds blanks or non-ASCII characters")
    resource, found, rest = audience.partition(_DEFAULT)
    if found and (rest or not resource):
        raise ValueError(f"{_DEFAULT!r} belongs once, at the end, behind the resource")
    return audience

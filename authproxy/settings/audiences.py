"""Pure rules: what a target's host implies of the tokens that it takes.

Which audience it wants, so which scope to ask for, and in which cloud Entra ID
gives them.

Host names: the firewall requirements of Azure Monitor for the public, US
government and China clouds. Audiences: the ones that Prometheus's own azuread
support (ingestion) and Grafana and KEDA (queries) ask for in those clouds.
"""

from __future__ import annotations

import re
from enum import Enum

from authproxy.http1.urls import REMOTE_WRITE_PATH, TargetURL

#: Top-level domains of Azure Monitor's hosts: one for each cloud.
_TOPS = ("com", "us", "cn")

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

#: Suffix of a target's host, and the audience that such a target wants.
_AUDIENCES = {
    **{f".metrics.ingest.monitor.azure.{top}": f"https://monitor.azure.{top}" for top in _TOPS},
    **{
        f".prometheus.monitor.azure.{top}": f"https://prometheus.monitor.azure.{top}"
        for top in _TOPS
    },
}

_DEFAULT = "/.default"

_INGESTION_SCOPE = re.compile(r"https://monitor\.azure\.\w+/")
_QUERY_SCOPE = re.compile(r"https://prometheus\.monitor\.azure\.\w+/")


class Kind(str, Enum):
    """What a target is for, as far as the settings tell."""

    INGESTION = "ingestion"
    QUERY = "query"
    OTHER = "other"


def is_azure_monitor(scope: str) -> bool:
    """Tell whether tokens for `scope` are for an Azure Monitor workspace."""
    return bool(_INGESTION_SCOPE.match(scope) or _QUERY_SCOPE.match(scope))


def kind_of(url: TargetURL, scope: str) -> Kind:
    """Return what the target is for, by its host, its path and the audience."""
    derived = scope_for_host(url.host) or ""
    if url.path.endswith(REMOTE_WRITE_PATH) or _INGESTION_SCOPE.match(derived):
        return Kind.INGESTION
    if _QUERY_SCOPE.match(derived or scope):
        return Kind.QUERY
    return Kind.OTHER


def unfit(host: str, audience: str) -> str | None:
    """Return the audience that a host implies, where a token's `audience` is another.

    None where it fits, and where nothing can be said of it: version 2.0 tokens have a client
    ID for audience.
    """
    wanted, given = scope_for_host(host), audience.lower().removesuffix(_DEFAULT).rstrip("/")
    if wanted is None or "://" not in given or scope_of(given) == wanted:
        return None
    return wanted.removesuffix(_DEFAULT)


def scope_for_host(host: str) -> str | None:
    """Return the scope that a target's host implies, or None where no rule fits.

    Case does not matter, nor does the dot that ends a fully qualified name. A
    rule fits whole labels only: `evilprometheus.monitor.azure.com` has none.
    """
    name = host.lower().removesuffix(".")
    for suffix, audience in _AUDIENCES.items():
        if name.endswith(suffix) and not name.startswith("."):
            return scope_of(audience)
    return None


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

"""The proxy of AKS identity bindings, as the workload identity webhook names it to pods.

Entra's token endpoint is then reached through the cluster's API server alone, which has its own
authority and name:
https://learn.microsoft.com/azure/aks/identity-bindings-concepts
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from authproxy.errors import Fault, SettingsError
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, read_regular_file

TOKEN_PROXY = "AZURE_KUBERNETES_TOKEN_PROXY"
_SNI = "AZURE_KUBERNETES_SNI_NAME"
_CA_FILE = "AZURE_KUBERNETES_CA_FILE"
_CA_DATA = "AZURE_KUBERNETES_CA_DATA"

_HINT = "Leave these variables to the webhook: remove them, and restart the pod."


@dataclass(frozen=True)
class TokenProxy:
    """Where requests for tokens go in place of Entra, and how it is proven."""

    url: str
    #: The name that its certificate has, where that is not the URL's.
    server_name: str | None
    #: The only authorities to trust for it, as PEM; None: the usual ones.
    authorities: str | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> TokenProxy | None:
        """Return what the environment names, None where it names none. Raises SettingsError."""
        url = environ.get(TOKEN_PROXY)
        for variable in () if url else (_SNI, _CA_FILE, _CA_DATA):
            if environ.get(variable):
                raise _fault(variable, f"there is no {TOKEN_PROXY}", environ)
        if not url:
            return None
        try:
            parts = urlsplit(url)
            usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or "@" in parts.netloc:
            raise _fault(TOKEN_PROXY, "it is not https:// with a host, and a path at most", environ)
        return cls(url, environ.get(_SNI) or None, _authorities(environ))


def _authorities(environ: Mapping[str, str]) -> str | None:
    path, data = environ.get(_CA_FILE), environ.get(_CA_DATA)
    if path and data:
        raise _fault(_CA_FILE, f"it is set besides {_CA_DATA}", environ)
    if not path:
        return data or None
    try:
        pem = read_regular_file(path, MAX_BUNDLE_BYTES).decode("ascii", "replace")
    except UnreadableFile as error:
        raise _fault(_CA_FILE, f"it {error.problem}", environ) from None
    if not pem.strip():
        raise _fault(_CA_FILE, "the file is empty", environ)
    return pem


def _fault(variable: str, problem: str, environ: Mapping[str, str]) -> SettingsError:
    shown = None if variable == _CA_DATA else environ.get(variable)
    return SettingsError([Fault(variable, shown, problem, _HINT)])

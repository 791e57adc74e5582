"""Which endpoint gave a token and whose it is, and whether that is who was asked for.

A managed identity endpoint may give out the token of another identity than the one that was
meant, and environments may lead a library to another endpoint: neither is an error to them.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from authproxy.errors import Explanation
from authproxy.settings import Settings

#: Where Entra gives tokens, by whichever host; managed identity endpoints have other paths.
_ENTRA_PATH = "/oauth2/v2.0/token"

#: What the resource ids of user-assigned identities have, in small letters.
_USER_ASSIGNED = "/providers/microsoft.managedidentity/userassignedidentities/"

#: Of clients and objects; safe to use in a command.
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,99}")

#: Characters of a resource id; what is longer is none, and not kept.
_LONGEST_RESOURCE_ID = 500

#: What the cluster gives to an application of Service Fabric.
SERVICE_FABRIC = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT")


@dataclass(frozen=True)
class Provenance:
    """Where a token comes from; ids are None where it does not have them, or is opaque."""

    #: The URL of the endpoint without its query, or the command.
    endpoint: str
    app_id: str | None = None
    object_id: str | None = None
    #: Of a managed identity: its own resource id, or that of the machine that it belongs to.
    resource_id: str | None = None
    #: What it means that it is not the identity of the settings; None if it is.
    mismatch: Explanation | None = None

    @classmethod
    def of(cls, token: str, endpoint: str) -> Provenance:
        """Return that of a token which came from this URL, or of this command."""
        claims = claims_of(token) or {}
        parts = urlsplit(endpoint)
        host = parts.netloc.rpartition("@")[2]
        return cls(
            parts._replace(netloc=host, query="", fragment="").geturl(),
            # Versions 1.0 and 2.0 of Entra's tokens.
            identifier(claims, "appid") or identifier(claims, "azp"),
            identifier(claims, "oid"),
            _resource_id(claims),
        )

    def fields(self) -> dict[str, str | float | None]:
        """Return what the log says of it."""
        return {
            "Endpoint": self.endpoint,
            "AppID": self.app_id,
            "ObjectID": self.object_id,
            "Cause": str(self.mismatch) if self.mismatch else None,
        }

    def compared_with(self, settings: Settings) -> Provenance:
        """Return it with its mismatch, if it is not the identity that the settings ask for."""
        difference = self._difference(settings)
        if difference is None:
            return self
        kind = settings.identity_type
        hint = "See what gives tokens there: check AAD_AUTHORITY_HOST and HTTPS_PROXY"
        if kind in ("systemassigned", "userassigned"):
            hint = "Assign the identity that is meant to this machine"
            if self.app_id:
                hint += f", or set IDENTITY_TYPE=userassigned and AAD_CLIENT_ID={self.app_id}"
        cause = f"The token is not the one that IDENTITY_TYPE={kind} asks for: {difference}"
        return replace(self, mismatch=Explanation("AnotherIdentity", cause, hint))

    def _difference(self, settings: Settings) -> str | None:
        """Return in words how it is not the identity that the settings ask for."""
        kind = settings.identity_type
        managed = kind in ("systemassigned", "userassigned")
        if managed and urlsplit(self.endpoint).path.endswith(_ENTRA_PATH):
            return "it was not given by a managed identity endpoint"
        if kind == "systemassigned":
            if _USER_ASSIGNED in (self.resource_id or "").lower() and not on_service_fabric():
                return f"it is that of a user-assigned identity, {self.resource_id}"
            return None
        if kind not in ("userassigned", "aadapplication", "workloadidentity"):
            return None  # whichever there is was asked for
        ids = [("AAD_CLIENT_ID", settings.aad_client_id, self.app_id)]
        if kind == "userassigned":
            ids.append(("AAD_RESOURCE_ID", settings.aad_resource_id, self.resource_id))
            ids.append(("AAD_OBJECT_ID", settings.aad_object_id, self.object_id))
        for variable, asked, given in ids:
            if asked and given and asked.lower() != given.lower():
                return f"{variable} is {asked}, and the token is for {given}"
        return None


def on_service_fabric() -> bool:
    """Whether this is an application of Service Fabric, whose cluster chooses the identity."""
    return all(os.environ.get(name) for name in SERVICE_FABRIC)


def identifier(claims: Mapping[str, Any] | None, name: str) -> str | None:
    """Return a claim that is an id, or None; safe to use in a command."""
    value = (claims or {}).get(name)
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _resource_id(claims: Mapping[str, Any]) -> str | None:
    value = claims.get("xms_mirid")
    usable = isinstance(value, str) and value.isprintable()
    return str(value) if usable and len(str(value)) <= _LONGEST_RESOURCE_ID else None


def claims_of(token: str) -> Mapping[str, Any] | None:
    """Return the payload of a JWT (RFC 7519), or None where the token is not one.

    It is not verified: that is its audience's part.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None

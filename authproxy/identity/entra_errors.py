"""What Entra's errors mean here: the cause in an operator's words, a hint, and commands.

Pure rules over the text of an error, as azure-identity, MSAL and Entra word it. The codes
are Entra's own, see https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
What has none is known by the endpoint's response (`endpoint_errors`).
"""

from __future__ import annotations

import re
from collections.abc import Container

from authproxy.errors import Explanation
from authproxy.identity.endpoint_errors import EndpointResponse, cut, explain_response

_CLOCK = "Set this machine's clock (chronyc tracking, timedatectl); Entra allows five minutes"
_SIGN_IN = "Run 'az login' again, as the user that authproxy runs as"
_FEDERATION = (
    "Compare the federated credential of the application or identity (issuer, subject "
    "system:serviceaccount:<namespace>:<name>, audience) with the service account's token"
)
_NEW_SECRET = "Create a new client secret and put its value in AAD_CLIENT_SECRET[_FILE]"

_LIST_FEDERATED = (
    "az ad app federated-credential list --id $AAD_CLIENT_ID",
    "az identity federated-credential list --identity-name NAME --resource-group GROUP",
)
_RESET = ("az ad app credential reset --id $AAD_CLIENT_ID --append",)
_SHOW_TENANT = ("az account show --query tenantId --output tsv",)
_LOGIN = ("az login --tenant $AAD_TENANT_ID",)
_SHOW_APPLICATION = (
    "az ad sp show --id $AAD_CLIENT_ID --query '[displayName, accountEnabled]'",
    *_SHOW_TENANT,
)
_TIME = ("timedatectl status",)
_CERTIFICATE = (
    "az ad app credential list --id $AAD_CLIENT_ID --cert "
    "--query '[].[customKeyIdentifier, endDateTime]' --output tsv",
    "az ad app credential reset --id $AAD_CLIENT_ID --append --cert @CERTIFICATE_WITHOUT_KEY",
)

_OTHER_CLOUD = (
    "The identity belongs to another cloud than the Entra endpoint that was asked",
    "Set AAD_AUTHORITY_HOST to that of its cloud: login.microsoftonline.us (US government), "
    "login.chinacloudapi.cn (China); leave it out for the public cloud",
)

#: Cause, hint and perhaps commands.
_Meaning = tuple[str, str] | tuple[str, str, tuple[str, ...]]

#: By code without the prefix AADSTS.
_AADSTS: dict[str, _Meaning] = {
    "50034": (
        "The signed-in user does not exist in this tenant",
        "Check AAD_TENANT_ID, and whom 'az account show' names",
    ),
    "50076": ("The sign-in needs another factor", _SIGN_IN, _LOGIN),
    "50105": (
        "The resource gives tokens to assigned identities only, and this one is not assigned",
        "Assign it to the resource's enterprise application (Users and groups, or an app role)",
    ),
    "50173": ("The sign-in was revoked, by a new password for example", _SIGN_IN, _LOGIN),
    "500011": (
        "The tenant knows no resource of the name in AUDIENCE",
        "Check AUDIENCE (https://monitor.azure.com/.default to ingest, "
        "https://prometheus.monitor.azure.com/.default to query) and that cloud and tenant "
        "match",
    ),
    "500133": ("The assertion that proves the identity is outside its validity", _CLOCK, _TIME),
    "53003": (
        "A Conditional Access policy refuses this identity a token",
        "Have an administrator of the tenant's policies look up the Trace ID in the sign-in logs",
    ),
    "700016": (
        "The tenant has no application with this client ID",
        "Check AAD_CLIENT_ID (the application ID, not an object ID) and AAD_TENANT_ID; the "
        "application must be registered in that tenant or consented to there",
        _SHOW_APPLICATION,
    ),
    "700023": (
        "The assertion that proves the identity is meant for another authority",
        "Check AAD_AUTHORITY_HOST and AAD_TENANT_ID: cloud and tenant must be the application's",
    ),
    "700024": (
        "The assertion that proves the identity is not within its time range",
        f"{_CLOCK}. For a workload identity see that the service account's token is still renewed",
        _TIME,
    ),
    "700027": (
        "Entra does not accept the client certificate: it is not registered, or has expired",
        "Upload the certificate of AAD_CLIENT_CERTIFICATE_PATH to the application registration "
        "(Certificates & secrets) and compare the thumbprints",
        _CERTIFICATE,
    ),
    "700030": (
        "The certificate's subject or issuer is not one that the application trusts",
        "Add them to the application's trustedCertificateSubjects, or upload the certificate",
    ),
    "700082": ("The sign-in has expired, for it was not used for long", _SIGN_IN, _LOGIN),
    "70043": ("The sign-in has expired by the tenant's policy", _SIGN_IN, _LOGIN),
    "70011": (
        "The scope is not one that Entra can read",
        "Set AUDIENCE to a resource, such as https://monitor.azure.com, with /.default or without",
    ),
    "70021": (
        "No federated credential matches the service account's token",
        _FEDERATION,
        _LIST_FEDERATED,
    ),
    "700211": (
        "No federated credential has the issuer of the service account's token",
        _FEDERATION,
        _LIST_FEDERATED,
    ),
    "700212": (
        "No federated credential has the audience of the token",
        _FEDERATION,
        _LIST_FEDERATED,
    ),
    "700213": (
        "No federated credential has the subject of the service account",
        _FEDERATION,
        _LIST_FEDERATED,
    ),
    "7000112": (
        "The application is disabled in this tenant",
        "Enable sign-in for it under Enterprise applications, or use another one",
        _SHOW_APPLICATION,
    ),
    "7000215": (
        "The client secret is wrong",
        "Put the secret's value, not its ID, in AAD_CLIENT_SECRET[_FILE]",
        _RESET,
    ),
    "7000222": ("The client secret has expired", _NEW_SECRET, _RESET),
    "7000229": (
        "The application has no service principal in this tenant",
        "Create one (az ad sp create --id <AAD_CLIENT_ID>), or check AAD_TENANT_ID",
        ("az ad sp create --id $AAD_CLIENT_ID",),
    ),
    "90002": (
        "There is no such tenant",
        "Check AAD_TENANT_ID, and AAD_AUTHORITY_HOST for a sovereign cloud",
        _SHOW_TENANT,
    ),
    "90038": _OTHER_CLOUD,
    "900382": _OTHER_CLOUD,
    "900432": _OTHER_CLOUD,
    "900023": (
        "The tenant ID is neither a GUID nor a domain name",
        "Put the directory (tenant) ID of the portal's overview in AAD_TENANT_ID",
        _SHOW_TENANT,
    ),
}

#: No federated credential is for the service account's token as it is.
FEDERATION_CODES = ("AADSTS70021", "AADSTS700211", "AADSTS700212", "AADSTS700213")

_ASSIGN = (
    'az vm identity assign --resource-group GROUP --name VM --identities "$IDENTITY"',
    'az vmss identity assign --resource-group GROUP --name SCALE_SET --identities "$IDENTITY"',
)
_SWITCH_ON = ("az vm identity assign --resource-group GROUP --name VM",)

#: A code ends where its digits end: 70021 is not the beginning of 700213. Behind it are
#: Entra's words, and then what identifies the error.
_CODE = re.compile(r"AADSTS(\d+):? *([^\r\n]*)")
_BEHIND_WORDS = re.compile(r"(?:Trace|Correlation) ID|AADSTS\d")

#: Characters of Entra's words that a cause quotes.
_QUOTED = 300

#: MSAL's words where the authority's discovery fails.
_NO_TENANT = re.compile("unable to get authority configuration", re.IGNORECASE)


def explain(message: str, response: EndpointResponse | None = None) -> Explanation | None:
    """Return what an error's text means, or None where no rule knows it.

    Entra's own code is believed before anything else in the text; of several
    the first that is known. `response` is the endpoint's last, if there was one; neither
    it nor the text may hold a secret, as an explanation may quote them.
    """
    codes = _CODE.findall(message)
    for code in re.findall(r"AADSTS(\d+)", message):
        if code in _AADSTS:
            return Explanation(f"AADSTS{code}", *_AADSTS[code])
    if codes:
        return _unknown(*codes[0])
    if found := explain_response(message, response):
        return found
    return Explanation("AADSTS90002", *_AADSTS["90002"]) if _NO_TENANT.search(message) else None


def _unknown(code: str, words: str) -> Explanation:
    """Return the explanation for a code that is not in the table: Entra's."""
    words = cut(_BEHIND_WORDS.split(words, maxsplit=1)[0], _QUOTED)
    return Explanation(
        f"AADSTS{code}",
        f"Entra refuses: {words}" if words else "Entra refuses",
        f"https://login.microsoftonline.com/error?code={code} says more",
    )


def commands_for(
    explanation: Explanation, identity_type: str, given: Container[str]
) -> tuple[str, ...]:
    """Return commands that look into what is explained, or correct it.

    `given` are the variables of the settings that are given. `$NAME` in commands stands for the
    setting of that name.
    """
    if explanation.code != "IdentityNotFound":
        return explanation.commands
    if identity_type == "systemassigned":
        return _SWITCH_ON
    if identity_type != "userassigned":
        return ()
    return (_find_identity(given), *_ASSIGN)


def _find_identity(given: Container[str]) -> str:
    """Return the command that finds the resource id of a user-assigned identity."""
    if "AAD_RESOURCE_ID" in given:
        return "IDENTITY=$AAD_RESOURCE_ID"
    by = (
        "principalId=='$AAD_OBJECT_ID'"
        if "AAD_OBJECT_ID" in given
        else "clientId=='$AAD_CLIENT_ID'"
    )
    return f'IDENTITY=$(az identity list --query "[?{by}].id" --output tsv)'

"""What Entra's errors mean here: the cause in an operator's words, a hint, and commands.

Pure rules over the text of an error, as azure-identity, MSAL, Entra and the
managed identity endpoints word it. The codes are Entra's own, see
https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """An error explained: a code to look up, what is wrong, a hint, and commands that help.

    In commands names with $ are settings, words in capitals are for the operator to fill in.
    """

    code: str
    cause: str
    hint: str
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.cause} ({self.code}). {self.hint}."


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
        "Let whoever keeps the tenant's policies look up the Trace ID in the sign-in logs",
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
    "900023": (
        "The tenant ID is neither a GUID nor a domain name",
        "Put the directory (tenant) ID of the portal's overview in AAD_TENANT_ID",
        _SHOW_TENANT,
    ),
}

_AGAIN = "Nothing to do: it is asked again until it responds as it should"

#: (pattern, explanation); the first that is found in the text wins, so the special stand
#: before the general.
_PATTERNS: list[tuple[re.Pattern[str], Explanation]] = [
    (re.compile(pattern, re.IGNORECASE), Explanation(*row))
    for pattern, *row in (
        (
            "multiple user assigned identities exist",
            "IdentityAmbiguous",
            "This machine has several managed identities",
            "Choose one: IDENTITY_TYPE=userassigned and its client ID in AAD_CLIENT_ID",
        ),
        (
            "identity not found|no (user assigned or delegated )?managed identity found"
            "|no identity has been assigned"
            "|unable to load requested managed identity|managedidentitynotfound",
            "IdentityNotFound",
            "This machine has no such managed identity",
            "Assign it to the VM, scale set or app: for userassigned check AAD_CLIENT_ID (the "
            "identity's client ID), for systemassigned that it is switched on",
        ),
        (
            r"\bHTTP 410\b",
            "IdentityEndpointUpdating",
            "The managed identity endpoint is being updated, for up to 70 s",
            _AGAIN,
        ),
        (
            r"\bHTTP 429\b",
            "IdentityThrottled",
            "The identity endpoint is throttling",
            "Nothing to do: it is asked again later",
        ),
        (r"\bHTTP 5\d\d\b", "IdentityEndpointFailing", "The identity endpoint is failing", _AGAIN),
        (
            "DefaultAzureCredential failed to retrieve",
            "NoDefaultIdentity",
            "None of the identities that are tried by default gives a token here",
            "Set IDENTITY_TYPE to the one that is meant, for then it says what it lacks",
        ),
        (
            "azure cli not found",
            "AzureCliNotFound",
            "The Azure CLI is not installed, or not on the PATH",
            "Install it, or choose another IDENTITY_TYPE (azurecli is meant for a desk)",
        ),
        ("please run 'az login'", "AzureCliSignedOut", "Nobody is signed in", _SIGN_IN, _LOGIN),
        (
            "certificate[ _]verify[ _]failed|CertificateVerifyError",
            "AuthorityNotTrusted",
            "The TLS certificate of the identity endpoint is not trusted",
            "If a proxy inspects TLS here, name its CA in REQUESTS_CA_BUNDLE; check the clock",
        ),
        (
            "no response from the IMDS endpoint|no managed identity endpoint found",
            "NoIdentityEndpoint",
            "No managed identity endpoint answers here",
            "Run on an Azure VM, node or app that has an identity, let the network reach "
            "169.254.169.254, or choose another IDENTITY_TYPE",
        ),
        (
            "failed to resolve|name or service not known|name resolution|getaddrinfo",
            "AuthorityNotResolved",
            "The host name of the identity endpoint cannot be resolved",
            "Check DNS on this machine and AAD_AUTHORITY_HOST",
        ),
        (
            "SSLError|TLS/SSL|ssl.c:",
            "AuthorityTLSFailed",
            "The identity endpoint cannot be spoken to over TLS",
            "Check AAD_AUTHORITY_HOST and HTTPS_PROXY, and what stands in between",
        ),
        (
            "the response is larger than",
            "IdentityResponseTooLarge",
            "The identity endpoint sent more than any token takes",
            "See what responds there: check AAD_AUTHORITY_HOST and HTTPS_PROXY",
        ),
        (
            "timed out|timeout",
            "IdentityTimeout",
            "The identity endpoint did not answer in time",
            "Check firewall, HTTPS_PROXY and AAD_AUTHORITY_HOST",
        ),
        (
            "connection refused|failed to establish a new connection|connection reset"
            "|connection aborted|remote end closed|network is unreachable|no route to host",
            "IdentityUnreachable",
            "No connection to the identity endpoint",
            "Check firewall, HTTPS_PROXY and AAD_AUTHORITY_HOST",
        ),
        ("unable to get authority configuration", "AADSTS90002", *_AADSTS["90002"]),
    )
]

#: No federated credential is for the service account's token as it is.
FEDERATION_CODES = ("AADSTS70021", "AADSTS700211", "AADSTS700212", "AADSTS700213")

_IDENTITY_COMMANDS: dict[str, tuple[str, ...]] = {
    "systemassigned": ("az vm identity assign --resource-group GROUP --name VM",),
    "userassigned": (
        "IDENTITY=$(az identity list --query \"[?clientId=='$AAD_CLIENT_ID'].id\" --output tsv)",
        'az vm identity assign --resource-group GROUP --name VM --identities "$IDENTITY"',
        'az vmss identity assign --resource-group GROUP --name SCALE_SET --identities "$IDENTITY"',
    ),
}

#: A code ends where its digits end: 70021 is not the beginning of 700213.
_CODE = re.compile(r"AADSTS(\d+)")


def explain(message: str) -> Explanation | None:
    """Return what an error's text means, or None where no rule knows it.

    Entra's own code is believed before anything else in the text; of several
    the first that is known.
    """
    for code in _CODE.findall(message):
        if code in _AADSTS:
            return Explanation(f"AADSTS{code}", *_AADSTS[code])
    matching = (explanation for pattern, explanation in _PATTERNS if pattern.search(message))
    return next(matching, None)


def commands_for(explanation: Explanation, identity_type: str) -> tuple[str, ...]:
    """Return commands that look into what is explained, or correct it.

    `$NAME` in them stands for the setting of that name.
    """
    if explanation.code == "IdentityNotFound":
        return _IDENTITY_COMMANDS.get(identity_type, ())
    return explanation.commands

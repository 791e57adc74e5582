"""What it means that an identity endpoint gave no token: by its response, or where there was none.

Pure rules in one table. The statuses of virtual machines' endpoint (IMDS) are those of
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from authproxy.errors import Explanation

#: Characters of what an endpoint says that a cause quotes.
_QUOTED = 200


@dataclass(frozen=True)
class EndpointResponse:
    """A response of an identity endpoint: its status and host, and what it says of an error.

    `managed`: the endpoint is that of managed identities, on this machine, and not Entra.
    `foreign`: its body is no JSON object, as that of every identity endpoint is, so that
    something else may have sent it. `retry_after` is the field as sent.
    """

    status: int
    host: str
    text: str = ""
    retry_after: str | None = None
    managed: bool = False
    foreign: bool = False

    @property
    def refuses(self) -> bool:
        """Whether it cannot be one with a token."""
        return self.status >= 300 or self.foreign

    def __str__(self) -> str:
        return f"{self.summary}: {self.text}".removesuffix(": ")

    @property
    def summary(self) -> str:
        """Status and host."""
        return f"HTTP {self.status} from {self.host}"


_AGAIN = "Nothing to do: it is asked again until it responds as it should"

Rule = tuple[object, Explanation]


def rules(text: str, response: EndpointResponse | None) -> list[Rule]:
    """Return all rules: whether each holds for an error's text, and what it means then.

    The first that holds explains, so the special stand before the general. `response` is as
    `explain_response` has it.
    """
    status = response.status if response else 0
    managed = response is not None and response.managed
    foreign = response is not None and response.foreign
    quoted = cut(str(response), _QUOTED)

    def says(words: str) -> object:
        return re.search(words, text, re.IGNORECASE)

    def rule(
        holds: object, code: str, cause: str, hint: str, commands: tuple[str, ...] = ()
    ) -> Rule:
        return holds, Explanation(code, cause, hint, commands)

    return [
        rule(
            says("multiple user assigned identities exist"),
            "IdentityAmbiguous",
            "This machine has several managed identities",
            "Choose one: IDENTITY_TYPE=userassigned and its client ID in AAD_CLIENT_ID, or that "
            "client ID in AAD_FEDERATED_IDENTITY",
        ),
        rule(
            says(
                "identity not found|no (user assigned or delegated )?managed identity found"
                "|no identity has been assigned|no azure ?(assigned ?)?identity found"
                "|unable to load requested managed identity|managedidentitynotfound"
            ),
            "IdentityNotFound",
            "This machine has no such managed identity",
            "Assign it to the VM, scale set or app, and check the id that names it (AAD_CLIENT_ID, "
            "AAD_RESOURCE_ID, AAD_OBJECT_ID, AAD_FEDERATED_IDENTITY); one that is system assigned "
            "has to be switched on",
        ),
        rule(
            says(r"permission denied.*azcmagent"),
            "ArcKeyUnreadable",
            "This user may not read the key file of Azure Arc's agent",
            "Put the user that authproxy runs as into the group himds (SupplementaryGroups=himds "
            "in its unit), and restart it",
            ("usermod --append --groups himds USER",),
        ),
        rule(
            says(r"no such file.*azcmagent"),
            "ArcKeyMissing",
            "The key file of Azure Arc's agent is not there for authproxy",
            "In a container, mount /var/opt/azcmagent/tokens; elsewhere see 'azcmagent show'",
        ),
        rule(
            managed and status == 404,
            "IdentityEndpointUpdating",
            f"The managed identity endpoint is not there for now ({quoted}): it is being updated",
            f"{_AGAIN}. If it stays, see what responds at that address",
        ),
        rule(
            status == 410,
            "IdentityEndpointUpdating",
            "The managed identity endpoint is being updated, for up to 70 s",
            _AGAIN,
        ),
        rule(
            status == 429,
            "IdentityThrottled",
            "The identity endpoint is throttling",
            "Nothing to do: it is asked again later",
        ),
        rule(
            500 <= status < 600,
            "IdentityEndpointFailing",
            "The identity endpoint is failing",
            _AGAIN,
        ),
        rule(
            says("DefaultAzureCredential failed to retrieve"),
            "NoDefaultIdentity",
            "None of the identities that are tried by default gives a token here",
            "Set IDENTITY_TYPE to the one that is meant, for then it says what it lacks",
        ),
        rule(
            foreign and managed,
            "IdentityIntercepted",
            f"What responds is no managed identity endpoint: {quoted}",
            "If IDENTITY_ENDPOINT or MSI_ENDPOINT is set here, it names something else: leave it "
            "to the platform. If not, have what intercepts on the way (a transparent proxy, "
            "service mesh or Docker Desktop) leave the endpoint alone: NO_PROXY=169.254.169.254, "
            "or its list of excluded addresses. authproxy itself asks it through no proxy",
        ),
        rule(
            foreign and not managed,
            "AuthorityIntercepted",
            f"What responds is not Entra: {quoted}",
            "Check AAD_AUTHORITY_HOST, and whether a proxy or gateway on the way (HTTPS_PROXY) "
            "lets requests to it through",
        ),
        rule(
            managed and status == 401,
            "IdentityEndpointUnauthorized",
            f"The managed identity endpoint does not know this process: {quoted}",
            "Run authproxy where the identity is, with the environment that the platform gives "
            "(IDENTITY_HEADER changes with each start)",
        ),
        rule(
            managed and status == 403,
            "IdentityEndpointForbidden",
            f"The managed identity endpoint forbids this process to ask: {quoted}",
            "Look for a policy of the machine or cluster that restricts its metadata endpoint, "
            "and allow this process, or use a workload identity",
        ),
        rule(
            managed and 400 <= status < 500,
            "IdentityEndpointRefused",
            f"The managed identity endpoint refuses: {quoted}",
            "Check IDENTITY_TYPE, the id that names the identity and AUDIENCE by its words",
        ),
        rule(
            managed,
            "IdentityResponseUnusable",
            f"The managed identity endpoint responds without a token that can be used: {quoted}",
            "See what responds there: IDENTITY_ENDPOINT, or 169.254.169.254",
        ),
        rule(
            says("azure cli not found"),
            "AzureCliNotFound",
            "The Azure CLI is not installed, or not on the PATH",
            "Install it, or choose another IDENTITY_TYPE (azurecli is meant for a desk)",
        ),
        rule(
            says("please run 'az login'"),
            "AzureCliSignedOut",
            "Nobody is signed in",
            "Run 'az login' again, as the user that authproxy runs as",
            ("az login --tenant $AAD_TENANT_ID",),
        ),
        rule(
            says("certificate[ _]verify[ _]failed|CertificateVerifyError"),
            "AuthorityNotTrusted",
            "The TLS certificate of the identity endpoint is not trusted",
            "If a proxy inspects TLS here, name its CA in REQUESTS_CA_BUNDLE; check the clock",
        ),
        rule(
            response is None
            and says("no response from the IMDS endpoint|no managed identity endpoint found"),
            "NoIdentityEndpoint",
            "No managed identity endpoint responds here",
            "Run on an Azure VM, node or app that has an identity, let the network reach "
            "169.254.169.254, or choose another IDENTITY_TYPE",
        ),
        rule(
            says("tunnel connection failed|(cannot|unable to) connect to proxy"),
            "ForwardProxyFailed",
            "The forward proxy of HTTPS_PROXY gives no connection to the identity endpoint",
            "Have it allow that host on port 443, or name the host in NO_PROXY",
        ),
        rule(
            says("failed to resolve|name or service not known|name resolution|getaddrinfo"),
            "AuthorityNotResolved",
            "The host name of the identity endpoint cannot be resolved",
            "Check DNS on this machine and AAD_AUTHORITY_HOST",
        ),
        rule(
            says("SSLError|TLS/SSL|ssl.c:"),
            "AuthorityTLSFailed",
            "The identity endpoint cannot be spoken to over TLS",
            "Check AAD_AUTHORITY_HOST and HTTPS_PROXY, and what stands in between",
        ),
        rule(
            says("the response is larger than"),
            "IdentityResponseTooLarge",
            "The identity endpoint sent more than any token takes",
            "See what responds there: check AAD_AUTHORITY_HOST and HTTPS_PROXY",
        ),
        rule(
            says("timed out|timeout"),
            "IdentityTimeout",
            "The identity endpoint did not respond in time",
            "Check firewall, HTTPS_PROXY and AAD_AUTHORITY_HOST",
        ),
        rule(
            says(
                "connection refused|failed to establish a new connection|connection reset"
                "|connection aborted|remote end closed|network is unreachable|no route to host"
            ),
            "IdentityUnreachable",
            "No connection to the identity endpoint",
            "Check firewall, HTTPS_PROXY and AAD_AUTHORITY_HOST",
        ),
    ]


def explain_response(text: str, response: EndpointResponse | None) -> Explanation | None:
    """Return what an error means whose text this is, or None where no rule knows it.

    `response` is the last one that came from the endpoint, None where none did.
    """
    return next((each for holds, each in rules(text, response) if holds), None)


def cut(text: str, length: int) -> str:
    """Return `text` without the full stop at its end, and not much longer than `length`."""
    text = text.strip().rstrip(".")
    return text if len(text) <= length else f"{text[:length]}..."

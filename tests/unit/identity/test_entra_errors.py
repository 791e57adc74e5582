"""Entra's errors, in the words in which they come, and what they are explained by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authproxy.identity.endpoint_errors import EndpointResponse
from authproxy.identity.entra_errors import commands_for, explain

IMDS = "ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint."
CHAIN = "DefaultAzureCredential failed to retrieve a token from the included credentials."


@pytest.mark.parametrize(
    ("code", "cause", "mend"),
    [
        ("500011", "resource", "AUDIENCE"),
        ("500133", "validity", "clock"),
        ("50105", "not assigned", "enterprise application"),
        ("50034", "user", "AAD_TENANT_ID"),
        ("53003", "Conditional Access", "policies"),
        ("700016", "no application", "AAD_CLIENT_ID"),
        ("700023", "another authority", "AAD_AUTHORITY_HOST"),
        ("70011", "scope", "AUDIENCE"),
        ("700024", "time range", "clock"),
        ("700027", "certificate", "application registration"),
        ("700030", "subject or issuer", "trustedCertificateSubjects"),
        ("70021", "federated", "subject"),
        ("700211", "issuer", "federated credential"),
        ("700212", "audience", "federated credential"),
        ("700213", "subject", "federated credential"),
        ("700082", "expired", "az login"),
        ("7000112", "disabled", "Enterprise applications"),
        ("7000215", "secret is wrong", "value, not its ID"),
        ("7000222", "secret has expired", "new client secret"),
        ("7000229", "service principal", "az ad sp create"),
        ("90002", "no such tenant", "AAD_TENANT_ID"),
        ("900023", "tenant ID", "AAD_TENANT_ID"),
        ("90038", "another cloud", "AAD_AUTHORITY_HOST"),
        ("900382", "another cloud", "AAD_AUTHORITY_HOST"),
        ("900432", "another cloud", "AAD_AUTHORITY_HOST"),
    ],
)
def test_a_code_of_entras_is_explained(code: str, cause: str, mend: str) -> None:
    explanation = explain(f"Authentication failed: AADSTS{code}: Words. Trace ID: 1 AADSTS")
    assert explanation is not None
    assert explanation.code == f"AADSTS{code}"
    assert cause in explanation.cause
    assert mend in explanation.hint


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (f"{IMDS} Token request error: (invalid_request) Identity not found", "IdentityNotFound"),
        (
            "No User Assigned or Delegated Managed Identity found for specified ClientId",
            "IdentityNotFound",
        ),
        ("(invalid_scope) 400, No managed identity found for x", "IdentityNotFound"),
        (
            f"{IMDS} (invalid_request) Multiple user assigned identities exist, please specify",
            "IdentityAmbiguous",
        ),
        (IMDS, "NoIdentityEndpoint"),
        ("No managed identity endpoint found.", "NoIdentityEndpoint"),
        (f"{IMDS}\nConnectionRefusedError: connection refused", "NoIdentityEndpoint"),
        (f"{CHAIN} {IMDS} AzureCliCredential: Azure CLI not found on path", "NoDefaultIdentity"),
        (f"{CHAIN} AADSTS7000222: expired", "AADSTS7000222"),
        ("Azure CLI not found on path", "AzureCliNotFound"),
        ("Please run 'az login' to set up an account", "AzureCliSignedOut"),
        (
            "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate "
            "verify failed: self-signed certificate",
            "AuthorityNotTrusted",
        ),
        ("SSLError(1, '[SSL: WRONG_VERSION_NUMBER]", "AuthorityTLSFailed"),
        ("Failed to resolve 'login.example.com' ([Errno -2]", "AuthorityNotResolved"),
        ("Read timed out. (read timeout=30)", "IdentityTimeout"),
        ("[Errno 111] Connection refused", "IdentityUnreachable"),
        (
            "[Errno 13] Permission denied: '/var/opt/azcmagent/tokens/a1b2.key'",
            "ArcKeyUnreadable",
        ),
        (
            "[Errno 2] No such file or directory: '/var/opt/azcmagent/tokens/a1b2.key'",
            "ArcKeyMissing",
        ),
        (
            "ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 403",
            "ForwardProxyFailed",
        ),
        ("Unable to get authority configuration for https://login.example.com/x", "AADSTS90002"),
    ],
)
def test_an_error_without_a_code_is_known_by_its_words(message: str, code: str) -> None:
    explanation = explain(message)
    assert explanation is not None
    assert explanation.code == code


LOCAL = "169.254.169.254"


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (EndpointResponse(404, LOCAL, managed=True), "IdentityEndpointUpdating"),
        (
            EndpointResponse(404, LOCAL, "<h2>Not Found", managed=True, foreign=True),
            "IdentityEndpointUpdating",
        ),
        (EndpointResponse(410, LOCAL, managed=True), "IdentityEndpointUpdating"),
        (EndpointResponse(429, LOCAL, managed=True), "IdentityThrottled"),
        (EndpointResponse(503, "login.example.com"), "IdentityEndpointFailing"),
        (
            EndpointResponse(401, LOCAL, "unknown_source", managed=True),
            "IdentityEndpointUnauthorized",
        ),
        (EndpointResponse(403, LOCAL, "forbidden", managed=True), "IdentityEndpointForbidden"),
        (EndpointResponse(400, LOCAL, "bad_request_102", managed=True), "IdentityEndpointRefused"),
        (EndpointResponse(403, LOCAL, "<p>", managed=True, foreign=True), "IdentityIntercepted"),
        (EndpointResponse(302, LOCAL, "<p>", managed=True, foreign=True), "IdentityIntercepted"),
        (EndpointResponse(200, LOCAL, managed=True), "IdentityResponseUnusable"),
        (EndpointResponse(403, "login.example.com", "<p>", foreign=True), "AuthorityIntercepted"),
    ],
    ids=str,
)
def test_where_there_was_a_response_it_is_what_is_explained(
    response: EndpointResponse, code: str
) -> None:
    explanation = explain(f"{response}\n{IMDS}", response)
    assert explanation is not None
    assert explanation.code == code
    assert "{}" not in explanation.cause
    assert "responds here" not in explanation.cause
    assert "IDENTITY_TYPE" not in explanation.hint or response.status == 400


def test_what_an_endpoint_says_is_cut() -> None:
    response = EndpointResponse(400, LOCAL, "x" * 1000, managed=True)
    explanation = explain(str(response), response)
    assert explanation is not None
    assert len(explanation.cause) < 300


def test_a_code_that_is_not_in_the_table_is_told_in_entras_words_with_its_page() -> None:
    longer = "AADSTS700219999: Something else is missing.\r\nTrace ID: 1"  # not 70021
    explanation = explain(longer)
    assert str(explanation) == (
        "Entra refuses: Something else is missing (AADSTS700219999). "
        "https://login.microsoftonline.com/error?code=700219999 says more."
    )
    assert len(str(explain(f"AADSTS1: {'x' * 5000} Trace ID: 2"))) < 500
    assert str(explain("AADSTS1")).startswith("Entra refuses (AADSTS1)")


def test_a_known_code_is_found_behind_an_unknown_one() -> None:
    explanation = explain("AADSTS1234567: x. AADSTS90002: y")
    assert explanation is not None
    assert explanation.code == "AADSTS90002"


def test_an_unknown_error_has_no_explanation() -> None:
    assert explain("Something quite new") is None


def test_an_explanation_reads_as_sentences() -> None:
    assert str(explain("AADSTS7000215")) == (
        "The client secret is wrong (AADSTS7000215). "
        "Put the secret's value, not its ID, in AAD_CLIENT_SECRET[_FILE]."
    )


@given(st.text())
def test_any_text_can_be_asked_about(message: str) -> None:
    explain(message)


@pytest.mark.parametrize(
    ("message", "identity_type", "command"),
    [
        ("AADSTS7000222", "aadapplication", "az ad app credential reset --id $AAD_CLIENT_ID"),
        ("AADSTS700016", "aadapplication", "az ad sp show --id $AAD_CLIENT_ID"),
        ("AADSTS700027", "aadapplication", "az ad app credential list --id $AAD_CLIENT_ID --cert"),
        ("AADSTS700213", "workloadidentity", "az identity federated-credential list"),
        ("AADSTS90002", "aadapplication", "az account show --query tenantId"),
        ("Please run 'az login'", "azurecli", "az login --tenant $AAD_TENANT_ID"),
        ("Identity not found", "systemassigned", "az vm identity assign"),
        ("Identity not found", "userassigned", "az vmss identity assign"),
        ("Identity not found", "userassigned", "[?principalId=='$AAD_OBJECT_ID'].id"),
    ],
)
def test_what_can_be_mended_by_a_command_has_it(
    message: str, identity_type: str, command: str
) -> None:
    explanation = explain(message)
    assert explanation is not None
    commands = commands_for(explanation, identity_type, ["AAD_OBJECT_ID"])
    assert any(command in one for one in commands)


def test_what_no_command_mends_has_none() -> None:
    explanation = explain("", EndpointResponse(503, "login.microsoftonline.com"))
    assert explanation is not None
    assert commands_for(explanation, "userassigned", ["AAD_CLIENT_ID"]) == ()

"""Entra's errors, in the words in which they come, and what they are explained by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (f"HTTP 410 from 169.254.169.254\n{IMDS}", "IdentityEndpointUpdating"),
        (f"HTTP 429 from 169.254.169.254\n{IMDS}", "IdentityThrottled"),
        ("HTTP 503 from login.microsoftonline.com", "IdentityEndpointFailing"),
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
        ("Unable to get authority configuration for https://login.example.com/x", "AADSTS90002"),
    ],
)
def test_an_error_without_a_code_is_known_by_its_words(message: str, code: str) -> None:
    explanation = explain(message)
    assert explanation is not None
    assert explanation.code == code


def test_a_longer_code_is_not_taken_for_a_shorter_one() -> None:
    assert explain("AADSTS700219999: something else") is None


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
    ],
)
def test_what_can_be_mended_by_a_command_has_it(
    message: str, identity_type: str, command: str
) -> None:
    explanation = explain(message)
    assert explanation is not None
    assert any(command in one for one in commands_for(explanation, identity_type))


def test_what_no_command_mends_has_none() -> None:
    explanation = explain("HTTP 503 from login.microsoftonline.com")
    assert explanation is not None
    assert commands_for(explanation, "userassigned") == ()

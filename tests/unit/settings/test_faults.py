"""Every fault by itself: which setting, what is shown, what is wrong, with which hint."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from authproxy.errors import Fault, SettingsError
from authproxy.settings import Settings, load_settings
from tests.support.callers import write_keys
from tests.support.client_certificates import client_authority
from tests.support.tls_client import Certificates

MINIMAL = {"TARGET_HOST": "metrics.example.com", "AUDIENCE": "https://a", "LISTENING_PORT": "1"}
APPLICATION = {
    **MINIMAL,
    "IDENTITY_TYPE": "aadApplication",
    "AAD_CLIENT_ID": "00000000-0000",
    "AAD_TENANT_ID": "example.com",
}
WORKLOAD = {**APPLICATION, "IDENTITY_TYPE": "workloadidentity"}
USER_ASSIGNED = {**MINIMAL, "IDENTITY_TYPE": "userAssigned"}


def load(environ: Mapping[str, str]) -> Settings:
    return load_settings({}, environ, serving=True).settings


def faults(environ: Mapping[str, str], *, serving: bool = True) -> list[Fault]:
    try:
        load_settings({}, environ, serving=serving)
    except SettingsError as error:
        return list(error.faults)
    return []


def only_fault(environ: Mapping[str, str], *, serving: bool = True) -> Fault:
    found = faults(environ, serving=serving)
    assert len(found) == 1, [str(fault) for fault in found]
    assert found[0].hint.endswith(".")
    return found[0]


WRONG_VALUES = [
    ("TARGET_HOST", "https://", "it names no host"),
    ("TARGET_HOST", "ftp://a", "neither https nor http"),
    ("TARGET_HOST", "a b", "blanks"),
    ("TARGET_HOST", "a:99999", "port"),
    ("TARGET_HOST", "a#b", "fragment"),
    ("TARGET_ALLOW_HTTP", "maybe", "neither true nor false"),
    ("TARGET_CONNECT_TIMEOUT_SECONDS", "0", "out of range"),
    ("TARGET_READ_TIMEOUT_SECONDS", "inf", "not a finite number"),
    ("TARGET_READ_TIMEOUT_SECONDS", "5s", "not a number"),
    ("TARGET_POOL_SIZE", "0", "out of range"),
    ("CLUSTER", "a\x1bb", "control characters"),
    ("CLUSTER", "a\udcffb", "not UTF-8"),
    ("AUDIENCE", "https://a https://b", "blanks"),
    ("AUDIENCE", "/.default", "belongs once, at the end"),
    ("IDENTITY_TYPE", "managed", "none of the known values"),
    ("AAD_CLIENT_ID", "<CLIENT-ID>", "characters that no such id has"),
    ("AAD_TENANT_ID", "a/b", "characters that no such id has"),
    ("AAD_AUTHORITY_HOST", "http://login.example.com", "it is http"),
    ("AAD_AUTHORITY_HOST", "https://login.example.com/tenant", "a path or a query"),
    ("AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE", "0", "out of range"),
    ("AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE", "100", "out of range"),
    ("AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE", "10%", "not a whole number"),
    ("LISTENING_PORT", "0", "out of range"),
    ("LISTENING_PORT", "65536", "out of range"),
    ("LISTENING_PORT", "80.5", "not a whole number"),
    ("LISTENING_PORT", "9" * 5000, "not a whole number"),
    ("LISTENING_HOST", "http://a", "neither an IP address nor a host name"),
    ("WORKERS", "0", "out of range"),
    ("WORKERS", "many", "not a whole number"),
    ("THREADS", "1025", "out of range"),
    ("MAX_REQUEST_BODY_BYTES", "64MiB", "not a whole number"),
    ("MAX_BUFFERED_BYTES", "0", "out of range"),
    ("MAX_BUFFERED_BYTES", "67108863", "less than MAX_REQUEST_BODY_BYTES (67108864)"),
    ("REQUEST_BODY_TIMEOUT_SECONDS", "0", "out of range"),
    ("MAX_REQUEST_HEADER_BYTES", "1", "out of range"),
    ("SHUTDOWN_DELAY_SECONDS", "-1", "out of range"),
    ("SHUTDOWN_GRACE_SECONDS", "nan", "not a finite number"),
    ("REMOTE_WRITE_RETRY_AUTH_FAILURES", "2", "neither true nor false"),
    ("LOG_FORMAT", "xml", "none of the known values"),
    ("LOG_LEVEL", "loud", "none of the known values"),
    ("LOG_QUERY", "never", "neither true nor false"),
    ("ALLOWED_METHODS", "GET,,POST", "an empty member"),
    ("ALLOWED_METHODS", ",", "an empty member"),
    ("ALLOWED_METHODS", "GET POST", "'GET POST' is no method"),
    ("ALLOWED_METHODS", "get,trace", "TRACE is never forwarded"),
    ("ALLOWED_PATHS", "api", "'api' does not begin with a slash"),
    ("ALLOWED_PATHS", "/api,/a/../b", "'/a/../b' holds a segment of dots"),
    ("ALLOWED_PATHS", "/api/v1/write?x", "a query"),
    ("ALLOWED_PATHS", "/a**b", "** must stand alone"),
]


@pytest.mark.parametrize(("variable", "value", "problem"), WRONG_VALUES)
def test_a_wrong_value_is_a_fault_that_names_setting_value_and_problem(variable, value, problem):
    fault = only_fault({**MINIMAL, variable: value})
    assert (fault.setting, fault.value) == (variable, value)
    assert problem in fault.problem


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("LISTENING_PORT", "0", "Give a whole number from 1 to 65535."),
        ("TARGET_POOL_SIZE", "x", "Give a whole number from 1 to 10000."),
        ("SHUTDOWN_GRACE_SECONDS", "x", "Give a number of seconds from 0 to 3600."),
        ("TARGET_READ_TIMEOUT_SECONDS", "x", "Give a number of seconds above 0, up to 3600."),
        ("LOG_QUERY", "x", "Give true or false."),
        ("LOG_FORMAT", "x", "Give one of: logfmt, json, otel."),
        (
            "IDENTITY_TYPE",
            "x",
            "Give one of: default, systemassigned, userassigned, aadapplication, "
            "workloadidentity, azurecli.",
        ),
    ],
)
def test_the_hint_says_what_the_setting_takes(variable, value, hint):
    assert only_fault({**MINIMAL, variable: value}).hint == hint


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("metrics.example.com/api/v1/write", "not a whole https:// URL"),
        ("https://metrics.example.com", "no path"),
        ("https://metrics.example.com/", "no path"),
        ("https:///api/v1/write", "it names no host"),
    ],
)
def test_an_ingestion_url_is_a_whole_url(url, problem):
    fault = only_fault({"INGESTION_URL": url, "AUDIENCE": "https://a", "LISTENING_PORT": "1"})
    assert fault.setting == "INGESTION_URL"
    assert problem in fault.problem


@pytest.mark.parametrize("variable", ["TARGET_HOST", "INGESTION_URL", "AAD_AUTHORITY_HOST"])
def test_user_information_in_a_url_is_a_fault_and_is_masked(variable):
    environ = dict(MINIMAL)
    if variable == "INGESTION_URL":
        del environ["TARGET_HOST"]
    fault = only_fault({**environ, variable: "https://user:p@ss@metrics.example.com/w"})
    assert fault.value == "https://***@metrics.example.com/w"
    assert "ss" not in fault.problem.replace("password", "")


MISSING = [
    ({"TARGET_HOST": ""}, "TARGET_HOST", "nothing says where requests go"),
    ({"AUDIENCE": ""}, "AUDIENCE", "metrics.example.com does not imply it"),
    ({"LISTENING_PORT": ""}, "LISTENING_PORT", "nothing says where to listen"),
    ({"IDENTITY_TYPE": "userAssigned"}, "AAD_CLIENT_ID", "IDENTITY_TYPE=userassigned"),
]


@pytest.mark.parametrize(("change", "variable", "problem"), MISSING)
def test_what_is_missing_is_a_fault_without_a_value(change, variable, problem):
    fault = only_fault({**MINIMAL, **change})
    assert (fault.setting, fault.value) == (variable, None)
    assert problem in fault.problem


def test_a_listener_is_required_only_to_serve():
    assert faults({**MINIMAL, "LISTENING_PORT": ""}, serving=False) == []


@pytest.mark.parametrize("variable", ["AAD_CLIENT_ID", "AAD_TENANT_ID"])
@pytest.mark.parametrize("base", [APPLICATION, WORKLOAD])
def test_applications_and_workloads_need_both_ids(base, variable, tmp_path):
    (tmp_path / "f").write_text("x")
    also = {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "f"), "AAD_CLIENT_SECRET": "s"}
    assert only_fault({**base, **also, variable: ""}).setting == variable
    assert faults({**base, **also, variable: "", variable.replace("AAD", "AZURE"): "a"}) == []


def test_an_application_needs_a_certificate_or_a_secret():
    fault = only_fault(APPLICATION)
    assert fault.setting == "AAD_CLIENT_CERTIFICATE_PATH"
    assert "needs a certificate or a secret" in fault.problem


@pytest.mark.parametrize("form", ["AAD_CLIENT_SECRET", "AAD_CLIENT_SECRET_FILE"])
def test_an_application_takes_one_of_certificate_and_secret(tmp_path, form):
    path = tmp_path / "client.pem"
    path.write_bytes(client_authority().issue().pem())
    found = faults({**APPLICATION, form: str(path), "AAD_CLIENT_CERTIFICATE_PATH": str(path)})
    ours = [fault.problem for fault in found if fault.setting == form]
    assert "it is set besides AAD_CLIENT_CERTIFICATE_PATH" in ours


def test_the_sdks_variables_do_not_compete_with_settings_of_ours(tmp_path):
    sdk = {"AZURE_CLIENT_CERTIFICATE_PATH": str(tmp_path / "absent"), "AZURE_CLIENT_ID": "of-a-pod"}
    load({**APPLICATION, "AAD_CLIENT_SECRET": "s3cret", **sdk})
    settings = load({**USER_ASSIGNED, "AAD_OBJECT_ID": "1111", **sdk})
    assert settings.aad_client_id is None


RESOURCE_ID = (
    "/subscriptions/00000000-0000-4000-8000-00000000bbbb/resourcegroups/group/providers/"
    "Microsoft.ManagedIdentity/userAssignedIdentities/authproxy"
)
IDS = {"AAD_CLIENT_ID": "1111", "AAD_RESOURCE_ID": RESOURCE_ID, "AAD_OBJECT_ID": "2222"}


@pytest.mark.parametrize("given", IDS)
def test_a_user_assigned_identity_is_named_in_one_of_three_ways(given):
    load({**USER_ASSIGNED, given: IDS[given]})
    found = faults({**USER_ASSIGNED, **IDS})
    assert [fault.setting for fault in found] == ["AAD_RESOURCE_ID", "AAD_OBJECT_ID"]
    fault = only_fault(USER_ASSIGNED)
    assert fault.setting == "AAD_CLIENT_ID"
    assert all(name in str(fault) for name in IDS)


@pytest.mark.parametrize("name", ["AAD_CLIENT_ID", "AAD_OBJECT_ID"])
def test_a_resource_id_in_another_setting_is_a_fault_that_names_its_own(name):
    fault = only_fault({**USER_ASSIGNED, name: RESOURCE_ID})
    assert (fault.setting, fault.problem) == (name, "it is a resource id")
    assert "AAD_RESOURCE_ID" in fault.hint


@pytest.mark.parametrize(
    "text", ["1111", "/subscriptions/s/resourceGroups/g", f"{RESOURCE_ID}/x", f"x{RESOURCE_ID}"]
)
def test_what_is_no_resource_id_of_an_identity_is_a_fault(text):
    fault = only_fault({**USER_ASSIGNED, "AAD_RESOURCE_ID": text})
    assert "it is not the resource id of a user-assigned managed identity" in fault.problem


@pytest.mark.parametrize("given", ["systemAssigned", "SYSTEMASSIGNED", "0000-1111"])
def test_a_federated_identity_takes_the_place_of_certificate_and_secret(given):
    settings = load({**APPLICATION, "AAD_FEDERATED_IDENTITY": given})
    assert settings.aad_federated_identity in ("systemassigned", "0000-1111")
    both = {"AAD_FEDERATED_IDENTITY": given, "AAD_CLIENT_SECRET": "s3cret"}
    assert only_fault({**APPLICATION, **both}).problem == "it is set besides AAD_CLIENT_SECRET"


def test_a_federated_identity_is_no_resource_id():
    fault = only_fault({**APPLICATION, "AAD_FEDERATED_IDENTITY": RESOURCE_ID})
    assert "client id" in fault.hint


def test_a_workload_needs_the_webhooks_token_file(tmp_path):
    fault = only_fault(WORKLOAD)
    assert (fault.setting, fault.value) == ("AZURE_FEDERATED_TOKEN_FILE", None)
    absent = str(tmp_path / "absent")
    fault = only_fault({**WORKLOAD, "AZURE_FEDERATED_TOKEN_FILE": absent})
    assert fault.value == absent
    assert "azure.workload.identity/use" in fault.hint
    fault = only_fault({**WORKLOAD, "AAD_FEDERATED_TOKEN_FILE": absent})
    assert (fault.setting, fault.value) == ("AAD_FEDERATED_TOKEN_FILE", absent)


def test_both_ways_to_name_the_target_at_once_are_a_fault():
    fault = only_fault({**MINIMAL, "INGESTION_URL": "https://a.example.com/api/v1/write"})
    assert "besides TARGET_HOST" in fault.problem


def test_port_and_socket_at_once_are_a_fault(tmp_path):
    fault = only_fault({**MINIMAL, "LISTENING_SOCKET": str(tmp_path / "s")})
    assert "besides LISTENING_PORT" in fault.problem


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a" * 108, "longer than 107 bytes"),
        ("/absent/s", "does not exist"),
        ("/dev/null", "no sock"),
    ],
)
def test_a_socket_that_cannot_be_made_there_is_a_fault(path, problem):
    fault = only_fault({**MINIMAL, "LISTENING_PORT": "", "LISTENING_SOCKET": path})
    assert problem in fault.problem


SOCKET = {**MINIMAL, "LISTENING_PORT": "", "LISTENING_SOCKET": "proxy.sock"}


@pytest.mark.parametrize(
    ("mode", "problem"),
    [("rw-rw----", "no mode"), ("0o660", "no mode"), ("1777", "no mode"), ("0444", "no user")],
)
def test_a_mode_that_is_none_or_lets_nobody_in_is_a_fault(mode, problem):
    fault = only_fault({**SOCKET, "LISTENING_SOCKET_MODE": mode})
    assert fault.setting == "LISTENING_SOCKET_MODE"
    assert problem in fault.problem


@pytest.mark.parametrize("group", ["no-such-group", "4294967295", "9" * 5000])
def test_a_group_that_does_not_exist_is_a_fault(group):
    fault = only_fault({**SOCKET, "LISTENING_SOCKET_GROUP": group})
    assert "no such group" in fault.problem


def test_a_group_that_the_process_cannot_give_away_is_a_fault(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    fault = only_fault({**SOCKET, "LISTENING_SOCKET_GROUP": "4712"})
    assert "not in it" in fault.problem
    own = str(os.getegid())
    assert faults({**SOCKET, "LISTENING_SOCKET_GROUP": own}) == []


@pytest.mark.parametrize(
    "also", [{"LISTENING_SOCKET_MODE": "0666"}, {"LISTENING_SOCKET_GROUP": "0"}]
)
def test_what_is_said_of_no_socket_is_a_fault(also):
    assert "no LISTENING_SOCKET" in only_fault({**MINIMAL, **also}).problem


# -- who and what may come in --------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"\n", "no token"), (b"s3cret\n", "line 1 has fewer than 16")],
)
def test_a_token_file_without_good_tokens_is_a_fault(tmp_path, content, problem):
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    fault = only_fault({**MINIMAL, "INBOUND_TOKEN_FILE": str(path)})
    assert (fault.setting, fault.value) == ("INBOUND_TOKEN_FILE", str(path))
    assert problem in fault.problem
    assert "s3cret" not in str(fault)


KEYS = {
    **MINIMAL,
    "INBOUND_JWKS_URL": "https://cluster.example.com/openid/v1/jwks",
    "INBOUND_JWT_ISSUER": "https://cluster.example.com",
    "INBOUND_JWT_AUDIENCE": "authproxy",
    "INBOUND_JWT_SUBJECTS": "system:serviceaccount:a:b, system:serviceaccount:c:*",
}


def test_keys_issuer_audience_and_subjects_together_are_none():
    assert faults(KEYS) == []
    assert faults({**KEYS, "INBOUND_JWKS_URL": "http://127.0.0.1:8001/openid/v1/jwks"}) == []


@pytest.mark.parametrize("variable", list(KEYS)[4:])
def test_keys_need_what_a_token_is_judged_by(variable):
    fault = only_fault({**KEYS, variable: ""})
    assert (fault.setting, fault.value) == (variable, None)
    assert "required with INBOUND_JWKS_URL" in fault.problem


def test_what_judges_tokens_without_keys_is_a_fault_for_each(tmp_path):
    (tmp_path / "f").write_text("x")
    also = {
        "INBOUND_JWKS_TOKEN_FILE": str(tmp_path / "f"),
        "INBOUND_JWKS_CA_FILE": str(certificates(tmp_path)),
    }
    found = faults({**KEYS, "INBOUND_JWKS_URL": "", **also})
    assert {fault.setting for fault in found} == {*list(KEYS)[4:], *also}
    neither = "there is neither INBOUND_JWKS_URL nor INBOUND_JWKS_FILE"
    assert {fault.setting: fault.problem for fault in found} == {
        **dict.fromkeys(list(KEYS)[4:], neither),
        **dict.fromkeys(also, "there is no INBOUND_JWKS_URL"),
    }


def certificates(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(client_authority().issue().certificates_pem())
    return path


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("cluster.example.com/keys", "not a whole https:// URL"),
        ("http://cluster.example.com/keys", "it is http"),
        ("http://127.0.0.1.example.com/keys", "it is http"),
        ("https://user:pass@cluster.example.com/keys", "user information"),
    ],
)
def test_keys_come_over_tls_or_from_this_machine(url, problem):
    fault = only_fault({**KEYS, "INBOUND_JWKS_URL": url})
    assert problem in fault.problem
    assert "pass" not in str(fault)


def test_keys_from_two_places_are_a_fault(tmp_path, signing_key):
    path = write_keys(tmp_path / "keys.json", signing_key)
    fault = only_fault({**KEYS, "INBOUND_JWKS_FILE": str(path)})
    assert "besides INBOUND_JWKS_URL" in fault.problem
    in_file = {**KEYS, "INBOUND_JWKS_URL": "", "INBOUND_JWKS_FILE": str(path)}
    assert faults(in_file) == []
    fault = only_fault({**in_file, "INBOUND_JWKS_CA_FILE": str(certificates(tmp_path))})
    assert "no INBOUND_JWKS_URL" in fault.problem
    path.write_text("{}")
    assert "not a JSON Web Key Set" in only_fault(in_file).problem


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("INBOUND_JWKS_CA_FILE", "cannot be read"),
        ("INBOUND_JWKS_TOKEN_FILE", "cannot be read"),
        ("INBOUND_JWT_SUBJECTS", "must stand alone"),
    ],
)
def test_what_goes_with_keys_has_to_be_usable(tmp_path, variable, problem):
    fault = only_fault({**KEYS, variable: f"{tmp_path}/absent:a**"})
    assert fault.setting == variable
    assert problem in fault.problem


@pytest.mark.parametrize(
    ("also", "setting"),
    [
        ({"ALLOWED_PATHS": "/api/v1/query,/api/v1/writes"}, "ALLOWED_PATHS"),
        ({"ALLOWED_METHODS": "GET,PUT"}, "ALLOWED_METHODS"),
    ],
)
def test_an_ingestion_url_whose_writes_are_shut_out_is_a_fault(also, setting):
    environ = {"INGESTION_URL": "https://a.example.com/w", "AUDIENCE": "https://a"}
    environ |= {"LISTENING_PORT": "1"}
    assert faults({**environ, "ALLOWED_PATHS": "/api/**", "ALLOWED_METHODS": "post"}) == []
    fault = only_fault({**environ, **also})
    assert fault.setting == setting
    assert "shuts out" in fault.problem


def test_preflights_without_a_token_are_for_where_one_is_needed(tmp_path):
    environ = {"TARGET_HOST": "a.example.com", "AUDIENCE": "https://a", "LISTENING_PORT": "1"}
    environ["INBOUND_ALLOW_PREFLIGHT"] = "true"
    assert only_fault(environ).setting == "INBOUND_ALLOW_PREFLIGHT"
    tokens = tmp_path / "tokens"
    tokens.write_text("correct-horse-battery-staple")
    assert faults({**environ, "INBOUND_TOKEN_FILE": str(tokens)}) == []
    assert faults({**KEYS, "INBOUND_ALLOW_PREFLIGHT": "true"}) == []


# -- files -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AAD_CLIENT_SECRET", "AAD_CLIENT_CERTIFICATE_PASSWORD"])
def test_a_secret_of_bytes_that_are_no_text_is_a_fault(tmp_path, name):
    environ = certificate(tmp_path, b"none") if "PASSWORD" in name else MINIMAL
    fault = only_fault({**environ, name: "s3cret\udccb"})
    assert (fault.setting, fault.value) == (name, "***")
    assert fault.problem == "it holds bytes that are not UTF-8"


@pytest.mark.parametrize("name", ["AAD_CLIENT_SECRET", "AAD_CLIENT_CERTIFICATE_PASSWORD"])
def test_a_secret_by_value_and_by_file_is_a_fault(tmp_path, name):
    path = tmp_path / "secret"
    path.write_text("s3cret")
    fault = only_fault({**MINIMAL, name: "s3cret", f"{name}_FILE": str(path)})
    assert fault.problem == f"it is set besides {name}"
    assert "s3cret" not in str(fault)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "empty"),
        (b"\r\n\n", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"s3cret\nmore", "a line break or a NUL"),
        (b"x" * 65537, "larger than 64 KiB"),
    ],
)
def test_a_secret_file_that_holds_no_secret_is_a_fault(tmp_path, content, problem):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    fault = only_fault({**MINIMAL, "AAD_CLIENT_SECRET_FILE": str(path)})
    assert fault.value == str(path)
    assert problem in fault.problem
    assert "s3cret" not in str(fault)


@pytest.mark.parametrize("value", ["two\nlines", "line\r", "nul\0"])
def test_a_secret_with_a_line_break_is_a_masked_fault(value):
    fault = only_fault({**MINIMAL, "AAD_CLIENT_SECRET": value})
    assert fault.value == "***"
    assert value not in str(fault)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ("", "no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM certificate"),
        ("hello", "no PEM certificate"),
    ],
)
def test_a_ca_file_without_a_certificate_is_a_fault(tmp_path, content, problem):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    fault = only_fault({**MINIMAL, "TARGET_CA_FILE": str(path)})
    assert fault.value == str(path)
    assert problem in fault.problem


def test_a_ca_file_with_a_certificate_is_none(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(client_authority().issue().certificates_pem())
    assert faults({**MINIMAL, "TARGET_CA_FILE": str(path)}) == []


def certificate(tmp_path: Path, data: bytes) -> dict[str, str]:
    path = tmp_path / "client.pem"
    path.write_bytes(data)
    return {**APPLICATION, "AAD_CLIENT_CERTIFICATE_PATH": str(path)}


def test_an_expired_certificate_is_a_fault_that_says_since_when(tmp_path):
    expired = client_authority().issue(days=-2, starts_in_days=-9)
    fault = only_fault(certificate(tmp_path, expired.pem()))
    today = datetime.datetime.now(datetime.timezone.utc)
    assert f"expired on {today - datetime.timedelta(days=2):%Y-%m-%d}" in fault.problem
    assert fault.setting == "AAD_CLIENT_CERTIFICATE_PATH"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (lambda issued: issued.certificates_pem(), "no private key"),
        (lambda issued: b"", "empty"),
        (lambda issued: b"\x30\x00", "neither a PEM nor a PKCS#12"),
    ],
)
def test_a_certificate_that_does_not_load_is_a_fault(tmp_path, data, problem):
    fault = only_fault(certificate(tmp_path, data(client_authority().issue())))
    assert fault.setting == "AAD_CLIENT_CERTIFICATE_PATH"
    assert problem in fault.problem


def test_a_missing_or_wrong_password_is_the_passwords_fault(tmp_path):
    environ = certificate(tmp_path, client_authority().issue().pem(b"s3cret"))
    secret_file = tmp_path / "password"
    missing = only_fault(environ)
    assert (missing.setting, missing.value) == ("AAD_CLIENT_CERTIFICATE_PASSWORD", None)
    wrong = only_fault({**environ, "AAD_CLIENT_CERTIFICATE_PASSWORD": "wr0ng"})
    assert (wrong.setting, wrong.value) == ("AAD_CLIENT_CERTIFICATE_PASSWORD", "***")
    secret_file.write_text("wr0ng\n")
    in_file = {**environ, "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE": str(secret_file)}
    assert only_fault(in_file).setting == "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE"
    secret_file.write_text("s3cret\n")
    assert faults(in_file) == []


def test_a_certificate_is_not_judged_where_no_application_uses_it(tmp_path):
    assert faults({**MINIMAL, "AAD_CLIENT_CERTIFICATE_PATH": str(tmp_path / "absent")}) == []


def test_a_certificate_is_not_judged_before_its_password_is_right(tmp_path):
    environ = certificate(tmp_path, client_authority().issue().pem(b"s3cret"))
    fault = only_fault({**environ, "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE": "a\x01b"})
    assert fault.setting == "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("socks5://10.0.0.1:1080", "socks5://10.0.0.1:1080"),
        ("socks5h://someone:hidden@10.0.0.1", "***"),
        ("http://", "http://"),
        ("http://[::1", "http://[::1"),
        ("http://proxy:port", "http://proxy:port"),
        ("proxy:99999", "proxy:99999"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_a_forward_proxy_that_is_none_is_a_fault(variable, value, shown):
    fault = only_fault({**MINIMAL, variable: value})
    assert (fault.setting, fault.value) == (variable, shown)
    assert "not the URL of an HTTP proxy" in fault.problem


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "http://someone:pass%20word@proxy.example.com:3128"},
        {"HTTPS_PROXY": "https://[::1]:3128/"},
        {"HTTPS_PROXY": "proxy:3128"},
        {"HTTPS_PROXY": ""},
        {"HTTPS_PROXY": "socks5://unused", "https_proxy": "http://proxy"},
        {"HTTPS_PROXY": "socks5://unused", "https_proxy": ""},
        {"HTTP_PROXY": "socks5://unused", "ALL_PROXY": "socks5://unused"},
    ],
)
def test_a_forward_proxy_that_is_one_or_is_not_used_is_none(environ):
    assert faults({**MINIMAL, **environ}) == []


def test_a_wrong_value_is_not_also_blamed_for_being_one_too_many():
    fault = only_fault({**MINIMAL, "INGESTION_URL": "https://a.example.com"})
    assert "no path" in fault.problem


def test_tls_files_that_do_not_belong_together(tmp_path: Path) -> None:
    one, other = Certificates(tmp_path), tmp_path / "other"
    other.mkdir()
    Certificates(other)
    found = only_fault(
        {**MINIMAL, **one.settings, "LISTENING_TLS_KEY_FILE": str(other / "tls.key")}
    )
    assert found.setting == "LISTENING_TLS_KEY_FILE"
    assert found.problem == "the private key does not belong to the certificate"
    assert faults({**MINIMAL, **one.settings}) == []


@pytest.mark.parametrize("variable", ["LISTENING_TLS_KEY_FILE", "LISTENING_TLS_CLIENT_CA_FILE"])
def test_tls_files_without_a_certificate(tmp_path: Path, variable: str) -> None:
    found = only_fault({**MINIMAL, variable: str(Certificates(tmp_path).authority)})
    assert found.setting == variable
    assert found.problem == "there is no LISTENING_TLS_CERTIFICATE_FILE"

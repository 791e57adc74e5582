"""Where values come from, what is made of them, and what they show of themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from authproxy.errors import CredentialError, SettingsError
from authproxy.settings import Loaded, Settings, load_settings

INGESTION = "https://ws-abcd.eastus-1.metrics.ingest.monitor.azure.com"
INGESTION_URL = (
    f"{INGESTION}/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics"
    "/api/v1/write?api-version=2023-04-24"
)
MINIMAL = {"TARGET_HOST": INGESTION, "LISTENING_PORT": "8081"}


def load(environ: Mapping[str, str], **options: str) -> Loaded:
    return load_settings(options, environ, serving=True)


def settings(**environ: str) -> Settings:
    return load({**MINIMAL, **environ}).settings


def yaml_file(tmp_path: Path, content: str) -> dict[str, str]:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    return {"AUTHPROXY_CONFIG": str(path)}


# -- order of the sources ----------------------------------------------------


@pytest.mark.parametrize(
    ("option", "environment", "file", "threads", "origin"),
    [
        ("1", "2", "3", 1, "option"),
        (None, "2", "3", 2, "environment"),
        (None, None, "3", 3, "file"),
        (None, None, None, 32, "default"),
        (None, "", "3", 3, "file"),
        ("", "2", "3", 2, "environment"),
        (None, "  ", "", 32, "default"),
    ],
)
def test_the_first_source_that_gives_a_value_wins_and_empty_is_unset(
    tmp_path, option, environment, file, threads, origin
):
    environ = {**MINIMAL, **yaml_file(tmp_path, f"threads: {file}" if file is not None else "")}
    if environment is not None:
        environ["THREADS"] = environment
    loaded = load(environ, **({} if option is None else {"THREADS": option}))
    assert loaded.settings.threads == threads
    assert loaded.origins["THREADS"] == origin


def test_an_option_names_the_file_before_the_environment_does(tmp_path):
    named = yaml_file(tmp_path, "threads: 3")
    loaded = load({**MINIMAL, "AUTHPROXY_CONFIG": "/absent"}, **named)
    assert loaded.settings.threads == 3


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("AAD_CLIENT_ID", "AZURE_CLIENT_ID"),
        ("AAD_TENANT_ID", "AZURE_TENANT_ID"),
        ("AAD_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"),
        ("AAD_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST"),
        ("AAD_AUTHORITY_HOST", "AAD_HOST_ENDPOINT"),
        ("AUDIENCE", "INGESTION_AAD_AUDIENCE"),
    ],
)
def test_the_sdks_variable_is_read_only_where_the_setting_is_given_nowhere(tmp_path, own, other):
    def effective(**environ: str) -> tuple[str, str]:
        loaded = load({**MINIMAL, other: "sdk.example.com", **environ})
        value = loaded.settings.effective()[own].removeprefix("https://").removesuffix("/.default")
        return value, loaded.origins[own]

    assert effective() == ("sdk.example.com", f"environment ({other})")
    assert effective(**{own: ""}) == ("sdk.example.com", f"environment ({other})")
    assert effective(**{own: "own.example.com"}) == ("own.example.com", "environment")
    in_file = yaml_file(tmp_path, f"{own}: file.example.com")
    assert effective(**in_file) == ("file.example.com", "file")


def test_an_authority_that_somebody_chose_goes_before_the_webhooks():
    environ = {
        "AAD_HOST_ENDPOINT": "chosen.example.com",
        "AZURE_AUTHORITY_HOST": "injected.example",
    }
    loaded = load({**MINIMAL, **environ})
    assert loaded.settings.aad_authority_host == "https://chosen.example.com"
    assert loaded.origins["AAD_AUTHORITY_HOST"] == "environment (AAD_HOST_ENDPOINT)"
    loaded = load({**MINIMAL, **environ, "AAD_HOST_ENDPOINT": " "})
    assert loaded.settings.aad_authority_host == "https://injected.example"


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("dce.usgovvirginia-1.metrics.ingest.monitor.azure.us", "https://login.microsoftonline.us"),
        ("WS.usgovvirginia.Prometheus.Monitor.Azure.US.", "https://login.microsoftonline.us"),
        ("ws.chinanorth3.prometheus.monitor.azure.cn", "https://login.chinacloudapi.cn"),
        ("ws.westeurope.prometheus.monitor.azure.com", None),
        ("azure.us", None),
        ("monitor.notazure.us", None),
        ("example.us", None),
    ],
)
def test_the_targets_cloud_implies_the_authority(host, authority):
    loaded = load({"TARGET_HOST": host, "AUDIENCE": "https://a", "LISTENING_PORT": "1"})
    assert loaded.settings.aad_authority_host == authority
    assert loaded.settings.effective()["AAD_AUTHORITY_HOST"] == (authority or "")
    derived = "default (from TARGET_HOST)" if authority else "default"
    assert loaded.origins["AAD_AUTHORITY_HOST"] == derived


def test_derived_values_say_what_they_derive_from():
    origins = load(MINIMAL).origins
    assert origins["AUDIENCE"] == "default (from TARGET_HOST)"
    assert origins["TARGET_POOL_SIZE"] == "default (from THREADS)"
    sidecar = {"INGESTION_URL": INGESTION_URL, "LISTENING_PORT": "8081"}
    assert load(sidecar).origins["AUDIENCE"] == "default (from INGESTION_URL)"


def test_every_setting_has_an_origin_and_an_effective_value():
    loaded = load(MINIMAL)
    variables = list(Settings.declared)
    assert list(loaded.settings.effective()) == variables
    assert sorted(loaded.origins) == sorted(variables)


# -- the YAML file -----------------------------------------------------------


def test_yaml_takes_numbers_booleans_and_mappings_in_names_of_either_case(tmp_path):
    loaded = load(
        yaml_file(
            tmp_path,
            f"target_host: {INGESTION}\n"
            "LISTENING_PORT: 8081\n"
            "log-query: no\n"
            "shutdown_grace_seconds: 2.5\n"
            "audience: ~\n"
            "override_request_headers:\n  X-Scope-OrgID: 1\n",
        )
    ).settings
    assert loaded.listening_port == 8081
    assert loaded.log_query is False
    assert loaded.shutdown_grace_seconds == 2.5
    assert loaded.audience == "https://monitor.azure.com/.default"  # as if it were not there
    assert loaded.override_request_headers["X-Scope-OrgID"].reveal() == "1"


@pytest.mark.parametrize("written", ["0123", "1e3", "yes", "2024-01-01", "0x1F", "1_000"])
def test_yaml_does_not_change_a_secret_that_looks_like_something_else(tmp_path, written):
    environ = yaml_file(tmp_path, f"aad_client_secret: {written}")
    assert load({**MINIMAL, **environ}).settings.revealed(Settings.aad_client_secret) == written


# -- what is made of them ----------------------------------------------------


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({"TARGET_HOST": "metrics.example.com"}, "https://metrics.example.com"),
        ({"TARGET_HOST": "http://metrics.example.com"}, "https://metrics.example.com"),
        ({"TARGET_HOST": "METRICS.example.com:8443/a"}, "https://metrics.example.com:8443/a"),
        (
            {"TARGET_HOST": "http://metrics.example.com", "TARGET_ALLOW_HTTP": "true"},
            "http://metrics.example.com",
        ),
        ({"INGESTION_URL": INGESTION_URL}, INGESTION_URL),
        ({"INGESTION_URL": INGESTION_URL.replace("https", "http", 1)}, INGESTION_URL),
    ],
)
def test_the_target_is_https_unless_http_is_allowed(given, target):
    loaded = load({**given, "LISTENING_PORT": "1", "AUDIENCE": "https://example.com"}).settings
    assert str(loaded.target) == target
    assert loaded.forwards_only_remote_write == ("INGESTION_URL" in given)


@pytest.mark.parametrize(
    ("environ", "scope"),
    [
        ({}, "https://monitor.azure.com/.default"),
        ({"AUDIENCE": "https://other.example.com"}, "https://other.example.com/.default"),
        ({"AUDIENCE": "https://other.example.com/"}, "https://other.example.com//.default"),
    ],
)
def test_the_scope_is_the_audience_or_the_targets(environ, scope):
    loaded = settings(**environ)
    assert loaded.scope == scope
    assert loaded.effective()["AUDIENCE"] == scope


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("login.microsoftonline.us", "https://login.microsoftonline.us"),
        ("https://login.chinacloudapi.cn/", "https://login.chinacloudapi.cn"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
    ],
)
def test_the_authority_is_a_host_or_a_url(given, url):
    assert settings(AAD_AUTHORITY_HOST=given).aad_authority_host == url


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, logging.INFO),
        ({"LOG_LEVEL": "warn"}, logging.WARNING),
        ({"LOG_LEVEL": "WARNING"}, logging.WARNING),
        ({"LOG_LEVEL": "Error"}, logging.ERROR),
        ({"TRACE_LOGGING": "false", "LOG_LEVEL": "error"}, logging.DEBUG),
        ({"TRACE_LOGGING": ""}, logging.INFO),
    ],
)
def test_the_log_level_knows_warn_and_the_legacy_trace_logging(environ, level):
    assert settings(**environ).level == level


@pytest.mark.parametrize("written", ["true", "True", "1", "yes", "on"])
def test_booleans_are_read_as_people_write_them(written):
    assert settings(TARGET_ALLOW_HTTP=written).target_allow_http is True
    assert settings(LOG_QUERY={"true": "false", "1": "0"}.get(written, "no")).log_query is False


def test_the_identity_types_case_does_not_matter():
    loaded = settings(IDENTITY_TYPE="userAssigned", AAD_CLIENT_ID="a711a6a4-1052")
    assert loaded.identity_type == "userassigned"


def test_as_many_connections_as_threads_are_pooled_unless_told_otherwise():
    assert settings(THREADS="7").target_pool_size == 7
    assert settings(THREADS="7", TARGET_POOL_SIZE="9").target_pool_size == 9


def test_what_is_kept_has_room_for_one_largest_body_and_more_unless_told_otherwise():
    assert settings().max_buffered_bytes == 256 * 1024 * 1024
    assert settings(MAX_REQUEST_BODY_BYTES="400000000").max_buffered_bytes > 400_000_000
    assert settings(MAX_BUFFERED_BYTES="67108864").max_buffered_bytes == 67_108_864


def test_lists_are_separated_by_commas_or_are_lists_of_the_file(tmp_path):
    loaded = settings(ALLOWED_METHODS=" get, POST,get ", ALLOWED_PATHS="/a, /b/*")
    assert loaded.allowed_methods == ("GET", "POST")
    assert loaded.allowed_paths == ("/a", "/b/*")
    assert loaded.effective()["ALLOWED_PATHS"] == "/a,/b/*"
    assert settings().allowed_paths is None
    in_file = yaml_file(tmp_path, "allowed_methods: [get, POST]\nallowed_paths:\n  - /a,b\n  - /c")
    loaded = load({**MINIMAL, **in_file}).settings
    assert loaded.allowed_methods == ("GET", "POST")
    assert loaded.allowed_paths == ("/a,b", "/c")


@pytest.mark.parametrize("written", ["[]", "[[GET]]", "[GET, {a: b}]", "{GET: POST}"])
def test_a_list_of_anything_but_texts_is_a_fault(tmp_path, written):
    with pytest.raises(SettingsError, match="ALLOWED_METHODS"):
        load({**MINIMAL, **yaml_file(tmp_path, f"allowed_methods: {written}")})


def test_the_mode_of_the_socket_is_octal():
    def mode(written: str) -> int:
        given = {"LISTENING_PORT": "", "LISTENING_SOCKET": "s", "LISTENING_SOCKET_MODE": written}
        loaded = settings(**given)
        mode = loaded.listening_socket_mode
        assert loaded.effective()["LISTENING_SOCKET_MODE"] == f"{mode:04o}"
        return mode

    assert (mode("0600"), mode("666")) == (0o600, 0o666)
    assert settings().listening_socket_mode == 0o660


def test_blanks_around_a_value_do_not_count_except_in_a_secret():
    loaded = settings(LISTENING_HOST=" 127.0.0.1\n", AAD_CLIENT_SECRET=" s ")
    assert loaded.listening_host == "127.0.0.1"
    assert loaded.revealed(Settings.aad_client_secret) == " s "


def test_the_brackets_of_an_ipv6_address_are_not_part_of_it():
    assert settings(LISTENING_HOST="[::1]").listening_host == "::1"


def test_variables_that_are_no_settings_are_nobodys_business():
    settings(OTEL_LOG_LEVEL="x", PATH="/bin", THREADS_="many")


# -- secrets -----------------------------------------------------------------


def test_a_secret_in_a_file_is_read_without_its_line_break_and_anew_each_time(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbffirst\r\n")
    loaded = settings(
        AAD_CLIENT_SECRET_FILE=str(path), AAD_CLIENT_CERTIFICATE_PASSWORD_FILE=str(path)
    )
    password = Settings.aad_client_certificate_password
    assert loaded.revealed(Settings.aad_client_secret) == loaded.revealed(password) == "first"
    path.write_text("second\n")
    assert loaded.revealed(Settings.aad_client_secret) == "second"


def test_a_secret_file_that_goes_away_later_is_a_credential_error(tmp_path):
    path = tmp_path / "secret"
    path.write_text("s")
    loaded = settings(AAD_CLIENT_SECRET_FILE=str(path))
    path.unlink()
    with pytest.raises(CredentialError, match=r"AAD_CLIENT_SECRET_FILE.*cannot be read"):
        loaded.revealed(Settings.aad_client_secret)


def test_no_form_of_the_settings_shows_a_secret():
    loaded = settings(
        AAD_CLIENT_SECRET="s3cret",
        AAD_CLIENT_CERTIFICATE_PASSWORD="s3cret",
        OVERRIDE_REQUEST_HEADERS='{"X-Key": "s3cret"}',
    )
    shown = f"{loaded!r} {loaded} {loaded.effective()} {vars(loaded)}"
    assert "AAD_CLIENT_SECRET='***'" in shown
    assert "s3cret" not in shown
    assert loaded.effective()["AAD_CLIENT_SECRET"] == "***"
    assert loaded.effective()["OVERRIDE_REQUEST_HEADERS"] == '{"X-Key": "***"}'


def test_an_unset_secret_can_be_told_from_a_masked_one():
    assert settings().effective()["AAD_CLIENT_SECRET"] == ""


def test_a_secret_does_not_print_itself_and_equals_only_itself():
    secret = settings(AAD_CLIENT_SECRET="s3cret").aad_client_secret
    assert secret is not None
    assert (repr(secret), f"{secret}", secret.reveal()) == ("Secret('***')",) * 2 + ("s3cret",)
    assert secret == settings(AAD_CLIENT_SECRET="s3cret").aad_client_secret
    assert secret not in ("s3cret", settings(AAD_CLIENT_SECRET="other").aad_client_secret)


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError, match="threads: settings cannot be changed"):
        settings().threads = 1


# -- the predecessors' samples -----------------------------------------------

GO_PROXY = {
    "AUDIENCE": "https://monitor.azure.com/.default",
    "TARGET_HOST": "https://azure-monitor-workspace.eastus-1.metrics.ingest.monitor.azure.com",
    "LISTENING_PORT": "8081",
    "IDENTITY_TYPE": "userAssigned",
    "AAD_CLIENT_ID": "00000000-1052-44eb-aec8-182e2b604c7f",
    "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "10",
    "OTEL_GRPC_ENDPOINT": "otel-collector.observability.svc.cluster.local:4317",
    "OTEL_SERVICE_NAME": "azuremonitor_ingestion",
}
QUERY = {
    **GO_PROXY,
    "AUDIENCE": "https://prometheus.monitor.azure.com",
    "AAD_TOKEN_REFRESH_INTERVAL_IN_MINUTES": "10",
}
WORKLOAD_DEFAULT = {
    "AUDIENCE": "https://prometheus.monitor.azure.com/.default",
    "TARGET_HOST": GO_PROXY["TARGET_HOST"],
    "LISTENING_PORT": "8082",
}
SIDECAR = {
    "INGESTION_URL": INGESTION_URL,
    "LISTENING_PORT": "8081",
    "IDENTITY_TYPE": "userAssigned",
    "AZURE_CLIENT_ID": "00000000-1052-44eb-aec8-182e2b604c7f",
    "CLUSTER": "my-cluster",
}


@pytest.mark.parametrize(
    ("environ", "identity", "scope"),
    [
        (GO_PROXY, "userassigned", "https://monitor.azure.com/.default"),
        (QUERY, "userassigned", "https://prometheus.monitor.azure.com/.default"),
        (WORKLOAD_DEFAULT, "default", "https://prometheus.monitor.azure.com/.default"),
        (SIDECAR, "userassigned", "https://monitor.azure.com/.default"),
    ],
)
def test_the_predecessors_environments_load_unchanged(environ, identity, scope):
    loaded = load(environ).settings
    assert (loaded.identity_type, loaded.scope) == (identity, scope)


def test_an_unknown_option_is_a_fault():
    with pytest.raises(SettingsError, match=r"TRHEADS: there is no such setting.*threads"):
        load(MINIMAL, TRHEADS="1")

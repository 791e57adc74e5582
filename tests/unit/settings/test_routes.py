"""The routes of the settings file: what is in force for each, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from authproxy.errors import Fault, SettingsError
from authproxy.settings import Loaded, Settings, load_settings

TOKEN = "correct-horse-battery-staple"


def write(folder: Path, text: str) -> str:
    path = folder / "authproxy.yaml"
    path.write_text(dedent(text))
    return str(path)


def load(folder: Path, text: str, **environ: str) -> Loaded:
    return load_settings(
        environ={"AUTHPROXY_CONFIG": write(folder, text), "LISTENING_PORT": "8081", **environ},
        serving=True,
    )


def faults(folder: Path, text: str, **environ: str) -> tuple[Fault, ...]:
    with pytest.raises(SettingsError) as raised:
        load(folder, text, **environ)
    return raised.value.faults


TWO = """
    identity_type: userassigned
    aad_client_id: outside
    target_read_timeout_seconds: 200
    routes:
      - path: /ingest
        strip_path: true
        target_host: https://dce.westeurope.metrics.ingest.monitor.azure.com/write
        allowed_methods: [POST]
      - host: Queries.example.com
        path: /query/
        name: queries
        target_host: workspace.westeurope.prometheus.monitor.azure.com
        aad_client_id: own
        target_read_timeout_seconds: 20
    """


def test_a_route_has_its_own_settings_and_those_outside(tmp_path: Path) -> None:
    settings = load(tmp_path, TWO).settings
    ingest, query = settings.routes
    assert (ingest.name, ingest.match.path, ingest.match.strip_path) == ("/ingest", "/ingest", True)
    assert (query.name, query.match.host) == ("queries", "queries.example.com")
    assert (query.match.path, query.match.strip_path) == ("/query", False)
    assert ingest.settings.scope == "https://monitor.azure.com/.default"
    assert query.settings.scope == "https://prometheus.monitor.azure.com/.default"
    assert [route.settings.aad_client_id for route in settings.routes] == ["outside", "own"]
    seconds = [route.settings.target_read_timeout_seconds for route in settings.routes]
    assert seconds == [200, 20]
    assert ingest.settings.allowed_methods == ("POST",)
    assert query.settings.allowed_methods is None
    assert query.settings.listening_port == 8081


def test_an_empty_value_takes_an_inherited_one_away(tmp_path: Path) -> None:
    text = """
        allowed_methods: GET
        allowed_paths: /api
        routes:
          - target_host: workspace.westeurope.prometheus.monitor.azure.com
            allowed_methods:
            allowed_paths: ""
        """
    (route,) = load(tmp_path, text).settings.routes
    assert route.settings.allowed_methods is None
    assert route.settings.allowed_paths is None


def test_one_way_to_prove_an_identity_displaces_the_other(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("kept~under~wraps")
    text = f"""
        identity_type: aadapplication
        aad_client_id: a
        aad_tenant_id: t
        aad_client_secret: outside
        routes:
          - target_host: workspace.westeurope.prometheus.monitor.azure.com
            aad_client_secret_file: {tmp_path / "secret"}
          - path: /other
            target_host: workspace.westeurope.prometheus.monitor.azure.com
        """
    first, second = load(tmp_path, text).settings.routes
    assert first.settings.revealed(Settings.aad_client_secret) == "kept~under~wraps"
    assert second.settings.revealed(Settings.aad_client_secret) == "outside"


def test_without_routes_there_is_one_without_a_name(tmp_path: Path) -> None:
    settings = load(tmp_path, "target_host: a.prometheus.monitor.azure.com").settings
    (route,) = settings.routes
    assert (route.name, route.match.path, route.match.host) == ("", "/", None)
    assert route.settings is settings
    assert not settings.has_routes


def test_what_is_shown_of_a_route_has_no_secret(tmp_path: Path) -> None:
    text = """
        routes:
          - target_host: workspace.westeurope.prometheus.monitor.azure.com
            override_request_headers: {X-Scope-OrgID: s3cret}
        """
    shown = load(tmp_path, text).settings.routes[0].shown()
    assert shown["OVERRIDE_REQUEST_HEADERS"] == '{"X-Scope-OrgID": "***"}'
    assert shown["AUDIENCE"] == "https://prometheus.monitor.azure.com/.default"
    assert "s3cret" not in str(shown)


ONE = "workspace.westeurope.prometheus.monitor.azure.com"


@pytest.mark.parametrize(
    ("text", "route", "setting", "problem"),
    [
        ("routes: here", None, "routes", "no list of routes"),
        ("routes: []", None, "routes", "no list of routes"),
        ("routes: {path: /a}", None, "routes", "no list of routes"),
        ("routes: [/a]", None, "routes", "no mapping (line 1"),
        (f"routes: [{{target_host: {ONE}, pth: /a}}]", "/", "pth", "no such setting (line 1"),
        (
            f"routes: [{{target_host: {ONE}, workers: 2}}]",
            "/",
            "WORKERS",
            "a setting of the whole process",
        ),
        (f"routes: [{{target_host: {ONE}, path: a}}]", "at line 1", "path", "begin with a slash"),
        (f"routes: [{{target_host: {ONE}, host: a/b}}]", "at line 1", "host", "neither a host"),
        (f"routes: [{{target_host: {ONE}, strip_path: maybe}}]", "/", "strip_path", "neither true"),
        (f"routes: [{{target_host: {ONE}, path: [a]}}]", "at line 1", "path", "not one value"),
        ("routes: [{path: /a}]", "/a", "TARGET_HOST", "required"),
        ("routes: [{target_host: a.example.com}]", "/", "AUDIENCE", "required"),
        (
            f"routes: [{{target_host: {ONE}, identity_type: userassigned}}]",
            "/",
            "AAD_CLIENT_ID",
            "required with",
        ),
        (f"routes: [{{target_host: {ONE}, aad_client_id: '<ID>'}}]", "/", "AAD_CLIENT_ID", ""),
        (
            f"routes: [{{target_host: {ONE}}}, {{target_host: {ONE}, path: '/'}}]",
            "/",
            "path",
            "those of route / already",
        ),
        (
            f"routes: [{{target_host: {ONE}, path: /a}}, {{target_host: {ONE}, path: /A}}]",
            "/A",
            "path",
            "those of route /a already",
        ),
        (
            f"routes: [{{target_host: {ONE}, host: H.}}, "
            f"{{target_host: {ONE}, host: 'h:', name: b}}]",
            "b",
            "path",
            "those of route h already",
        ),
        (
            f"routes: [{{target_host: {ONE}, name: a}}, {{target_host: {ONE}, name: a, path: /b}}]",
            None,
            "name",
            "two routes have this name",
        ),
        (f"target_host: {ONE}\nroutes: [{{target_host: {ONE}}}]", None, "TARGET_HOST", "besides"),
        # Of what a route inherits, the fault is told once, and without the route.
        (
            f"target_ca_file: /absent\nroutes: [{{target_host: {ONE}}}, "
            f"{{target_host: {ONE}, path: /b}}]",
            None,
            "TARGET_CA_FILE",
            "cannot be read",
        ),
        (f"threads: 0\nroutes: [{{target_host: {ONE}}}]", None, "THREADS", "out of range"),
    ],
)
def test_a_fault_says_of_which_route_it_is(
    tmp_path: Path, text: str, route: str | None, setting: str, problem: str
) -> None:
    (fault,) = faults(tmp_path, text)
    assert (fault.route, fault.setting) == (route, setting)
    assert problem in fault.problem
    assert str(fault).startswith(f"route {route}: {setting}" if route else setting)


def test_all_faults_of_all_routes_are_told_together(tmp_path: Path) -> None:
    text = """
        routes:
          - path: /a
          - path: /b
            target_host: b.example.com
            target_read_timeout_seconds: soon
        workers: none
        """
    told = {(fault.route, fault.setting) for fault in faults(tmp_path, text)}
    assert told == {
        (None, "WORKERS"),
        ("/a", "TARGET_HOST"),
        ("/b", "AUDIENCE"),
        ("/b", "TARGET_READ_TIMEOUT_SECONDS"),
    }


def test_a_route_can_have_what_is_of_its_target_identity_callers_and_fields() -> None:
    groups = {one.group.title for one in Settings.declared.values() if one.per_route}
    assert groups == {
        "Where requests go",
        "Which identity",
        "Who and what may come in",
        "What is sent",
    }

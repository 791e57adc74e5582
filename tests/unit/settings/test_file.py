"""Faults of the YAML file, and all faults of one run together."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from authproxy.errors import Fault, SettingsError
from authproxy.settings import Settings, bounded_yaml, load_settings


def faults_of(environ: dict[str, str]) -> list[Fault]:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ, serving=True)
    return list(caught.value.faults)


def faults_of_file(tmp_path: Path, content: bytes | str) -> list[Fault]:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return faults_of({"AUTHPROXY_CONFIG": str(path)})


VALID = "target_host: a.example.com\naudience: https://a\nlistening_port: 1\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("- a\n- b\n", "not a mapping"),
        ("just text", "not a mapping"),
        ("a: b: c\n", "it is not YAML (line 1, column 5)"),
        ("aad_client_secret: *s3cret\n", "it is not YAML (line 1, column 20)"),
        ("a: 'open\n", "it is not YAML (line"),
        (b"\xff\xfe\xfa", "it is not YAML"),
        (b"a: \x00\n", "it is not YAML"),
        ("a: 1\n---\nb: 2\n", "it is not YAML (line"),
        ("[" * 5000, "nested in more than 20 levels"),
        ("#" * (1024 * 1024 + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_mapping_is_the_only_fault_and_is_not_quoted(tmp_path, content, problem):
    (fault,) = faults_of_file(tmp_path, content)
    assert fault.setting == "AUTHPROXY_CONFIG"
    assert problem in fault.problem
    assert "s3cret" not in str(fault)


def test_a_missing_file_is_a_fault(tmp_path):
    (fault,) = faults_of({"AUTHPROXY_CONFIG": str(tmp_path / "absent.yaml")})
    assert "No such file" in fault.problem


def test_a_directory_is_a_fault(tmp_path):
    (fault,) = faults_of({"AUTHPROXY_CONFIG": str(tmp_path)})
    assert fault.problem == "the settings file is a directory"


# -- bounds -----------------------------------------------------------------------------------

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 100))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (BOMB, "it holds more than 50000 values, with those that aliases stand for (line 14,"),
        (f"target_host: {'[' * 100}", "it is nested in more than 20 levels (line 1, column 33)"),
        ("\n".join(f"{' ' * n}a:" for n in range(100)), "more than 20 levels (line 20,"),
        ("a: &a [1, *a]\n", "an alias stands for what it is in (line 1, column 11)"),
        ("a: &a {b: *a}\n", "an alias stands for what it is in (line 1, column 11)"),
        (f"%YAML 1.{'9' * 5000}\n---\na: b\n", "it is not YAML text"),
    ],
    ids=["bomb", "deep", "deep-lines", "itself", "in-itself", "number"],
)
def test_what_is_beyond_all_measure_is_told_with_its_place(tmp_path, content, problem):
    (fault,) = faults_of_file(tmp_path, content)
    assert fault.setting == "AUTHPROXY_CONFIG"
    assert fault.value == str(tmp_path / "settings.yaml")
    assert problem in fault.problem


def test_values_are_counted_without_aliases_too(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_yaml, "MAX_VALUES", 500)  # to read 50,000 takes seconds
    (fault,) = faults_of_file(tmp_path, f"target_host: [{'x,' * 500}]")
    assert "it holds more than 500 values" in fault.problem


def test_an_alias_is_as_good_as_what_it_stands_for(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(f"{VALID}ingestion_url: &empty ''\nlistening_host: *empty\n")
    load_settings({}, {"AUTHPROXY_CONFIG": str(path)}, serving=True)


ROUTE = "{path: /q, target_host: a.example.com, audience: 'https://a'}"


@pytest.mark.parametrize(
    "content",
    [
        lambda count: f"routes:\n- &r {ROUTE}\n" + "- *r\n" * count,
        lambda count: (
            "routes:\n" + "".join(f"- {ROUTE.replace('/q', f'/q{n}')}\n" for n in range(count))
        ),
        lambda count: (
            f"{VALID}override_request_headers:\n" + "".join(f"  X-{n}: a\n" for n in range(count))
        ),
        lambda count: "".join(f"k{n}: &k{n} a\n" for n in range(count)),
    ],
    ids=["aliases", "routes", "fields", "anchors"],
)
def test_twice_as_much_costs_twice_the_work(tmp_path, content):
    def calls(count: int) -> int:
        path = tmp_path / "settings.yaml"
        path.write_text(content(count))
        counted = itertools.count()
        sys.setprofile(lambda *_: next(counted))
        try:
            load_settings({}, {"AUTHPROXY_CONFIG": str(path)}, serving=True)
        except SettingsError:
            pass  # all of them at once, which is work as well
        finally:
            sys.setprofile(None)
        return next(counted)

    calls(10)  # what is done but once
    assert calls(100) < 2.5 * calls(50)


@pytest.mark.parametrize(
    ("line", "setting", "problem", "hint"),
    [
        (
            "aad_client_secert: s3cret",
            "aad_client_secert",
            "no such setting (line 4",
            "aad_client_secret",
        ),
        ("METER_READING: 9090", "METER_READING", "no such setting (line 4", "Remove it."),
        ("zzzz: 1", "zzzz", "no such setting", "Remove it."),
        ("? [a, b]\n: s3cret", "?", "no such setting", "Remove it."),
        ('"a\\nb": 1', "'a\\nb'", "no such setting", "Remove it."),
        ("AUDIENCE: https://b", "AUDIENCE", "it is there twice (line 4", "Keep one"),
        ("threads: [1, 2]", "THREADS", "a list or a mapping", "from 1 to 1024"),
        ("cluster: {a: s3cret}", "CLUSTER", "a list or a mapping", "Give one text."),
        (
            "aad_client_secret: [s3cret]",
            "AAD_CLIENT_SECRET",
            "a list or a mapping",
            "Give one text.",
        ),
        ("threads: 0", "THREADS", "out of range (from the settings file)", "from 1 to 1024"),
        (
            "override_request_headers: {A: {b: s3cret}}",
            "OVERRIDE_REQUEST_HEADERS",
            "the value of A is not a string",
            "quotes",
        ),
        ("override_request_headers: [s3cret]", "OVERRIDE_REQUEST_HEADERS", "no object", "JSON"),
        (
            "override_request_headers: {A: s3cret, a: b}",
            "OVERRIDE_REQUEST_HEADERS",
            "it names a twice",
            "Keep one",
        ),
    ],
)
def test_what_the_file_cannot_say_is_a_fault(tmp_path, line, setting, problem, hint):
    (fault,) = faults_of_file(tmp_path, f"{VALID}{line}\n")
    assert fault.setting == setting
    assert problem in fault.problem
    assert hint in fault.hint
    assert "s3cret" not in str(fault)


EVERYTHING = {
    "TARGET_HOST": "https://user:s3cret@metrics.example.com",
    "TARGET_CONNECT_TIMEOUT_SECONDS": "soon",
    "TARGET_CA_FILE": "/absent/ca.pem",
    "IDENTITY_TYPE": "aadApplication",
    "AAD_CLIENT_ID": "<ID>",
    "AAD_CLIENT_CERTIFICATE_PATH": "/absent/client.pem",
    "AAD_CLIENT_SECRET": "s3cret\n",
    "AAD_CLIENT_SECRET_FILE": "/absent/secret",
    "AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE": "100",
    "LISTENING_PORT": "0",
    "WORKERS": "0",
    "THREADS": "all",
    "SHUTDOWN_GRACE_SECONDS": "-1",
    "OVERRIDE_REQUEST_HEADERS": '{"Host": "s3cret"}',
    "LOG_LEVEL": "loud",
}


def test_one_run_lists_every_fault_once(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("log_fromat: json\n")
    found = faults_of({**EVERYTHING, "AUTHPROXY_CONFIG": str(path)})
    expected = {*EVERYTHING, "AAD_TENANT_ID", "log_fromat"} - {"IDENTITY_TYPE"}
    settings = [fault.setting for fault in found]
    assert set(settings) == expected
    # One of them has two: a file that is not there, and the value besides.
    assert sorted(settings) == sorted([*expected, "AAD_CLIENT_SECRET_FILE"])
    known = [variable for variable in Settings.declared if variable in settings]
    assert list(dict.fromkeys(settings[1:])) == known
    assert "s3cret" not in "\n".join(map(str, found))


def test_a_wrong_value_is_not_reported_as_missing_too():
    settings = [fault.setting for fault in faults_of({"TARGET_HOST": "a b", "LISTENING_PORT": "x"})]
    assert settings == ["TARGET_HOST", "LISTENING_PORT"]


def test_a_wrong_value_for_every_setting_gives_a_fault_for_every_setting():
    # A control character is right nowhere; TRACE_LOGGING takes whatever there is.
    every = set(Settings.declared) - {"TRACE_LOGGING"}
    found = faults_of(dict.fromkeys(every, "\0x"))
    assert {fault.setting for fault in found} == every

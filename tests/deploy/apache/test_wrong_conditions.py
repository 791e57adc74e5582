"""Where the proxy cannot run, log and answers say what is wrong and how to mend it."""

from __future__ import annotations

import pytest

from tests.deploy.apache.conftest import LaunchApache
from tests.support.apache import ApacheProcess
from tests.support.expect import assert_own_error
from tests.support.upstream import Upstream

pytestmark = pytest.mark.real("apache2")

SECRET = "kept~under~wraps"


def refusal(apache: ApacheProcess) -> str:
    """Return why Apache's authproxy refuses every request, probes included."""
    said = assert_own_error(apache.get("/x"), 503, "NotConfigured")
    for path in ("/health", "/ready"):
        assert assert_own_error(apache.get(path), 503, "NotConfigured") == said
    return said


def test_a_sub_interpreter_is_refused_with_a_hint(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache(
        ready=False, edits={"application-group=%{GLOBAL}": "application-group=another"}
    )
    said = refusal(apache)
    assert "'another'" in said
    assert "application-group=%{GLOBAL}" in said
    assert said.partition(": ")[2].removesuffix(".") in apache.wait_for_line(
        "authproxy cannot start"
    )
    assert target.requests == []


def test_apaches_own_processes_are_refused_with_a_hint(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache(
        ready=False,
        edits={"process-group=authproxy application-group": "application-group"},
        # It would be this Python without the daemon processes' own home.
        server="WSGIPythonHome {venv}",
    )
    said = refusal(apache)
    assert "embedded mode" in said
    assert "process-group=authproxy" in said
    assert "process-group=authproxy" in apache.wait_for_line("authproxy cannot start")
    assert target.requests == []


def test_faulty_settings_are_told_in_the_log_alone(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    settings = {"THREADS": "many", "LOG_LEVEL": "loud", "AAD_CLIENT_SECRET": SECRET}
    apache = launch_apache(ready=False, settings=settings, edits={"threads=many": "threads=32"})
    said = refusal(apache)
    assert "error log" in said
    apache.wait_for_line("THREADS='many'.*whole number")
    apache.wait_for_line("LOG_LEVEL='loud'.*debug, info")
    for word in ("THREADS", "many", "LOG_LEVEL", "loud"):
        assert word not in said
    assert SECRET not in said + apache.log


def test_a_missing_settings_file_is_named_in_the_log(launch_apache: LaunchApache) -> None:
    apache = launch_apache(ready=False, edits={"/authproxy.wsgi": "/other.wsgi"})
    assert "settings have faults" in refusal(apache)
    apache.wait_for_line(r"AUTHPROXY_CONFIG='.*/other\.yaml': .*cannot be read")


def test_a_second_proxy_in_the_same_processes_is_refused(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    second = (
        "WSGIScriptAlias /second {folder}/authproxy/other.wsgi "
        "process-group=authproxy application-group=%{GLOBAL}\n    WSGIScriptAlias / "
    )
    apache = launch_apache(ready=False, edits={"WSGIScriptAlias / ": second}, tracebacks=True)
    # Whichever mod_wsgi loads first has the processes to itself.
    statuses = [apache.get(path).status for path in ("/second/x", "/x")]
    assert statuses.count(500) == 1
    apache.wait_for_line("give .*wsgi a WSGIDaemonProcess of its own")


def test_mended_settings_are_read_when_the_script_is_touched(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache(ready=False, settings={"LOG_LEVEL": "loud"})
    refusal(apache)
    apache.settings["LOG_LEVEL"] = "info"
    apache.write_settings()
    apache.touch_script()
    apache.wait_ready()
    assert apache.get("/x").status == 200


def test_a_python_without_authproxy_is_named(launch_apache: LaunchApache) -> None:
    apache = launch_apache(
        ready=False, edits={"python-home=${AUTHPROXY_VENV}": "python-home=/usr"}, tracebacks=True
    )
    assert apache.get("/x").status == 500
    apache.wait_for_line("authproxy is not installed in /usr: the python-home")

"""`authproxy.wsgi:application` under servers other than ours, each in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import actions
from tests.support.authority import Authority
from tests.support.callers import Cluster
from tests.support.collector import Collector
from tests.support.programs import completed
from tests.support.upstream import Upstream

#: Calls the application as a WSGI server would, and names its threads.
CALL = """
import io, threading
def call(target, **more):
    environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": target, "PATH_INFO": "/", "SCRIPT_NAME": "",
        "SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), **more}
    statuses = []
    body = application(environ, lambda status, fields, exc_info=None: statuses.append(status))
    text = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return statuses[0], text
def ready():
    pause = threading.Event()
    for _ in range(500):
        if call("/ready")[0].startswith("200"):
            return "ready"
        pause.wait(0.02)
    return "never ready"
def names():
    for thread in threading.enumerate():
        if thread.name == "fetch":  # it has the token, and is about to end
            thread.join()
    return sorted(thread.name for thread in threading.enumerate() if thread.name != "MainThread")
"""


def run(program: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(sys.path)
    return completed(
        [sys.executable, "-c", CALL + program],
        {**settings, "PATH": os.environ["PATH"], "PYTHONPATH": path},
    )


def test_requests_are_served_without_anything_to_listen_on(
    base_settings: dict[str, str], target: Upstream
) -> None:
    result = run(
        """
from authproxy.wsgi import application
print(names(), ready(), *call("/a%2Fb"))
""",
        base_settings,
    )
    assert result.stdout == "['log'] ready 200 OK b'ok'\n", result.stderr
    assert target.only().target == b"/a%2Fb"
    assert "Configuration settings loaded:" in result.stderr


def test_a_redirect_leads_back_below_the_path_that_it_is_mounted_at(
    base_settings: dict[str, str], target: Upstream
) -> None:
    location = ("Location", f"{target.url}/graph")
    target.on("/a", actions.raw(actions.answer(302, location)))
    result = run(
        """
from authproxy.wsgi import application
environ = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/mount/a", "SCRIPT_NAME": "/mount",
    "PATH_INFO": "/a", "SERVER_NAME": "x", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
ready()
application(environ, lambda status, fields, exc_info=None: print(dict(fields)["Location"])).close()
""",
        base_settings,
    )
    assert result.stdout == "/mount/graph\n", result.stderr


def test_threads_start_in_the_process_that_serves_and_only_once(
    base_settings: dict[str, str],
) -> None:
    # As servers do that load the application before they fork.
    result = run(
        """
import os, sys
from authproxy.wsgi import application
for _ in range(2):
    child = os.fork()
    if child == 0:
        callers = [threading.Thread(target=call, args=("/health",)) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        print(ready(), names(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print("parent", names())
""",
        base_settings,
    )
    child = "ready ['log', 'refresher']\n"
    assert result.stdout == f"{child}{child}parent ['log']\n", result.stderr


def test_faulty_settings_stop_the_server_at_its_start(base_settings: dict[str, str]) -> None:
    settings = {**base_settings, "THREADS": "many", "LOG_LEVEL": "loud", "AUDIENCE": "a b"}
    result = run("from authproxy.wsgi import application", settings)
    assert result.returncode != 0
    told = result.stderr.partition("Traceback")[0]
    for word in ("authproxy cannot start", "THREADS", "many", "LOG_LEVEL", "loud"):
        assert word in told
    assert "SettingsError" in result.stderr


def test_no_signal_handler_is_set(base_settings: dict[str, str]) -> None:
    result = run(
        """
import signal
from authproxy.wsgi import application
call("/health")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
""",
        base_settings,
    )
    assert result.stdout == "True\n", result.stderr


#: What mod_wsgi shows of itself in a process of its own.
MOD_WSGI = """
import sys, types
mod_wsgi = sys.modules["mod_wsgi"] = types.ModuleType("mod_wsgi")
mod_wsgi.version, mod_wsgi.process_group, mod_wsgi.application_group = (4, 9, 4), "authproxy", ""
"""


@pytest.mark.parametrize(
    ("where", "mend"),
    [
        ("mod_wsgi.application_group = 'www.example.com|/'", "WSGIApplicationGroup %{GLOBAL}"),
        ("mod_wsgi.process_group = ''", "WSGIProcessGroup authproxy"),
    ],
    ids=["sub-interpreter", "embedded"],
)
def test_an_unfit_host_of_mod_wsgi_answers_with_its_mend(where: str, mend: str) -> None:
    program = f"{MOD_WSGI}\n{where}\nfrom authproxy.wsgi import application\nprint(*call('/x'))"
    result = run(program, {})
    assert result.stdout.startswith("503 Service Unavailable"), result.stderr
    assert "NotConfigured" in result.stdout
    assert mend in result.stdout
    assert mend in result.stderr
    assert "Traceback" not in result.stderr


def test_under_mod_wsgi_faulty_settings_are_answered_without_being_told(
    base_settings: dict[str, str],
) -> None:
    program = f"{MOD_WSGI}\nfrom authproxy.wsgi import application\nprint(*call('/x'))"
    result = run(program, {**base_settings, "THREADS": "many"})
    assert result.stdout.startswith("503 Service Unavailable"), result.stderr
    assert "many" not in result.stdout
    assert "THREADS='many'" in result.stderr
    assert "Traceback" not in result.stderr


def test_under_mod_wsgi_the_first_request_finds_a_token(
    base_settings: dict[str, str], target: Upstream
) -> None:
    program = f"{MOD_WSGI}\nfrom authproxy.wsgi import application\nprint(*call('/x'))"
    result = run(program, base_settings)
    assert result.stdout == "200 OK b'ok'\n", result.stderr


def test_callers_are_judged_and_keys_fetched_under_other_servers_too(
    base_settings: dict[str, str], target: Upstream, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "tokens").write_text("a-token-of-the-file\n")
    tokens = {"INBOUND_TOKEN_FILE": str(tmp_path / "tokens")}
    with Cluster(authority.context()) as cluster:
        result = run(
            f"""
from authproxy.wsgi import application
print(ready())
def status(target="/allowed", **more):
    return call(target, **more)[0].partition(" ")[0]
class Untouched:
    def read(self, *_):
        raise AssertionError("the body of a refused request was read")
body = {{"CONTENT_LENGTH": "5", "wsgi.input": Untouched()}}
signed = {{"HTTP_AUTHORIZATION": "Bearer {cluster.token()}"}}
pause = threading.Event()
while status(**signed) == "503":
    pause.wait(0.02)
print(
    status(), status(**body), status(HTTP_X_AUTHPROXY_TOKEN="a-token-of-the-file"),
    status(**signed), status("/a/../allowed", **signed), status("/secret", **signed, **body),
)
print(names())
""",
            {
                **base_settings,
                **tokens,
                **cluster.settings,
                "INBOUND_JWKS_CA_FILE": str(authority.bundle),
                "ALLOWED_PATHS": "/allowed",
            },
        )
    assert result.stdout.splitlines() == [
        "ready",
        "401 401 200 200 400 403",
        "['log', 'refresher', 'watched file']",
    ], result.stderr
    assert [request.target for request in target.wait_for_requests(3)] == [b"/allowed"] * 3
    assert result.stderr.count('msg="Request failed"') >= 4


def test_a_bug_shows_its_traceback_to_the_log_alone_and_no_token(
    base_settings: dict[str, str],
) -> None:
    result = run(
        """
from authproxy.upstream.target import Target
from authproxy.wsgi import application
ready()
def bug(self, request):
    raise RuntimeError(f"it held Bearer {self._tokens.current().value} and that")
Target.send = bug
print(*call("/x"))
""",
        base_settings,
    )
    status, _, body = result.stdout.partition(" b'")
    assert status == "500 INTERNAL SERVER ERROR"
    assert "RuntimeError" not in body
    assert "it held Bearer *** and that" in result.stderr
    assert "Traceback" in result.stderr
    assert "eyJ" not in result.stderr + result.stdout


def test_telemetry_is_sent_at_the_end_and_the_metrics_port_is_declined(
    base_settings: dict[str, str], target: Upstream
) -> None:
    with Collector() as collector:
        result = run(
            """
from authproxy.wsgi import application
print(ready(), *call("/x"))
""",
            {
                **base_settings,
                "METRICS_PORT": "1",
                "OTEL_GRPC_ENDPOINT": collector.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            },
        )
        assert result.stdout == "ready 200 OK b'ok'\n", result.stderr
        assert "have no effect here" in result.stderr
        assert 'Settings="LISTENING_HOST, SHUTDOWN_GRACE_SECONDS, METRICS_PORT"' in result.stderr
        (span,) = collector.spans_named("ProxyRequest")
        assert span.attributes["url.path"] == "/x"
        assert collector.points("aad_auth_proxy_requests_total", path="/x")

"""The log tells what happened, in the legacy form, and gives nothing away."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from pathlib import Path

import pytest

from authproxy.proxy.access_log import LINES_OF_ONE
from authproxy.telemetry.log_forms import MAX_VALUE_CHARACTERS
from tests.conftest import Launch
from tests.support import actions, outcomes
from tests.support.identity import SECRET, application_settings
from tests.support.logfmt import parse_line
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import Truncated, message

SENT = "Successfully sent request"
_numbers = itertools.count()


def unique(path: str = "/x") -> str:
    """Return a target that no other test's log lines have."""
    return f"{path}/{next(_numbers)}-"


def test_a_request_is_logged_as_the_retired_proxy_did(
    proxy: ProxyProcess, target: Upstream
) -> None:
    target.respond(actions.answer(200, body=b"12345"))
    path = unique("/a%2fb") + "?x=1&y=%20"
    assert proxy.get(path, "X-Request-ID: id-1").status == 200
    line = proxy.wait_for_line(f"{SENT}.*{re.escape(path)}")
    url = re.escape(f"{target.url}{path}")
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ" level=info '
        r'msg="Successfully sent request, returning response back\." '
        rf'ContentLength=5 Request="{url}" StatusCode=200 '
        r"RequestID=id-1 DurationMs=\d+ Method=GET Attempts=1 Client=127\.0\.0\.1",
        line,
    ), line


@pytest.mark.parametrize(
    ("status", "level", "message"),
    [
        *((status, "info", f"{SENT}, returning response back.") for status in (200, 204, 302)),
        *((status, "error", "Error response body: why") for status in (400, 403, 429, 500, 503)),
    ],
)
def test_the_line_has_the_status_of_the_target_and_a_level_that_fits(
    proxy: ProxyProcess, target: Upstream, status: int, level: str, message: str
) -> None:
    body = b"why" if status >= 400 else b""
    target.respond(actions.answer(status, body=body) if status != 204 else actions.head(204))
    path = unique()
    assert proxy.get(path).status == status
    event = parse_line(proxy.wait_for_line(path))
    assert (event["StatusCode"], event["level"], event["msg"]) == (str(status), level, message)
    assert event["Client"] == "127.0.0.1"
    assert proxy.log.count(path) == 1


def lines_of(proxy: ProxyProcess, path: str) -> list[dict[str, str]]:
    """Return the events of requests for this path."""
    events = [parse_line(line) for line in proxy.log.splitlines() if path in line]
    return [event for event in events if "Request" in event or "Path" in event]


def test_each_request_has_one_line_whatever_became_of_it(launch: Launch, target: Upstream) -> None:
    proxy = launch(**outcomes.SETTINGS)
    outcomes.drive(proxy, target)
    assert proxy.ask(message("GET /malformed", "no colon")).status == 400
    proxy.stop()
    seen = {path: lines_of(proxy, path) for _, path in outcomes.EXPECTED}
    assert {path: len(events) for path, events in seen.items()} == dict.fromkeys(seen, 1)
    statuses = {path: int(events[0]["StatusCode"]) for path, events in seen.items()}
    assert statuses == {path: status for (_, path), status in outcomes.EXPECTED.items()}
    assert {events[0]["Client"] for events in seen.values()} == {"127.0.0.1"}
    assert len([line for line in proxy.log.splitlines() if "BadRequest" in line]) == 1
    (refused,) = seen["/api/v1/write"]
    assert (refused["level"], refused["msg"]) == ("error", "Error response body: role")
    assert (refused["Code"], refused["SentStatusCode"]) == ("TargetRefusedIdentity", "503")
    assert refused["Cause"]


@pytest.mark.parametrize(("shown", "failures"), [("errors", 1), ("none", 0)])
def test_the_access_log_can_be_narrowed_to_what_failed_or_turned_off(
    launch: Launch, target: Upstream, shown: str, failures: int
) -> None:
    proxy = launch(**outcomes.SETTINGS, ACCESS_LOG=shown)
    outcomes.drive(proxy, target)
    assert proxy.ask(message("GET /malformed", "no colon")).status == 400
    proxy.stop()
    failed = {"/missing", "/api/v1/write", "/silent", "/nonsense", "/cut", "/traced", "/too-large"}
    for _, path in outcomes.EXPECTED:
        assert len(lines_of(proxy, path)) == (failures if path in failed else 0), path
    assert proxy.log.count("BadRequest") == failures
    assert "Token refreshed" in proxy.log


def test_failures_that_repeat_have_some_lines_and_a_count(launch: Launch, target: Upstream) -> None:
    proxy = launch()
    with proxy.connect() as client:
        for _ in range(2 * LINES_OF_ONE):
            assert client.ask(message("TRACE /repeated")).status == 405
        assert client.ask(message("TRACE /another")).status == 405
        assert client.ask(message("GET /found")).status == 200
    proxy.stop()
    assert len(lines_of(proxy, "/another")) == len(lines_of(proxy, "/found")) == 1
    single = len(lines_of(proxy, "/repeated"))
    events = [parse_line(line) for line in proxy.log.splitlines()]
    counted = [each for each in events if each["msg"].startswith("Requests failed, without")]
    assert {(each["StatusCode"], each["Code"]) for each in counted} == {("405", "MethodNotAllowed")}
    assert single + sum(int(each["Count"]) for each in counted) == 2 * LINES_OF_ONE


def test_the_settings_are_logged_at_the_start_with_secrets_masked(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    proxy = launch(
        **application_settings(entra, tmp_path),
        OVERRIDE_REQUEST_HEADERS='{"X-Api-Key": "of-the-operator"}',
    )
    event = parse_line(proxy.wait_for_line("Configuration settings loaded:"))
    assert event["level"] == "info"
    assert event["msg"] == "Configuration settings loaded:"
    assert event["TARGET_HOST"] == target.authority
    assert event["AAD_CLIENT_SECRET"] == "***"
    assert SECRET not in proxy.log
    assert "of-the-operator" not in proxy.log


def test_an_own_error_is_logged_with_its_code(proxy: ProxyProcess, target: Upstream) -> None:
    target.close_idle()
    target.respond(actions.then_close())
    path = unique("/lost")
    assert proxy.get(path).status == 502
    line = proxy.wait_for_line(path)
    assert "level=error" in line
    assert "TargetProtocolError" in line
    assert f"{target.url}{path}" in line


# -- error bodies ---------------------------------------------------------------------------


def error_line(
    proxy: ProxyProcess, target: Upstream, body: bytes, *lines: str, status: int = 400
) -> dict[str, str]:
    """Have the target answer with an error; return the event that tells of its body."""
    target.respond(actions.answer(status, *lines, body=body))
    path = unique()
    assert proxy.get(path).body == body
    return parse_line(proxy.wait_for_line(f"Error response body.*{path}"))


TEXT = b'{"error": {"code": "InvalidQuery", "message": "no \\"such\\" thing"}}'


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (TEXT, []),
        (gzip.compress(TEXT, mtime=0), ["Content-Encoding: gzip"]),
        (gzip.compress(TEXT, mtime=0), ["Content-Encoding: GZip"]),
        (zlib.compress(TEXT), ["Content-Encoding: deflate"]),
    ],
    ids=["plain", "gzip", "gzip-in-any-case", "deflate"],
)
@pytest.mark.parametrize("status", [400, 403, 500])
def test_an_error_body_is_logged_decoded(
    proxy: ProxyProcess, target: Upstream, body: bytes, lines: list[str], status: int
) -> None:
    event = error_line(proxy, target, body, *lines, status=status)
    assert TEXT.decode() in event["msg"] + event.get("Body", "")
    assert event["StatusCode"] == str(status)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"e" * 100_000, []),
        (gzip.compress(b"e" * 50_000, mtime=0), ["Content-Encoding: gzip"]),
        (gzip.compress(b"e" * 100_000_000, mtime=0), ["Content-Encoding: gzip"]),
    ],
    ids=["plain", "gzip", "bomb"],
)
def test_an_error_body_is_cut_at_two_kibibytes(
    proxy: ProxyProcess, target: Upstream, body: bytes, lines: list[str]
) -> None:
    before = proxy.peak_bytes()
    event = error_line(proxy, target, body, *lines)
    longest = max(re.findall("e+", event["msg"] + event.get("Body", "")), key=len)
    assert len(longest) == 2048
    assert proxy.peak_bytes() - before < 20_000_000


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"not gzip at all", ["Content-Encoding: gzip"]),
        (gzip.compress(TEXT, mtime=0)[:-9], ["Content-Encoding: gzip"]),
        (b'\x1b[31mred\r\nlevel=info msg="forged"\r\n\0\x85\xe2\x80\xa8', []),
        (bytes(range(256)), []),
        (b"\xff\xfe" * 3000, []),
        (b"\xe2\x82" + "€".encode() * 1000, []),
        (b"br of something", ["Content-Encoding: br"]),
        (b"x", ['Content-Encoding: gzip, "odd" x=y']),
        (b"", []),
    ],
    ids=[
        *("not-gzip", "cut-gzip", "lines-and-colours", "every-byte", "not-utf-8", "cut-utf-8"),
        *("brotli", "odd-encoding", "empty"),
    ],
)
def test_any_error_body_makes_one_clean_line(
    proxy: ProxyProcess, target: Upstream, body: bytes, lines: list[str]
) -> None:
    assert error_line(proxy, target, body, *lines)["StatusCode"] == "400"
    for line in proxy.log.split("\n")[-3:]:
        assert parse_line(line)["msg"] != "forged"
        assert line.isascii()
        assert line.isprintable()


# -- what must not be there -------------------------------------------------------------------


FORGERIES = [
    '/x"%20level=error%20msg="forged',
    '/x\\"?\\n=\\',
    "/x%0atime=now%20level=info%20msg=forged",
    "/caf\xe9\x9b31m?\x85",
]


@pytest.mark.parametrize("path", FORGERIES, ids=["quote", "backslash", "encoded-lines", "controls"])
def test_a_path_forges_no_log_line(proxy: ProxyProcess, target: Upstream, path: str) -> None:
    marked = unique() + path
    assert proxy.get(marked).status == 200
    line = proxy.wait_for_line(f"{SENT}.*{marked.removesuffix(path)}")
    event = parse_line(line)
    encoded = marked.replace("\xe9\x9b", "%E9%9B").replace("\x85", "%85")
    assert event["Request"] == f"{target.url}{encoded}"
    assert (event["level"], event["msg"]) == ("info", f"{SENT}, returning response back.")
    assert line.isascii()


@pytest.mark.parametrize(
    "character", ["a", "\xff", '"', "\\"], ids=["letter", "byte", "quote", "backslash"]
)
@pytest.mark.parametrize("length", [300, 7000])
def test_a_request_makes_a_line_of_no_more_than_it_may_take(
    proxy: ProxyProcess, target: Upstream, character: str, length: int
) -> None:
    """Three times a short request and a little, and a bound on a long one."""
    path = unique() + "?"
    assert proxy.get(path + character * length).status == 200
    line = proxy.wait_for_line(f"{SENT}.*{re.escape(path)}")
    assert len(line) < min(3 * length, 2 * MAX_VALUE_CHARACTERS) + 400
    request = parse_line(line)["Request"]
    shown = character if character.isascii() else "%FF"
    whole = f"{target.url}{path}{shown * length}"
    more = len(whole) - MAX_VALUE_CHARACTERS
    cut = f"{whole[:MAX_VALUE_CHARACTERS]}... ({more} characters more)"
    assert request == (whole if more <= 0 else cut)


def test_whatever_else_a_client_chooses_is_bounded_too(
    proxy: ProxyProcess, target: Upstream
) -> None:
    path = unique()
    identifier = f"X-Request-ID: {'x' * 5000}"
    assert proxy.ask(message(f"{'LONG' * 1000} {path}", identifier)).status == 200
    event = parse_line(proxy.wait_for_line(f"{SENT}.*{path}"))
    for name in ("RequestID", "Method"):
        assert len(event[name]) <= MAX_VALUE_CHARACTERS + len("... (99999 characters more)")


def test_a_request_id_forges_no_log_line(proxy: ProxyProcess, target: Upstream) -> None:
    identifier = 'x" level=error msg="forged" StatusCode=999 \x9b31m\xe9\\'
    path = unique()
    assert proxy.get(path, f"X-Request-ID: {identifier}").status == 200
    event = parse_line(proxy.wait_for_line(f"{SENT}.*{path}"))
    assert event["RequestID"] == identifier
    assert (event["level"], event["StatusCode"]) == ("info", "200")


@pytest.fixture(scope="module")
def discreet(launch_for_module: Launch) -> ProxyProcess:
    return launch_for_module(LOG_QUERY="false", LOG_LEVEL="debug")


@pytest.mark.parametrize("ending", ["answered", "refused", "lost", "cut"])
def test_queries_can_be_kept_out_of_the_log(
    discreet: ProxyProcess, target: Upstream, ending: str
) -> None:
    target.close_idle()
    handler = {
        "answered": actions.raw(actions.answer(200)),
        "refused": actions.raw(actions.answer(403, body=b"no")),
        "lost": actions.then_close(),
        "cut": actions.then_close(actions.head(200, "Content-Length: 9"), b"half"),
    }[ending]
    target.respond(handler)
    with discreet.connect() as client:
        client.send(message(f"GET /{ending}?customer=in-confidence"))
        client.receive_head()
    line = discreet.wait_for_line(f"/{ending}")
    assert "customer" not in line
    assert "in-confidence" not in discreet.log


def test_no_secret_reaches_the_log_at_any_level(
    launch: Launch, target: Upstream, entra: StandInEntra, tmp_path: Path
) -> None:
    proxy = launch(
        **application_settings(entra, tmp_path),
        OVERRIDE_REQUEST_HEADERS='{"X-Api-Key": "of-the-operator"}',
        LOG_LEVEL="debug",
    )
    credentials = (
        "Authorization: Bearer of-the-client-a",
        "Proxy-Authorization: Basic of-the-client-b",
        "X-Authproxy-Token: of-the-client-c",
        "Cookie: session=of-the-client-d",
    )
    target.respond(actions.answer(200, "Set-Cookie: session=of-the-target"))
    assert proxy.ask(message("POST /x", *credentials, body=b"of-the-client-e")).status == 200
    target.respond(actions.answer(401, ("WWW-Authenticate", "Bearer"), body=b"no"))
    assert proxy.ask(message("POST /x", *credentials, body=b"of-the-client-e")).status == 401
    target.respond(actions.then_close())
    target.close_idle()
    assert proxy.ask(message("POST /x", *credentials, body=b"of-the-client-e")).status == 502
    echoing = actions.answer(400, body=f"you sent Bearer {entra.issued[-1].value}".encode())
    target.respond(echoing)
    assert proxy.get("/x").status == 400
    proxy.wait_for_line("you sent")
    log = proxy.log
    for token in entra.issued:
        assert token.value not in log
        assert token.value.split(".")[1][:40] not in log
    for secret in (SECRET, "of-the-client", "of-the-operator", "of-the-target"):
        assert secret not in log
    assert "client_secret" not in log


# -- form ------------------------------------------------------------------------------------


def traffic(proxy: ProxyProcess, target: Upstream) -> None:
    """Have some of everything logged, and end the proxy."""
    for path in FORGERIES:
        assert proxy.get(path, 'X-Request-ID: "\xe9"').status == 200
    target.respond(actions.answer(500, body=bytes(range(256))))
    assert proxy.get("/x").status == 500
    target.close_idle()
    target.respond(actions.then_close())
    assert proxy.get("/x").status == 502
    target.respond(actions.then_close(actions.head(200, "Content-Length: 9"), b"half"))
    with pytest.raises(Truncated):
        proxy.get("/cut")
    assert proxy.ask(message("TRACE /x")).status == 405
    assert proxy.ask(message("GET /x", "no colon")).status == 400
    proxy.stop()  # lines may come later than the responses


def test_every_line_is_logfmt(launch: Launch, target: Upstream) -> None:
    proxy = launch(LOG_LEVEL="debug")
    traffic(proxy, target)
    for line in proxy.log.split("\n"):
        event = parse_line(line)
        assert list(event)[:3] == ["time", "level", "msg"], line
        assert event["level"] in ("debug", "info", "warning", "error"), line


def test_every_line_is_json_where_that_is_asked_for(launch: Launch, target: Upstream) -> None:
    proxy = launch(LOG_FORMAT="json", LOG_LEVEL="debug")
    traffic(proxy, target)
    for line in proxy.log.split("\n"):
        event = json.loads(line)
        assert {"time", "level", "msg"} <= set(event)
    sent = [json.loads(line) for line in proxy.log.split("\n") if SENT in line]
    assert {type(event["StatusCode"]) for event in sent} == {int}
    assert f"{target.url}{FORGERIES[0]}" in [event["Request"] for event in sent]


def test_opentelemetrys_names_where_those_are_asked_for(launch: Launch, target: Upstream) -> None:
    proxy = launch(LOG_FORMAT="otel", LOG_LEVEL="debug")
    traffic(proxy, target)
    events = [json.loads(line) for line in proxy.log.splitlines()]
    for event in events:
        assert {"timestamp", "severity_text", "severity_number", "body"} <= set(event)
    (cut,) = (event for event in events if event.get("url.path") == "/cut")
    assert cut["server.address"] == "localhost"
    assert (cut["http.request.method"], cut["http.response.status_code"]) == ("GET", 200)
    assert cut["client.address"] == "127.0.0.1"
    assert (cut["severity_text"], cut["body"]) == ("ERROR", "Response cut short")


def test_a_higher_level_hides_the_lower_ones(launch: Launch, target: Upstream) -> None:
    proxy = launch(LOG_LEVEL="error")
    traffic(proxy, target)
    assert {parse_line(line)["level"] for line in proxy.log.split("\n")} == {"error"}

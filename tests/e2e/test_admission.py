"""Only those come in who may, and only to where they may."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from authproxy.files.watched_file import REFUSAL_SECONDS, STILL_SECONDS
from authproxy.http1.path_rules import PathRules
from tests.conftest import Launch
from tests.support.client_certificates import replace_file
from tests.support.expect import assert_own_error
from tests.support.identity import identity_settings
from tests.support.logfmt import parse_line
from tests.support.paths import AMBIGUOUS, PATHS, readings
from tests.support.process import ProxyProcess, free_port, wait_until
from tests.support.scrape import settled
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import Response, WireError, chunks, message, to_bytes

TOKEN = "correct-horse-battery-staple"
OTHER = "second+token/of~this.file=="
BEARER = f"Authorization: Bearer {TOKEN}"


def token_file(folder: Path, *tokens: str) -> Path:
    path = folder / "tokens"
    replace_file(path, "\n".join(["# who may come in", "", *tokens, ""]).encode())
    return path


@pytest.fixture(scope="module")
def module_proxy(launch_for_module: Launch) -> Iterator[ProxyProcess]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield launch_for_module(
            INBOUND_TOKEN_FILE=str(token_file(Path(folder), TOKEN, OTHER)),
            ALLOWED_METHODS="get,POST,TRACED",
            ALLOWED_PATHS="/allowed,/open/a*,/deep/**/x",
        )


@pytest.fixture
def guarded(module_proxy: ProxyProcess, target: Upstream) -> ProxyProcess:
    """A proxy with everything that can be restricted, in front of `target`."""
    assert module_proxy.running
    return module_proxy


def assert_unauthorized(response: Response, challenge: str) -> str:
    said = assert_own_error(response, 401, "Unauthorized")
    assert response.one("WWW-Authenticate") == challenge
    return said


# -- callers with a token --------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        [BEARER],
        [f"Authorization: Bearer {OTHER}"],
        [f"authorization:bearer  {TOKEN} "],
        [f"X-Authproxy-Token: {TOKEN}"],
        ["Authorization: Basic dXNlcjpwYXNz", f"X-Authproxy-Token: {OTHER}"],
        [BEARER, "X-Authproxy-Token: not-one-of-those"],
        ["Authorization: Bearer not-one-of-those", f"X-Authproxy-Token: {TOKEN}"],
    ],
)
@pytest.mark.parametrize("body", [None, b"content"])
def test_a_token_of_the_file_lets_in_and_goes_no_further(
    guarded: ProxyProcess, target: Upstream, fields: list[str], body: bytes | None
) -> None:
    assert guarded.ask(message("POST /allowed", *fields, body=body)).status == 200
    request = target.only()
    assert request.body == (body or b"")
    assert (request.one("Authorization") or "").startswith("Bearer ey")
    assert "x-authproxy-token" not in request.names
    assert TOKEN.encode() not in request.head


@pytest.mark.parametrize("fields", [[], ["Authorization: Basic eA=="], ["Authorization: Bearer "]])
def test_without_a_token_the_answer_is_401(
    guarded: ProxyProcess, target: Upstream, fields: list[str]
) -> None:
    said = assert_unauthorized(guarded.get("/allowed", *fields), "Bearer")
    assert "X-Authproxy-Token" in said
    assert target.requests == []


@pytest.mark.parametrize(
    "fields",
    [
        ["Authorization: Bearer another-one-altogether"],
        [f"Authorization: Bearer {TOKEN[:-1]}"],
        [f"Authorization: Bearer {TOKEN}x"],
        [f"Authorization: Bearer {TOKEN.upper()}"],
        [f"Authorization: Bearer {TOKEN}, {OTHER}"],
        [BEARER, BEARER],
        [f"X-Authproxy-Token: {TOKEN}", f"X-Authproxy-Token: {TOKEN}"],
        ["X-Authproxy-Token: # who may come in"],
        [f"Authorization: Bearer {TOKEN}\xff"],
        ["Authorization: Bearer " + "x" * 20_000],
    ],
)
def test_a_wrong_token_gets_401(guarded: ProxyProcess, target: Upstream, fields: list[str]) -> None:
    response = guarded.get("/allowed", *fields)
    said = assert_unauthorized(response, 'Bearer error="invalid_token"')
    assert TOKEN[:-2] not in said
    assert target.requests == []


def test_a_refusal_is_logged_with_who_and_where_and_never_the_token(
    guarded: ProxyProcess, target: Upstream
) -> None:
    wrong = "wrong-but-still-nobody-elses"
    guarded.get("/logged/one?q=1", f"X-Authproxy-Token: {wrong}", "X-Request-ID: id-9")
    event = parse_line(guarded.wait_for_line("Request failed.*/logged/one"))
    assert event["level"] == "warning"
    assert (event["StatusCode"], event["Code"]) == ("401", "Unauthorized")
    assert (event["Request"], event["Method"]) == ("/logged/one", "GET")
    assert (event["Client"], event["RequestID"]) == ("127.0.0.1", "id-9")
    assert wrong not in guarded.log


def test_a_file_of_tokens_that_everybody_can_read_is_warned_of(guarded: ProxyProcess) -> None:
    event = guarded.wait_for_event("Every user of this machine can get at a secret")
    assert event["level"] == "warning"
    assert event["Path"] == guarded.settings["INBOUND_TOKEN_FILE"]
    assert (event["Setting"], event["Mode"]) == ("INBOUND_TOKEN_FILE", "0644")


def test_refusals_are_counted_as_every_other_error(
    guarded: ProxyProcess, launch: Launch, target: Upstream
) -> None:
    proxy = launch(**{**guarded.settings, "METRICS_PORT": str(free_port())})
    requests = [
        (message("GET /allowed/counted"), 401),
        (message("POST /allowed/counted", body=b"with a body"), 401),
        (message("GET /counted", BEARER), 403),
        (message("POST /counted", BEARER, body=b"with a body"), 403),
        (message("PUT /allowed/counted", BEARER, body=b"with a body"), 405),
        (message("GET /allowed//counted", BEARER), 400),
        (message("POST /allowed/counted", BEARER, body=b"with a body"), 200),
    ]
    assert [proxy.ask(raw).status for raw, _ in requests] == [status for _, status in requests]
    page = settled(int(proxy.settings["METRICS_PORT"]))
    for raw, status in requests:
        method, path = raw.decode().split(" ")[:2]
        labels = {"method": method, "path": path, "status_code": str(status)}
        assert page.sum("aad_auth_proxy_requests_total", **labels) == 1, labels


@pytest.mark.parametrize("probe", ["/health", "/ready", "/health?verbose"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_stay_open(guarded: ProxyProcess, probe: str, method: str) -> None:
    assert guarded.ask(message(f"{method} {probe}")).status == 200


@pytest.mark.parametrize(
    ("line", "body"),
    [("POST /health", b"x"), ("GET /health", b"x"), ("GET /health/", None), ("GET //ready", None)],
)
def test_what_only_looks_like_a_probe_is_judged(
    guarded: ProxyProcess, target: Upstream, line: str, body: bytes | None
) -> None:
    assert_unauthorized(guarded.ask(message(line, body=body)), "Bearer")
    assert target.requests == []


def test_who_is_asked_before_anything_is_told(guarded: ProxyProcess, target: Upstream) -> None:
    for line in ("PUT /allowed", "TRACE /allowed", "GET /secret", "GET /a/../b", "CONNECT a:1"):
        assert_unauthorized(guarded.ask(message(line)), "Bearer")


def test_a_refused_request_does_not_ask_for_a_token_of_the_targets(
    launch: Launch, entra: StandInEntra, tmp_path: Path
) -> None:
    entra.stop()
    tokens = token_file(tmp_path, TOKEN)
    proxy = launch(ready=False, INBOUND_TOKEN_FILE=str(tokens), **identity_settings(entra))
    assert_unauthorized(proxy.get("/x"), "Bearer")
    assert_own_error(proxy.get("/x", BEARER), 503, "AuthenticationTokenNotFound")


# -- refused on the head, whatever body is to come ----------------------------------------


@pytest.mark.parametrize(
    "framing",
    [
        ["Content-Length: 60000000"],
        ["Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Expect: 100-continue"],
    ],
)
def test_a_refused_body_is_not_waited_for(
    guarded: ProxyProcess, target: Upstream, framing: list[str]
) -> None:
    with guarded.connect() as client:
        client.send(message("POST /allowed", *framing, "X-Request-ID: early"))
        response = client.receive()
        assert_unauthorized(response, "Bearer")
        assert response.interim == []
        assert response.one("X-Request-ID") == "early"
        assert response.one("Connection") == "close"
        client.finish_sending()
        assert client.is_closed_by_peer()
    with guarded.connect() as client:
        client.send(message("POST /secret", BEARER, *framing))
        assert_own_error(client.receive(), 403, "PathNotAllowed")
    assert target.requests == []


def test_a_client_that_sends_its_whole_body_first_gets_the_refusal(
    guarded: ProxyProcess, target: Upstream
) -> None:
    before = guarded.peak_bytes()
    with guarded.connect() as client:
        client.offer(message("POST /allowed", body=b"x" * 30_000_000))
        assert_unauthorized(client.receive(), "Bearer")
    assert guarded.peak_bytes() - before < 10_000_000
    assert target.requests == []


@pytest.mark.parametrize("pieces", [1, 2, 40])
def test_a_request_inside_a_refused_body_is_never_served(
    guarded: ProxyProcess, target: Upstream, pieces: int
) -> None:
    inner = message("GET /allowed/smuggled", BEARER) * 20
    raw = message("POST /allowed/outer", body=inner)
    mark = guarded.mark()
    with guarded.connect() as client:
        step = len(raw) // pieces + 1
        for at in range(0, len(raw), step):
            client.offer(raw[at : at + step])
        assert_unauthorized(client.receive(), "Bearer")
        assert client.is_closed_by_peer()
    guarded.get("/after")
    guarded.wait_for_line("/after", after=mark)
    assert target.requests == []
    assert "smuggled" not in guarded.log


def test_bodies_of_those_who_may_come_in_arrive_whole(
    guarded: ProxyProcess, target: Upstream
) -> None:
    large = b"0123456789" * 200_000
    with guarded.connect() as client:
        for _ in range(2):
            assert client.ask(message("POST /allowed", BEARER, body=large)).status == 200
        chunked = message("POST /allowed", BEARER, "Transfer-Encoding: chunked")
        client.send(chunked + chunks(large[:100_000], large[100_000:]))
        assert client.receive().status == 200
        client.send(message("POST /allowed", BEARER, "Content-Length: 2", "Expect: 100-continue"))
        assert client.stream.until(b"\r\n\r\n", "an interim response").startswith(b"HTTP/1.1 100 ")
        client.send(b"ok")
        assert client.receive().status == 200
    assert [request.body for request in target.requests] == [large, large, large, b"ok"]


def test_a_refusal_without_a_body_leaves_the_connection_open(
    guarded: ProxyProcess, target: Upstream
) -> None:
    with guarded.connect() as client:
        assert client.ask(message("GET /allowed")).status == 401
        assert client.ask(message("GET /allowed", BEARER)).status == 200
        client.send(
            message("POST /allowed", BEARER, body=b"1")
            + message("POST /allowed", body=b"2")
            + message("POST /allowed", BEARER, body=b"3")
        )
        assert [client.receive().status for _ in range(3)] == [200, 401, 200]
    assert [request.body for request in target.requests] == [b"", b"1", b"3"]


# -- the file of tokens changes ------------------------------------------------------------


def lets_in(proxy: ProxyProcess, token: str, method: str = "GET") -> bool:
    """Tell whether a token lets in at once; where the file has changed, once it has been read.

    A request that has waited for that for so long is refused: it is sent again.
    """
    body = b"x" if method == "POST" else None
    raw = message(f"{method} /x", f"X-Authproxy-Token: {token}", body=body)
    while True:
        began = time.monotonic()
        admitted = proxy.ask(raw).status == 200
        if admitted or time.monotonic() - began < REFUSAL_SECONDS:
            return admitted


def test_tokens_are_exchanged_while_running(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    path = token_file(tmp_path, TOKEN)
    proxy = launch(INBOUND_TOKEN_FILE=str(path))

    def admits(token: str) -> bool:
        return lets_in(proxy, token)

    assert admits(TOKEN)
    assert not admits(OTHER)
    token_file(tmp_path, OTHER)
    assert admits(OTHER)  # at once
    wait_until("the old token is refused", lambda: not admits(TOKEN))
    assert admits(OTHER)
    proxy.wait_for_event("New inbound tokens in use")

    complaint = "New inbound tokens cannot be used, the old stay in use"

    def complained() -> bool:
        assert admits(OTHER)
        assert not admits(TOKEN)
        return complaint in proxy.log

    path.unlink()
    wait_until("the loss is told", complained)
    event = proxy.wait_for_event(complaint)
    assert event["level"] == "error"
    assert (event["Setting"], event["Path"]) == ("INBOUND_TOKEN_FILE", str(path))
    token_file(tmp_path, TOKEN)
    assert admits(TOKEN)
    wait_until("it is alone again", lambda: not admits(OTHER))
    assert proxy.log.count(complaint) == 1
    assert TOKEN not in proxy.log
    assert OTHER not in proxy.log


def test_a_token_file_that_is_half_written_turns_no_caller_away(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    path = token_file(tmp_path, TOKEN)
    proxy = launch(INBOUND_TOKEN_FILE=str(path))
    pieces = (f"{OTHER}-{number}" for number in itertools.count())
    written: list[str] = []
    mark = 0

    def admits(token: str) -> bool:
        return lets_in(proxy, token, "POST")

    def write_without_a_pause() -> bool:
        """Write it piece by piece; False where it was still for so long that it counts as whole."""
        nonlocal mark
        token_file(tmp_path, TOKEN)
        mark = proxy.mark()
        with path.open("w") as writer:
            still_since = time.monotonic()
            for new in itertools.islice(pieces, 10):
                admitted = admits(TOKEN)
                if time.monotonic() - still_since >= STILL_SECONDS:
                    return False
                assert admitted
                writer.write(f"{new}\n")
                writer.flush()
                still_since = time.monotonic()
                assert admits(new)  # so this piece has been read
                written.append(new)
            writer.write(f"{TOKEN}\n")
        return True

    wait_until("it is written", write_without_a_pause)
    proxy.wait_for_line("New inbound tokens in use", after=mark)
    assert admits(TOKEN)
    assert admits(written[-1])
    assert "cannot be used" not in "\n".join(proxy.lines[mark:])


def test_a_pipe_in_place_of_the_token_file_holds_nobody_up(
    launch: Launch, target: Upstream, tmp_path: Path
) -> None:
    path = token_file(tmp_path, TOKEN)
    proxy = launch(INBOUND_TOKEN_FILE=str(path))
    os.mkfifo(tmp_path / "pipe")
    os.replace(tmp_path / "pipe", path)
    event = proxy.wait_for_event("New inbound tokens cannot be used, the old stay in use")
    assert event["Error"] == "the file is a named pipe"
    for token, status in ((TOKEN, 200), (OTHER, 401)):
        field = f"X-Authproxy-Token: {token}"
        assert proxy.ask(message("POST /x", field, body=b"x")).status == status
        assert proxy.get("/x", field).status == status
    assert proxy.get("/health").status == 200


# -- methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE", "OPTIONS", "CONNECT", "PROPFIND"])
def test_methods_that_are_not_allowed_get_405_with_those_that_are(
    guarded: ProxyProcess, target: Upstream, method: str
) -> None:
    response = guarded.ask(message(f"{method} /allowed", BEARER))
    if method != "HEAD":
        assert_own_error(response, 405, "MethodNotAllowed")
    assert response.status == 405
    assert response.one("Allow") == "GET, POST, TRACED"
    assert target.requests == []


@pytest.mark.parametrize("method", ["GET", "POST", "TRACED"])
def test_methods_that_are_allowed_pass(
    guarded: ProxyProcess, target: Upstream, method: str
) -> None:
    assert guarded.ask(message(f"{method} /allowed", BEARER)).status == 200
    assert target.only().method == method.encode()


# -- fields that would have the target serve something else ---------------------------------------

OVERRULING_FIELDS = (
    "X-Original-URL: /secret",
    "x-rewrite-url: /secret",
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-METHOD-Override: DELETE",
)


def test_no_field_has_the_target_serve_what_was_not_admitted(
    guarded: ProxyProcess, target: Upstream
) -> None:
    sent = (BEARER, *OVERRULING_FIELDS, "X-Original-Host: kept")
    assert guarded.ask(message("POST /allowed", *sent, body=b"b")).status == 200
    names = target.only().names
    assert "x-original-host" in names
    assert not names & {line.partition(":")[0].lower() for line in OVERRULING_FIELDS}


@pytest.mark.parametrize(
    "restriction",
    [{"ALLOWED_METHODS": "POST"}, {"ALLOWED_PATHS": "/api"}, {"INGESTION_URL": "/write"}],
    ids=lambda each: next(iter(each)),
)
def test_nor_where_one_rule_decides_save_a_field_that_the_operator_sets(
    launch: Launch, target: Upstream, restriction: dict[str, str]
) -> None:
    ingestion = "INGESTION_URL" in restriction
    given = {"INGESTION_URL": f"{target.url}/write"} if ingestion else restriction
    proxy = launch(
        without=("TARGET_HOST",) if ingestion else (),
        OVERRIDE_REQUEST_HEADERS='{"X-Original-URL": "/ours"}',
        **given,
    )
    assert proxy.ask(message("POST /api/v1/write", *OVERRULING_FIELDS, body=b"b")).status == 200
    request = target.only()
    assert request.all("X-Original-URL") == ["/ours"]
    assert not request.names & {"x-rewrite-url", "x-http-method", "x-http-method-override"}
    assert "x-method-override" not in request.names


# -- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/allowed", "/allowed/", "/allowed/b/c", "/open/abc", "/deep/x", "/deep/a/b/x"),
        *("/allowed?q=/../..", "/allowed?a;b//c\\d%2f", "/allowed/a%20b", "/allowed/%41"),
        "/allowed?",
    ],
)
def test_paths_that_are_allowed_pass_as_they_came(
    guarded: ProxyProcess, target: Upstream, path: str
) -> None:
    assert guarded.get(path, BEARER).status == 200
    assert target.only().target == path.encode()


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/allow", "/allowedx", "/ALLOWED", "/open", "/open/b", "/open/a/b", "/deep/a"),
        *("/secret", "/secret?/allowed", "/%61llowed", "*", "/allowed/" + "x" * 9000),
    ],
)
@pytest.mark.parametrize("body", [None, b"content"])
def test_paths_that_are_not_get_403(
    guarded: ProxyProcess, target: Upstream, path: str, body: bytes | None
) -> None:
    response = guarded.ask(message(f"POST {path}", BEARER, body=body))
    assert_own_error(response, 403, "PathNotAllowed")
    assert target.requests == []


@pytest.mark.parametrize(
    "path",
    [
        *(f"/allowed{path}" for path in AMBIGUOUS if not set(path) & set("\0\x7f ")),
        *(
            "//allowed",
            "//allowed/x",
            "///allowed",
            "http://proxy.test/allowed",
            "HTTP://x/allowed",
        ),
        *("http://proxy.test/allowed/../secret", "https://allowed/secret", "allowed", "x:/allowed"),
    ],
)
def test_ambiguous_paths_get_400(guarded: ProxyProcess, target: Upstream, path: str) -> None:
    assert_own_error(guarded.get(path, BEARER), 400, "BadRequest")
    assert target.requests == []


RULES = PathRules(["/allowed", "/open/a*", "/deep/**/x"])


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS)
def test_nothing_reaches_the_target_that_could_be_read_as_another_path(
    guarded: ProxyProcess, target: Upstream, path: str
) -> None:
    target.reset()
    try:
        response = guarded.ask(
            b"GET "
            + to_bytes(path)
            + b" HTTP/1.1\r\nHost: h\r\n"
            + BEARER.encode()
            + b"\r\nConnection: close\r\n\r\n"
        )
    except (WireError, UnicodeEncodeError):
        return  # not even a request line
    assert response.status in (200, 400, 403)
    assert len(target.requests) == (response.status == 200)
    for request in target.requests:
        sent = request.target.decode("latin-1").partition("?")[0]
        for reading in readings(sent):
            assert RULES.admit(reading) or RULES.admit(f"{reading}/"), (sent, reading)


def test_with_an_ingestion_url_the_rules_hold_for_what_comes_in(
    launch: Launch, target: Upstream
) -> None:
    proxy = launch(
        without=("TARGET_HOST",),
        INGESTION_URL=f"{target.url}/dcr/streams/x/api/v1/write?api-version=1",
        ALLOWED_PATHS="/api/v1/write",
        ALLOWED_METHODS="POST",
    )
    assert proxy.ask(message("POST /api/v1/write?x=1", body=b"b")).status == 200
    assert target.only().target == b"/dcr/streams/x/api/v1/write?api-version=1"
    assert_own_error(proxy.ask(message("POST /other")), 403, "PathNotAllowed")
    assert_own_error(proxy.ask(message("POST /api/v1/write/x")), 404, "NoRoute")
    assert_own_error(proxy.get("/api/v1/write"), 405, "MethodNotAllowed")
    assert_own_error(proxy.ask(message("POST /api/v1/./write")), 400, "BadRequest")


@pytest.fixture
def in_front(launch: Launch, target: Upstream) -> ProxyProcess:
    return launch(TARGET_HOST=f"{target.authority}/base", ALLOWED_PATHS="/allowed")


def test_the_rules_are_for_paths_as_clients_send_them(
    in_front: ProxyProcess, target: Upstream
) -> None:
    assert in_front.get("/allowed/x").status == 200
    assert target.only().target == b"/base/allowed/x"
    assert in_front.get("/base/allowed/x").status == 403

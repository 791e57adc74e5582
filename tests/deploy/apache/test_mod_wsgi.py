"""The proxy behind mod_wsgi: the core's promises, and where Apache has a hand in them.

`make apache-test` runs the tests of `authproxy serve` against Apache; these
are what `make test` runs of it.
"""

from __future__ import annotations

import json
import os
import signal
import string

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.deploy.apache.conftest import LaunchApache
from tests.support import actions
from tests.support.apache import ApacheProcess
from tests.support.collector import Collector
from tests.support.expect import assert_own_error
from tests.support.identity import identity_settings
from tests.support.logfmt import parse_line
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import Truncated, chunks, message, read_exactly

pytestmark = pytest.mark.real("apache2")

CHUNKED = actions.head(200, "Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def shared_apache(launch_apache_for_module: LaunchApache) -> ApacheProcess:
    return launch_apache_for_module()


@pytest.fixture
def apache(shared_apache: ApacheProcess, target: Upstream) -> ApacheProcess:
    assert shared_apache.running, shared_apache.log
    return shared_apache


# -- what goes up --------------------------------------------------------------------

#: Every byte that can stand in a request target but `#`, and but `%`: Apache refuses bad escapes.
TARGET_BYTES = [byte for byte in range(0x21, 0x100) if byte not in (*b"#%", 0x7F)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rest=st.lists(st.sampled_from([*TARGET_BYTES, "%2F", "%2e", "//"]), max_size=40))
def test_any_target_that_apache_takes_arrives_byte_for_byte(
    apache: ApacheProcess, target: Upstream, rest: list[int | str]
) -> None:
    raw = b"/r" + b"".join(
        bytes([part]) if isinstance(part, int) else part.encode() for part in rest
    )
    assume(b".." not in raw.lower().replace(b"%2e", b"."))
    target.reset()
    assert apache.ask(message(b"GET " + raw)).status == 200
    assert target.only().target == raw


_NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=12)
_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(_NAMES.map(lambda name: f"x-{name}"), _VALUES, max_size=8).filter(
        lambda fields: not fields.keys() & {"x-authproxy-token", "x-forwarded-for"}
    )
)
def test_any_fields_with_plain_names_pass_untouched(
    apache: ApacheProcess, target: Upstream, fields: dict[str, str]
) -> None:
    target.reset()
    assert apache.ask(message("GET /x", *map(": ".join, fields.items()))).status == 200
    arrived = {name.lower(): value for name, value in target.only().fields}
    added = {"host", "authorization", "x-forwarded-for"}
    assert {name: arrived[name] for name in arrived if name not in added} == fields


def test_bodies_with_and_without_a_length_arrive_whole(
    apache: ApacheProcess, target: Upstream
) -> None:
    body = bytes(range(256)) * 4096
    coded = chunks(body[:1], body[1:])
    with apache.connect() as client:
        assert client.ask(message("POST /1", body=body)).status == 200
        chunked = message("POST /2", "Transfer-Encoding: chunked", body=coded)
        assert client.ask(chunked).status == 200
    assert [request.body for request in target.wait_for_requests(2)] == [body, body]
    assert {request.one("Content-Length") for request in target.requests} == {str(len(body))}


@pytest.mark.parametrize(
    "raw",
    [
        message("POST /x", "Content-Length: 10", body=b"half"),
        message("POST /x", "Transfer-Encoding: chunked", body=chunks(b"half", end=False)),
    ],
    ids=["length", "chunked"],
)
def test_half_a_body_is_not_sent_on(apache: ApacheProcess, target: Upstream, raw: bytes) -> None:
    with apache.connect() as client:
        client.send(raw)
        client.finish_sending()
        assert client.receive().status == 500
        assert client.is_closed_by_peer()
    assert apache.get("/next").status == 200
    assert target.only().target == b"/next"


def test_credentials_of_the_client_reach_the_proxy_and_end_there(
    apache: ApacheProcess, target: Upstream, shared_entra: StandInEntra
) -> None:
    assert apache.get("/x", "Authorization: Bearer inbound").status == 200
    issued = {f"Bearer {token.value}" for token in shared_entra.issued}
    assert target.only().one("Authorization") in issued


def test_what_is_about_the_server_as_a_whole_is_answered_by_apache(
    apache: ApacheProcess, target: Upstream
) -> None:
    assert apache.ask(message("OPTIONS *")).status == 200
    assert apache.ask(message("TRACE /x")).status == 405
    assert target.requests == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /%zz", 400),
        ("GET /x#y", 400),
        ("GET /x?y#z", 400),
        ("GET /../x", 400),
        ("GET /a/%2e%2e/%2e%2e/x", 400),
        ("GET http://user:password@other.example/x", 400),
        ("GET /a%00b", 404),
        ("GET /" + "a" * 5000, 404),
        ("GET /x?" + "a" * 66_000, 414),
        ("CONNECT /x", 400),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_apache_refuses_does_not_reach_the_target(
    apache: ApacheProcess, target: Upstream, line: str, status: int
) -> None:
    assert apache.ask(message(line)).status == status
    assert apache.get("/x?" + "a" * 60_000).status == 200
    assert len(target.only().target) == 60_003


# -- what comes down -----------------------------------------------------------------


def test_the_first_byte_is_out_before_the_second_is_there(
    apache: ApacheProcess, target: Upstream
) -> None:
    gate = target.gate()
    target.respond(actions.raw(CHUNKED, chunks(b"a", end=False), gate, chunks(b"b")))
    with apache.connect() as client:
        client.send(message("GET /x"))
        body = client.body_of(client.receive_head())
        assert read_exactly(body, 1) == b"a"
        gate.open()
        assert b"".join(body) == b"b"


def test_apache_neither_packs_an_answer_nor_takes_a_part_of_it(
    apache: ApacheProcess, target: Upstream
) -> None:
    text = b"compressible " * 1000
    target.respond(actions.answer(200, "Content-Type: text/plain", body=text))
    response = apache.get("/x", "Accept-Encoding: gzip, br", "Range: bytes=0-1")
    assert (response.status, response.body) == (200, text)
    assert response.one("Content-Type") == "text/plain"
    assert response.all("Content-Encoding") == []
    assert target.only().one("Range") == "bytes=0-1"


def test_an_upgrade_is_refused_with_the_reason(apache: ApacheProcess, target: Upstream) -> None:
    response = apache.ask(message("GET /x", "Connection: Upgrade", "Upgrade: websocket"))
    assert response.status == 501
    error = json.loads(response.body)
    assert error["code"] == "UpgradeNotSupported"
    assert "authproxy serve" in error["message"]
    assert target.requests == []


def test_an_answer_to_an_old_client_is_not_framed(apache: ApacheProcess, target: Upstream) -> None:
    target.respond(CHUNKED + chunks(b"whole"))
    response = apache.ask(message("GET /x HTTP/1.0"))
    assert (response.framing, response.body) == ("eof", b"whole")


@pytest.mark.parametrize("head", [CHUNKED, actions.head(200, "Content-Length: 100")], ids=str)
def test_an_answer_that_the_target_cut_looks_cut(
    apache: ApacheProcess, target: Upstream, head: bytes
) -> None:
    begun = chunks(b"half", end=False) if head == CHUNKED else b"half"
    target.respond(actions.then_cut(head, begun))
    with apache.connect() as client:
        client.send(message("GET /x"))
        with pytest.raises(Truncated) as cut:
            client.receive()
    assert cut.value.seen == b"half"


def test_an_answer_whose_process_is_killed_looks_cut(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache()
    target.on("/stalled", actions.stall(target.gate(), CHUNKED, chunks(b"half", end=False)))
    with apache.connect() as client:
        client.send(message("GET /stalled"))
        body = client.body_of(client.receive_head())
        assert read_exactly(body, 4) == b"half"
        os.kill(apache.pid, signal.SIGKILL)
        with pytest.raises(Truncated):
            next(body)
    assert apache.get("/next").status == 200  # By the process that took its place.


def test_a_refused_write_is_to_be_sent_again_later(apache: ApacheProcess, target: Upstream) -> None:
    target.respond(actions.answer("403 Forbidden", body=b"role"))
    version = "X-Prometheus-Remote-Write-Version: 0.1.0"
    response = apache.ask(message("POST /api/v1/write", version, body=b"samples"))
    assert_own_error(response, 503, "TargetRefusedIdentity")
    assert int(response.one("Retry-After") or 0) > 0


def test_clients_that_go_away_leave_apache_well(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    apache = launch_apache()
    target.on("/answered", actions.raw(actions.answer(200, body=b"l" * 1_000_000)))
    for raw in (message("GET /answered"), message("POST /answered", body=b"b" * 100_000)) * 5:
        with apache.connect() as client:
            client.send(raw)
    assert apache.get("/next").status == 200
    apache.stop()  # Which checks that there was no traceback.


# -- its life ----------------------------------------------------------------------------


def test_the_very_first_request_is_served_with_a_token(
    launch_apache: LaunchApache, target: Upstream, entra: StandInEntra
) -> None:
    apache = launch_apache(ready=False, settings=identity_settings(entra))
    assert apache.get("/x").status == 200
    assert target.only().one("Authorization") == f"Bearer {entra.issued[0].value}"


def test_no_request_waits_long_for_an_identity_endpoint_that_hangs(
    launch_apache: LaunchApache, target: Upstream, entra: StandInEntra
) -> None:
    entra.hang()
    apache = launch_apache(ready=False, settings=identity_settings(entra))
    assert_own_error(apache.get("/x"), 503, "AuthenticationTokenNotFound")
    assert apache.get("/health").status == 200
    assert target.requests == []


def test_the_last_telemetry_is_sent_when_apache_stops(
    launch_apache: LaunchApache, target: Upstream
) -> None:
    with Collector() as collector:
        apache = launch_apache(
            settings={
                "OTEL_GRPC_ENDPOINT": collector.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            }
        )
        assert apache.get("/last").status == 200
        apache.stop()
        (span,) = collector.spans_named("ProxyRequest")
        assert span.attributes["url.path"] == "/last"
        assert collector.points("aad_auth_proxy_requests_total", path="/last")


# -- its log ------------------------------------------------------------------------------


def test_each_event_is_a_line_of_the_error_log(apache: ApacheProcess, target: Upstream) -> None:
    target.respond(actions.answer(500, body=b'{"why": "\\"quoted\\""}'))
    assert apache.get("/logged").status == 500
    event = parse_line(apache.wait_for_line("Error response body.*/logged"))
    assert event["msg"].endswith('{"why": "\\"quoted\\""}')
    assert event["StatusCode"] == "500"


def test_a_line_that_is_too_long_for_apache_is_cut_and_the_next_one_is_not(
    apache: ApacheProcess, target: Upstream
) -> None:
    target.respond(actions.answer(400, body=b"\xff" * 6000))
    mark = apache.mark()
    assert apache.get("/binary").status == 400
    line = apache.wait_for_line("Error response body", after=mark)
    with pytest.raises(ValueError, match="not logfmt"):
        parse_line(line)
    target.respond(actions.answer(200))
    assert apache.get("/after-binary").status == 200
    line = apache.wait_for_line("Successfully sent.*/after-binary", after=mark)
    assert parse_line(line)["StatusCode"] == "200"


def test_settings_without_effect_are_told(apache: ApacheProcess) -> None:
    event = apache.wait_for_event("have no effect here")
    assert event["Settings"] == "LISTENING_HOST, SHUTDOWN_GRACE_SECONDS"

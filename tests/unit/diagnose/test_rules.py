"""The rules of `authproxy check`: which request does no harm, and what a response means."""

from __future__ import annotations

import ssl
import threading
from datetime import datetime, timedelta, timezone

import cramjam
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from authproxy.diagnose.handshakes import explain_handshake
from authproxy.diagnose.identity import Token, clock, token_offset
from authproxy.diagnose.kinds import EMPTY_WRITE, request_for
from authproxy.diagnose.network import Way
from authproxy.diagnose.peer_certificates import PeerCertificate
from authproxy.diagnose.report import Style, lines_of
from authproxy.diagnose.responses import Asked, Response, judge
from authproxy.diagnose.steps import Finding, Outcome, Step, TookTooLong, within
from authproxy.errors import Advice
from authproxy.http1.urls import TargetURL
from authproxy.identity.lifetimes import FetchedToken
from authproxy.settings.azure_services import Kind

INGESTION = "workspace-abcd.westeurope-1.metrics.ingest.monitor.azure.com"
QUERY = "workspace-abcd.westeurope.prometheus.monitor.azure.com"
RULE = "/dataCollectionRules/dcr-0123/streams/Microsoft-PrometheusMetrics/api/v1/write"
TO_WRITE, TO_QUERY = (
    "https://monitor.azure.com/.default",
    "https://prometheus.monitor.azure.com/.default",
)
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


# -- Which request -------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "scope", "path", "kind", "request_line"),
    [
        (QUERY, TO_QUERY, None, "query", "GET /api/v1/query?query=vector(1)"),
        ("thanos.example.com", TO_QUERY, None, "query", "GET /api/v1/query?query=vector(1)"),
        (f"{QUERY}/x", TO_QUERY, None, "query", "GET /x/api/v1/query?query=vector(1)"),
        (QUERY, TO_QUERY, "/api/v1/labels", "query", "GET /api/v1/labels"),
        (QUERY, TO_QUERY, "/favicon.ico", "query", "HEAD /favicon.ico"),
        (INGESTION + RULE, TO_WRITE, None, "ingestion", f"POST {RULE}"),
        (f"{INGESTION}{RULE}?v=1", TO_WRITE, None, "ingestion", f"POST {RULE}?v=1"),
        (INGESTION + RULE[:-13], TO_WRITE, None, "ingestion", f"POST {RULE}"),
        (INGESTION, TO_WRITE, RULE, "ingestion", f"POST {RULE}"),
        (INGESTION, TO_WRITE, None, "ingestion", "HEAD /"),
        (f"{INGESTION}/", TO_WRITE, None, "ingestion", "HEAD /"),
        (
            "mimir.example.com/api/v1/write",
            "api://m/.default",
            None,
            "ingestion",
            "POST /api/v1/write",
        ),
        ("api.example.com", "api://m/.default", None, "other", "HEAD /"),
        ("api.example.com", "api://m/.default", "/a/b?c", "other", "HEAD /a/b?c"),
    ],
)
def test_the_request_fits_the_target(
    target: str, scope: str, path: str | None, kind: str, request_line: str
) -> None:
    request = request_for(TargetURL.parse(target), scope, path=path)
    assert f"{request.method} {request.target}" == request_line
    assert request.kind.value == kind
    assert (request.body is None) == (request.method != "POST")


def test_an_ingestion_url_is_written_to_wherever_it_leads() -> None:
    url = TargetURL.parse("https://receiver.example.com/push?x=1")
    request = request_for(url, "api://m/.default", only_remote_write=True)
    assert (request.method, request.target, request.kind) == ("POST", "/push?x=1", Kind.INGESTION)


def test_an_empty_write_is_snappy_of_nothing() -> None:
    assert bytes(cramjam.snappy.compress_raw(b"")) == EMPTY_WRITE


# -- What the response means ---------------------------------------------------


def asked(
    target: str = QUERY, *, scope: str = TO_QUERY, path: str | None = None, **claims: object
) -> Asked:
    url = TargetURL.parse(target)
    content = {"oid": "0000-oid", "tid": "0000-tid", "aud": scope.removesuffix("/.default")}
    token = Token(FetchedToken("t", 0), {**content, **claims})
    return Asked(url, scope, request_for(url, scope, path=path), token)


TO_A_QUERY = asked()
TO_A_WRITE = asked(INGESTION + RULE, scope=TO_WRITE)
TO_ANOTHER = asked("api.example.com", scope="api://m/.default")
TO_EXAMPLE = Way(TargetURL.parse("a.example.com"))
SUCCESS = '{"status":"success","data":{"resultType":"vector","result":['


@pytest.mark.parametrize(
    ("request_sent", "seen", "outcome", "says"),
    [
        (TO_A_QUERY, Response(200, "OK", SUCCESS), "ok", ""),
        (TO_A_QUERY, Response(200, "OK", '{"data": {}, "status": "success"}'), "ok", ""),
        (
            TO_A_QUERY,
            Response(200, "OK", "<html>Sign in"),
            "failed",
            "no response of Prometheus's API",
        ),
        (TO_A_QUERY, Response(422, "", '{"status":"error"}'), "warning", "not the query"),
        (TO_A_QUERY, Response(404, "Not Found"), "failed", "no Prometheus API"),
        (TO_A_QUERY, Response(302, "", location="https://b"), "failed", "leads to https://b"),
        (TO_A_QUERY, Response(401, "Unauthorized"), "failed", "does not take the token"),
        (TO_A_QUERY, Response(403, "Forbidden"), "failed", "refuses the identity"),
        (TO_A_QUERY, Response(429, ""), "warning", "throttling"),
        (TO_A_QUERY, Response(503, ""), "failed", "in trouble itself"),
        (TO_A_WRITE, Response(200, "OK"), "ok", ""),
        (TO_A_WRITE, Response(204, ""), "ok", ""),
        (TO_A_WRITE, Response(400, "", "The payload is empty"), "ok", "takes the identity"),
        (TO_A_WRITE, Response(400, "", "no samples for the stream"), "ok", "takes the identity"),
        (TO_A_WRITE, Response(400, "", "InvalidStream: not in the rule"), "failed", "with the URL"),
        (TO_A_WRITE, Response(404, ""), "failed", "nothing to write to"),
        (TO_A_WRITE, Response(415, ""), "warning", "does not like POST"),
        (asked(INGESTION, scope=TO_WRITE), Response(404, ""), "warning", "nothing of the role"),
        (TO_ANOTHER, Response(200, "OK"), "ok", ""),
        (TO_ANOTHER, Response(404, ""), "ok", "it is reached"),
        (TO_ANOTHER, Response(405, ""), "ok", "it is reached"),
        (TO_ANOTHER, Response(301, "", location="/a"), "warning", "leads to /a"),
        (TO_ANOTHER, Response(500, ""), "failed", "in trouble itself"),
        (asked("api.example.com", path="/a"), Response(404, ""), "failed", "finds nothing"),
    ],
)
def test_a_response_means(request_sent: Asked, seen: Response, outcome: str, says: str) -> None:
    finding = judge(seen, request_sent)
    assert finding.outcome.value == outcome
    assert says in finding.summary
    assert finding.facts["status"] == seen.status
    assert bool(finding.advice) or outcome == "ok" or seen.status in (415, 422)


def advised(finding: Finding) -> str:
    return "\n".join(f"{one.cause}|{one.hint}|{one.commands}" for one in finding.advice)


def test_a_missing_role_to_read_is_assigned_on_the_workspace() -> None:
    first, second = judge(Response(403, "Forbidden"), TO_A_QUERY).advice
    assert '"Monitoring Data Reader" on the Azure Monitor workspace' in first.cause
    find, assign = first.commands
    assert f"[?metrics.prometheusQueryEndpoint=='https://{QUERY}'].id" in find
    assert "--assignee-object-id 0000-oid --assignee-principal-type ServicePrincipal" in assign
    assert '--role "Monitoring Data Reader" --scope "$WORKSPACE_ID"' in assign
    assert "up to 30 minutes" in second.cause


def test_a_person_gets_a_role_as_a_person() -> None:
    person = asked(INGESTION + RULE, scope=TO_WRITE, scp="user_impersonation")
    assert "--assignee-principal-type User " in advised(judge(Response(403, ""), person))


def test_an_id_that_could_end_a_command_is_left_for_the_operator_to_fill_in() -> None:
    wicked = asked(oid='"; rm -rf / #')
    advice = advised(judge(Response(403, ""), wicked))
    assert "rm -rf" not in advice
    assert "--assignee-object-id OBJECT_ID " in advice


def test_a_role_is_not_the_first_cause_where_the_audience_is_another() -> None:
    mixed_up = asked(INGESTION + RULE, scope=TO_QUERY)
    first, *_ = judge(Response(403, ""), mixed_up).advice
    assert first.hint == f"Leave AUDIENCE out, or set AUDIENCE={TO_WRITE}"


def test_a_trailing_slash_is_no_other_audience() -> None:
    advice = advised(judge(Response(401, ""), asked(aud="https://prometheus.monitor.azure.com/")))
    assert "AUDIENCE" not in advice
    assert "another tenant" in advice


def test_a_challenge_names_the_audience_and_the_tenant() -> None:
    challenge = (
        'Bearer authorization_uri="https://login.microsoftonline.com/1111-home/oauth2", '
        'resource_id="https://store.example.com"'
    )
    advice = advised(judge(Response(401, "", challenge=challenge), TO_ANOTHER))
    assert "AUDIENCE=https://store.example.com" in advice
    assert "AAD_TENANT_ID=1111-home" in advice


def test_private_endpoints_come_before_roles_where_the_target_speaks_of_them() -> None:
    seen = Response(403, "", "Access is denied: public network access is disabled")
    first, *_ = judge(seen, TO_A_QUERY).advice
    assert "private endpoints" in first.cause


# -- TLS -----------------------------------------------------------------------


def der_of(*names: str, days: float = 90, begin: float = -30) -> bytes:
    issued = trustme.CA().issue_cert(
        *names, not_before=NOW + timedelta(days=begin), not_after=NOW + timedelta(days=days)
    )
    pem = issued.cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def presented(*names: str, days: float = 90, begin: float = -30) -> PeerCertificate:
    certificate = PeerCertificate.from_der(der_of(*names, days=days, begin=begin))
    assert certificate is not None
    return certificate


DER = der_of("a.example.com", "127.0.0.1")


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4))
def test_any_certificate_can_be_looked_at(changes: list[tuple[int, int]]) -> None:
    der = bytearray(DER)
    for at, byte in changes:
        der[at % len(der)] = byte
    certificate = PeerCertificate.from_der(bytes(der))
    assert certificate is None or repr(certificate.facts).isprintable()


def test_a_certificate_with_a_name_of_a_wrong_type_cannot_be_read() -> None:
    # The issuer's organization as a BIT STRING, of which cryptography makes a TypeError.
    name = DER.index(b"\x06\x03\x55\x04\x0a") + 5
    assert PeerCertificate.from_der(DER[:name] + b"\x03" + DER[name + 1 :]) is None


def unverified(code: int, message: str = "words") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "certificate", "says", "first_cause"),
    [
        (unverified(10), presented("a", days=-1), "expired on 2026-01-01", "was not renewed"),
        (unverified(10), presented("a"), "not the target's own", "old intermediate"),
        (unverified(10), None, "has expired", "was not renewed"),
        (unverified(9), presented("a", begin=1), "not valid before 2026-01-03", "clock is behind"),
        (unverified(9), None, "certificate is not valid yet", "clock is behind"),
        (unverified(9), presented("a"), "though the target's own is", "clock is behind"),
        (unverified(62), presented("b.example.com"), "is for b.example.com", "an alias"),
        (unverified(64), presented("*.example.com"), "is for *.example.com", "an alias"),
        (unverified(18), presented("a"), "issued by trustme", "private authority"),
        (unverified(20), presented("a"), "issued by trustme", "private authority"),
        (unverified(26, "unsuitable purpose"), None, "unsuitable purpose", "follow the rules"),
        (TimeoutError(), None, "no response to the handshake", "drops what follows"),
        (tls_error("WRONG_VERSION_NUMBER"), None, "not speak TLS", "plain HTTP"),
        (
            tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            None,
            "client certificate",
            "by certificate",
        ),
        (tls_error("TLSV1_UNRECOGNIZED_NAME"), None, "refused", "does not serve the name"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), None, "refused", "does not serve the name"),
        (tls_error("DH_KEY_TOO_SMALL"), None, "failed (dh key too small)", "too weak"),
        (tls_error("UNEXPECTED_EOF_WHILE_READING"), None, "cut in the handshake", "firewall"),
        (ConnectionResetError(104, "Connection reset by peer"), None, "reset", "firewall"),
        (ssl.SSLEOFError(), None, "cut in the handshake", "firewall"),
    ],
)
def test_a_failed_handshake_means(
    error: OSError, certificate: PeerCertificate | None, says: str, first_cause: str
) -> None:
    finding = explain_handshake(error, TO_EXAMPLE, certificate, NOW)
    assert says in finding.summary
    assert first_cause in finding.advice[0].cause
    assert finding.advice[0].hint
    causes = " ".join(advice.cause for advice in finding.advice)
    assert not ("not renewed" in causes and "not valid" in finding.summary)


def test_a_name_of_azures_that_another_signs_for_is_intercepted_before_it_is_private() -> None:
    way = Way(TargetURL.parse(QUERY))
    advice = explain_handshake(unverified(20), way, presented(QUERY), NOW).advice
    assert "A proxy on the way opens TLS" in advice[0].cause
    assert "private authority" in advice[1].cause


def test_a_certificate_of_a_short_life_is_no_reason_to_warn() -> None:
    assert presented("a", days=9).ends_soon(NOW)
    assert not presented("a", days=20).ends_soon(NOW)
    assert not presented("a", days=90).ends_soon(NOW)
    hours = PeerCertificate("a", "b", (), NOW - timedelta(hours=1), NOW + timedelta(hours=23))
    assert not hours.ends_soon(NOW)


# -- Clocks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "outcome", "says"),
    [
        ({"identity": 1.2, "target": -0.5}, "ok", "the identity endpoint and the target"),
        ({"identity": 1.2, "target": 400.0}, "warning", "400 s behind the target"),
        ({"identity": -90.0, "target": None}, "warning", "90 s ahead of the identity endpoint"),
        ({"identity": None}, "skipped", "nothing to compare"),
    ],
)
def test_the_worst_of_the_clocks_counts(
    offsets: dict[str, float | None], outcome: str, says: str
) -> None:
    finding = clock(offsets)
    assert finding.outcome.value == outcome
    assert says in finding.summary


def test_a_token_shows_a_wrong_clock_only_when_it_is_from_the_future() -> None:
    def of(**claims: object) -> float | None:
        return token_offset(Token(FetchedToken("t", 0), claims), 1000)

    assert of(iat=1400, nbf=1300) == 400
    assert of(iat=100, nbf=100) is None
    assert of(iat="soon") is None
    assert of() is None


# -- How it is printed ---------------------------------------------------------

COMMAND = "a long command that is to be pasted in one piece"
STEP = Step(
    "request",
    Finding(
        "one two three four five six seven eight nine ten eleven twelve",
        Outcome.FAILED,
        notes=("a note",),
        advice=(
            Advice("A cause", "A hint", ("a long command that is to be pasted in one piece",)),
        ),
    ),
    milliseconds=12.3,
)


def test_a_step_is_printed_in_whole_lines_where_nobody_wraps_them() -> None:
    lead = " " * 25
    assert list(lines_of(STEP, Style())) == [
        "✗ request        12 ms  one two three four five six seven eight nine ten eleven twelve",
        f"{lead[:-1]}a note",
        "    1. A cause.",
        "       A hint.",
        f"         $ {COMMAND}",
    ]


def test_lines_are_wrapped_to_the_terminal_but_commands_are_not() -> None:
    lines = list(lines_of(STEP, Style(width=50)))
    *others, command = lines
    assert all(len(line) <= 50 for line in others)
    assert command.endswith(f"$ {COMMAND}")


def test_marks_become_words_where_they_cannot_be_shown() -> None:
    first, *_ = lines_of(STEP, Style(marks=False))
    assert first.startswith("failed  request ")
    first.encode("ascii")


# -- Limits --------------------------------------------------------------------


def test_what_takes_too_long_is_given_up() -> None:
    never = threading.Event()
    with pytest.raises(TookTooLong, match=r"after 0\.05 s"):
        within(0.05, never.wait)
    never.set()


def test_an_error_of_a_probe_is_its_callers() -> None:
    def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        within(5, fail)
    assert within(5, lambda: 3) == 3


@given(st.integers(min_value=100, max_value=599), st.text(), st.text(), st.text())
def test_any_response_can_be_judged(status: int, text: str, challenge: str, location: str) -> None:
    for request_sent in (TO_A_QUERY, TO_A_WRITE, TO_ANOTHER):
        judge(Response(status, "", text, challenge, location), request_sent)

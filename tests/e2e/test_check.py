"""`authproxy check` as a process, against faults that are really there."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from click.testing import CliRunner

from authproxy import __version__
from authproxy.cli.commands import cli
from authproxy.demo.stand_ins.directory import METRICS_QUERY
from authproxy.demo.stand_ins.remote_write import decode
from tests.support.actions import answer
from tests.support.authority import Authority
from tests.support.client_certificates import client_authority
from tests.support.diagnosing import BlackHole, Check, on_a_terminal
from tests.support.forward_proxy import ForwardProxy
from tests.support.identity import SECRET, application_settings, identity_settings
from tests.support.planted import left
from tests.support.quoting import QUOTED, basic
from tests.support.stand_ins.applications import Application, ServiceAccountIssuer
from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.machine import ManagedIdentity
from tests.support.stand_ins.store import StandInStore
from tests.support.tls_client import Certificates
from tests.support.upstream import Exchange, Handler, Upstream

QUERY_HOST = "workspace-abcd.westeurope.prometheus.monitor.azure.com"
RULE = "/dataCollectionRules/dcr-0123456789abcdef/streams/Microsoft-PrometheusMetrics/api/v1/write"
WAY = ["dns", "tcp", "tls", "token", "request", "clock"]

Run = Callable[..., Check]

#: Seven processes start at once for the first test that wants one of them.


@pytest.fixture
def run(tmp_path: Path, base_settings: dict[str, str]) -> Run:
    """Start a check with the base settings changed: of the shared target and identity."""

    def start(*arguments: str, as_json: bool = True, **changes: str) -> Check:
        return Check(tmp_path, base_settings, *arguments, as_json=as_json, **changes)

    return start


@pytest.fixture
def store(shared_entra: StandInEntra) -> Iterator[StandInStore]:
    with StandInStore(shared_entra.signing_key) as own:
        yield own


def settings_of(store: StandInStore, folder: Path) -> dict[str, str]:
    bundle = store.authority.write_bundle(folder / "store-ca.pem")
    return {"TARGET_HOST": store.url, "TARGET_CA_FILE": str(bundle)}


# -- All is well ---------------------------------------------------------------


def test_a_query_endpoint_is_asked_for_a_constant(
    run: Run, store: StandInStore, shared_entra: StandInEntra, tmp_path: Path
) -> None:
    check = run(as_json=False, AUDIENCE=METRICS_QUERY, **settings_of(store, tmp_path))
    assert (check.status, check.errors) == (0, "")
    [asked] = store.requests
    assert (asked.method, asked.target) == ("GET", "/api/v1/query?query=vector(1)")
    for name in WAY:
        assert re.search(rf"^✓ {name} +([0-9]+ ms)? ", check.output, re.M), name
    assert check.output.endswith("\nAll is well.\n")
    assert "\x1b" not in check.output  # plain, for it is no terminal
    issued = shared_entra.issued[-1]
    for claim in ("appid", "oid", "tid", "aud"):
        assert f"{claim}: {issued.claims[claim]}\n" in check.output
    for part in issued.value.split("."):
        assert part not in check.output


def test_an_ingestion_endpoint_gets_an_empty_write(
    run: Run, store: StandInStore, tmp_path: Path
) -> None:
    place = settings_of(store, tmp_path)
    url = f"{place.pop('TARGET_HOST')}{RULE}?api-version=2023-04-24"
    check = run(**place, TARGET_HOST="", INGESTION_URL=url)
    assert check.status == 0
    [sent] = store.requests
    assert (sent.method, sent.target) == ("POST", f"{RULE}?api-version=2023-04-24")
    assert decode(sent.body) == []
    request = check.step("request")["facts"]
    assert request == {"kind": "ingestion", "method": "POST", "url": url, "status": 204}


def test_the_report_for_scripts_has_the_documented_keys(run: Run, target: Upstream) -> None:
    check = run()
    report = check.report
    steps = report.pop("steps")
    assert report == {
        "version": __version__,
        "ok": True,
        "exit_status": 0,
        "target": target.url,
        "identity_type": "systemassigned",
        "scope": "https://monitor.azure.com/.default",
        "routes": [],
    }
    assert [step["name"] for step in steps] == ["settings", *WAY]
    for step in steps:
        assert list(step) == [
            "name",
            "route",
            "outcome",
            "milliseconds",
            "summary",
            "facts",
            "notes",
            "advice",
        ]
        assert step["outcome"] == "ok"
    facts = {step["name"]: list(step["facts"]) for step in steps}
    assert facts == {
        "settings": [],
        "dns": ["host", "addresses"],
        "tcp": ["address", "port"],
        "tls": ["protocol", "subject", "issuer", "names", "not_before", "not_after"],
        "token": ["scope", "endpoint", "claims", "expires_on"],
        "request": ["kind", "method", "url", "status"],
        "clock": ["seconds_behind", "compared_with"],
    }
    assert set(check.step("clock")["facts"]["compared_with"]) == {"identity"}
    assert target.only().method == b"HEAD"


def test_what_goes_to_the_target_is_what_the_proxy_sends(run: Run, target: Upstream) -> None:
    check = run(
        "--path", "/api/v1/labels?x=%2F", OVERRIDE_REQUEST_HEADERS='{"x-scope": "s3cret-tenant"}'
    )
    assert check.outcomes["request"] == "failed"  # for "ok" is no response of Prometheus's API
    sent = target.only()
    assert (sent.method, sent.target) == (b"GET", b"/api/v1/labels?x=%2F")
    assert sent.one("X-Scope") == "s3cret-tenant"
    assert sent.one("User-Agent") == f"authproxy/{__version__} (check)"
    assert sent.names == {"host", "user-agent", "x-scope", "authorization"}


def test_a_demand_for_further_claims_is_met_as_the_proxy_meets_it(
    run: Run, store: StandInStore, shared_entra: StandInEntra, target: Upstream
) -> None:
    claims = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7InZhbHVlIjoiMSJ9fX0="
    challenge = f'Bearer error="insufficient_claims", claims="{claims}"'
    target.script(handler(answer(401, f"WWW-Authenticate: {challenge}")), handler(answer()))
    check = run()
    assert check.status == 0
    first, second = (request.one("Authorization") for request in target.wait_for_requests(2))
    assert first != second


def handler(raw: bytes) -> Handler:
    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(raw)

    return handle


# -- The way to the target -----------------------------------------------------


class Faults:
    """Checks of targets that cannot be reached, all at once: each waits for something else."""

    def __init__(
        self, stack: ExitStack, home: Path, settings: dict[str, str], authority: Authority
    ) -> None:
        def upstream(tls: ssl.SSLContext | None) -> Upstream:
            server = Upstream(tls)
            stack.callback(server.close)
            self.upstreams.append(server)
            return server

        def start(**changes: str) -> Check:
            return Check(home, {**settings, **changes})

        self.upstreams: list[Upstream] = []
        hole = stack.enter_context(BlackHole())
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # nobody listens there, nor can while it is ours
        self.closed_port = closed.getsockname()[1]
        expired = upstream(authority.context(expired=True))
        other_name = upstream(authority.context("other.example.com"))
        plain = upstream(None)
        plain.before_reading = lambda connection: connection.send(answer("400 Bad Request"))
        self.checks = {
            "expired": start(TARGET_HOST=expired.authority),
            "other name": start(TARGET_HOST=other_name.authority),
            "unknown": start(TARGET_CA_FILE=""),
            "no TLS": start(TARGET_HOST=plain.authority),
            "closed": start(TARGET_HOST=f"127.0.0.1:{self.closed_port}"),
            "dropped": start(
                TARGET_HOST=f"127.0.0.1:{hole.port}", TARGET_CONNECT_TIMEOUT_SECONDS="0.5"
            ),
            "unheard of": start(TARGET_HOST="workspace.invalid"),
        }
        for check in self.checks.values():
            check.status  # noqa: B018 - until it has ended


@pytest.fixture(scope="module")
def faults(
    tmp_path_factory: pytest.TempPathFactory,
    base_settings: dict[str, str],
    authority: Authority,
) -> Iterator[Faults]:
    with ExitStack() as stack:
        yield Faults(stack, tmp_path_factory.mktemp("check"), base_settings, authority)


@pytest.mark.parametrize(
    ("fault", "failed", "says", "hint"),
    [
        ("expired", "tls", r"the certificate has expired on 20\d\d-.* UTC, 1 day ago", "renew it"),
        (
            "other name",
            "tls",
            r"the certificate is for other\.example\.com, not for localhost",
            "Set its host to other.example.com",
        ),
        ("unknown", "tls", "issued by trustme .*, which is not trusted", "Set TARGET_CA_FILE"),
        ("no TLS", "tls", "does not speak TLS", "Correct the port in TARGET_HOST"),
        ("closed", "tcp", "127.0.0.1: connection refused", "Correct the port in TARGET_HOST"),
        ("dropped", "tcp", "127.0.0.1: no response in time", "egress NetworkPolicy"),
        ("unheard of", "dns", "workspace.invalid", "Correct TARGET_HOST"),
    ],
)
def test_where_the_way_ends_is_reported_with_a_hint(
    faults: Faults, fault: str, failed: str, says: str, hint: str
) -> None:
    check = faults.checks[fault]
    assert (check.status, check.errors) == (3, "")
    outcomes = check.outcomes
    assert outcomes.pop("settings") == outcomes.pop("token") == outcomes.pop("clock") == "ok"
    before, after = WAY[: WAY.index(failed)], WAY[WAY.index(failed) + 1 :]
    assert outcomes == {
        **dict.fromkeys(before, "ok"),
        failed: "failed",
        **dict.fromkeys([name for name in after if name in outcomes], "skipped"),
    }
    assert re.search(says, check.step(failed)["summary"]), check.step(failed)
    assert hint in check.advice(failed)


def test_nothing_is_sent_to_whom_the_certificate_does_not_prove(
    faults: Faults, target: Upstream
) -> None:
    assert not any(server.requests for server in (*faults.upstreams, target))


def test_who_opens_tls_on_the_way_is_named(
    run: Run, authority: Authority, shared_entra: StandInEntra
) -> None:
    upstream = Upstream(authority.context(QUERY_HOST))
    with ForwardProxy() as proxy:
        check = run(
            TARGET_HOST=f"{QUERY_HOST}:{upstream.port}",
            TARGET_CA_FILE="",
            AUDIENCE="",
            HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}",
        )
        assert check.status == 3
    upstream.close()
    first, *_ = check.step("tls")["advice"]
    assert "A proxy on the way opens TLS and signs as trustme" in first["cause"]
    assert "TARGET_CA_FILE" in first["hint"]
    assert check.outcomes["proxy"] == "ok"


def test_a_proxy_behind_tls_is_gone_through(run: Run, authority: Authority) -> None:
    with ForwardProxy(tls=authority.context()) as proxy:
        check = run(HTTPS_PROXY=f"https://localhost:{proxy.port}")
        assert check.status == 0
    assert {check.outcomes[name] for name in ("proxy", "tls", "request")} == {"ok"}


def test_a_proxy_that_refuses_is_distinguished_from_a_target_that_does(run: Run) -> None:
    with ForwardProxy(b"HTTP/1.1 407 Who are you\r\n\r\n") as proxy:
        check = run(HTTPS_PROXY=f"http://someone:hidden-word@127.0.0.1:{proxy.port}")
        assert check.status == 3
        assert b"Proxy-Authorization: Basic " in proxy.heads[0]
    assert check.step("proxy")["summary"].endswith("responded 407 Who are you")
    assert "Give them in HTTPS_PROXY" in check.advice("proxy")
    assert check.outcomes["tls"] == "skipped"
    assert "hidden-word" not in check.output


# -- The identity --------------------------------------------------------------


def test_a_refusal_of_entras_is_explained_with_cause_hint_and_message(
    run: Run, entra: StandInEntra, tmp_path: Path
) -> None:
    settings = application_settings(entra, tmp_path)
    wrong = "quite another secret"
    check = run(**{**settings, "AAD_CLIENT_SECRET": wrong})
    assert check.status == 1
    token = check.step("token")
    assert token["facts"]["code"] == "AADSTS7000215"
    assert "AADSTS7000215: Invalid client secret" in token["notes"][0]
    [advice] = token["advice"]
    assert advice["cause"] == "The client secret is wrong (AADSTS7000215)"
    assert advice["commands"] == [
        f"az ad app credential reset --id {settings['AAD_CLIENT_ID']} --append"
    ]
    assert check.outcomes["request"] == "skipped"
    assert wrong not in check.output
    assert SECRET not in check.output


@pytest.mark.parametrize(
    ("host", "login"),
    [
        ("a-vault.vault.usgovcloudapi.net", "login.microsoftonline.us"),
        ("an-account.blob.core.chinacloudapi.cn", "login.chinacloudapi.cn"),
    ],
)
def test_a_target_of_another_cloud_has_its_entra_asked_and_a_proxy_that_refuses_is_named(
    run: Run, host: str, login: str
) -> None:
    with ForwardProxy(b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        check = run(
            TARGET_HOST=host,
            AUDIENCE="https://a.example.com",
            IDENTITY_TYPE="aadapplication",
            AAD_CLIENT_ID="11111111-1111-1111-1111-111111111111",
            AAD_TENANT_ID="22222222-2222-2222-2222-222222222222",
            AAD_CLIENT_SECRET=SECRET,
            HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}",
        )
        assert check.status == 3  # the target is not reached either
        asked = {head.split(b" ")[1].decode() for head in proxy.heads}
    assert f"{login}:443" in asked
    assert "login.microsoftonline.com:443" not in asked
    assert check.step("token")["facts"]["code"] == "ForwardProxyFailed"
    assert "NO_PROXY" in check.advice("token")


@pytest.mark.parametrize(
    ("variable", "named", "command"),
    [
        ("AAD_CLIENT_ID", "1-1", "[?clientId=='1-1'].id"),
        ("AAD_OBJECT_ID", "1-1", "[?principalId=='1-1'].id"),
        ("AAD_RESOURCE_ID", ManagedIdentity().resource_id, "IDENTITY=/subscriptions/"),
    ],
)
def test_an_identity_that_the_machine_does_not_have_is_assigned_by_a_command(
    run: Run, entra: StandInEntra, variable: str, named: str, command: str
) -> None:
    check = run(**{**identity_settings(entra), "IDENTITY_TYPE": "userassigned", variable: named})
    assert check.status == 1
    assert check.step("token")["facts"]["code"] == "IdentityNotFound"
    assert variable in check.advice("token")
    assert command in check.advice("token")
    assert "az vmss identity assign" in check.advice("token")


def test_a_federated_credential_is_made_from_what_the_service_account_says(
    run: Run, entra: StandInEntra, tmp_path: Path
) -> None:
    cluster = ServiceAccountIssuer()
    subject = "system:serviceaccount:observability:authproxy"
    entra.register(application := Application())
    token_file = tmp_path / "token"
    token_file.write_text(cluster.token(subject, now=time.time()))
    check = run(
        IDENTITY_TYPE="workloadidentity",
        AZURE_FEDERATED_TOKEN_FILE=str(token_file),
        **entra.application_environment(application, tmp_path / "entra-ca.pem"),
    )
    assert check.status == 1
    assert check.step("token")["facts"]["code"] == "AADSTS70021"
    assert check.step("token")["facts"]["assertion"]["sub"] == subject
    assert f"--subject {subject} --audiences api://AzureADTokenExchange" in check.advice("token")
    assert token_file.read_text().split(".")[1] not in check.output


def test_a_silent_identity_endpoint_is_given_up(run: Run, entra: StandInEntra) -> None:
    entra.hang()
    check = run("--timeout", "3", **identity_settings(entra))
    assert check.status == 1
    assert check.step("token")["facts"]["code"] == "IdentityTimeout"
    assert check.outcomes["tls"] == "ok"


@pytest.mark.parametrize(
    ("days", "outcome", "status", "says"),
    [
        (90.5, "ok", 0, "good for 90 days"),
        (13.5, "warning", 0, "good for 13 days"),
        (-1, "failed", 2, "expired"),
    ],
)
def test_the_certificate_that_clients_are_shown_is_looked_at(
    run: Run, target: Upstream, tmp_path: Path, days: float, outcome: str, status: int, says: str
) -> None:
    certificates = Certificates(tmp_path)
    certificates.issue("Example Works", days=days)
    check = run(**certificates.settings)
    assert check.status == status
    step = check.step("listening")
    assert (step["outcome"], step["route"]) == (outcome, None)
    assert "O=Example Works" in step["summary"]
    assert says in step["summary"]
    assert list(step["facts"]) == ["subject", "not_before", "not_after"]
    hint = "Replace the file of LISTENING_TLS_CERTIFICATE_FILE and its key"
    assert (hint in check.advice("listening")) == (outcome != "ok")
    # All else is looked at as well.
    assert check.outcomes["request"] == "ok"


def test_our_certificate_is_shown_and_its_end_announced(
    run: Run, entra: StandInEntra, tmp_path: Path
) -> None:
    ours = client_authority().issue(days=10)
    path = tmp_path / "client.pem"
    path.write_bytes(ours.pem())
    application = entra.register(Application(certificates=(ours.certificate,)))
    check = run(
        IDENTITY_TYPE="aadapplication",
        AAD_CLIENT_CERTIFICATE_PATH=str(path),
        **entra.application_environment(application, tmp_path / "entra-ca.pem"),
    )
    assert check.status == 0
    step = check.step("certificate")
    assert step["outcome"] == "warning"
    assert "good for 9 days" in step["summary"]
    assert len(step["facts"]["thumbprint"]) == 40
    assert "add it to the application registration" in check.advice("certificate")
    assert check.outcomes["token"] == "ok"


# -- How the target responds ----------------------------------------------------


def test_a_missing_role_to_write_is_assigned_by_a_command(
    run: Run, store: StandInStore, shared_entra: StandInEntra, tmp_path: Path
) -> None:
    store.refuse(403)
    place = settings_of(store, tmp_path)
    place["INGESTION_URL"] = f"{place.pop('TARGET_HOST')}{RULE}"
    check = run(TARGET_HOST="", as_json=False, **place)
    assert check.status == 3
    assert "✗ request" in check.output
    assert "does not have access to ingest data" in check.output
    identity = shared_entra.system_assigned
    assert identity is not None
    find, assign = re.findall(r"^ +\$ (.+)$", check.output, re.M)
    assert "[?immutableId=='dcr-0123456789abcdef'].id" in find
    assert f"--assignee-object-id {identity.object_id} " in assign
    assert '--role "Monitoring Metrics Publisher" --scope "$RULE_ID"' in assign
    assert "Exit status 3" in check.output


def test_a_path_where_there_is_nothing_is_no_success(
    run: Run, store: StandInStore, tmp_path: Path
) -> None:
    check = run("--path", "/no/such/thing", **settings_of(store, tmp_path))
    assert check.status == 3
    assert check.step("request")["facts"]["status"] == 404
    assert "Correct the path" in check.advice("request")


def test_an_audience_for_the_other_endpoint_is_seen_in_the_token(
    run: Run, authority: Authority
) -> None:
    upstream = Upstream(authority.context(QUERY_HOST))
    upstream.respond(answer("401 Unauthorized"))
    with ForwardProxy() as proxy:
        check = run(
            TARGET_HOST=f"{QUERY_HOST}:{upstream.port}",
            AUDIENCE="https://monitor.azure.com",
            HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}",
        )
        assert check.status == 3
    upstream.close()
    first, *_ = check.step("request")["advice"]
    assert first["cause"] == (
        f"The token is for https://monitor.azure.com, and {QUERY_HOST} takes those for "
        "https://prometheus.monitor.azure.com only"
    )
    assert "AUDIENCE=https://prometheus.monitor.azure.com" in first["hint"]


def test_a_401_that_asks_for_another_scheme_is_no_matter_of_the_token(
    run: Run, target: Upstream
) -> None:
    target.respond(answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="Grafana"'))
    check = run()
    assert check.status == 3
    first, *others = check.step("request")["advice"]
    assert "wants Basic credentials and no token" in first["cause"]
    assert not [one for one in others if "tenant" in one["cause"]]


def test_a_target_in_trouble_is_quoted_but_never_what_was_sent_to_it(
    run: Run, target: Upstream, shared_entra: StandInEntra
) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.read_body()
        body = b"Sorry!\x1b[2J " + exchange.request.head
        exchange.send(answer("500 Oh", body=body))

    target.respond(echo)
    check = run("--path", "/api/v1/query", OVERRIDE_REQUEST_HEADERS='{"x-scope": "s3cret-tenant"}')
    assert check.status == 3
    step = check.step("request")
    assert step["facts"]["status"] == 500
    assert step["facts"]["message"].startswith("Sorry!?[2J GET /api/v1/query HTTP/1.1 Host: ")
    assert "X-Scope: *** Authorization: Bearer ***" in step["facts"]["message"]
    assert "s3cret-tenant" not in check.output
    for part in shared_entra.issued[-1].value.split("."):
        assert part not in check.output


def test_what_was_sent_to_it_is_not_quoted_in_any_field_or_form(
    run: Run, target: Upstream, shared_entra: StandInEntra
) -> None:
    def quote(exchange: Exchange) -> None:
        token = (exchange.request.one("Authorization") or "").removeprefix("Bearer ")
        encoded = basic(token)
        fields = [f"WWW-Authenticate: {encoded} realm={token.encode().hex()}"]
        fields += [f"Location: /{quote_plus(encoded)}"]
        body = QUOTED["base64 in lines, in JSON"](token).encode()
        exchange.send(answer(f"{statuses.pop()} {encoded}", *fields, body=body))

    statuses = ["401", "307", "500"]
    target.respond(quote)
    for status in (500, 307, 401):
        check = run("--path", "/api/v1/query")
        assert check.step("request")["facts"]["status"] == status
        assert "***" in check.output
        assert left(shared_entra.issued[-1].value, check.output) == set()


def test_a_silent_target_is_given_up(run: Run, target: Upstream) -> None:
    gate = target.gate()
    target.respond(lambda exchange: gate.wait())
    check = run(TARGET_READ_TIMEOUT_SECONDS="1")
    assert check.status == 3
    assert check.step("request")["summary"].startswith("the target did not respond for 1 s")
    assert "TARGET_READ_TIMEOUT_SECONDS" in check.advice("request")
    gate.open()


def test_a_target_without_a_whole_response_is_given_up(run: Run, target: Upstream) -> None:
    gate = target.gate()

    def begin(exchange: Exchange) -> None:
        exchange.send("HTTP/1.1 200 OK\r\nX: ")
        while True:  # until the check closes the connection
            gate.wait_at_most(0.1)
            exchange.send("x")

    target.respond(begin)
    check = run(
        "--timeout", "10"
    )  # it holds for the token as well, which takes longer than the rest
    assert check.status == 3
    assert check.step("request")["summary"].startswith("the target did not respond for 10 s")
    assert "TARGET_READ_TIMEOUT_SECONDS" in check.advice("request")
    gate.open()


def test_a_clock_that_is_off_is_reported_with_the_offset(run: Run, target: Upstream) -> None:
    target.respond(answer("200 OK", "Date: Wed, 01 Jan 2020 00:00:00 GMT"))
    check = run()
    assert check.status == 0
    step = check.step("clock")
    assert step["outcome"] == "warning"
    assert step["facts"]["seconds_behind"] == step["facts"]["compared_with"]["target"] < -1e8
    assert "s ahead of the target" in step["summary"]
    assert "timedatectl" in check.advice("clock")


# -- Settings, terminal --------------------------------------------------------


def test_a_units_file_of_variables_is_read_as_systemd_does(
    tmp_path: Path, base_settings: dict[str, str]
) -> None:
    """Also those that only the libraries read, such as IDENTITY_ENDPOINT; a shell's count less."""
    file = tmp_path / "authproxy.env"
    lines = [f'{name}="{value}" \n' for name, value in base_settings.items()]
    file.write_text("".join(["# as installed \\\n\n", *lines]))
    check = Check(tmp_path, {"TARGET_HOST": "nowhere.invalid"}, "--env-file", str(file))
    assert check.status == 0, check.output
    assert check.report["target"] == f"https://{base_settings['TARGET_HOST']}"


def test_variables_that_are_probably_misspelt_are_warned_of(
    run: Run, target: Upstream, tmp_path: Path, base_settings: dict[str, str]
) -> None:
    target.respond(answer("200 OK"))
    check = run(AAD_CLIENTID="1-1", UPSTREAM_TIMEOUT="5")
    assert check.status == 0
    assert check.outcomes["environment"] == "warning"
    misspelt = check.step("environment")["facts"]["misspelt"]
    assert misspelt["AAD_CLIENTID"] == "AAD_CLIENT_ID"
    assert "Name it AAD_CLIENT_ID" in check.advice("environment")
    assert "UPSTREAM_TIMEOUT" in misspelt


def test_faults_of_a_file_of_variables_are_reported_to_scripts_as_well(tmp_path: Path) -> None:
    check = Check(tmp_path, {}, "--env-file", str(tmp_path / "none"))
    assert check.status == 2
    [fault] = check.step("settings")["facts"]["faults"]
    assert fault["setting"] == "--env-file"
    assert "No such file" in fault["problem"]


def test_faults_in_the_settings_are_reported_to_scripts_as_well(tmp_path: Path) -> None:
    check = Check(tmp_path, {"THREADS": "many", "TARGET_HOST": "https://user:s3cret@a"})
    assert check.status == 2
    assert check.errors.startswith("authproxy: 2 faults in the settings\n")
    assert check.report["exit_status"] == 2
    [step] = check.report["steps"]
    assert (step["name"], step["outcome"]) == ("settings", "failed")
    named = [fault["setting"] for fault in step["facts"]["faults"]]
    assert named == ["TARGET_HOST", "THREADS"]
    threads = step["facts"]["faults"][1]
    assert threads["value"] == "many"
    assert threads["hint"] == "Give a whole number from 1 to 1024."
    assert "s3cret" not in check.output


def test_a_terminal_gets_colour_and_lines_that_fit(
    target: Upstream, base_settings: dict[str, str], tmp_path: Path
) -> None:
    printed = on_a_terminal(tmp_path, {**base_settings, "TARGET_CA_FILE": ""}, 60)
    assert "\x1b[32m" in printed
    assert "\x1b[31m" in printed
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in printed.splitlines()]
    for line in lines:
        words = line.split()
        unbreakable = "$ " in line or "https://" in line or len(words) == 1
        assert len(line) <= 60 or unbreakable, line


def test_no_color_is_heeded(
    target: Upstream, base_settings: dict[str, str], tmp_path: Path
) -> None:
    assert "\x1b" not in on_a_terminal(tmp_path, {**base_settings, "NO_COLOR": "1"}, 100)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--path", "api/v1/query"], "begin with /"),
        (["--path", "/a b"], "hold no blanks"),
        (["--timeout", "0"], "not in the range"),
        (["--path", "/x", "--ingestion-url", "https://a.example.com/w"], "INGESTION_URL"),
    ],
)
def test_a_wrong_option_ends_with_2(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(cli, ["check", "--audience", "api://x", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output

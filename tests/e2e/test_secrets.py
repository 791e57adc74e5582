"""No secret gets out: every output of the program is searched for planted ones.

Each identity type has a proxy of its own with every output turned on: logs at
debug, traces, metrics and logs at a real receiver, /metrics, /status. Each meets
requests that pass, requests that are refused, a target and an identity
endpoint that quote what they were sent, and a broken peer.
"""

from __future__ import annotations

import html
import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from authproxy.demo.stand_ins.signing import SigningKey
from tests.conftest import Launch
from tests.support import actions
from tests.support.callers import AUDIENCE as INBOUND_AUDIENCE
from tests.support.callers import ISSUER, PROMETHEUS, claims, write_keys
from tests.support.client_certificates import client_authority
from tests.support.collector import Collector
from tests.support.identity import AUDIENCE
from tests.support.planted import leaks
from tests.support.process import (
    ProxyProcess,
    clean_environment,
    descendants,
    free_port,
    wait_until,
)
from tests.support.programs import LIMIT
from tests.support.scrape import get, settled
from tests.support.stand_ins.applications import (
    Application,
    FederatedCredential,
    ServiceAccountIssuer,
)
from tests.support.stand_ins.entra import StandInEntra
from tests.support.status import settled_status
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Response, message

#: Each reads otherwise when it is encoded, in a URL, in base64 or in JSON.
CLIENT_SECRET = "planted/client~secret+1=a&b c%"
PASSWORD = "planted/pass~word+2=a&b c%"
OVERRIDE = "planted/override~value+3=a&b c%"
INBOUND = "planted/inbound~token+4=a&b%c"
WRONG = "planted/wrong~token+5=a&b%c"
COLLECTOR_KEY = "planted-collector-key-6"
PROXY_PASSWORD = "planted-proxy-password-7"
JWKS_TOKEN = "planted-jwks-token-8"
COOKIE = "planted-cookie-9"
BASIC = "cGxhbnRlZDpiYXNpYy0xMA=="  # planted:basic-10
BODY = "planted-request-body-11"
ANSWER = "planted-answer-of-the-target-12"

KINDS = [
    *("systemassigned", "userassigned", "certificate", "secret"),
    *("workloadidentity", "azurecli", "default"),
]


@dataclass
class Subject:
    """A proxy under examination, what must not come out of it, and what did."""

    kind: str
    settings: dict[str, str]
    folder: Path
    secrets: dict[str, str]
    collector: Collector
    proxy: ProxyProcess = field(init=False)
    outputs: dict[str, bytes] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"


def identity_of(kind: str, entra: StandInEntra, folder: Path) -> tuple[dict[str, str], Application]:
    """Return settings of this kind of identity, and the application that may be behind it."""
    application = Application(secret=CLIENT_SECRET if kind == "secret" else None)
    settings: dict[str, str] = {}
    if kind == "secret":
        (folder / "secret").write_text(CLIENT_SECRET)
        settings = {"AAD_CLIENT_SECRET_FILE": str(folder / "secret")}
    elif kind == "certificate":
        issued = client_authority().issue()
        application = Application(certificates=(issued.certificate,))
        (folder / "client.pfx").write_bytes(issued.pfx(PASSWORD.encode()))
        (folder / "password").write_text(PASSWORD)
        settings = {
            "AAD_CLIENT_CERTIFICATE_PATH": str(folder / "client.pfx"),
            "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE": str(folder / "password"),
        }
    elif kind == "workloadidentity":
        cluster, subject = ServiceAccountIssuer(), "system:serviceaccount:a:b"
        application = Application(federated=(FederatedCredential(cluster, subject),))
        (folder / "federated").write_text(cluster.token(subject, now=time.time()))
        settings = {"AZURE_FEDERATED_TOKEN_FILE": str(folder / "federated")}
    elif kind == "userassigned":
        settings = {"AAD_CLIENT_ID": entra.assign().client_id}
    elif kind == "azurecli":
        token = entra.issue(AUDIENCE, "a", "b")
        answer = json.dumps({"accessToken": token.value, "expires_on": int(time.time()) + 3600})
        az = folder / "az"
        az.write_text(
            f"#!/bin/sh\nenv >{folder}/environment-of-az\n"
            f"if [ -e {folder}/broken ]; then echo 'ERROR: {token.value}' >&2; exit 1; fi\n"
            f"echo '{answer}'\n"
        )
        az.chmod(0o755)
        settings = {"PATH": f"{folder}:/usr/bin:/bin"}
    entra.register(application)
    identity_type = "aadapplication" if kind in ("secret", "certificate") else kind
    if kind not in ("userassigned", "azurecli", "systemassigned", "default"):
        settings |= entra.application_environment(application, folder / "entra-ca.pem")
    return {"IDENTITY_TYPE": identity_type, **settings}, application


def prepared(kind: str, entra: StandInEntra, folder: Path, collector: Collector) -> Subject:
    identity, _ = identity_of(kind, entra, folder)
    (folder / "tmp").mkdir()
    (folder / "tokens").write_text(f"{INBOUND}\n")
    (folder / "settings.yaml").write_text(
        json.dumps({"override_request_headers": {"X-Api-Key": OVERRIDE, "X-Other": OVERRIDE[::-1]}})
    )
    key = SigningKey()
    settings = {
        **identity,
        "AUTHPROXY_CONFIG": str(folder / "settings.yaml"),
        "TRACE_LOGGING": "1",
        "LOG_FORMAT": "json" if kind == "secret" else "logfmt",
        "METRICS_PORT": str(free_port()),
        "OTEL_GRPC_ENDPOINT": collector.endpoint,
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={COLLECTOR_KEY}",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "INBOUND_TOKEN_FILE": str(folder / "tokens"),
        "INBOUND_JWKS_FILE": str(write_keys(folder / "keys.json", key)),
        "INBOUND_JWT_ISSUER": ISSUER,
        "INBOUND_JWT_AUDIENCE": INBOUND_AUDIENCE,
        "INBOUND_JWT_SUBJECTS": PROMETHEUS,
        "TARGET_READ_TIMEOUT_SECONDS": "2",
        "TMPDIR": str(folder / "tmp"),
        "WORKERS": "2" if kind == "systemassigned" else "1",
    }
    good, stranger = key.sign(claims()), key.sign(claims(sub="system:serviceaccount:x:y"))
    secrets = {
        "client secret": CLIENT_SECRET,
        "password": PASSWORD,
        "override": OVERRIDE,
        "other override": OVERRIDE[::-1],
        "inbound token": INBOUND,
        "wrong inbound token": WRONG,
        "collector's key": COLLECTOR_KEY,
        "forward proxy's password": PROXY_PASSWORD,
        "cookie": COOKIE,
        "basic": BASIC,
        "request body": BODY,
        "target's answer": ANSWER,
        "caller's token": good,
        "its signature": good.rpartition(".")[2],
        "stranger's token": stranger,
    }
    return Subject(kind, settings, folder, secrets, collector)


@pytest.fixture(scope="module")
def entra_here() -> Iterator[StandInEntra]:
    with StandInEntra() as entra:
        yield entra


@pytest.fixture(scope="module")
def subjects(
    entra_here: StandInEntra,
    launch_for_module: Launch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Subject]]:
    """One proxy of each identity type, all started at the same time."""
    collectors = [Collector() for _ in KINDS]
    for collector in collectors:
        collector.__enter__()
    prepare = [
        prepared(kind, entra_here, tmp_path_factory.mktemp(kind), collector)
        for kind, collector in zip(KINDS, collectors, strict=True)
    ]

    def start(subject: Subject) -> None:
        own = {**entra_here.managed_identity_environment(), **subject.settings}
        subject.proxy = launch_for_module(**own)
        subject.proxy.wait_for_tokens(int(subject.settings["WORKERS"]))

    try:
        with ThreadPoolExecutor(len(KINDS)) as starters:
            list(starters.map(start, prepare))
        yield {subject.kind: subject for subject in prepare}
    finally:
        for collector in collectors:
            collector.__exit__(None, None, None)


CREDENTIALS = (
    f"X-Authproxy-Token: {INBOUND}",
    f"Authorization: Basic {BASIC}",
    f"Cookie: session={COOKIE}",
)


def quoting(exchange: Exchange) -> None:
    """Answer with an error that quotes the request in every way there is."""
    exchange.read_body()
    request = exchange.request
    ours = "\n".join(request.all("X-Api-Key") + request.all("X-Other"))
    bearer = request.one("Authorization") or ""
    text = "\n".join(
        [
            *("you sent", ours, quote(ours), quote_plus(ours), b64encode(ours.encode()).decode()),
            *(json.dumps(ours), bearer, quote(bearer), bearer.removeprefix("Bearer ")),
        ]
    )
    # The last one is cut off by the limit of what is logged.
    filling = "." * (2048 - len(text) - 12)
    exchange.send(actions.answer("400 Bad Request", body=f"{text}{filling}{ours}".encode()))


def drive(subject: Subject, target: Upstream, entra: StandInEntra) -> list[Response]:
    """Have everything happen that is told of; return the proxy's own answers."""
    proxy = subject.proxy
    target.on(
        "/fine", actions.raw(actions.answer(200, f"Set-Cookie: {ANSWER}", body=ANSWER.encode()))
    )
    target.on("/quoting", quoting)
    target.on("/silent", actions.stall(target.gate()))
    target.on("/nonsense", actions.then_close(b"what?\r\n\r\n"))
    target.on("/refused", actions.raw(actions.answer("401 Unauthorized")))

    def ask(start: str, *lines: str, body: bytes | None = None) -> Response:
        return proxy.ask(message(start, *(lines or CREDENTIALS), body=body))

    large = BODY.encode() * 50_000
    assert ask("POST /fine", body=BODY.encode()).status == 200
    assert ask("POST /fine", body=large).status == 200
    assert ask("GET /fine", f"Authorization: Bearer {subject.secrets[caller]}").status == 200
    assert ask("GET /quoting").status == 400
    break_identity(subject, entra)
    for _ in range(4):
        assert ask("GET /refused").status == 401
    proxy.wait_for_line("Failed to refresh token")
    entra.recover()
    own = [
        ask("GET /fine", f"X-Authproxy-Token: {WRONG}"),
        ask("POST /fine", f"Authorization: Bearer {WRONG}", body=BODY.encode()),
        ask("GET /fine", f"Authorization: Bearer {subject.secrets[stranger]}"),
        ask("TRACE /fine"),
        ask("GET /silent"),
        ask("GET /nonsense"),
        ask("GET /health"),
        ask("GET /ready"),
    ]
    assert [response.status for response in own] == [401, 401, 403, 405, 504, 502, 200, 200]
    return own


caller, stranger = "caller's token", "stranger's token"


def break_identity(subject: Subject, entra: StandInEntra) -> None:
    """Have the identity's endpoint fail, and quote what it was sent."""
    if subject.kind == "azurecli":
        (subject.folder / "broken").touch()
        return
    sent = [entra.managed_identity_environment()["IDENTITY_HEADER"]]
    if subject.kind == "secret":
        sent.append(CLIENT_SECRET)
    elif subject.kind in ("certificate", "workloadidentity"):
        assertions = [request.form.get("client_assertion") for request in entra.requests]
        sent = [assertion for assertion in assertions if assertion]
        subject.secrets |= {f"assertion {n}": assertion for n, assertion in enumerate(sent)}
    else:
        subject.secrets["identity header"] = sent[0]
    forms = [form for text in sent for form in (text, quote(text), quote_plus(text))]
    if subject.kind not in ("certificate", "workloadidentity"):
        forms += [b64encode(text.encode()).decode() for text in sent]
    forms += [token.value for token in entra.issued[-2:]]
    said = f"AADSTS7000215: Invalid client secret. You sent: {' '.join(forms)}"
    entra.fail_with(
        400, {"error": "invalid_client", "error_description": said, "message": said}, path="/token"
    )


def processes(subject: Subject) -> list[int]:
    """Return the process and its workers, at a time when nothing else came of it, such as `az`."""
    count = 3 if subject.settings["WORKERS"] == "2" else 1
    tree: list[int] = []

    def they_are_alone() -> bool:
        tree[:] = descendants(subject.proxy.pid)
        return len(tree) == count

    wait_until("the workers are alone", they_are_alone)
    return tree


def of_processes(subject: Subject) -> dict[str, bytes]:
    """Return what other users of the machine can see of them."""
    return {
        f"{name} of process {pid}": Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in processes(subject)
        for name in ("cmdline", "comm", "status", "maps", "limits")
    }


def assert_children_know_no_more(subject: Subject) -> None:
    """No child has anything in its environment that the process was not given."""
    parent, *workers = processes(subject)
    given = Path(f"/proc/{parent}/environ").read_bytes().split(b"\0")
    for pid in workers:
        assert Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") == given
    if subject.kind == "azurecli":
        seen = (subject.folder / "environment-of-az").read_bytes().splitlines()
        own = {b"PWD", b"OLDPWD", b"SHLVL", b"_"}  # the shell's
        ours = {b"NO_COLOR=true", b"AZURE_CORE_NO_COLOR=true"}
        added = {line for line in seen if line.partition(b"=")[0] not in own} - set(given)
        assert added <= ours


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_holds_a_secret(
    subjects: dict[str, Subject], target: Upstream, entra_here: StandInEntra, kind: str
) -> None:
    subject = subjects[kind]
    proxy, outputs = subject.proxy, subject.outputs
    for number, response in enumerate(drive(subject, target, entra_here)):
        outputs[f"own answer {number}"] = response.head + response.body
    port = int(subject.settings["METRICS_PORT"])
    outputs["/metrics"] = settled(port).text.encode()
    told = settled_status(port)
    wait_until("both workers tell", lambda: "Recent failures" in get(port, "/status").body)
    for path in ("/status", "/status.json"):
        outputs[path] = html.unescape(get(port, path).body).encode()
    outputs |= of_processes(subject)
    assert_children_know_no_more(subject)
    assert all(
        "Max core file size        0 " in text.decode()
        for name, text in outputs.items()
        if name.startswith("limits")
    )
    collector = subject.collector
    collector.wait_for("a failed refresh", lambda: [s for s in collector.spans if s.status == 2])
    proxy.stop()
    outputs["log"] = proxy.log.encode()
    for number, payload in enumerate(collector.payloads):
        outputs[f"export {number}"] = payload
    for left in subject.temporary.rglob("*"):
        if left.is_file():
            outputs[f"left in {left}"] = left.read_bytes()
    for number, token in enumerate(entra_here.issued):
        subject.secrets[f"token {number}"] = token.value
        subject.secrets[f"signature of token {number}"] = token.value.rpartition(".")[2]
        subject.secrets[f"claims of token {number}"] = token.value.split(".")[1]
    # All of it was really there to be searched.
    assert collector.spans_named("ProxyRequest")
    assert collector.spans_named("refreshAADToken")
    assert collector.names >= {"aad_auth_proxy_requests_total"}
    assert any(line.body.startswith("Error response body") for line in collector.lines)
    assert "you sent" in proxy.log
    assert any(failure["text"].startswith("you sent") for failure in told["failures"])
    assert any(token["last_attempt_at"] for route in told["routes"] for token in route["tokens"])
    assert "TRACE_LOGGING" in proxy.log
    assert "Traceback" not in proxy.log
    assert target.requests[0].one("X-Api-Key") == OVERRIDE
    found = leaks(subject.secrets, outputs)
    assert not found, "\n".join(found)


COMMANDS = (
    ["settings"],
    ["settings", "--json"],
    ["check"],
    ["check", "--json"],
    ["serve", "--threads", "many"],
)


def test_no_command_prints_a_secret(
    subjects: dict[str, Subject], entra_here: StandInEntra, base_settings: dict[str, str]
) -> None:
    subject = subjects["secret"]
    environment = {
        **clean_environment(str(subject.folder)),
        **base_settings,
        **entra_here.managed_identity_environment(),
        **subject.settings,
        "AAD_CLIENT_CERTIFICATE_PASSWORD": PASSWORD,
        "AAD_CLIENT_SECRET": CLIENT_SECRET,
    }
    del environment["AAD_CLIENT_SECRET_FILE"]

    def run(command: list[str]) -> tuple[str, bytes]:
        result = subprocess.run(
            [sys.executable, "-m", "authproxy", *command],
            env=environment,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        return " ".join(command), result.stdout + result.stderr

    with ThreadPoolExecutor(len(COMMANDS)) as runners:
        outputs = dict(runners.map(run, COMMANDS))
    assert b"OVERRIDE_REQUEST_HEADERS" in outputs["settings"]
    assert b'"OVERRIDE_REQUEST_HEADERS"' in outputs["settings --json"]
    assert b"appid" in outputs["check"]
    assert b"THREADS='many'" in outputs["serve --threads many"]
    secrets = dict(subject.secrets)
    for number, token in enumerate(entra_here.issued):
        secrets[f"token {number}"] = token.value
        secrets[f"signature of token {number}"] = token.value.rpartition(".")[2]
    assert leaks(secrets, outputs) == []

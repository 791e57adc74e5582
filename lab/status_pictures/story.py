"""What the pictures of /status show: a quarter of an hour with its troubles.

At its end a target refuses every write, and a secret has expired.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import actions
from tests.support.authority import Authority
from tests.support.identity import SECRET
from tests.support.outcomes import REMOTE_WRITE
from tests.support.process import ProxyProcess, free_port
from tests.support.routes import to, write_routes
from tests.support.scrape import ask_metrics_port
from tests.support.stand_ins.applications import Application
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream
from tests.support.wire import message

MINUTES = 15

#: Says that the role is not there yet, as Azure words it.
FORBIDDEN = (
    b'{"error":{"code":"Forbidden","message":"The authentication token provided does not have '
    b'access to ingest data for the data collection rule"}}'
)
BAD_QUERY = b'{"status":"error","errorType":"bad_data","error":"1:5: parse error: unclosed paren"}'
EXPIRED_SECRET = {
    "error": "invalid_client",
    "error_description": "AADSTS7000222: The provided client secret keys for app are expired.",
}


@contextmanager
def quarter_of_an_hour(folder: Path, minutes: float, say: Callable[[str], None]) -> Iterator[str]:
    """Have it, and give the page as it is at its end, with names as an operator has them."""
    authority = Authority(folder)
    with StandInEntra() as entra:
        ingestion, query = Upstream(authority.context()), Upstream(authority.context())
        application = entra.register(Application(secret=SECRET))
        identity = entra.application_environment(application, folder / "entra-ca.pem")
        entra.lifetime = 60 * minutes * 1.13
        config = write_routes(
            folder / "authproxy.yaml",
            [
                to(ingestion, path="/api/v1/write", audience="https://monitor.azure.com"),
                to(
                    query,
                    path="/",
                    audience="https://prometheus.monitor.azure.com",
                    identity_type="aadapplication",
                    aad_client_id=application.client_id,
                    aad_client_secret=SECRET,
                    aad_tenant_id=entra.tenant,
                    aad_token_refresh_interval_in_percentage=25,
                ),
            ],
        )
        port = free_port()
        settings = {
            "AUTHPROXY_CONFIG": str(config),
            "TARGET_CA_FILE": str(authority.bundle),
            "LISTENING_HOST": "127.0.0.1",
            "IDENTITY_TYPE": "systemassigned",
            "AAD_AUTHORITY_HOST": entra.authority_host,
            "REQUESTS_CA_BUNDLE": identity["REQUESTS_CA_BUNDLE"],
            "METRICS_PORT": str(port),
            "WORKERS": "2",
            "TARGET_READ_TIMEOUT_SECONDS": "1",
            **entra.managed_identity_environment(),
        }
        with ProxyProcess(settings) as proxy:
            proxy.wait_for_tokens(4)
            live_through(proxy, ingestion, query, entra, minutes, say)
            status, _, page = ask_metrics_port(port, "/status")
            assert status == 200
            page = page.replace(
                ingestion.url,
                "https://workspace-abcd.westeurope-1.metrics.ingest.monitor.azure.com",
            ).replace(query.url, "https://workspace-abcd.westeurope.prometheus.monitor.azure.com")
            yield page
        ingestion.close()
        query.close()


def live_through(
    proxy: ProxyProcess,
    ingestion: Upstream,
    query: Upstream,
    entra: StandInEntra,
    minutes: float,
    say: Callable[[str], None],
) -> None:
    """Send requests, most of which pass."""
    chance = random.Random(7)
    pause = threading.Event()
    # The first that fits answers.
    query.on("/labels", actions.raw(actions.answer("400 Bad Request", body=BAD_QUERY)))
    query.on("/series", actions.raw(actions.answer("503 Service Unavailable", body=b"busy")))
    query.on("/query_range", actions.stall(query.gate()))
    query.respond(actions.answer(200, body=b"{}"))
    # In turns, by how far the time has gone.
    turns = 60 * minutes
    for turn in itertools.count():
        if turn >= turns:
            return
        part = turn / turns
        if turn % 60 == 0:
            say(f"{round(100 * part)} %")
        # The role is taken away at the end.
        forbidden = 0.3 < part < 0.33 or part > 0.9
        answer = (
            actions.answer("403 Forbidden", body=FORBIDDEN)
            if forbidden
            else actions.head("204 No Content")
        )
        ingestion.respond(answer)
        if part > 0.5:
            entra.fail_with(401, EXPIRED_SECRET, path="/oauth2/v2.0/token")
        for _ in range(3 + round(2 * chance.random())):
            proxy.ask(message("POST /api/v1/write", REMOTE_WRITE, body=b"x"))
        for _ in range(round(2 * chance.random())):
            proxy.get("/api/v1/query?query=up")
        if chance.random() < 0.06:
            proxy.get("/api/v1/labels?match[]=up(")
        if 0.6 < part < 0.75 and chance.random() < 0.5:
            proxy.get("/api/v1/series")
        if 0.68 < part < 0.8 and chance.random() < 0.4:
            proxy.get("/api/v1/query_range")
        if chance.random() < 0.02:
            proxy.ask(message("TRACE /api/v1/query"))
        pause.wait(1.0)

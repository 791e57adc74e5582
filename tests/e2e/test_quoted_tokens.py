"""A target that quotes our token, whole or in part, in whatever form: no output has any of it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote_plus

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.collector import Collector
from tests.support.identity import identity_settings
from tests.support.planted import left
from tests.support.process import ProxyProcess, free_port
from tests.support.quoting import QUOTED, basic
from tests.support.scrape import get
from tests.support.stand_ins.entra import StandInEntra
from tests.support.status import settled_status
from tests.support.upstream import Exchange, Handler, Upstream
from tests.support.wire import message

WRITE = ("Content-Encoding: snappy", "X-Prometheus-Remote-Write-Version: 0.1.0")


@dataclass
class Observed:
    """A proxy with every output that it has."""

    proxy: ProxyProcess
    port: int
    collector: Collector
    entra: StandInEntra

    def outputs(self) -> Iterator[str]:
        """Yield them all, piece by piece."""
        settled_status(self.port)
        for path in ("/status", "/status.json", "/metrics"):
            yield from html.unescape(get(self.port, path).body).splitlines()
        self.proxy.mark()
        yield from self.proxy.log.splitlines()
        for payload in self.collector.payloads:
            yield payload.decode("utf-8", "replace")

    def left(self) -> set[str]:
        """Return what can be read in them of any token."""
        tokens = [token.value for token in self.entra.issued]
        return {
            part for output in self.outputs() for token in tokens for part in left(token, output)
        }


@pytest.fixture(scope="module")
def observed(launch_for_module: Launch) -> Iterator[Observed]:
    port = free_port()
    with Collector() as collector, StandInEntra() as entra:
        proxy = launch_for_module(
            **identity_settings(entra),
            METRICS_PORT=str(port),
            OTEL_GRPC_ENDPOINT=collector.endpoint,
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_BSP_SCHEDULE_DELAY="100",
            OTEL_BLRP_SCHEDULE_DELAY="100",
        )
        yield Observed(proxy, port, collector, entra)


def token_in(exchange: Exchange) -> str:
    return (exchange.request.one("Authorization") or "").removeprefix("Bearer ")


def quoting(form: str, status: str = "400 Bad Request") -> Handler:
    """Respond with an error that quotes the token: all of it, then its parts."""

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        token = token_in(exchange)
        part = {"whole": token, **dict(zip("hps", token.split("."), strict=True))}
        which = exchange.request.target.decode().rpartition("/")[2]
        body = f"[[ {QUOTED[form](part[which])} ]]"
        exchange.send(actions.answer(status, body=body.encode()))

    return handle


@pytest.mark.parametrize("form", QUOTED)
def test_an_error_that_quotes_the_token(observed: Observed, target: Upstream, form: str) -> None:
    target.respond(quoting(form))
    proxy = observed.proxy
    mark = proxy.mark()
    lines = []
    for part in ("whole", "h", "p", "s"):
        assert proxy.get(f"/{part}").status == 400
        lines.append(proxy.wait_for_line(f'Error response body.*/{part}"', after=mark))
    assert all("***" in line for line in lines), lines
    token = target.requests[-1].one("Authorization") or ""
    assert [part for line in lines for part in left(token, line)] == []


def test_it_is_quoted_in_fields_and_reasons_too(observed: Observed, target: Upstream) -> None:
    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        token = token_in(exchange)
        exchange.send(
            actions.answer(
                f"403 {basic(token)}",
                ("Content-Encoding", token.encode().hex()),
                ("Location", f"/x?{quote_plus(basic(token))}"),
                ("WWW-Authenticate", basic(token)),
                ("Retry-After", basic(token)),
                ("Server", basic(token)),
                body=basic(token).encode(),
            )
        )

    target.respond(handle)
    mark = observed.proxy.mark()
    assert observed.proxy.get("/fields").status == 403
    line = observed.proxy.wait_for_line("Error response body", after=mark)
    assert "Encoding=" in line


def test_it_is_quoted_where_the_client_gets_an_error_of_the_proxys(
    observed: Observed, target: Upstream
) -> None:
    target.respond(quoting("base64", "403 Forbidden"))
    mark = observed.proxy.mark()
    response = observed.proxy.ask(message("POST /whole", *WRITE, body=b"samples"))
    assert response.status == 503
    observed.proxy.wait_for_line("TargetRefusedIdentity", after=mark)
    assert left(observed.entra.issued[-1].value, response.body.decode()) == set()


def test_both_tokens_are_quoted_after_a_renewal(observed: Observed, target: Upstream) -> None:
    seen: list[str] = []

    def handle(exchange: Exchange) -> None:
        exchange.read_body()
        seen.append(token_in(exchange))
        exchange.send(actions.answer(401, body=" and ".join(map(basic, seen)).encode()))

    target.respond(handle)
    mark = observed.proxy.mark()
    assert observed.proxy.get("/twice").status == 401
    assert len(set(seen)) == 2
    line = observed.proxy.wait_for_line("Error response body", after=mark)
    assert [part for token in seen for part in left(token, line)] == []


def test_what_is_quoted_is_in_no_output(observed: Observed, target: Upstream) -> None:
    for form in ("as it is", "hex", "percent-encoded", "base64 in lines", "base64"):
        target.respond(quoting(form))
        assert observed.proxy.get("/whole").status == 400
    collector = observed.collector
    collector.wait_for(
        "the last line", lambda: any("[[ ***" in each.body for each in collector.lines[-1:])
    )
    collector.wait_for("a span", lambda: collector.spans_named("ProxyRequest"))
    told = settled_status(observed.port)
    assert any("[[ ***" in failure["text"] for failure in told["failures"])
    assert observed.left() == set()

"""Rows: the identity endpoint, at the start, at a refresh, and when the token has expired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from authproxy.demo.stand_ins.signing import SigningKey
from lab.faults.bench import Bench
from lab.faults.ground import Ground
from lab.faults.outcomes import NO_TOKEN
from lab.faults.relay import Relay
from lab.faults.row import Row
from tests.support.callers import Cluster, claims
from tests.support.client_certificates import client_authority
from tests.support.process import wait_until
from tests.support.stand_ins.applications import Application

FAILED = "Failed to refresh token"
OUT_OF_TIME = 600.0


@dataclass(frozen=True)
class _Fault:
    """How the endpoint is troubled, and by what the trouble's length is bound."""

    begin: Callable[[Ground], None]
    end: Callable[[Ground], None]
    bound: str
    #: Whether attempts fail meanwhile, so that no new token is had.
    fails: bool = True
    #: How long a token lives that is refreshed within the fault, which has to end first.
    lifetime: float = 24
    #: How many tokens are had within it, where it lets them be had.
    tokens: int = 1


def _recover(ground: Ground) -> None:
    ground.entra.recover()


def _respond(status: int, **headers: str) -> Callable[[Ground], None]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"statusCode": status, "message": "not now"}
    return lambda ground: ground.entra.fail_with(status, body, fields)


def _set_relay(name: str, value: object) -> Callable[[Ground], None]:
    return lambda ground: setattr(ground.relay, name, value)


def _start_entra(ground: Ground) -> None:
    ground.entra.start()


def _set_lifetime(seconds: float) -> Callable[[Ground], None]:
    return lambda ground: setattr(ground.entra, "lifetime", seconds)


def _set_azure_ahead(seconds: float) -> Callable[[Ground], None]:
    return lambda ground: setattr(ground, "azure_ahead", seconds)


BACKOFF = "back-off, 1 to 60 s"
FAULTS = {
    "refused": _Fault(lambda g: g.entra.stop(), _start_entra, BACKOFF),
    "no response": _Fault(
        _set_relay("swallow", True),
        _set_relay("swallow", False),
        "30 s for a response, then back-off",
        lifetime=75,
    ),
    "400": _Fault(_respond(400), _recover, BACKOFF),
    "429 with Retry-After": _Fault(_respond(429, Retry_After="2"), _recover, "Retry-After"),
    "500": _Fault(_respond(500), _recover, BACKOFF),
    "garbage": _Fault(lambda g: g.entra.garbage(), _recover, BACKOFF),
    "slow, 3 s": _Fault(
        _set_relay("delay", 3.0), _set_relay("delay", 0.0), "the endpoint", fails=False
    ),
    "token expired already": _Fault(_set_lifetime(-60), _set_lifetime(3600), BACKOFF),
    "tokens of 30 s": _Fault(_set_lifetime(30), _set_lifetime(3600), "", fails=False, tokens=3),
}


def at_start(fault: _Fault, bench: Bench) -> None:
    """The proxy starts while the endpoint is in trouble."""
    ground = bench.ground
    with bench.fault(from_start=True):
        fault.begin(ground)
        proxy = ground.launch(ready=False)
        bench.flow(good=False)
        if fault.fails:
            if ground.relay.swallow:
                wait_until("an attempt is swallowed", lambda: ground.relay.swallowed > 0)
            else:
                proxy.wait_for_event(FAILED)
            bench.see(NO_TOKEN)
        else:
            bench.wait_for_event("Token refreshed", after=0, times=fault.tokens)
            bench.felt()
        fault.end(ground)


def at_refresh(fault: _Fault, bench: Bench) -> None:
    """A valid token is to be refreshed while the endpoint is in trouble."""
    ground = bench.ground
    ground.entra.lifetime = fault.lifetime
    share = "99" if fault.lifetime > 60 else "10"
    proxy = ground.launch(AAD_TOKEN_REFRESH_INTERVAL_IN_PERCENTAGE=share)
    bench.flow()
    mark = proxy.mark()
    with bench.fault():
        ground.entra.lifetime = 3600
        fault.begin(ground)
        if not fault.fails:
            bench.wait_for_event("Token refreshed", after=mark, times=fault.tokens)
        else:
            bench.wait_for_event(FAILED, after=mark)
        fault.end(ground)
    if fault.fails:
        bench.wait_for_event("Token refreshed", after=mark)


def dripping_at_start(bench: Bench) -> None:
    """The proxy starts, and its first token comes a few bytes a second."""
    ground = bench.ground
    with bench.fault(from_start=True):
        ground.relay.drip = True
        ground.launch(ready=False)
        bench.flow(good=False)
        wait_until("it drips", lambda: ground.relay.dripped > 0)
        bench.see(NO_TOKEN)
        ground.relay.drip = False


def dripping_at_refresh(bench: Bench) -> None:
    """A valid token is to be refreshed, and the new one comes a few bytes a second."""
    ground = bench.ground
    ground.entra.lifetime = 24
    proxy = ground.launch()
    bench.flow()
    mark = proxy.mark()
    with bench.fault():
        ground.entra.lifetime = 3600
        ground.relay.drip = True
        wait_until("it drips", lambda: ground.relay.dripped > 10)
        bench.felt(10)
        ground.relay.drip = False
    bench.wait_for_event("Token refreshed", after=mark)


def dripping_keys(bench: Bench) -> None:
    """A caller with a key that is not known yet has the keys fetched, and these drip."""
    ground = bench.ground
    cluster = ground.enter(Cluster(ground.authority.context()))
    port = urlsplit(cluster.url).port
    assert port is not None
    relay = ground.enter(Relay(port))
    url = cluster.url.replace(f":{port}", f":{relay.port}")
    settings = {**cluster.settings, "INBOUND_JWKS_URL": url}
    settings["INBOUND_JWKS_CA_FILE"] = str(ground.authority.bundle)
    ground.launch(**settings)  # type: ignore[arg-type]  # neither ready nor wrapper is among them
    bench.flow(fields=[f"X-Authproxy-Token: {cluster.token()}"])
    stranger = f"X-Authproxy-Token: {SigningKey().sign(claims())}"
    with bench.fault():
        relay.drip = True
        assert bench.proxy.get("/x?number=0", stranger).status in (401, 503)
        wait_until("it drips", lambda: relay.dripped > 0)
        bench.felt(10)
        relay.drip = False
    wait_until("the keys have come", lambda: len(cluster.requests) > 1)
    assert bench.proxy.get("/x?number=0", stranger).status in (401, 503)


def when_expired(fault: _Fault, bench: Bench) -> None:
    """The token expires, because the endpoint is in trouble."""
    ground = bench.ground
    ground.entra.lifetime = 14
    proxy = ground.launch()
    bench.flow()
    mark = proxy.mark()
    with bench.fault():
        ground.entra.lifetime = 3600
        if not fault.fails:
            ground.entra.fail_with(500)
            bench.wait_for_event(FAILED, after=mark)
            bench.see(NO_TOKEN)
            fault.begin(ground)
            ground.entra.recover()
            bench.wait_for_event("Token refreshed", after=mark)
        else:
            fault.begin(ground)
            if ground.relay.swallow:
                wait_until("an attempt is swallowed", lambda: ground.relay.swallowed > 0)
            else:
                bench.wait_for_event(FAILED, after=mark)
            bench.see(NO_TOKEN)
        fault.end(ground)


def clock_at_start(ahead: float, bench: Bench) -> None:
    """The proxy starts on a machine whose clock is wrong."""
    ground = bench.ground
    with bench.fault(from_start=True):
        ground.azure_ahead = ahead
        ground.launch()
        bench.flow()
        bench.felt()
        ground.azure_ahead = 0.0


def clock_at_refresh(ahead: float, bench: Bench) -> None:
    """A token is refreshed while the clock is wrong."""
    ground = bench.ground
    ground.entra.lifetime = 20
    proxy = ground.launch()
    bench.flow()
    mark = proxy.mark()
    with bench.fault():
        ground.entra.lifetime = 3600
        ground.azure_ahead = ahead
        bench.wait_for_event("Token refreshed", after=mark)
        bench.felt()
        ground.azure_ahead = 0.0


def clock_when_expired(ahead: float, bench: Bench) -> None:
    """Tokens live shorter than the clock is wrong."""
    ground = bench.ground
    if ahead > 0:  # By our clock each lives ten minutes longer than the target thinks.
        ground.azure_ahead = ahead
        ground.entra.lifetime = 14
        ground.launch()
        bench.flow()
        with bench.fault():
            ground.entra.lifetime = 3600
            bench.rest(15)
            bench.felt()
        return
    ground.entra.lifetime = 12
    ground.launch()
    bench.flow()
    with bench.fault():
        ground.entra.lifetime = 300  # Over already, by our clock.
        ground.azure_ahead = ahead
        bench.see(NO_TOKEN)
        ground.azure_ahead = 0.0


def clock_with_certificate(bench: Bench) -> None:
    """What the application proves itself with has expired by Entra's clock."""
    ground = bench.ground
    certificate = client_authority().issue()
    file = ground.folder / "client.pem"
    file.write_bytes(certificate.pem())
    file.chmod(0o600)
    application = ground.entra.register(Application(certificates=(certificate.certificate,)))
    settings = {
        "IDENTITY_TYPE": "aadapplication",
        "AAD_CLIENT_CERTIFICATE_PATH": str(file),
        **ground.entra.application_environment(application, ground.folder / "entra-ca.pem"),
    }
    with bench.fault(from_start=True):
        ground.azure_ahead = OUT_OF_TIME
        proxy = ground.launch(ready=False, **settings)
        bench.flow(good=False)
        assert "AADSTS700024" in proxy.wait_for_event(FAILED)["Error"]
        bench.see(NO_TOKEN)
        ground.azure_ahead = 0.0


def _rows() -> list[Row]:
    rows = []
    for name, fault in FAULTS.items():
        told = (FAILED,) if fault.fails else ()
        rows += [
            Row(
                name,
                "start",
                partial(at_start, fault),
                sees=frozenset() if name == "tokens of 30 s" else frozenset({NO_TOKEN}),
                ready=("503",),
                log=told,
                bound=fault.bound,
                shared=False,
                slow=name != "400",
                may_see=frozenset({NO_TOKEN}),
            ),
            Row(
                name,
                "refresh",
                partial(at_refresh, fault),
                log=told,
                shared=False,
                slow=True,
            ),
            Row(
                name,
                "expired",
                partial(when_expired, fault),
                sees=frozenset({NO_TOKEN}),
                ready=("503",),
                log=(FAILED,) if name != "no response" else (),
                bound=fault.bound or BACKOFF,
                shared=False,
                slow=True,
            ),
        ]
    rows += [
        Row(
            "ten bytes a second",
            "start",
            dripping_at_start,
            sees=frozenset({NO_TOKEN}),
            ready=("503",),
            bound="30 s for a response, then back-off",
            shared=False,
        ),
        Row("ten bytes a second", "refresh", dripping_at_refresh, shared=False),
        Row("ten bytes a second", "of callers' keys", dripping_keys, shared=False),
    ]
    rows.append(
        Row(
            "our clock 10 minutes slow",
            "start, with a client certificate",
            clock_with_certificate,
            sees=frozenset({NO_TOKEN}),
            ready=("503",),
            log=(FAILED,),
            bound=BACKOFF,
            shared=False,
            slow=True,
        )
    )
    clocks = (
        ("our clock 10 minutes slow", OUT_OF_TIME),
        ("our clock 10 minutes fast", -OUT_OF_TIME),
    )
    for name, ahead in clocks:
        fast = ahead < 0
        rows += [
            Row(name, "start", partial(clock_at_start, ahead), shared=False, slow=True),
            Row(name, "refresh", partial(clock_at_refresh, ahead), shared=False, slow=True),
            Row(
                name,
                "tokens of less than 10 minutes",
                partial(clock_when_expired, ahead),
                sees=frozenset({NO_TOKEN}) if fast else frozenset(),
                ready=("503",) if fast else (),
                log=(FAILED,) if fast else (),
                bound=BACKOFF if fast else "a fresh token after the target's 401",
                shared=False,
                slow=True,
            ),
        ]
    return rows


ROWS = _rows()

"""Where a thread has ended that must not, /health says so with 503 and names it.

No client can have one end: a fault that is planted in the real process raises SystemExit in the
thread whose name a file has, which none of our last stops catches.
"""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.process import SOURCE, ProxyProcess, free_port, wait_until
from tests.support.tls_client import Certificates, TLSClient
from tests.support.upstream import Exchange, Upstream
from tests.support.wire import Client, Response, exchange, message

FAULT = """
import ctypes, os, threading, time

def end_threads():
    while True:
        time.sleep(0.02)
        try:
            with open({order!r}) as order:
                name = order.read()
        except OSError:
            continue
        for thread in threading.enumerate():
            if thread.name == name:
                ident = ctypes.c_ulong(thread.ident)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
                os.rename({order!r}, {done!r})

def start():
    threading.Thread(target=end_threads, daemon=True).start()

start()
os.register_at_fork(after_in_child=start)
"""


@dataclass(frozen=True)
class Vital:
    """A thread, what it is called in /health, and what has it run, so that it meets its end."""

    thread: str
    told: str
    wake: Callable[[ProxyProcess], object] = lambda proxy: None
    #: What starts it, where it does not run from the beginning on; returned to be kept.
    begin: Callable[[ProxyProcess], object] = lambda proxy: None
    settings: dict[str, str] = field(default_factory=dict)


def scrape(proxy: ProxyProcess) -> None:
    exchange(("127.0.0.1", int(proxy.settings["METRICS_PORT"])), message("GET /metrics"))


def open_tunnel(proxy: ProxyProcess) -> Client:
    client = proxy.connect()
    client.send(message("GET /tunnel", "Connection: Upgrade", "Upgrade: echo"))
    assert client.receive_head().status == 101
    return client


def switch(exchange: Exchange) -> None:
    exchange.send(actions.head("101 Switching Protocols", "Upgrade: echo", "Connection: Upgrade"))
    for _ in exchange.switched():
        pass
    exchange.close()


VITAL = [
    Vital("reload", "reload", lambda proxy: proxy.signal(signal.SIGHUP)),
    Vital("metrics-port", "metrics-port", settings={"METRICS_PORT": "yes"}),
    Vital("watched file", "watched file", settings={"INBOUND_TOKEN_FILE": "yes"}),
    Vital("log", "log", lambda proxy: proxy.get("/x")),
    Vital("tunnels", "tunnels", begin=open_tunnel),
    Vital(
        "parent reader",
        "parent channel",
        scrape,
        settings={"METRICS_PORT": "yes", "WORKERS": "2"},
    ),
    Vital(
        "TLS certificate",
        "TLS certificate",
        settings={"LISTENING_TLS_CERTIFICATE_FILE": "yes", "LISTENING_TLS_KEY_FILE": "yes"},
    ),
]


def health(proxy: ProxyProcess, tls: ssl.SSLContext | None) -> Response:
    """Return what /health says."""
    if tls is None:
        return proxy.get("/health")
    with TLSClient(proxy.address, tls) as client:
        return client.ask(message("GET /health"))


@pytest.mark.parametrize("vital", VITAL, ids=lambda each: each.thread)
def test_health_names_a_thread_that_has_ended(
    launch: Launch, target: Upstream, tmp_path: Path, vital: Vital
) -> None:
    order, done = tmp_path / "order", tmp_path / "done"
    code = FAULT.format(order=str(order), done=str(done))
    (tmp_path / "sitecustomize.py").write_text(code)
    (tmp_path / "tokens").write_text("correct-horse-battery-staple")
    certificates = Certificates(tmp_path)
    tls = certificates.client_context() if "LISTENING_TLS_KEY_FILE" in vital.settings else None
    made = {
        "METRICS_PORT": str(free_port()),
        "INBOUND_TOKEN_FILE": str(tmp_path / "tokens"),
        **certificates.settings,
    }
    settings = {**vital.settings, **{name: made[name] for name in made if name in vital.settings}}
    proxy = launch(ready=tls is None, PYTHONPATH=f"{tmp_path}:{SOURCE}", **settings)
    target.on("/tunnel", switch)
    kept = vital.begin(proxy)
    assert health(proxy, tls).status == 200
    (tmp_path / "new").write_text(vital.thread)
    (tmp_path / "new").rename(order)
    wait_until("the fault is there", done.exists)
    vital.wake(proxy)
    bad: list[Response] = []  # of two workers one is well

    def told() -> bool:
        bad[:] = [each for each in (health(proxy, tls),) if each.status == 503]
        return bool(bad)

    wait_until("/health tells", told)
    assert json.loads(bad[0].body)["status"] == f"a thread has ended: {vital.told}"
    if isinstance(kept, Client):
        kept.close()

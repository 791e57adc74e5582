"""Programs of this year write through the proxy, and lose no sample to what goes wrong meanwhile.

A Prometheus 3 scrapes itself and writes by remote write 1.0 into a VictoriaMetrics, and by 2.0 into
another Prometheus. A vmagent scrapes itself and writes into both: in its own protocol, packed with
zstd, and by remote write, to which the Prometheus has it fall back. All of that goes through one
proxy with two routes. Each sender meets each trouble once, and then a restart of the proxy.
Afterwards, what has arrived is held against what was scraped.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from authproxy.demo.stand_ins.snappy import decompress
from tests.conftest import Launch
from tests.support import newer_debian
from tests.support.gatekeeper import SENDER, Gatekeeper
from tests.support.identity import AUDIENCE, identity_settings
from tests.support.process import ProxyProcess, wait_until
from tests.support.prometheus import (
    Prometheus,
    Reply,
    Route,
    Samples,
    ServerAuthority,
    Store,
    ask,
    missing,
    numbers,
)
from tests.support.routes import to, write_routes
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Recorded, Upstream
from tests.support.victoria_metrics import To, VictoriaMetrics, VMAgent

pytestmark = [pytest.mark.real("prometheus 3", "vmagent"), pytest.mark.timeout(900)]

#: Seconds for what takes some, and a minute where everything else runs too.
PATIENCE = 100.0

#: What the requests of each sender meet, one each. After a 401 and on a connection that was reset
#: the proxy may send the same request again, which then meets the next one.
TROUBLES = ("403", "401", "307", "reset")

V2 = "io.prometheus.write.v2.Request"
VMAGENT = '{job="vmagent"}'


@dataclass
class Stack:
    """All that runs, and what came of it."""

    proxy: ProxyProcess
    sender: Prometheus
    agent: VMAgent
    prometheus: Prometheus
    victoria: VictoriaMetrics
    gatekeepers: Mapping[str, Gatekeeper]
    missing: dict[str, Samples]
    lost: dict[str, float]

    def requests_of(self, sender: str) -> list[Recorded]:
        """Return the requests of a sender that have come whole: it goes on sending."""
        return [
            request
            for gatekeeper in self.gatekeepers.values()
            for request in gatekeeper.upstream.requests
            if request.complete and request.one(SENDER) == sender
        ]


#: Each sender, and the store that it writes to.
WRITERS = {
    "prometheus-1.0": "victoria",
    "prometheus-2.0": "prometheus",
    "vmagent-zstd": "victoria",
    "vmagent-snappy": "prometheus",
}


@pytest.fixture(scope="module")
def stack(
    launch_for_module: Launch,
    shared_entra: StandInEntra,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    program = newer_debian.require("prometheus")
    folder = tmp_path_factory.mktemp("newer")
    servers = ServerAuthority(folder)
    with ExitStack() as running:
        enter = running.enter_context
        victoria = enter(VictoriaMetrics(folder / "victoria"))
        reference = enter(VictoriaMetrics(folder / "reference"))
        prometheus = enter(Prometheus(folder / "receiver", servers, program=program))
        gatekeepers = {}
        for name, store in (("victoria", victoria), ("prometheus", prometheus)):
            upstream = Upstream(servers.context("localhost"))
            running.callback(upstream.close)
            gatekeepers[name] = Gatekeeper(shared_entra, AUDIENCE, store, upstream)
        routes = [
            to(gatekeeper.upstream, path=f"/{name}", strip_path=True)
            for name, gatekeeper in gatekeepers.items()
        ]
        proxy = launch_for_module(
            **identity_settings(shared_entra),
            AUTHPROXY_CONFIG=str(write_routes(folder / "authproxy.yaml", routes)),
            TARGET_CA_FILE=str(servers.bundle),
            without=("TARGET_HOST",),
        )
        url = f"http://127.0.0.1:{proxy.port}"
        second_proxy = enter(ExitStack())  # to be ended after the senders
        sender = enter(
            Prometheus(
                folder / "sender",
                program=program,
                options=["--enable-feature=metadata-wal-records"],
                more={"remote_read": [remote_read(f"{url}/prometheus/api/v1/read")]},
            )
        )
        agent = enter(
            VMAgent(
                folder / "agent",
                [
                    To(f"http://127.0.0.1:{reference.port}/api/v1/write", "nobody"),
                    To(f"{url}/victoria/api/v1/write", "vmagent-zstd"),
                    To(f"{url}/prometheus/api/v1/write", "vmagent-snappy"),
                ],
            )
        )
        sender.wait_for_scrapes(1)
        since = int(time.time() * 1000)
        first, second = (
            enter(
                sender.writing_to(
                    name, f"{url}/{WRITERS[name]}/api/v1/write", headers={SENDER: name}, **more
                )
            )
            for name, more in (
                ("prometheus-1.0", {"metadata_config": {"send_interval": "1s"}}),
                ("prometheus-2.0", {"protobuf_message": V2}),
            )
        )
        stack = Stack(proxy, sender, agent, prometheus, victoria, gatekeepers, {}, {})
        make_trouble(stack)
        stack.proxy = second_proxy.enter_context(restarted(stack))
        judge(stack, reference, [first, second], since)
        yield stack


def remote_read(url: str) -> dict[str, object]:
    return {"url": url, "read_recent": True, "required_matchers": {"job": "vmagent"}}


def make_trouble(stack: Stack) -> None:
    """Return once each sender has met all troubles, and has sent on."""

    def all_have_passed(more_than: Mapping[str, int]) -> bool:
        return all(
            stack.gatekeepers[WRITERS[name]].passed[name] > count
            for name, count in more_than.items()
        )

    wait_until("all send", lambda: all_have_passed(dict.fromkeys(WRITERS, 0)), deadline=PATIENCE)
    for name, store in WRITERS.items():
        stack.gatekeepers[store].coming[name].extend(TROUBLES)
    coming = [stack.gatekeepers[store].coming[name] for name, store in WRITERS.items()]
    wait_until("all troubles are met", lambda: not any(coming), deadline=2 * PATIENCE)
    passed = {name: stack.gatekeepers[store].passed[name] for name, store in WRITERS.items()}
    wait_until("all send on", lambda: all_have_passed(passed), deadline=PATIENCE)


def restarted(stack: Stack) -> ProxyProcess:
    """End the proxy while all send; return it, to be started in the same place."""
    tried = stack.agent.total("vmagent_remotewrite_retries_count_total")
    stack.proxy.signal(signal.SIGTERM)
    assert stack.proxy.wait() == 0
    stack.sender.wait_for_scrapes(4)
    wait_until(
        "vmagent tries again",
        lambda: stack.agent.total("vmagent_remotewrite_retries_count_total") > tried,
    )
    return ProxyProcess({**stack.proxy.settings, "LISTENING_PORT": str(stack.proxy.port)})


def judge(stack: Stack, reference: Store, routes: list[Route], since: int) -> None:
    """Compare what has arrived with what was scraped, by sender."""
    stores: dict[str, Store] = {"victoria": stack.victoria, "prometheus": stack.prometheus}
    for route in routes:
        absent = route.missing_from(stores[WRITERS[route.name]])
        stack.missing[route.name] = numbers(absent)  # VictoriaMetrics keeps no NaN
        stack.lost[route.name] = route.lost
    until = int(time.time() * 1000)
    wait_for_later_samples(reference, until)
    for name in ("vmagent-zstd", "vmagent-snappy"):
        store = stores[WRITERS[name]]
        wait_for_later_samples(store, until)
        stack.missing[name] = missing(reference, store, VMAGENT, since, until)
        stack.lost[name] = stack.agent.total("vmagent_remotewrite_packets_dropped_total")


def wait_for_later_samples(store: Store, until: int) -> None:
    """Return once the store has what vmagent scraped after `until` (ms): it sends in order."""

    def has_later_ones() -> bool:
        return bool(store.samples(f"up{VMAGENT}", until, int(time.time() * 1000)))

    wait_until("vmagent's later samples", has_later_ones, deadline=PATIENCE)


@pytest.mark.parametrize("name", WRITERS)
def test_no_sample_is_lost(stack: Stack, name: str) -> None:
    assert stack.missing[name] == {}
    assert stack.lost[name] == 0
    gatekeeper = stack.gatekeepers[WRITERS[name]]
    for trouble in TROUBLES:
        assert gatekeeper.met[name, trouble] == 1
    assert gatekeeper.without_token == 0
    assert gatekeeper.upstream.faults == []


def test_each_speaks_its_own_protocol_and_vmagent_falls_back_on_a_refusal(stack: Stack) -> None:
    spoken = {
        name: {
            (request.one("Content-Encoding"), request.one("Content-Type"))
            for request in stack.requests_of(name)
        }
        for name in WRITERS
    }
    protobuf = "application/x-protobuf"
    zstd, snappy = ("zstd", protobuf), ("snappy", protobuf)
    assert spoken == {
        "prometheus-1.0": {snappy},
        "prometheus-2.0": {("snappy", f"{protobuf};proto={V2}")},
        "vmagent-zstd": {zstd},
        "vmagent-snappy": {zstd, snappy},
    }


def written_again(stack: Stack, content_type: str) -> tuple[Reply, Reply]:
    """Send what a sender of 2.0 has sent last; return the response past the proxy, and through."""
    last = stack.requests_of("prometheus-2.0")[-1]
    fields = {
        "Content-Type": content_type,
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "2.0.0",
    }
    url, store = "/api/v1/write", stack.prometheus
    direct = store.ask("POST", url, headers=fields, body=last.body)
    through = ask(stack.proxy.port, "POST", f"/prometheus{url}", headers=fields, body=last.body)
    return direct, through


def test_the_sender_is_told_what_was_written(stack: Stack) -> None:
    """Without these fields a sender of 2.0 takes it that nothing was."""
    direct, through = written_again(stack, f"application/x-protobuf;proto={V2}")
    assert through.status == direct.status == 204
    for kind in ("Samples", "Histograms", "Exemplars"):
        name = f"X-Prometheus-Remote-Write-{kind}-Written"
        assert through.headers[name] == direct.headers[name]
    assert int(through.headers["X-Prometheus-Remote-Write-Samples-Written"]) > 0


def test_a_store_that_does_not_know_the_message_says_so(stack: Stack) -> None:
    direct, through = written_again(stack, "application/x-protobuf;proto=unheard.of.Request")
    assert through.status == direct.status == 415
    assert through.body == direct.body


def test_metadata_arrives(stack: Stack) -> None:
    metric = "prometheus_http_requests_total"
    exposed = stack.sender.ask("GET", "/metrics").body.decode()
    [meaning] = re.findall(rf"^# HELP {metric} (.*)$", exposed, re.MULTILINE)
    # By 1.0 in requests of its own, by 2.0 with the samples, whose store keeps none.
    [kept] = stack.victoria.ask("GET", f"/api/v1/metadata?metric={metric}").data()[metric]
    assert (kept["type"], kept["help"]) == ("counter", meaning)
    # What is scraped at once may be sent in parts, of which one has this metric.
    sent = stack.requests_of("prometheus-2.0")
    assert any(meaning.encode() in decompress(each.body, 2**24) for each in reversed(sent))


def test_a_remote_read_is_answered(stack: Stack) -> None:
    query = f"count_over_time(up{VMAGENT}[1m])"
    now = time.time()
    read, stored = (each.query(query, now)["result"] for each in (stack.sender, stack.prometheus))
    assert [series["metric"] for series in read] == [series["metric"] for series in stored]
    assert int(read[0]["value"][1]) > 10
    requests = stack.gatekeepers["prometheus"].upstream.requests
    assert any(request.target == b"/api/v1/read" for request in requests)

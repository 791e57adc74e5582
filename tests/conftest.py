"""What every test may ask for: a target, an identity, and the real proxy between.

The target, the identity endpoint and one proxy process with ordinary settings
are shared by the whole run, since a start takes about a second. `target`
forgets its script and records before each test. A test whose settings or state
matter starts a proxy of its own with `launch`; a module's worth of such tests
shares one through `launch_for_module`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from authproxy.demo.stand_ins.signing import SigningKey
from tests.deploy.apache.differences import is_about, mark_for, name_of
from tests.support.apache import ApacheProcess
from tests.support.authority import Authority
from tests.support.identity import identity_settings
from tests.support.mod_wsgi_express import ExpressProcess
from tests.support.process import ProxyProcess
from tests.support.stand_ins.entra import StandInEntra
from tests.support.upstream import Upstream

Launch = Callable[..., ProxyProcess]

# `nohup make test &` starts with both ignored, which all that the tests start would inherit.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

#: Who may serve in the tests of `tests/e2e`: `pytest tests/e2e --server apache`.
SERVERS = {"serve": ProxyProcess, "apache": ApacheProcess, "express": ExpressProcess}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server", choices=SERVERS, default="serve", help="what serves the proxy under test"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With another server, run what is about it, and hold it to its known differences."""
    server = config.getoption("--server")
    if server == "serve":
        return
    kept = [item for item in items if is_about(server, name_of(item.nodeid))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    for item in kept:
        item.add_marker(pytest.mark.real("apache2"))
        if mark := mark_for(name_of(item.nodeid)):
            item.add_marker(mark)
    items[:] = kept


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> type[ProxyProcess]:
    """What serves the proxy under test."""
    return SERVERS[request.config.getoption("--server")]


# A shared machine is slow at times: an example that took long is no fault. The examples are the
# same in each run, so that a change is judged by what it changes; `make soak` tries others.
_same = hypothesis_settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.register_profile("authproxy", _same)
hypothesis_settings.register_profile("quick", _same, max_examples=15)
hypothesis_settings.register_profile("thorough", _same, derandomize=False, max_examples=1000)
hypothesis_settings.load_profile("authproxy")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Under CI no file of tests is skipped as a whole: no marker can say what it needs."""
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"CI runs every file of tests: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI a skipped test of a real program is a failure: nothing was shown."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and in_ci():
        marker = item.get_closest_marker("real")
        if marker is not None:
            report.outcome = "failed"
            report.longrepr = f"CI needs the real {', '.join(marker.args)}: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA that the proxy is told to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def shared_entra() -> Iterator[StandInEntra]:
    with StandInEntra() as entra:
        yield entra


@pytest.fixture(scope="session")
def shared_upstream(authority: Authority) -> Iterator[Upstream]:
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


@pytest.fixture
def target(shared_upstream: Upstream) -> Iterator[Upstream]:
    """The recording target, over TLS, with nothing recorded or scripted yet."""
    shared_upstream.reset()
    yield shared_upstream
    faults = list(shared_upstream.faults)
    shared_upstream.reset()
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def base_settings(
    authority: Authority, shared_upstream: Upstream, shared_entra: StandInEntra
) -> dict[str, str]:
    """Settings that lead a proxy to the shared target and identity endpoint."""
    return {
        "TARGET_HOST": shared_upstream.authority,
        "TARGET_CA_FILE": str(authority.bundle),
        "LISTENING_HOST": "127.0.0.1",
        "SHUTDOWN_GRACE_SECONDS": "5",
        **identity_settings(shared_entra),
    }


def _launcher(stack: ExitStack, base: dict[str, str], server: type[ProxyProcess]) -> Launch:
    def launch(
        *,
        ready: bool = True,
        without: tuple[str, ...] = (),
        unix_socket: Path | None = None,
        tracebacks: bool = False,
        **settings: str,
    ) -> ProxyProcess:
        """Start a proxy with the base settings changed by `settings`."""
        merged = {**base, **settings}
        for name in without:
            del merged[name]
        process = server(merged, unix_socket=unix_socket, tracebacks=tracebacks)
        stack.push(process.__exit__)
        return process.start(ready=ready)

    return launch


@pytest.fixture
def launch(base_settings: dict[str, str], server: type[ProxyProcess]) -> Iterator[Launch]:
    """Start proxies of one test's own; they are stopped, and checked, at its end."""
    with ExitStack() as stack:
        yield _launcher(stack, base_settings, server)


@pytest.fixture(scope="module")
def launch_for_module(
    base_settings: dict[str, str], server: type[ProxyProcess]
) -> Iterator[Launch]:
    """Start proxies that the tests of one module share."""
    with ExitStack() as stack:
        yield _launcher(stack, base_settings, server)


@pytest.fixture(scope="session")
def shared_proxy(
    base_settings: dict[str, str], server: type[ProxyProcess]
) -> Iterator[ProxyProcess]:
    with server(base_settings) as process:
        yield process
        # Else it would have used no connection again, whatever the tests after that were about.
        assert "Unsolicited bytes" not in process.log, process.log


@pytest.fixture
def proxy(shared_proxy: ProxyProcess, target: Upstream) -> ProxyProcess:
    """The shared proxy, in front of `target`; tests leave it as they found it."""
    assert shared_proxy.running, shared_proxy.log
    return shared_proxy


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    """One key for the endpoints of all tests: making one takes longer than most of them."""
    return SigningKey()


@pytest.fixture(scope="session")
def other_key() -> SigningKey:
    """Another, which no endpoint publishes."""
    return SigningKey()


@pytest.fixture
def entra(signing_key: SigningKey) -> Iterator[StandInEntra]:
    """An identity endpoint of one test's own, to be troubled at will."""
    with StandInEntra(signing_key=signing_key) as own:
        yield own

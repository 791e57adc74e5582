"""/status in a real browser: readable in any light and width, without a script, by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Launch
from tests.support import actions
from tests.support.authority import Authority
from tests.support.identity import application_settings
from tests.support.outcomes import REMOTE_WRITE
from tests.support.process import free_port
from tests.support.routes import to, write_routes
from tests.support.stand_ins.entra import StandInEntra
from tests.support.status import settled_status
from tests.support.upstream import Upstream
from tests.support.wire import message

browser_support = pytest.importorskip("tests.support.browser", exc_type=ImportError)

pytestmark = [pytest.mark.real("chromium"), pytest.mark.real("axe-core")]

#: Colours and widths have nothing to do with each other: two of four are enough.
SHAPES = [("light", 1200), ("dark", 320)]

TITLE = (
    "authproxy: ready, but the target responds with 403 to every write (route /a); "
    "there is no valid token (route /b)"
)

MARKUP = "<script>document.title='run'</script><img/src=/planted/onerror=alert(2)>"

#: What is wider than the window, so that somebody has to scroll sideways.
TOO_WIDE = """[...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
    .map(each => each.outerHTML.slice(0, 80))"""

AXE_RUN = """async () => {
    document.querySelectorAll("details").forEach(each => each.open = true);
    const { violations, passes } = await axe.run();
    return {
        passed: passes.length,
        violations: violations.map(each => [each.id, each.nodes.map(node => node.html)]),
    };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browser_support.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_url(
    launch_for_module: Launch,
    shared_upstream: Upstream,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The page of a proxy that has everything to tell.

    Routes, a target that refuses every write, a failing identity, failures.
    """
    folder, port = tmp_path_factory.mktemp("s"), free_port()
    shared_upstream.reset()
    other = Upstream(authority.context())
    with StandInEntra() as entra, closing(other):
        application = application_settings(entra, folder)
        failing = {name.lower(): value for name, value in application.items() if "AAD" in name}
        failing |= {"identity_type": "aadapplication", "aad_client_secret": "not-the-secret"}
        routes = [to(shared_upstream, path="/a"), to(other, path="/b", **failing)]
        config = write_routes(folder / "authproxy.yaml", routes)
        proxy = launch_for_module(
            without=("TARGET_HOST",),
            AUTHPROXY_CONFIG=str(config),
            METRICS_PORT=str(port),
            REQUESTS_CA_BUNDLE=application["REQUESTS_CA_BUNDLE"],
        )
        proxy.wait_for_line("Failed to refresh token")
        wide = "w" * 300
        refusal = actions.answer("500 Oops", body=f"{MARKUP} {wide}".encode())
        shared_upstream.on("/a/fine", actions.raw(actions.answer(200)))
        shared_upstream.on("/a/bad", actions.raw(refusal))
        assert proxy.get("/a/fine").status == 200
        assert proxy.get(f"/a/bad?{MARKUP}").status == 500
        assert proxy.get(f"/{wide}").status == 404
        assert proxy.get("/b").status == 503
        assert proxy.get(f"/a/{MARKUP}").status == 200
        shared_upstream.respond(actions.answer("403 Forbidden", body=b"no role"))
        for _ in range(3):
            write = message("POST /a/api/v1/write", REMOTE_WRITE, body=b"x")
            assert proxy.ask(write).status == 503
        settled_status(port)
        yield f"http://127.0.0.1:{port}/status"


@pytest.mark.parametrize(("scheme", "width"), SHAPES)
def test_the_page_stands_in_every_shape_without_a_script(
    browser: Any, page_url: str, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
        java_script_enabled=False,
    )
    asked: list[str] = []
    said: list[str] = []
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda line: said.append(line.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(page_url, wait_until="load")
    assert tab.title() == TITLE
    assert tab.get_by_role("heading", level=1).inner_text() == "authproxy"
    assert tab.get_by_role("heading", name="/a", exact=True).is_visible()
    assert tab.get_by_text("AADSTS7000215").first.is_visible()
    assert tab.get_by_text("The target responds with 403 to every write", exact=True).is_visible()
    assert tab.get_by_text(MARKUP).first.is_visible()
    tab.get_by_text("The numbers").click()
    assert tab.get_by_role("columnheader", name="2xx of the target").is_visible()
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(each) for each in ground.removeprefix("rgb(").rstrip(")").split(",")]
    assert (sum(channels) / 3 > 128) == (scheme == "light"), ground
    assert tab.evaluate(TOO_WIDE) == []
    bars = tab.locator(".chart svg rect")
    assert bars.count() >= 3
    assert bars.first.bounding_box()["height"] > 1
    with tab.expect_navigation(wait_until="load"):
        tab.get_by_role("link", name="Reload", exact=True).click()
    assert asked == [page_url, page_url]
    assert said == []
    context.close()


@pytest.mark.parametrize(("scheme", "width"), SHAPES)
def test_axe_finds_nothing_in_the_way_of_anybody(
    browser: Any, page_url: str, scheme: str, width: int
) -> None:
    axe: Path = browser_support.AXE
    if not axe.exists():
        pytest.skip("no axe-core: make browser-deps")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    tab = context.new_page()
    tab.goto(page_url, wait_until="load")
    assert tab.title() == TITLE  # markup ran nothing
    tab.evaluate(axe.read_text())
    found = tab.evaluate(AXE_RUN)
    assert found["violations"] == []
    assert found["passed"] > 15
    context.close()

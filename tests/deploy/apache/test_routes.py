"""Several targets under mod_wsgi: the routes of the settings file, read anew after a touch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.apache.conftest import LaunchApache
from tests.support.authority import Authority
from tests.support.expect import assert_own_error
from tests.support.process import wait_until
from tests.support.routes import to
from tests.support.upstream import Upstream

pytestmark = pytest.mark.real("apache2")


@pytest.fixture
def second(authority: Authority) -> Iterator[Upstream]:
    upstream = Upstream(authority.context())
    yield upstream
    upstream.close()


def test_each_request_goes_where_its_route_leads_and_a_touch_has_changed_ones_read(
    launch_apache: LaunchApache, target: Upstream, second: Upstream
) -> None:
    apache = launch_apache(
        settings={"TARGET_HOST": ""},  # Each route has its own.
        routes=[to(target, path="/ingest", strip_path=True), to(second, path="/query")],
    )
    assert apache.get("/ingest/a%2Fb//c?x=%20").status == 200
    assert apache.get("/query/api").status == 200
    assert_own_error(apache.get("/other"), 404, "NoRoute")
    assert target.only().target == b"/a%2Fb//c?x=%20"
    assert second.only().target == b"/query/api"
    apache.routes = [*apache.routes, to(second, path="/other")]
    apache.write_settings()
    apache.touch_script()
    wait_until("the new route is there", lambda: apache.get("/other").status == 200)
    assert apache.get("/query/api").status == 200

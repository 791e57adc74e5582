"""A server that runs out of descriptors goes on serving."""

from __future__ import annotations

from tests.support.programs import output_of


def test_idle_connections_give_way_where_there_is_room_for_no_more() -> None:
    assert "served, and the busy one kept" in output_of(IDLE_CROWD)


IDLE_CROWD = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from authproxy.server.limits import Limits
from tests.support.serving import Serving
from tests.support.wire import message
from tests.unit.server.test_connections import Stalls
with Serving(Stalls(), Limits(threads=232)) as server:  # room for 16 connections
    busy = server.connect()
    busy.send(message("GET /endless"))
    assert busy.receive_head().status == 200
    crowd = [server.connect() for _ in range(40)]
    assert server.get("/").body == b"ok"
    assert busy.stream.fill()
    busy.close()
    for client in crowd:
        client.close()
print("served, and the busy one kept")
"""


def test_more_connections_than_descriptors_allow_wait_their_turn() -> None:
    # In a process of its own, as a lowered hard limit cannot be raised again.
    assert "all answered" in output_of(FEW_DESCRIPTORS)


FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
from authproxy.server.limits import Limits, connection_limit
limits = Limits(threads=232)  # 1024 descriptors, less 4 for each thread, less 64: room for 16
assert connection_limit(limits) == 16
from tests.support.serving import Serving
from tests.support.wire import message
from tests.unit.server.test_connections import Stalls
server = Serving(Stalls(), limits)
clients = [server.connect() for _ in range(40)]
for client in clients:
    client.send(message("GET /", "Connection: close"))  # before any can be idle
with server:
    for client in clients:
        assert client.receive().body == b"ok"
        client.close()
print("all answered")
"""

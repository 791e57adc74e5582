"""The members of waitress that the server overrides, reads or stands in for, listed once.

waitress keeps none of them stable but `Adjustments`, hence its upper bound in setup.cfg: a
release that renames one, or asks for another, fails here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser
from waitress.task import Task, WSGITask

from authproxy.server.application_task import ApplicationTask
from authproxy.server.exchange import Exchange, Site
from authproxy.server.request_body import RequestBody
from authproxy.server.request_head import Request

HEAD = b"POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

#: What the subclasses override.
OVERRIDDEN = {
    ApplicationTask: {
        *("complete", "content_length", "execute", "get_environment", "has_body", "logger"),
        *("service", "write", "wrote_header"),
    },
    Request: {"__init__", "chunked", "command", "parse_header", "request_uri"},
}

#: What they inherit, and use by its name.
READ = {
    ApplicationTask: {
        *("channel", "chunked_response", "close_on_finish", "content_bytes_written", "finish"),
        *("request", "response_headers", "start", "start_time", "status", "version"),
    },
    Request: {
        *("body_rcv", "content_length", "expect_continue", "headers", "path"),
        *("query", "version"),
    },
}

#: What waitress asks of those that are in the place of its own.
CHANNEL = {"addr", "check_client_disconnected", "server", "write_soon"}
SERVER = {"adj", "application", "effective_port", "server_name"}
BODY = {"getbuf", "getfile"}


def attributes_of(owner: str, *classes: type[Any]) -> set[str]:
    """Return the attributes of a variable or attribute of this name that the classes use."""
    return {
        node.attr
        for each in classes
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each))))
        if isinstance(node, ast.Attribute)
        and owner in (getattr(node.value, "id", None), getattr(node.value, "attr", None))
    }


def members(subclass: type[Any]) -> set[str]:
    """Return the members that an object of waitress's own class has."""
    if subclass is Request:
        parser = HTTPRequestParser(Adjustments())
        parser.parse_header(HEAD)
        return set(dir(parser))
    return set(dir(WSGITask(None, Request(HEAD, Adjustments(), 10))))


@pytest.mark.parametrize("subclass", [ApplicationTask, Request])
def test_what_is_overridden_is_listed_and_there(subclass: type[Any]) -> None:
    own = {name for name in vars(subclass) if not name.startswith("__")} | {"__init__"}
    assert own & vars(subclass).keys() & members(subclass) == OVERRIDDEN[subclass]
    assert inspect.get_annotations(subclass).keys() <= members(subclass) | vars(subclass).keys()


@pytest.mark.parametrize("subclass", [ApplicationTask, Request])
def test_what_is_inherited_and_used_is_listed_and_there(subclass: type[Any]) -> None:
    used = attributes_of("self", subclass) - OVERRIDDEN[subclass]
    assert used & members(subclass) == READ[subclass]
    assert used <= members(subclass) | set(dir(subclass))


def test_waitress_asks_for_no_more_than_the_parts_in_place_of_its_own_have() -> None:
    asked_of_channel = attributes_of("channel", Task, WSGITask)
    assert asked_of_channel == CHANNEL | {"adj"}  # the latter in `service`, which is overridden
    assert attributes_of("server", WSGITask) == SERVER
    assert attributes_of("body_rcv", HTTPRequestParser) >= BODY
    assert CHANNEL - {"addr", "server"} <= set(dir(Exchange))
    assert set(Site.__dataclass_fields__) >= SERVER
    assert set(dir(RequestBody)) >= BODY

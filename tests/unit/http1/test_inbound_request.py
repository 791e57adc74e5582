"""A request is read once from whatever WSGI environment a server gives it."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from authproxy.cancellation import CANCELLATION_KEY, Cancellation
from authproxy.errors import BadRequest
from authproxy.http1.inbound_request import HEAD_CHECK_KEY, REQUEST_KEY, InboundRequest
from tests.support.inbound import inbound
from tests.support.source import MODULES


def test_fields_have_their_usual_names_and_untouched_values() -> None:
    request = inbound(
        "/",
        HTTP_X_PROMETHEUS_REMOTE_WRITE_VERSION=" 0.1.0",
        CONTENT_TYPE="application/x-protobuf",
        CONTENT_LENGTH="4",
        HTTPS="on",
    )
    assert request.fields == {
        "Host": "proxy.example.com",
        "X-Prometheus-Remote-Write-Version": " 0.1.0",
        "Content-Type": "application/x-protobuf",
    }
    assert request.content_length == "4"


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("localhost", None),
        ("", None),
    ],
)
def test_the_client_is_an_ip_address_or_nobody(remote: str, shown: str | None) -> None:
    assert inbound("/", REMOTE_ADDR=remote).client == shown


@pytest.mark.parametrize("raw", ["", "nonsense", "/a#b", "host:443"])
def test_a_request_that_cannot_be_forwarded_is_read_all_the_same(raw: str) -> None:
    request = inbound(raw, HTTP_X_REQUEST_ID="7")
    assert (request.method, request.request_id, request.raw_target) == ("GET", "7", raw)
    assert request.malformed
    for part in ("target", "path"):
        with pytest.raises(BadRequest, match=request.malformed):
            getattr(request, part)


def test_a_request_is_read_once_from_its_environment() -> None:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a?b"}
    request = InboundRequest.of(environ)
    environ["REQUEST_URI"] = "/other"
    assert InboundRequest.of(environ) is request
    assert (request.target, request.path) == ("/a?b", "/a")


def test_no_client_can_set_what_the_server_found() -> None:
    """A field of the same name is another member of the environment, in whatever case."""
    for key in (REQUEST_KEY, HEAD_CHECK_KEY, CANCELLATION_KEY):
        for name in (key, key.upper().replace(".", "_")):
            environ: dict[str, Any] = {
                "REQUEST_METHOD": "GET",
                "REQUEST_URI": "/",
                f"HTTP_{name}": "forged",
            }
            request = InboundRequest.of(environ)
            assert request.head_check is None
            assert request.target == "/"
            assert isinstance(request.cancellation, Cancellation)


def test_neither_body_nor_credentials_are_shown() -> None:
    request = inbound("/", body=io.BytesIO(b"secret"), fields={"Authorization": "Bearer secret"})
    assert "BytesIO" not in repr(request)
    assert "secret" not in repr(request)


def test_nothing_else_in_the_way_of_a_request_reads_its_environment() -> None:
    readers = {
        name
        for name, text in MODULES.items()
        if re.search(r"\b(environ|head)(\[|\.get\()", text)
        and name.startswith(("proxy/", "admission/"))
    }
    assert readers == set()

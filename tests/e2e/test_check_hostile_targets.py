"""`authproxy check` where the target, or the proxy before it, means harm: a result, no traceback.

One process checks them all, each by a route of its own.
"""

from __future__ import annotations

import gzip
import re
import ssl
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.actions import answer, head
from tests.support.authority import Authority
from tests.support.diagnosing import Check
from tests.support.forward_proxy import ForwardProxy
from tests.support.routes import write_routes
from tests.support.upstream import Exchange, Handler, Upstream

#: One process checks a dozen targets.
SUCCESS = b'{"status":"success","data":{}}'
BOMB = gzip.compress(bytes(64 * 1024 * 1024), mtime=0)
MANY = [f"X-{number}: {number}" for number in range(10_000)]
NO_JSON = b64encode(b"no JSON").decode()
CLAIMS = b64encode(b'{"access_token": ' + b"[" * 50_000).decode()


def sends(*parts: bytes) -> Handler:
    def handle(exchange: Exchange) -> None:
        exchange.send(*parts)
        exchange.close()

    return handle


def endless_head(exchange: Exchange) -> None:
    exchange.send("HTTP/1.1 200 OK\r\n")
    for number in count():
        exchange.send(f"X-{number}: {'x' * 1000}\r\n")


def endless_body(exchange: Exchange) -> None:
    exchange.send(head("500 Oh"))
    while True:
        exchange.send(b"x" * 65536)


#: What the target does, by the route's name; and what the request's summary says of it.
TARGETS: dict[str, tuple[Handler, str]] = {
    "location": (sends(answer("302 Found", "Location: http://[")), r"leads to http://\["),
    "location-bytes": (
        sends(answer("302 Found", b"Location: \xff\xe2\x80\xae//[::1".decode("latin-1"))),
        "leads to ",
    ),
    "charset": (
        sends(answer("500 Oh", 'Content-Type: text/html; charset="\xff"', body=b"\x80\xff\xfe{}")),
        "500 Oh: it is in trouble",
    ),
    "encoding": (
        sends(answer("500 Oh", "Content-Encoding: x-unheard-of, gzip", body=b"\x1f\x8b\x08nope")),
        "500 Oh: it is in trouble",
    ),
    "bomb": (
        sends(answer("200 OK", "Content-Encoding: gzip", body=BOMB)),
        "no response of Prometheus's API",
    ),
    "nul-in-body": (sends(answer("500 Oh", body=b"a\0b\x1b[2J")), "500 Oh: it is in trouble"),
    "nul-in-status": (sends(b"HTTP/1.1 200 O\0K\r\n\r\n"), "sent no valid"),
    "nul-in-field": (sends(answer("200 OK", "X: a\0b")), "sent no valid"),
    "many-fields": (sends(answer("200 OK", *MANY, body=SUCCESS)), "got 200 OK$"),
    "endless-head": (endless_head, "sent no valid"),
    "endless-body": (endless_body, "500 Oh: it is in trouble"),
    "date": (
        sends(answer("200 OK", "Date: Wed, 99 Jan 99999999999 99:99:99 +9999999", body=SUCCESS)),
        "got 200 OK$",
    ),
    "challenge": (
        sends(
            answer(
                "401 No",
                f'WWW-Authenticate: Bearer error="insufficient_claims", claims="{NO_JSON}"',
                'WWW-Authenticate: \x9b2J resource="\xff" authorization="https://x/$(y)"',
            )
        ),
        "does not take the token",
    ),
    "deep-challenge": (
        sends(
            answer("401 No", f'WWW-Authenticate: error="insufficient_claims", claims="{CLAIMS}"')
        ),
        "does not take the token",
    ),
    "nothing": (sends(), "closed the connection without a response"),
}


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory, base_settings: dict[str, str], authority: Authority
) -> Iterator[Check]:
    """A check of all of them."""
    home = tmp_path_factory.mktemp("hostile")
    upstream = Upstream(authority.context())
    for name, (handler, _) in TARGETS.items():
        upstream.on(f"/{name}/api/", handler)
    routes = [
        {"name": name, "path": f"/{name}", "target_host": f"{upstream.authority}/{name}"}
        for name in TARGETS
    ]
    config = write_routes(home / "authproxy.yaml", routes)
    settings = {**base_settings, "TARGET_HOST": "", "AUTHPROXY_CONFIG": str(config)}
    yield Check(home, settings, "--path", "/api/v1/labels")
    upstream.close()


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_target_sends_is_the_result_of_a_step(hostile: Check, name: str) -> None:
    assert hostile.errors == ""
    [step] = [
        each
        for each in hostile.report["steps"]
        if (each["route"], each["name"]) == (name, "request")
    ]
    assert re.search(TARGETS[name][1], step["summary"]), step
    assert len(str(step)) < 8000
    assert str(step["summary"]).isprintable()


# -- Certificates --------------------------------------------------------------


def odd_certificate(home: Path) -> ssl.SSLContext:
    """Return a server's context whose certificate has an extension twice."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twice\x1b[2J")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    for last in (8, 9):
        oid = x509.ObjectIdentifier(f"1.3.6.1.5.5.7.77.{last}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\0"), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    twice = der.replace(b"\x2b\x06\x01\x05\x05\x07\x4d\x09", b"\x2b\x06\x01\x05\x05\x07\x4d\x08")
    assert twice != der
    path = home / "odd.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + ssl.DER_cert_to_PEM_cert(twice).encode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_that_cannot_be_read_is_reported_without_its_names(
    tmp_path: Path, base_settings: dict[str, str]
) -> None:
    upstream = Upstream(odd_certificate(tmp_path))
    check = Check(tmp_path, {**base_settings, "TARGET_HOST": upstream.authority})
    assert (check.status, check.errors) == (3, "")
    upstream.close()
    assert check.outcomes["tls"] == "failed"
    assert check.outcomes["token"] == "ok"


# -- Forward proxies -----------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (b"HTTP/1.1 \xff\0\x1b[2J\r\n\r\n", "does not respond as one"),
        (b"HTTP/1.1 500 \x1b[2J\r\n\r\n", r"responded 500 \?\[2J$"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "does not respond as one"),
    ],
    ids=["no status", "escapes", "long field"],
)
def test_whatever_a_forward_proxy_says_is_the_result_of_a_step(
    tmp_path: Path, base_settings: dict[str, str], response: bytes, says: str
) -> None:
    with ForwardProxy(response) as proxy:
        check = Check(tmp_path, base_settings, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        assert (check.status, check.errors) == (3, "")
    assert check.outcomes["proxy"] == "failed"
    assert re.search(says, check.step("proxy")["summary"]), check.step("proxy")

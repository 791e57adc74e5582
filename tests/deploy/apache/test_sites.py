"""The sites of deploy/apache: TLS with client certificates, and beside an existing site."""

from __future__ import annotations

import socket
import ssl

import pytest
import trustme

from tests.deploy.apache.conftest import LaunchApache
from tests.support.apache import ApacheProcess
from tests.support.expect import assert_own_error
from tests.support.process import wait_until
from tests.support.upstream import Upstream
from tests.support.wire import DEADLINE, message

pytestmark = pytest.mark.real("apache2")

NAME = "authproxy.example.com"
LISTEN = "Listen 127.0.0.1:{port}"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """The CA of the server's certificate and the clients'."""
    return trustme.CA()


@pytest.fixture(scope="module")
def pki(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files that the TLS site names, and what to replace there."""
    folder = tmp_path_factory.mktemp("pki")
    certificate = ca.issue_cert(NAME)
    (folder / "server.key").write_bytes(certificate.private_key_pem.bytes())
    (folder / "server.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    return {
        f"/etc/ssl/certs/{NAME}.pem": str(folder / "server.pem"),
        f"/etc/ssl/private/{NAME}.key": str(folder / "server.key"),
        "/etc/authproxy/clients-ca.pem": str(folder / "ca.pem"),
    }


def context_for(ca: trustme.CA, client: trustme.LeafCert | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    return context


def over_tls(apache: ApacheProcess, context: ssl.SSLContext, target: str) -> bytes:
    """Ask for `target` over TLS; return the whole answer as bytes."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", apache.port), timeout=DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as sock,
    ):
        sock.sendall(message(f"GET {target}", "Connection: close", host=NAME))
        while piece := sock.recv(65536):
            answer += piece
    return answer


@pytest.fixture(scope="module")
def tls_site(launch_apache_for_module: LaunchApache, pki: dict[str, str]) -> ApacheProcess:
    return launch_apache_for_module(
        ready=False,
        sites=["authproxy-tls"],
        modules=["ssl", "socache_shmcb"],
        edits={"*:443": "127.0.0.1:{port}", **pki},
        server=LISTEN,
    )


def test_a_client_with_a_certificate_of_the_authority_is_served(
    tls_site: ApacheProcess, ca: trustme.CA, target: Upstream
) -> None:
    client = ca.issue_cert("prometheus", common_name="prometheus")
    answer = over_tls(tls_site, context_for(ca, client), "/a%2Fb//c")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    assert target.only().target == b"/a%2Fb//c"
    log = tls_site.folder / "log" / "authproxy-access.log"
    wait_until(
        "the access log", lambda: '"prometheus" "GET /a%2Fb//c HTTP/1.1" 200' in log.read_text()
    )


@pytest.mark.parametrize("stranger", [False, True], ids=["none", "of-another-authority"])
def test_a_client_without_such_a_certificate_is_not(
    tls_site: ApacheProcess, ca: trustme.CA, target: Upstream, stranger: bool
) -> None:
    client = trustme.CA().issue_cert("prometheus") if stranger else None
    with pytest.raises((ssl.SSLError, ConnectionError)):
        over_tls(tls_site, context_for(ca, client), "/x")
    assert target.requests == []


@pytest.fixture(scope="module")
def beside(
    launch_apache_for_module: LaunchApache, tmp_path_factory: pytest.TempPathFactory
) -> ApacheProcess:
    return launch_apache_for_module(
        ready=False,
        sites=["existing-site"],
        edits={"*:80": "127.0.0.1:{port}", "/var/www/html": "{folder}/html"},
        server=LISTEN
        + "\n<Directory {folder}/html>\nRequire all granted\n</Directory>\n"
        + "Alias /old {folder}/html",
    )


def test_the_proxy_answers_below_its_path(beside: ApacheProcess, target: Upstream) -> None:
    wait_until("a token", lambda: beside.get("/authproxy/ready").status == 200)
    for raw, arrives in [
        ("/authproxy/a%2Fb//c?x", b"/a%2Fb//c?x"),
        ("/authproxy//x", b"//x"),
        ("/authproxy", b"/"),
        ("/authproxy?x", b"/?x"),
    ]:
        target.reset()
        assert beside.get(raw).status == 200, raw
        assert target.only().target == arrives


def test_its_path_has_to_be_written_as_it_is(beside: ApacheProcess, target: Upstream) -> None:
    for raw in ("/%61uthproxy/x", "/x/../authproxy/y"):
        assert_own_error(beside.get(raw), 400, "BadRequest")
    assert target.requests == []


def test_the_existing_site_goes_on(beside: ApacheProcess, target: Upstream) -> None:
    (beside.folder / "html").mkdir(exist_ok=True)
    (beside.folder / "html" / "page.txt").write_text("as ever")
    assert beside.get("/page.txt").body == b"as ever"
    assert beside.get("/old/page.txt").body == b"as ever"
    assert beside.get("/health").status == 404
    assert beside.get("/authproxyx").status == 404
    assert target.requests == []


def test_all_files_together_are_valid(pki: dict[str, str]) -> None:
    """As after `a2enmod ssl`, `a2enconf authproxy` and `a2ensite` of them all."""
    apache = ApacheProcess(
        {},
        sites=["authproxy", "authproxy-tls", "existing-site"],
        modules=["ssl", "socache_shmcb"],
        edits={**pki, "/var/www/html": "{folder}"},
    )
    checked = apache.check()
    assert (checked.returncode, checked.stderr) == (0, "Syntax OK\n")

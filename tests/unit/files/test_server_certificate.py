"""The files of the certificate that clients are shown: what is refused, and what is used when."""

from __future__ import annotations

import datetime
import logging
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from authproxy.errors import Unusable
from authproxy.files.server_certificate import (
    RotatingServerCertificate,
    ServerFiles,
    load_server_certificate,
)
from tests.support.tls_client import Certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def files_of(certificates: Certificates, client_ca: Path | None = None) -> ServerFiles:
    return ServerFiles(
        str(certificates.certificate),
        str(certificates.key),
        None if client_ca is None else str(client_ca),
    )


def fault(files: ServerFiles) -> tuple[str, str]:
    with pytest.raises(Unusable) as raised:
        load_server_certificate(files)
    assert raised.value.hint.endswith(".")
    return raised.value.setting, str(raised.value)


def test_the_key_may_be_in_the_file_of_the_certificate(certificates: Certificates) -> None:
    both = certificates.key.read_bytes() + certificates.certificate.read_bytes()
    certificates.certificate.write_bytes(both)
    loaded = load_server_certificate(ServerFiles(str(certificates.certificate)))
    assert loaded.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert loaded.context.verify_mode == ssl.CERT_NONE
    assert loaded.context.options & ssl.OP_NO_RENEGOTIATION


def test_certificates_of_clients_are_verified(certificates: Certificates) -> None:
    loaded = load_server_certificate(files_of(certificates, certificates.authority))
    assert loaded.context.verify_mode == ssl.CERT_OPTIONAL


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "it cannot be read (No such file or directory)"),
        (b"", "it holds no PEM certificate"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "its first certificate is damaged",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    certificates: Certificates, content: bytes | None, problem: str
) -> None:
    certificates.certificate.unlink()
    if content is not None:
        certificates.certificate.write_bytes(content)
    assert fault(files_of(certificates)) == ("LISTENING_TLS_CERTIFICATE_FILE", problem)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(certificates: Certificates) -> None:
    certificates.key.unlink()
    os.mkfifo(certificates.key)
    assert fault(files_of(certificates)) == ("LISTENING_TLS_KEY_FILE", "it is a named pipe")


def test_a_key_that_is_none_is_named(certificates: Certificates) -> None:
    certificates.key.write_bytes(b"no key")
    assert fault(files_of(certificates)) == ("LISTENING_TLS_KEY_FILE", "it holds no private key")
    alone = ServerFiles(str(certificates.certificate))
    assert fault(alone) == ("LISTENING_TLS_CERTIFICATE_FILE", "it holds no private key")


def test_a_key_of_another_certificate_is_named(certificates: Certificates) -> None:
    before = certificates.key.read_bytes()
    certificates.issue("second")
    certificates.key.write_bytes(before)
    problem = "the private key does not belong to the certificate"
    assert fault(files_of(certificates)) == ("LISTENING_TLS_KEY_FILE", problem)


def test_an_encrypted_key_is_not_asked_for_at_the_terminal(certificates: Certificates) -> None:
    key = load_pem_private_key(certificates.key.read_bytes(), None)
    encryption = BestAvailableEncryption(b"password")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    certificates.key.write_bytes(pem)
    assert fault(files_of(certificates)) == (
        "LISTENING_TLS_KEY_FILE",
        "its private key is encrypted",
    )


def test_authorities_that_are_none_are_named(certificates: Certificates, tmp_path: Path) -> None:
    empty = tmp_path / "empty.crt"
    empty.write_bytes(b"")
    problem = "it holds no PEM certificate, or a damaged one"
    assert fault(files_of(certificates, empty)) == ("LISTENING_TLS_CLIENT_CA_FILE", problem)


def test_a_pair_is_used_when_it_is_whole(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rotating = RotatingServerCertificate(files_of(certificates))
    first = rotating.context()
    key = certificates.key.read_bytes()
    certificates.issue("second")
    whole = certificates.key.read_bytes()
    certificates.key.write_bytes(key)
    rotating.look()
    assert rotating.context() is first
    certificates.key.write_bytes(whole)
    rotating.look()
    assert rotating.context() is not first
    assert [record.getMessage() for record in caplog.records] == ["New TLS certificate in use"]


def test_a_fault_that_stays_is_logged_once(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    rotating = RotatingServerCertificate(files_of(certificates))
    first = rotating.context()
    certificates.key.write_bytes(b"no key")
    for _ in range(4):
        rotating.look()
    assert rotating.context() is first
    (record,) = caplog.records
    assert record.getMessage().startswith("New TLS certificate cannot be used")
    assert record.fields["Setting"] == "LISTENING_TLS_KEY_FILE"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("days", "warned"), [(90, 0), (8, 0), (6, 1), (-1, 1)])
def test_an_end_that_is_near_is_warned_of_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: int, warned: int
) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    leaf = trustme.CA().issue_cert(
        "localhost",
        not_before=now - datetime.timedelta(days=90),
        not_after=now + datetime.timedelta(days=days),
    )
    path = tmp_path / "both.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(path))
    rotating = RotatingServerCertificate(ServerFiles(str(path)), lambda: now)
    rotating.look()
    rotating.look()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["TLS certificate expires soon"] * warned

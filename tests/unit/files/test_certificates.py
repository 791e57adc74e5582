"""Reading client certificates; what azure-identity makes of them is the measure."""

from __future__ import annotations

import datetime
import os
from base64 import b64encode, encodebytes
from pathlib import Path

import pytest
import trustme
from azure.identity import CertificateCredential
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from authproxy.errors import Unusable
from authproxy.files.certificates import load_certificate
from tests.support.client_certificates import ClientCertificate, client_authority

PASSWORD = "correct horse"
NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(scope="module")
def issued() -> ClientCertificate:
    return client_authority().issue()


@pytest.fixture(scope="module")
def other() -> ClientCertificate:
    return client_authority().issue("other.example.com")


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def thumbprint(issued: ClientCertificate) -> str:
    return issued.certificate.fingerprint(SHA1()).hex().upper()


def certificate_blocks(issued: ClientCertificate) -> list[bytes]:
    return [pem_of(one) for one in issued.chain]


def key_block(issued: ClientCertificate) -> bytes:
    return issued.pem().partition(b"-----BEGIN CERTIFICATE")[0]


def legacy_key_block(issued: ClientCertificate, password: bytes | None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)


def load(tmp_path: Path, data: bytes, password: str | None = None, name: str = "client.bin"):
    path = tmp_path / name
    path.write_bytes(data)
    return load_certificate(path, password)


def good_files(issued: ClientCertificate) -> dict[str, tuple[bytes, str | None]]:
    key, secret = key_block(issued), PASSWORD.encode()
    certificates = certificate_blocks(issued)
    everything = issued.certificates_pem()
    return {
        "PKCS#8 key, then the chain": (issued.pem(), None),
        "encrypted PKCS#8 key": (issued.pem(secret), PASSWORD),
        "PKCS#1 key": (legacy_key_block(issued, None) + everything, None),
        "encrypted PKCS#1 key": (legacy_key_block(issued, secret) + everything, PASSWORD),
        "chain, then the key": (everything + key, None),
        "key between the certificates": (
            certificates[0] + key + b"".join(certificates[1:]),
            None,
        ),
        "leaf last": (b"".join(reversed(certificates)) + key, None),
        "leaf twice": (certificates[0] + issued.pem(), None),
        "no chain": (key + certificates[0], None),
        "text of openssl around the blocks": (
            b"Bag Attributes\n    friendlyName: caf\xe9\n" + key + b"subject=x\n" + everything,
            None,
        ),
        "line ends of Windows": (issued.pem().replace(b"\n", b"\r\n"), None),
        "PKCS#12": (issued.pfx(), None),
        "encrypted PKCS#12": (issued.pfx(secret), PASSWORD),
        "base64 of PKCS#12": (b64encode(issued.pfx()), None),
        "base64 of encrypted PKCS#12, in lines": (encodebytes(issued.pfx(secret)), PASSWORD),
        "base64 of PEM": (b64encode(issued.pem()), None),
        "a password that a PEM file does not need": (issued.pem(), PASSWORD),
        "a password that a PKCS#12 file does not need": (issued.pfx(), PASSWORD),
    }


@pytest.fixture(scope="module")
def good(issued: ClientCertificate) -> dict[str, tuple[bytes, str | None]]:
    return good_files(issued)


def test_the_key_comes_first_then_its_certificate_and_the_chain(tmp_path, issued, good, subtests):
    for form, (data, password) in good.items():
        with subtests.test(form):
            loaded = load(tmp_path, data, password)
            chain = x509.load_pem_x509_certificates(loaded.data)
            assert loaded.data == key_block(issued) + b"".join(map(pem_of, chain))
            assert chain[0] == issued.certificate
            assert set(chain) == set(issued.chain[:1] if form == "no chain" else issued.chain)
            assert len(chain) == len(set(chain))
            assert loaded.thumbprint == thumbprint(issued)


@pytest.mark.parametrize("form", ["encrypted PKCS#12", "leaf last", "no chain"])
def test_azure_identity_takes_what_is_loaded(tmp_path, good, form):
    data, password = good[form]
    loaded = load(tmp_path, data, password)
    credential = CertificateCredential(
        "tenant",
        "client",
        certificate_data=loaded.data,
        send_certificate_chain=True,
    )
    sent = credential._client_credential
    assert isinstance(sent, dict)
    assert sent["thumbprint"].upper() == loaded.thumbprint
    assert "PRIVATE KEY" not in sent["public_certificate"]


def test_the_format_is_told_by_content_and_not_by_name(tmp_path, issued):
    assert load(tmp_path, issued.pem(), name="client.pfx") == load(
        tmp_path, issued.pfx(), name="client.pem"
    )


def test_a_certificate_shows_whose_it_is_but_never_its_key(tmp_path, issued):
    loaded = load(tmp_path, issued.pem())
    assert "client.example.com" in repr(loaded)
    assert loaded.thumbprint in repr(loaded)
    assert "PRIVATE" not in repr(loaded)
    assert loaded.not_after == issued.certificate.not_valid_after_utc


def ec_pem() -> bytes:
    issued = trustme.CA().issue_cert("client.example.com", key_type=trustme.KeyType.ECDSA)
    return issued.private_key_and_cert_chain_pem.bytes()


def bad_files(
    issued: ClientCertificate, other: ClientCertificate
) -> dict[str, tuple[bytes, str | None, str]]:
    secret = PASSWORD.encode()
    key, certificates = key_block(issued), issued.certificates_pem()
    no_key = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(issued.certificate, b"x")], NoEncryption()
    )
    no_password = "is encrypted and no password is given"
    wrong_password = "the password does not open"
    return {
        "empty": (b"", None, "the file is empty"),
        "garbage": (b"\x00\x01garbage" * 9, None, "neither a PEM nor a PKCS#12"),
        "too large": (b"x" * (1024 * 1024 + 1), None, "larger than 1 MiB"),
        "PEM without key": (certificates, None, "no private key"),
        "PEM of nothing known": (key.replace(b"PRIVATE", b"PUBLIC"), None, "no private key"),
        "DER certificate": (
            issued.certificate.public_bytes(Encoding.DER),
            None,
            "a certificate without its private key",
        ),
        "PKCS#12 without key": (no_key, None, "no private key"),
        "key without certificate": (key, None, "a private key but no certificate"),
        "two keys": (issued.pem() + key_block(other), None, "2 private keys"),
        "somebody else's key": (
            key + other.certificates_pem(),
            None,
            "its private key does not belong to its certificate",
        ),
        "EC key": (ec_pem(), None, "not an RSA key, as an EC key is not"),
        "base64 of a certificate": (
            b64encode(issued.certificate.public_bytes(Encoding.DER)),
            None,
            "a certificate without its private key",
        ),
        "base64, password missing": (b64encode(issued.pfx(secret)), None, no_password),
        "base64, cut": (b64encode(issued.pfx())[:-9], None, "neither a PEM nor a PKCS#12"),
        "damaged key": (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + certificates,
            None,
            "the private key in it is damaged",
        ),
        "damaged certificate": (
            key + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            None,
            "a certificate in it is damaged",
        ),
        "cut in half": (issued.pem()[: len(key) // 2], None, "no private key"),
        "PEM, password missing": (issued.pem(secret), None, no_password),
        "PEM, password wrong": (issued.pem(secret), "wrong", wrong_password),
        "PKCS#1, password missing": (
            legacy_key_block(issued, secret) + certificates,
            None,
            no_password,
        ),
        "PKCS#12, password missing": (issued.pfx(secret), None, no_password),
        "PKCS#12, password wrong": (issued.pfx(secret), "wrong", wrong_password),
    }


def test_an_unusable_file_is_refused_with_its_own_sentence(tmp_path, issued, other, subtests):
    for case, (data, password, sentence) in bad_files(issued, other).items():
        with subtests.test(case):
            with pytest.raises(Unusable) as caught:
                load(tmp_path, data, password)
            assert sentence in caught.value.problem
            assert caught.value.hint.endswith(".")
            at_fault = "_PASSWORD" if "password" in case else "_PATH"
            assert caught.value.setting == f"AAD_CLIENT_CERTIFICATE{at_fault}"
            assert "wrong" not in str(caught.value)
            # Nothing of the file or the password hides in what a traceback would show.
            assert caught.value.__cause__ is None


CERTIFICATES = {
    "PEM": ClientCertificate.certificates_pem,
    "base64 of PEM": lambda issued: b64encode(issued.certificates_pem()),
    "DER": lambda issued: issued.certificate.public_bytes(Encoding.DER),
    "PEM with another's key": lambda issued: issued.pem().replace(b"PRIVATE", b"OTHER PRIVATE"),
}


@pytest.mark.parametrize(
    ("form", "password"), [*((form, None) for form in CERTIFICATES), ("PEM", PASSWORD)]
)
def test_a_key_may_be_in_a_file_of_its_own(tmp_path, issued, form, password):
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(CERTIFICATES[form](issued))
    secret = password.encode() if password else None
    key.write_bytes(legacy_key_block(issued, secret))
    loaded = load_certificate(certificate, password, key)
    assert loaded.thumbprint == thumbprint(issued)
    assert loaded.data.startswith(key_block(issued))


def bad_pairs(issued: ClientCertificate, other: ClientCertificate) -> dict[str, tuple[bytes, ...]]:
    """Return a certificate's file, a key's file, the setting at fault, and what is said."""
    certificates, key = issued.certificates_pem(), key_block(issued)
    encrypted = legacy_key_block(issued, PASSWORD.encode())
    return {
        "no key": (certificates, certificates, b"KEY_PATH", b"it holds no private key"),
        "an empty key": (certificates, b"", b"KEY_PATH", b"the file is empty"),
        "two keys": (certificates, key + key, b"KEY_PATH", b"2 private keys"),
        "a damaged key": (certificates, key.replace(b"M", b"x"), b"KEY_PATH", b"is damaged"),
        "somebody else's": (certificates, key_block(other), b"PATH", b"does not belong"),
        "no certificate": (key, key, b"PATH", b"it holds no certificate"),
        "a PKCS#12 file": (issued.pfx(), key, b"PATH", b"holds its private key itself"),
        "no password": (certificates, encrypted, b"PASSWORD", b"no password is given"),
    }


def test_an_unusable_pair_is_refused_with_the_setting_at_fault(tmp_path, issued, other, subtests):
    for case, (certificate, key, setting, sentence) in bad_pairs(issued, other).items():
        (tmp_path / "tls.crt").write_bytes(certificate)
        (tmp_path / "tls.key").write_bytes(key)
        with subtests.test(case):
            with pytest.raises(Unusable) as caught:
                load_certificate(tmp_path / "tls.crt", None, tmp_path / "tls.key")
            assert caught.value.setting == f"AAD_CLIENT_CERTIFICATE_{setting.decode()}"
            assert sentence.decode() in caught.value.problem


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(Unusable, match="there is no such file"):
        load_certificate(tmp_path / "absent.pem", None)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(Unusable, match="it is a directory"):
        load_certificate(tmp_path, None)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unusable, match="it is a named pipe"):
        load_certificate(tmp_path / "pipe", None)


def test_a_link_is_followed_as_kubernetes_makes_them(tmp_path, issued):
    (tmp_path / "data").write_bytes(issued.pem())
    (tmp_path / "tls.pem").symlink_to("data")
    assert load_certificate(tmp_path / "tls.pem", None) == load_certificate(tmp_path / "data", None)


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(Unusable, match="cannot be read"):
        load_certificate("a\0b", None)


def test_an_expired_certificate_says_since_when(tmp_path):
    expired = client_authority().issue(days=-1, starts_in_days=-30)
    loaded = load(tmp_path, expired.pem())
    ended = f"{expired.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S UTC}"
    with pytest.raises(Unusable, match=f"expired on {ended}"):
        loaded.require_valid(NOW)


def test_a_certificate_of_the_future_says_from_when(tmp_path):
    early = client_authority().issue(days=30, starts_in_days=2)
    loaded = load(tmp_path, early.pem())
    begins = f"{early.certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S UTC}"
    with pytest.raises(Unusable, match=f"not valid before {begins}"):
        loaded.require_valid(NOW)


def test_a_valid_certificate_passes(tmp_path, issued):
    load(tmp_path, issued.pem()).require_valid(NOW)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_file_that_cannot_be_read_says_who_should_be_let_in():
    # Reading this one fails for root as well.
    with pytest.raises(Unusable, match="cannot be read") as caught:
        load_certificate("/proc/self/mem", None)
    assert f"user id {os.geteuid()}" in caught.value.hint

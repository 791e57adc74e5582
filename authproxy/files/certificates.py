"""Reads the client certificate that proves an application's identity.

Rules come from what `azure.identity.ClientCertificateCredential` takes: one
RSA key (its assertions are signed with RS256), the key's certificate first,
the rest of the chain after it. Files in the wild are less tidy: what is handed on
is put in that order, whatever the order or the format of the file, or of the two files.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate

from authproxy.errors import CertificateError
from authproxy.files.regular_file import UnreadableFile, read_regular_file

#: One armoured block (RFC 7468); the text around blocks means nothing.
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_CERTIFICATE_LABELS = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE"})

#: The settings that can be at fault.
_PATH = "AAD_CLIENT_CERTIFICATE_PATH"
_KEY_PATH = "AAD_CLIENT_CERTIFICATE_KEY_PATH"
_PASSWORD = "AAD_CLIENT_CERTIFICATE_PASSWORD"

_EXPORT = (
    f"Export the certificate again together with its private key, as .pem or .pfx, and let {_PATH} "
    f"name that file; name a private key that is a file of its own in {_KEY_PATH}"
)
_NAME_KEY = "Name the PEM file of the certificate's private key, such as tls.key"
_GIVE_PASSWORD = f"the password in {_PASSWORD} or {_PASSWORD}_FILE"


class UnusableCertificate(CertificateError):
    """A certificate file that cannot be used: the problem, a hint, and the setting at fault."""

    def __init__(self, problem: str, hint: str, setting: str = _PATH) -> None:
        super().__init__(f"{problem}. {hint}.", setting)
        self.problem = problem
        self.hint = f"{hint}."


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate with its private key, ready for azure-identity.

    `data` is PEM, in clear: the key, its certificate, the rest of the chain.
    It needs no password any more, so `password` is always None; both fit
    `ClientCertificateCredential(certificate_data=..., password=...)`.
    """

    data: bytes = field(repr=False)
    subject: str
    thumbprint: str
    not_before: datetime
    not_after: datetime
    password: None = field(default=None, repr=False)

    def require_valid(self, now: datetime) -> None:
        """Raise UnusableCertificate where `now` (with time zone) is outside its validity."""
        if now > self.not_after:
            raise UnusableCertificate(
                f"the certificate {self.subject} expired on {_utc(self.not_after)}",
                "Issue a new one, add it to the application registration and replace the file",
            )
        if now < self.not_before:
            raise UnusableCertificate(
                f"the certificate {self.subject} is not valid before {_utc(self.not_before)}",
                "Wait until then or use another one, and check this machine's clock",
            )


def load_certificate(
    path: str | os.PathLike[str],
    password: str | None,
    key_path: str | os.PathLike[str] | None = None,
) -> ClientCertificate:
    """Read a PEM or PKCS#12 file (told apart by content), or base64 of one, with its private key.

    With `key_path` the key is there instead, as PEM. A password that is not needed is not
    used. The dates are not judged: see `ClientCertificate.require_valid`.

    Raises UnusableCertificate, a CertificateError, whose message names neither
    the password nor anything of the key.
    """
    data = _decoded(_read(path))
    secret = password.encode() if password else None
    if key_path is not None:
        key, certificates = _key_file(key_path, secret), _without_key(data)
    elif _is_pem(data):
        key, certificates = _from_pem(data, secret)
    else:
        key, certificates = _from_pkcs12(data, secret)
    if not isinstance(key, RSAPrivateKey):
        # RFC 7518 section 3.3; azure-identity refuses other keys, as Entra ID does.
        raise UnusableCertificate(
            "its private key is not an RSA key, as an EC key is not: an application proves itself "
            "to Entra ID by a signature of RS256, which takes an RSA key",
            "Issue a certificate with an RSA key of 2048 bits or more",
        )
    leaf = _leaf(key, certificates)
    chain = [leaf, *(one for one in dict.fromkeys(certificates) if one != leaf)]
    clear_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ClientCertificate(
        data=clear_key + b"".join(one.public_bytes(Encoding.PEM) for one in chain),
        subject=leaf.subject.rfc4514_string(),
        # SHA-1 names a certificate in the Azure portal; nothing is secured by it.
        thumbprint=leaf.fingerprint(SHA1()).hex().upper(),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        data = read_regular_file(path)
    except UnreadableFile as error:
        if error.missing:
            raise UnusableCertificate(
                "there is no such file", "Correct the path, or mount the file there"
            ) from None
        if not error.regular:
            hint = "Name a .pem or .pfx file"
        elif error.too_large:
            hint = _EXPORT
        else:
            hint = f"Let user id {os.geteuid()}, which authproxy runs as, read the file"
        raise UnusableCertificate(f"it {error.problem}", hint) from None
    if not data:
        raise UnusableCertificate("the file is empty", _EXPORT)
    return data


def _decoded(data: bytes) -> bytes:
    """Return what base64 without armour stands for, anything else as it is.

    The Key Vault provider of the Secrets Store CSI driver writes a PFX so, unless its
    objectEncoding is base64.
    """
    if _is_pem(data):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return data


def _is_pem(data: bytes) -> bool:
    return b"-----BEGIN" in data


def _from_pem(data: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    key = _only_key(data)
    armoured = _blocks(data)[1]
    if not armoured:
        raise UnusableCertificate("it holds a private key but no certificate", _EXPORT)
    certificates = _certificates(armoured)
    return _pem_key(key, password), certificates


def _key_file(path: str | os.PathLike[str], password: bytes | None) -> object:
    """Return the key in a file of its own."""
    try:
        return _pem_key(_only_key(_decoded(_read(path))), password)
    except UnusableCertificate as error:
        if error.setting == _PASSWORD:
            raise
        hint = _NAME_KEY if _EXPORT in error.hint else error.hint.removesuffix(".")
        raise UnusableCertificate(error.problem, hint, _KEY_PATH) from None


def _without_key(data: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file whose key is in another one."""
    if armoured := _blocks(data)[1]:
        return _certificates(armoured)
    if _is_der_certificate(data):
        return [x509.load_der_x509_certificate(data)]
    if _looks_like_pkcs12(data):
        raise UnusableCertificate(
            "it is a PKCS#12 file, which holds its private key itself", f"Leave {_KEY_PATH} out"
        )
    hint = "Name the PEM file of the certificate and its chain, such as tls.crt"
    raise UnusableCertificate("it holds no certificate", hint)


def _blocks(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the private keys and the certificates of a PEM file, each in its armour."""
    blocks = [(match[1], match[0]) for match in _PEM_BLOCK.finditer(data)]
    return (
        [block for label, block in blocks if label.endswith(b"PRIVATE KEY")],
        [block for label, block in blocks if label in _CERTIFICATE_LABELS],
    )


def _only_key(data: bytes) -> bytes:
    keys = _blocks(data)[0]
    if not keys:
        raise UnusableCertificate("it holds no private key", _EXPORT)
    if len(keys) > 1:
        raise UnusableCertificate(
            f"it holds {len(keys)} private keys", "Leave only the certificate's own in the file"
        )
    return keys[0]


def _certificates(armoured: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        return [x509.load_pem_x509_certificate(block) for block in armoured]
    except ValueError:
        raise UnusableCertificate("a certificate in it is damaged", _EXPORT) from None


def _pem_key(block: bytes, password: bytes | None) -> object:
    encrypted = b"BEGIN ENCRYPTED" in block or b"Proc-Type: 4,ENCRYPTED" in block
    try:
        return load_pem_private_key(block, password if encrypted else None)
    except TypeError:
        raise _password_missing() from None
    except (ValueError, UnsupportedAlgorithm):
        if encrypted:
            raise _password_wrong() from None
        raise UnusableCertificate("the private key in it is damaged", _EXPORT) from None


def _from_pkcs12(data: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    # "No password" and "an empty one" differ in PKCS#12, and tools write either.
    attempts = (password, None, b"") if password else (None, b"")
    for attempt in attempts:
        try:
            store = pkcs12.load_pkcs12(data, attempt)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if store.key is None:
            raise UnusableCertificate("it holds no private key", _EXPORT)
        bags: list[PKCS12Certificate] = [*store.additional_certs]
        if store.cert is not None:
            bags.insert(0, store.cert)
        if not bags:
            raise UnusableCertificate("it holds a private key but no certificate", _EXPORT)
        return store.key, [bag.certificate for bag in bags]
    raise _not_opened(data, password)


def _not_opened(data: bytes, password: bytes | None) -> UnusableCertificate:
    if _is_der_certificate(data):
        return UnusableCertificate("it holds a certificate without its private key", _EXPORT)
    if not _looks_like_pkcs12(data):
        return UnusableCertificate("it is neither a PEM nor a PKCS#12 (.pfx) file", _EXPORT)
    return _password_wrong() if password else _password_missing()


def _is_der_certificate(data: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return False
    return True


def _looks_like_pkcs12(data: bytes) -> bool:
    """Whether `data` begins as a PFX does: a SEQUENCE, then version 3 (RFC 7292 section 4)."""
    if data[:1] != b"\x30" or len(data) < 2:
        return False
    length_octets = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + length_octets :].startswith(b"\x02\x01\x03")


def _leaf(key: RSAPrivateKey, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for certificate in certificates:
        if _public_bytes(certificate) == public:
            return certificate
    raise UnusableCertificate(
        "its private key does not belong to its certificate",
        "Give the key and the certificate that were issued together",
    )


def _public_bytes(certificate: x509.Certificate) -> bytes:
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""  # a kind of key that cannot be the RSA one looked for
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _password_missing() -> UnusableCertificate:
    return UnusableCertificate(
        "the certificate's private key is encrypted and no password is given",
        f"Give {_GIVE_PASSWORD}",
        _PASSWORD,
    )


def _password_wrong() -> UnusableCertificate:
    return UnusableCertificate(
        "the password does not open the certificate's private key",
        f"Correct {_GIVE_PASSWORD}",
        _PASSWORD,
    )


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

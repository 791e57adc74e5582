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
    load_pem_private_key,
    pkcs12,
)

from authproxy.errors import Unusable
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
    f"name that file; name a private key that is a file of its own in {_KEY_PATH}."
)


def _unusable(problem: str, hint: str = _EXPORT, setting: str = _PATH) -> Unusable:
    return Unusable(problem, hint, setting)


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate with its private key, ready for azure-identity.

    `data` is PEM, in clear: the key, its certificate, the rest of the chain. It fits
    `ClientCertificateCredential(certificate_data=...)`, and needs no password any more.
    """

    data: bytes = field(repr=False)
    subject: str
    thumbprint: str
    not_before: datetime
    not_after: datetime

    def require_valid(self, now: datetime) -> None:
        """Raise Unusable where `now` (with time zone) is outside its validity."""
        if now > self.not_after:
            raise _unusable(
                f"the certificate {self.subject} expired on {self.not_after:%Y-%m-%d %H:%M:%S} UTC",
                "Issue a new one, add it to the application registration and replace the file.",
            )
        if now < self.not_before:
            raise _unusable(
                f"the certificate {self.subject} is not valid before "
                f"{self.not_before:%Y-%m-%d %H:%M:%S} UTC",
                "Wait until then or use another one, and check this machine's clock.",
            )


def load_certificate(
    path: str | os.PathLike[str],
    password: str | None,
    key_path: str | os.PathLike[str] | None = None,
) -> ClientCertificate:
    """Read a PEM or PKCS#12 file (told apart by content), or base64 of one, with its private key.

    With `key_path` the key is there instead, as PEM. A password that is not needed is not
    used. The dates are not judged: see `ClientCertificate.require_valid`.

    Raises Unusable with the setting at fault; it names neither the password nor anything of the
    key.
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
        raise _unusable(
            "its private key is not an RSA key, as an EC key is not: an application proves itself "
            "to Entra ID by a signature of RS256, which takes an RSA key",
            "Issue a certificate with an RSA key of 2048 bits or more.",
        )
    leaf = next((one for one in certificates if _is_of(key, one)), None)
    if leaf is None:
        raise _unusable(
            "its private key does not belong to its certificate",
            "Give the key and the certificate that were issued together.",
        )
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
        problem = f"it {error.problem}"
        hint = f"Let user id {os.geteuid()}, which authproxy runs as, read the file."
        if error.missing:
            problem, hint = "there is no such file", "Correct the path, or mount the file there."
        elif not error.regular:
            hint = "Name a .pem or .pfx file."
        elif error.too_large:
            hint = _EXPORT
        raise _unusable(problem, hint) from None
    if not data:
        raise _unusable("the file is empty")
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
    certificates = _pem_certificates(data)
    if not certificates:
        raise _unusable("it holds a private key but no certificate")
    return _pem_key(key, password), certificates


def _key_file(path: str | os.PathLike[str], password: bytes | None) -> object:
    """Return the key in a file of its own."""
    try:
        return _pem_key(_only_key(_decoded(_read(path))), password)
    except Unusable as error:
        if error.setting == _PASSWORD:
            raise
        name_key = "Name the PEM file of the certificate's private key, such as tls.key."
        hint = name_key if error.hint == _EXPORT else error.hint
        raise _unusable(error.problem, hint, _KEY_PATH) from None


def _without_key(data: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file whose key is in another one."""
    if certificates := _pem_certificates(data) or _der_certificates(data):
        return certificates
    if _looks_like_pkcs12(data):
        raise _unusable(
            "it is a PKCS#12 file, which holds its private key itself", f"Leave {_KEY_PATH} out."
        )
    hint = "Name the PEM file of the certificate and its chain, such as tls.crt."
    raise _unusable("it holds no certificate", hint)


def _only_key(data: bytes) -> bytes:
    keys = [match[0] for match in _PEM_BLOCK.finditer(data) if match[1].endswith(b"PRIVATE KEY")]
    if not keys:
        raise _unusable("it holds no private key")
    if len(keys) > 1:
        raise _unusable(
            f"it holds {len(keys)} private keys", "Leave only the certificate's own in the file."
        )
    return keys[0]


def _pem_certificates(data: bytes) -> list[x509.Certificate]:
    blocks = (match for match in _PEM_BLOCK.finditer(data) if match[1] in _CERTIFICATE_LABELS)
    try:
        return [x509.load_pem_x509_certificate(block[0]) for block in blocks]
    except ValueError:
        raise _unusable("a certificate in it is damaged") from None


def _der_certificates(data: bytes) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        return []


def _pem_key(block: bytes, password: bytes | None) -> object:
    encrypted = b"BEGIN ENCRYPTED" in block or b"Proc-Type: 4,ENCRYPTED" in block
    try:
        return load_pem_private_key(block, password if encrypted else None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # TypeError: without a password
        if encrypted:
            raise _not_decrypted(password) from None
        raise _unusable("the private key in it is damaged") from None


def _from_pkcs12(data: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    # "No password" and "an empty one" differ in PKCS#12, and tools write either.
    attempts = (password, None, b"") if password else (None, b"")
    for attempt in attempts:
        try:
            store = pkcs12.load_pkcs12(data, attempt)
        except (ValueError, UnsupportedAlgorithm):
            continue
        bags = [*([store.cert] if store.cert else []), *store.additional_certs]
        if store.key is None:
            raise _unusable("it holds no private key")
        if not bags:
            raise _unusable("it holds a private key but no certificate")
        return store.key, [bag.certificate for bag in bags]
    if _der_certificates(data):
        raise _unusable("it holds a certificate without its private key")
    if not _looks_like_pkcs12(data):
        raise _unusable("it is neither a PEM nor a PKCS#12 (.pfx) file")
    raise _not_decrypted(password)


def _looks_like_pkcs12(data: bytes) -> bool:
    """Whether `data` begins as a PFX does: a SEQUENCE, then version 3 (RFC 7292 section 4)."""
    if data[:1] != b"\x30" or len(data) < 2:
        return False
    length_octets = data[1] & 0x7F if data[1] & 0x80 else 0
    return data[2 + length_octets :].startswith(b"\x02\x01\x03")


def _is_of(key: RSAPrivateKey, certificate: x509.Certificate) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False  # a kind of key that cannot be the RSA one looked for


def _not_decrypted(password: bytes | None) -> Unusable:
    problem, do = "the certificate's private key is encrypted and no password is given", "Give"
    if password:
        problem, do = "the password does not open the certificate's private key", "Correct"
    return _unusable(problem, f"{do} the password in {_PASSWORD} or {_PASSWORD}_FILE.", _PASSWORD)

"""The certificate that clients are shown on the proxied port, which may be replaced meanwhile.

Its files are often replaced one after the other: a pair is in use only when it is whole,
and the one before it until then.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NoReturn

from cryptography import x509

from authproxy.clock import rfc3339
from authproxy.errors import Unusable
from authproxy.files.expiry import Expiry
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, read_regular_file
from authproxy.files.state import FileState, state_of

log = logging.getLogger(__name__)

#: How often the files are looked at.
LOOK_SECONDS = 1.0

#: The log warns of expiry this long ahead, or when a tenth of a shorter lifetime is left,
#: and repeats it this often at most.
EXPIRY_NOTICE = timedelta(days=7)
EXPIRY_NOTICE_PERIOD = timedelta(days=1)

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)

#: The settings that can be at fault.
_CERTIFICATE_FILE = "LISTENING_TLS_CERTIFICATE_FILE"
_KEY_FILE = "LISTENING_TLS_KEY_FILE"
_CLIENT_CA_FILE = "LISTENING_TLS_CLIENT_CA_FILE"


@dataclass(frozen=True)
class ServerFiles:
    """The paths of PEM files: certificate and chain, private key, and the clients' authorities.

    Without `key`, the key is in the certificate's file. With `client_ca`, a client's certificate
    has to be issued by one of these authorities.
    """

    certificate: str
    key: str | None = None
    client_ca: str | None = None

    @property
    def state(self) -> FileState:
        """Return what differs when one of the files has been replaced."""
        return state_of((self.certificate, self.key, self.client_ca))


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate, and a TLS context that shows it."""

    context: ssl.SSLContext
    subject: str
    not_before: datetime
    not_after: datetime

    @property
    def expiry(self) -> Expiry:
        """When it expires."""
        return Expiry.of(self.not_before, self.not_after)

    @property
    def expires_soon_from(self) -> datetime:
        """From when on the log warns."""
        return self.not_after - min(EXPIRY_NOTICE, (self.not_after - self.not_before) / 10)


def load_server_certificate(files: ServerFiles) -> ServerCertificate:
    """Read the files. The dates are not judged. Raises Unusable."""
    pem = _read(files.certificate, _CERTIFICATE_FILE)
    key = _read(files.key, _KEY_FILE) if files.key else pem
    authorities = _read(files.client_ca, _CLIENT_CA_FILE) if files.client_ca else None
    block = _CERTIFICATE.search(pem)
    if block is None:
        hint = "Give a PEM file with the certificate and its chain."
        raise Unusable("it holds no PEM certificate", hint, _CERTIFICATE_FILE)
    try:
        leaf = x509.load_pem_x509_certificate(block[0])
        subject = leaf.subject.rfc4514_string()
    except ValueError:
        hint = "Export the certificate again."
        raise Unusable("its first certificate is damaged", hint, _CERTIFICATE_FILE) from None
    of_key = _KEY_FILE if files.key else _CERTIFICATE_FILE
    if b"PRIVATE KEY-----" not in key:
        hint = "Name the PEM file with the key in LISTENING_TLS_KEY_FILE."
        raise Unusable("it holds no private key", hint, of_key)
    context = _context()
    _load_pair(context, files, of_key)
    if authorities is not None:
        _trust(context, authorities)
    return ServerCertificate(context, subject, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # With TLS 1.2 a client could have the server do handshake after handshake.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _load_pair(context: ssl.SSLContext, files: ServerFiles, of_key: str) -> None:
    def encrypted() -> NoReturn:  # else OpenSSL asks for a password at the terminal
        hint = "Store the key without a password, in a file that only authproxy can read."
        raise Unusable("its private key is encrypted", hint, of_key)

    try:
        context.load_cert_chain(files.certificate, files.key, encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = "the private key does not belong to the certificate"
            hint = "Name the key and the certificate that were issued together."
        else:
            detail = (error.reason or "damaged").replace("_", " ").lower()
            problem = f"OpenSSL cannot use certificate and private key ({detail})"
            hint = "Issue the certificate again, with a key of 2048 bits RSA or 256 bits EC."
        raise Unusable(problem, hint, of_key) from None
    except OSError as error:  # replaced since it was read
        problem = f"it cannot be read ({error.strerror})"
        raise Unusable(problem, "Put the file there again.", _CERTIFICATE_FILE) from None


def _trust(context: ssl.SSLContext, authorities: bytes) -> None:
    hint = "Name a PEM file with the certificates of the clients' authorities."
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):  # the latter for an empty text
        problem = "it holds no PEM certificate, or a damaged one"
        raise Unusable(problem, hint, _CLIENT_CA_FILE) from None
    # Optional for TLS: who shows none is refused by a response, and probes need none.
    context.verify_mode = ssl.CERT_OPTIONAL


def _read(path: str, setting: str) -> bytes:
    try:
        return read_regular_file(path, MAX_BUNDLE_BYTES)
    except UnreadableFile as error:
        hint = f"Name a PEM file that user id {os.geteuid()}, which authproxy runs as, can read."
        raise Unusable(f"it {error.problem}", hint, setting) from None


def _now() -> datetime:
    return datetime.now(timezone.utc)


class RotatingServerCertificate:
    """The certificate in use, which follows its files."""

    def __init__(self, files: ServerFiles, now: Callable[[], datetime] = _now) -> None:
        """Raises Unusable."""
        self._files = files
        self._now = now
        #: Of the files in use; and of those whose fault the last look found, if it has.
        self._used = files.state
        self._failed: FileState | None = None
        self._reported = False
        self._noticed: datetime | None = None
        self.current = load_server_certificate(files)

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for a handshake that begins now."""
        return self.current.context

    def run(self) -> None:
        """Look at the files without end; for a thread of its own, as file systems may hang."""
        wait = threading.Event().wait
        while True:
            self.look()
            wait(LOOK_SECONDS)

    def look(self) -> None:
        """Use what is in the files, if it is new and can be used; warn of expiry."""
        state = self._files.state  # before they are read: a change since then is another one
        if state != self._used:
            try:
                self.current = load_server_certificate(self._files)
            except Unusable as error:
                self._report(error, state)
            else:
                self._used, self._failed, self._noticed = state, None, None
                log.info("New TLS certificate in use", extra={"fields": self._fields()})
        self._give_notice()

    def _report(self, error: Unusable, state: FileState) -> None:
        """Log a fault that the next look still finds: they may be half replaced."""
        if state != self._failed:
            self._failed, self._reported = state, False
        elif not self._reported:
            self._reported = True
            log.error(
                "New TLS certificate cannot be used, the previous one stays in use",
                extra={"fields": {"Error": str(error), "Setting": error.setting}},
            )

    def _give_notice(self) -> None:
        now = self._now()
        if now < self.current.expires_soon_from:
            return
        if self._noticed is None or now - self._noticed >= EXPIRY_NOTICE_PERIOD:
            self._noticed = now
            log.warning("TLS certificate expires soon", extra={"fields": self._fields()})

    def _fields(self) -> dict[str, str]:
        return {
            "Subject": self.current.subject,
            "ExpiresOn": rfc3339(self.current.not_after.timestamp()),
            "Path": self._files.certificate,
        }

"""A client certificate whose files may be replaced while the program runs."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

from authproxy.clock import Clock, rfc3339
from authproxy.errors import CredentialError, Unusable
from authproxy.files.certificates import ClientCertificate
from authproxy.files.expiry import Expiry
from authproxy.files.state import FileState, state_of
from authproxy.settings import Settings

log = logging.getLogger(__name__)

#: The log warns of expiry this long ahead, and repeats it this often at most.
EXPIRY_NOTICE = timedelta(days=30)
EXPIRY_NOTICE_PERIOD = 24 * 3600.0


class RotatingCertificate:
    """The certificate to use now: the files', or the last good one that they held.

    They may be written in place, one after the other, or with content of no use. A certificate
    that cannot be used, or is outside its validity, is logged once for each change of the
    files and does not replace a good one.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._path = settings.aad_client_certificate_path
        self._clock = clock
        self._good: ClientCertificate | None = None
        self._reported: tuple[str, FileState] | None = None
        self._noticed: float | None = None

    def current(self) -> ClientCertificate:
        """Read the files again and return the certificate to use.

        Raises CredentialError if there never was a good one.
        """
        now = datetime.fromtimestamp(self._clock.wall(), timezone.utc)
        try:
            certificate = self._settings.client_certificate()
            if self._good is None or self._good.thumbprint != certificate.thumbprint:
                certificate.require_valid(now)
        except (Unusable, CredentialError) as error:
            if self._good is not None:
                self._report(error)
                return self._good
            if isinstance(error, Unusable):
                raise CredentialError(self._settings.naming(error)) from error
            raise
        if self._good is None or self._good.thumbprint != certificate.thumbprint:
            log.info("Client certificate in use", extra={"fields": self._fields(certificate)})
            self._noticed = None
        self._good, self._reported = certificate, None
        if certificate.not_after - now < EXPIRY_NOTICE:
            self._give_notice(certificate)
        return certificate

    @property
    def expiry(self) -> Expiry | None:
        """When the certificate in use expires; None before there is one."""
        good = self._good
        if good is None:
            return None
        return Expiry(good.not_after.timestamp(), (good.not_after - EXPIRY_NOTICE).timestamp())

    def _report(self, error: Unusable | CredentialError) -> None:
        files = (self._path, self._settings.aad_client_certificate_key_path)
        why, setting = str(error), ""
        if isinstance(error, Unusable):
            why, setting = error.sentences, error.setting
        fault = (why, state_of(files))
        if fault != self._reported:
            self._reported = fault
            log.error(
                "New client certificate cannot be used, the previous one stays in use",
                extra={"fields": {"Error": why, "Path": files[setting.endswith("_KEY_PATH")]}},
            )

    def _give_notice(self, certificate: ClientCertificate) -> None:
        now = self._clock.monotonic()
        if self._noticed is None or now - self._noticed >= EXPIRY_NOTICE_PERIOD:
            self._noticed = now
            log.warning(
                "Client certificate expires soon", extra={"fields": self._fields(certificate)}
            )

    def _fields(self, certificate: ClientCertificate) -> dict[str, str | None]:
        return {
            "Subject": certificate.subject,
            "Thumbprint": certificate.thumbprint,
            "ExpiresOn": rfc3339(certificate.not_after.timestamp()),
            "Path": self._path,
        }

"""TLS for the connections that are opened here."""

from __future__ import annotations

import os
import ssl
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from authproxy.errors import Fault, SettingsError
from authproxy.files.regular_file import MAX_BUNDLE_BYTES, UnreadableFile, require_regular_file
from authproxy.files.state import FileState, state_of

_BUNDLE = "REQUESTS_CA_BUNDLE"
_NAME_A_BUNDLE = "Name a readable PEM file with CA certificates"


def client_context(extra_ca_file: str | None = None) -> ssl.SSLContext:
    """Return the TLS context of all connections to the target.

    It trusts the system's authorities (SSL_CERT_FILE counts among them),
    certifi's, those of REQUESTS_CA_BUNDLE and of `extra_ca_file`. Raises
    SettingsError where a bundle cannot be read.
    """
    _refuse_endless_files(extra_ca_file)
    context = default_context()
    context.set_alpn_protocols(["http/1.1"])
    # An end without close_notify is a cut. Python before 3.10.11 and 3.11.3 (Debian 12's
    # is 3.11.2) has OpenSSL 3 take it for an orderly one; OpenSSL 1.1 has no such option.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    bundles = {
        "certifi": certifi.where(),
        _BUNDLE: os.environ.get(_BUNDLE),
        "TARGET_CA_FILE": extra_ca_file,
    }
    for setting, path in bundles.items():
        if not path:
            continue
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:
            problem = f"cannot be loaded ({error})"
            raise SettingsError([Fault(setting, path, problem, _NAME_A_BUNDLE)]) from error
    return context


def default_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return Python's usual TLS context, which trusts the system's authorities or `ca_file` alone.

    Python opens the file that SSLKEYLOGFILE names, if it is set, and would wait
    without end for the reader of a pipe. Raises SettingsError for what is no file there.
    """
    key_log = os.environ.get("SSLKEYLOGFILE", "")
    if os.path.exists(key_log) and not os.path.isfile(key_log):
        hint = "Name a file, or unset it: keys of connections are written there."
        raise SettingsError([Fault("SSLKEYLOGFILE", key_log, "it is no regular file", hint)])
    return ssl.create_default_context(cafile=ca_file)


def _refuse_endless_files(extra_ca_file: str | None) -> None:
    """Raise SettingsError where OpenSSL would wait for a pipe, or read a device without end."""
    named = {variable: os.environ.get(variable) for variable in ("SSL_CERT_FILE", _BUNDLE)}
    for setting, path in {**named, "TARGET_CA_FILE": extra_ca_file}.items():
        if not path or os.path.isdir(path):
            continue
        try:
            require_regular_file(path, MAX_BUNDLE_BYTES)
        except UnreadableFile as error:
            if not error.regular or error.too_large:
                raise SettingsError([Fault(setting, path, str(error), _NAME_A_BUNDLE)]) from None


class TLSContextCache:
    """Contexts of `client_context`, made anew when a file that they were made from changes.

    To load a hundred and fifty authorities for each token and reload leaves
    the heap in pieces: 25 MiB more after a few hundred of them.
    """

    def __init__(self) -> None:
        #: By extra file: what the context was made from, and the context.
        self._kept: dict[str | None, tuple[FileState, ssl.SSLContext]] = {}
        #: Of several that need one at the same time, one makes it.
        self._lock = threading.Lock()

    def current(self, extra_ca_file: str | None = None) -> ssl.SSLContext:
        """Return the context. Raises SettingsError where a bundle cannot be read."""
        with self._lock:
            state = _state_of_bundles(extra_ca_file)
            kept = self._kept.get(extra_ca_file)
            if kept is None or kept[0] != state:
                kept = self._kept[extra_ca_file] = state, client_context(extra_ca_file)
            return kept[1]


def _state_of_bundles(extra_ca_file: str | None) -> FileState:
    """Return what differs when any of the files or folders of authorities has been replaced."""
    usual = ssl.get_default_verify_paths()
    return state_of(
        (
            usual.cafile,
            usual.capath,
            certifi.where(),
            os.environ.get(_BUNDLE),
            extra_ca_file,
        )
    )


def forward_proxy(url: str) -> str | None:
    """Return the forward proxy that HTTPS_PROXY and NO_PROXY ask for, if any.

    Only TLS goes through one: a token never passes a proxy in clear. ALL_PROXY
    counts nowhere.
    """
    if not url.startswith("https://"):
        return None
    proxy = get_environ_proxies(url).get("https")
    if not proxy or "://" in proxy:
        return proxy
    return f"http://{proxy}"


def proxy_password(proxy: str | None) -> str | None:
    """Return the password in a forward proxy's URL, which the proxy is sent and may quote."""
    password = urlsplit(proxy or "").password
    return None if password is None else unquote(password)


class ContextAdapter(HTTPAdapter):
    """Has `requests` use a TLS context as it is, also behind a proxy."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._context, proxy_ssl_context=self._context
        )

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the context as it is; requests would load certifi into it each time."""

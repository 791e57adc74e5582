"""A reverse proxy that puts Microsoft Entra ID tokens on HTTP requests.

What is named here is for other programs (docs/python.md); everything else may
change from one version to the next. It is imported when it is first asked
for, so that a command that needs none of it starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AuthProxyError",
    "Fault",
    "Loaded",
    "ReloadRefused",
    "Services",
    "Settings",
    "SettingsError",
    "__version__",
    "configure_logging",
    "create_app",
    "load_settings",
    "services_of",
]

if TYPE_CHECKING:
    from authproxy.app import ReloadRefused, Services, create_app, services_of
    from authproxy.errors import AuthProxyError, Fault, SettingsError
    from authproxy.settings import Loaded, Settings, load_settings
    from authproxy.telemetry.logs import configure as configure_logging
else:
    # Type checkers must not see this: to them, any name would be there.
    _FROM = {
        "AuthProxyError": "errors",
        "Fault": "errors",
        "Loaded": "settings",
        "ReloadRefused": "app",
        "Services": "app",
        "Settings": "settings",
        "SettingsError": "errors",
        "configure_logging": "telemetry.logs",
        "create_app": "app",
        "load_settings": "settings",
        "services_of": "app",
    }
    _ELSEWHERE = {"configure_logging": "configure"}

    def __getattr__(name):
        if name not in _FROM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"{__name__}.{_FROM[name]}")
        found = globals()[name] = getattr(module, _ELSEWHERE.get(name, name))
        return found

    def __dir__():
        return sorted({*globals(), *__all__})

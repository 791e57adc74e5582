"""The script that mod_wsgi loads: /etc/authproxy/authproxy.wsgi.

Its settings are in the YAML file beside it that has its name. For a second
proxy copy both under another name, and give it a WSGIDaemonProcess of its own.
Apache's SetEnv does not reach settings. To have changed settings read, touch
this file: docs/apache.md says more.
"""

import os
import sys
from pathlib import Path

_touched = os.stat(__file__).st_mtime_ns

if "authproxy.wsgi" in sys.modules:
    raise RuntimeError(
        f"{os.environ['AUTHPROXY_CONFIG']} is in force in this process already: "
        f"give {__file__} a WSGIDaemonProcess of its own"
    )

os.environ["AUTHPROXY_CONFIG"] = str(Path(__file__).with_suffix(".yaml"))

try:
    from authproxy.wsgi import application  # noqa: F401
except ModuleNotFoundError as error:
    raise RuntimeError(
        f"{error.name} is not installed in {sys.prefix}: the python-home of WSGIDaemonProcess "
        "is to name the environment that authproxy is installed in"
    ) from None


def reload_required(_: str) -> bool:
    """Tell mod_wsgi whether this file was touched since it began to load.

    By itself mod_wsgi remembers the time after loading, and so would not see
    a touch meanwhile, when the settings have been read.
    """
    return os.stat(__file__).st_mtime_ns != _touched

"""What tests assert more than once."""

from __future__ import annotations

import json
import re

from tests.support.process import ProxyProcess
from tests.support.wire import Response


def assert_own_error(response: Response, status: int, code: str | None = None) -> str:
    """Check that `response` is the proxy's own error, in the form of the contract.

    Returns its message. Without `code` any will do. What Apache refuses never
    reaches the proxy: its own page will do then, and the message is empty.
    """
    assert response.status == status, (response.head, response.body)
    if is_refusal_of_apache(response):
        return ""
    assert response.one("Content-Type") == "application/json"
    said = json.loads(response.body)
    assert set(said) == {"code", "message"}
    assert re.fullmatch(r"[^a-z].*\.", said["message"], re.DOTALL), "a whole sentence"
    assert code is None or said["code"] == code, said
    assert isinstance(said["code"], str)
    assert "Traceback" not in said["message"]
    assert 'File "' not in said["message"]
    return str(said["message"])


def assert_failure_logged(proxy: ProxyProcess, mark: int, response: Response) -> dict[str, str]:
    """Check that the first failure logged since `mark` is the one that the client was told of.

    Returns the keys and values of its line.
    """
    line = proxy.wait_for_event("Request failed", after=mark)
    told = json.loads(response.body)
    assert line["level"] == ("error" if response.status >= 500 else "warning")
    assert (line["StatusCode"], line["Code"]) == (str(response.status), told["code"])
    assert line["Error"] == told["message"]
    assert line["Client"] == "127.0.0.1"
    return line


def is_refusal_of_apache(response: Response) -> bool:
    """Tell whether Apache itself refused the request, as only Apache's Server field says."""
    return (
        (400 <= response.status < 500 or response.status == 501)
        and (response.one("Server") or "").startswith("Apache")
        and (response.one("Content-Type") or "").startswith("text/html")
    )

"""What tests assert more than once."""

from __future__ import annotations

import json
import re

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


def is_refusal_of_apache(response: Response) -> bool:
    """Tell whether Apache itself refused the request, as only Apache's Server field says."""
    return (
        (400 <= response.status < 500 or response.status == 501)
        and (response.one("Server") or "").startswith("Apache")
        and (response.one("Content-Type") or "").startswith("text/html")
    )

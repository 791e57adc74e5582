"""What tests assert more than once."""

from __future__ import annotations

import json

from tests.support.wire import Response


def assert_own_error(response: Response, status: int, code: str | None = None) -> str:
    """Check that `response` is the proxy's own error, in the form of the contract.

    Returns its message. Without `code` any will do.
    """
    assert response.status == status, (response.head, response.body)
    assert response.one("Content-Type") == "application/json"
    said = json.loads(response.body)
    assert set(said) == {"code", "message"}
    assert isinstance(said["message"], str)
    assert said["message"]
    assert code is None or said["code"] == code, said
    assert isinstance(said["code"], str)
    assert "Traceback" not in said["message"]
    assert 'File "' not in said["message"]
    return str(said["message"])

"""What clients see other than being served: a status with its code, or the connection's end."""

from __future__ import annotations

NO_TOKEN = "503 AuthenticationTokenNotFound"
NOT_KEPT = "503 RequestBodyNotKept"
REFUSED_IDENTITY = "503 TargetRefusedIdentity"
UNREACHABLE = "503 TargetUnreachable"
TIMEOUT = "504 TargetTimeout"
PROTOCOL = "502 TargetProtocolError"
CUT = "response cut"
CLOSED = "connection closed"
REFUSED = "connection refused"

#: A body longer than what the buffers of two sockets take.
LARGE = 12_000_000

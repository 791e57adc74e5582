"""Tokens of the user who has signed in to the Azure CLI or the Azure Developer CLI.

azure-identity has credentials for both, which read whatever the tool prints, and end the
tool but not what it has started (`az` is a script around Python). Here a run has
a deadline and a bound, and ends with all its processes.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from azure.core.credentials import AccessTokenInfo
from azure.identity import CredentialUnavailableError

from authproxy.identity.bounded_fetch import RESPONSE_BYTES, Budget
from authproxy.identity.http_transport import IdentitySession, SessionCredential

if TYPE_CHECKING:
    from azure.core.credentials import TokenRequestOptions

#: Not the folder that this program was started in: an `az` there must not run.
_WORKING_FOLDER = "/"

_TOKENS_IN_OUTPUT = re.compile(r'("(?:accessToken|token)":\s*")[^"]*("|$)')


@dataclass(frozen=True)
class Tool:
    """A command that prints tokens: how it is asked, and how its output is read."""

    name: str
    arguments: Callable[[str, str], Sequence[str]]
    read: Callable[[Mapping[str, Any]], AccessTokenInfo]
    #: The error where there is no such command, and where nobody has signed in.
    missing: str
    signed_out: str
    #: What the tool's own error has then.
    signs_of_sign_out: re.Pattern[str]


def _az_arguments(scope: str, tenant: str) -> list[str]:
    resource = scope.removesuffix("/.default")
    arguments = ["account", "get-access-token", "--output", "json", "--resource", resource]
    return [*arguments, "--tenant", tenant] if tenant else arguments


def _az_token(output: Mapping[str, Any]) -> AccessTokenInfo:
    if "expires_on" in output:
        return AccessTokenInfo(output["accessToken"], int(output["expires_on"]))
    # Before 2.54 there is only a local time.
    expires_on = datetime.strptime(output["expiresOn"], "%Y-%m-%d %H:%M:%S.%f")
    return AccessTokenInfo(output["accessToken"], int(expires_on.timestamp()))


def _azd_arguments(scope: str, tenant: str) -> list[str]:
    arguments = ["auth", "token", "--output", "json", "--no-prompt", "--scope", scope]
    return [*arguments, "--tenant-id", tenant] if tenant else arguments


def _azd_token(output: Mapping[str, Any]) -> AccessTokenInfo:
    expires_on = datetime.strptime(output["expiresOn"], "%Y-%m-%dT%H:%M:%SZ")
    in_utc = expires_on.replace(tzinfo=timezone.utc)
    return AccessTokenInfo(output["token"], int(in_utc.timestamp()))


AZ = Tool(
    "az",
    _az_arguments,
    _az_token,
    missing="Azure CLI not found on path",
    signed_out="Please run 'az login' to set up an account",
    signs_of_sign_out=re.compile("az login|az account set"),
)
AZD = Tool(
    "azd",
    _azd_arguments,
    _azd_token,
    missing="Azure Developer CLI not found on path",
    signed_out="Please run 'azd auth login'",
    signs_of_sign_out=re.compile("azd auth login"),
)


class CommandLineIdentity(SessionCredential):
    """A credential: the user who has signed in to the tool. It keeps to the session's budget."""

    def __init__(self, tool: Tool, session: IdentitySession, tenant: str = "") -> None:
        super().__init__(session)
        self._tool = tool
        self._tenant = tenant

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Return a token. Raises CredentialUnavailableError, which says why there is none."""
        tool = self._tool
        if options and options.get("claims"):
            raise CredentialUnavailableError(
                f"{tool.name} cannot satisfy a claims challenge: sign in to it again"
            )
        command = shutil.which(tool.name)
        if command is None:
            raise CredentialUnavailableError(tool.missing)
        status, output, complaint = _run(
            [command, *tool.arguments(scopes[0], self._tenant)], self._session.budget
        )
        if status == 0:
            self._session.endpoint = command
            try:
                return tool.read(json.loads(output))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                problem = f"Unexpected output of {tool.name}: {_without_tokens(output)}"
                raise CredentialUnavailableError(problem) from error
        problem = _without_tokens(complaint) or f"{tool.name} ended with status {status}"
        if tool.signs_of_sign_out.search(complaint) and "AADSTS" not in complaint:
            problem = tool.signed_out
        raise CredentialUnavailableError(problem)


def _run(command: Sequence[str], budget: Budget) -> tuple[int, str, str]:
    """Run a command; return its status and what it wrote on standard output and error.

    Raises CredentialUnavailableError where it takes too long or writes too much.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_WORKING_FOLDER,
            env={**os.environ, "AZURE_CORE_NO_COLOR": "true", "NO_COLOR": "true"},
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialUnavailableError(f"Failed to execute {command[0]}: {error}") from error
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            output, complaint = _read_whole((process.stdout, process.stderr), budget)
            status = process.wait(budget.timeout(None))
        except BaseException as error:
            # With all that it has started: a script's child would live on.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, (TimeoutError, subprocess.TimeoutExpired)):
                raise CredentialUnavailableError(str(budget.overdue())) from error
            raise
    return status, output, complaint


def _read_whole(streams: Sequence[IO[bytes]], budget: Budget) -> list[str]:
    """Return what comes of each stream until it ends, as text. Raises TimeoutError."""
    read = [bytearray() for _ in streams]
    with selectors.DefaultSelector() as selector:
        for stream, so_far in zip(streams, read, strict=True):
            selector.register(stream, selectors.EVENT_READ, so_far)
        while selector.get_map():
            for key, _ in selector.select(budget.timeout(None)):
                piece = os.read(key.fd, 65536)
                if not piece:
                    selector.unregister(key.fileobj)
                key.data.extend(piece)
                if len(key.data) > RESPONSE_BYTES:
                    raise CredentialUnavailableError(budget.too_large())
    return [so_far.decode("utf-8", "replace") for so_far in read]


def _without_tokens(output: str) -> str:
    return _TOKENS_IN_OUTPUT.sub(r"\1***\2", output)

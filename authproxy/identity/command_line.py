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
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any, ClassVar

from azure.core.credentials import AccessTokenInfo
from azure.identity import CredentialUnavailableError

from authproxy.identity.bounded_fetch import RESPONSE_BYTES, Budget
from authproxy.identity.http_transport import IdentitySession, SessionCredential

if TYPE_CHECKING:
    from azure.core.credentials import TokenRequestOptions

#: Not the folder that this program was started in: an `az` there must not run.
_WORKING_FOLDER = "/"

_TOKENS_IN_OUTPUT = re.compile(r'("(?:accessToken|token)":\s*")[^"]*("|$)')


class CommandLineIdentity(SessionCredential):
    """A credential: the user who has signed in to a tool. It keeps to the session's budget."""

    tool: ClassVar[str]
    #: The error where there is no such command, and where nobody has signed in.
    missing: ClassVar[str]
    signed_out: ClassVar[str]
    #: What the tool's own error has then.
    signs_of_sign_out: ClassVar[str]

    def __init__(self, session: IdentitySession, tenant: str = "") -> None:
        super().__init__(session)
        self._tenant = tenant

    @abstractmethod
    def _arguments(self, scope: str) -> list[str]:
        """Return how the tool is asked for a token."""

    @abstractmethod
    def _token(self, output: Mapping[str, Any]) -> AccessTokenInfo:
        """Return the token in its output. Raises ValueError, KeyError and the like."""

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Return a token. Raises CredentialUnavailableError, which says why there is none."""
        if options and options.get("claims"):
            raise CredentialUnavailableError(
                f"{self.tool} cannot satisfy a claims challenge: sign in to it again"
            )
        command = shutil.which(self.tool)
        if command is None:
            raise CredentialUnavailableError(self.missing)
        status, output, complaint = _run(
            [command, *self._arguments(scopes[0])], self.session.budget
        )
        if status == 0:
            self.session.endpoint = command
            try:
                return self._token(json.loads(output))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                problem = f"Unexpected output of {self.tool}: {_without_tokens(output)}"
                raise CredentialUnavailableError(problem) from error
        problem = _without_tokens(complaint) or f"{self.tool} ended with status {status}"
        if re.search(self.signs_of_sign_out, complaint) and "AADSTS" not in complaint:
            problem = self.signed_out
        raise CredentialUnavailableError(problem)


class AzureCLI(CommandLineIdentity):
    """The user of `az login`."""

    tool = "az"
    missing = "Azure CLI not found on path"
    signed_out = "Please run 'az login' to set up an account"
    signs_of_sign_out = "az login|az account set"

    def _arguments(self, scope: str) -> list[str]:
        resource = scope.removesuffix("/.default")
        arguments = ["account", "get-access-token", "--output", "json", "--resource", resource]
        return [*arguments, "--tenant", self._tenant] if self._tenant else arguments

    def _token(self, output: Mapping[str, Any]) -> AccessTokenInfo:
        if "expires_on" in output:
            return AccessTokenInfo(output["accessToken"], int(output["expires_on"]))
        # Before 2.54 there is only a local time.
        expires_on = datetime.strptime(output["expiresOn"], "%Y-%m-%d %H:%M:%S.%f")
        return AccessTokenInfo(output["accessToken"], int(expires_on.timestamp()))


class AzureDeveloperCLI(CommandLineIdentity):
    """The user of `azd auth login`."""

    tool = "azd"
    missing = "Azure Developer CLI not found on path"
    signed_out = "Please run 'azd auth login'"
    signs_of_sign_out = "azd auth login"

    def _arguments(self, scope: str) -> list[str]:
        return ["auth", "token", "--output", "json", "--no-prompt", "--scope", scope]

    def _token(self, output: Mapping[str, Any]) -> AccessTokenInfo:
        expires_on = datetime.strptime(output["expiresOn"], "%Y-%m-%dT%H:%M:%SZ")
        in_utc = expires_on.replace(tzinfo=timezone.utc)
        return AccessTokenInfo(output["token"], int(in_utc.timestamp()))


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

"""Where measurements take place: the target, the stand-in Entra, and the proxies in front."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from authproxy.demo.stand_ins.directory import METRICS_INGESTION
from lab.benchmarks import servers
from lab.benchmarks.processes import Program, choose_cores, free_port, pinned
from lab.benchmarks.revision import THIS, Checkout
from tests.support.stand_ins.entra import StandInEntra

#: The proxies of the table, the one that the others are divided by first.
NGINX = "nginx"
PLAIN = "plain"
AUTHPROXY = "authproxy"
PROXIES = (NGINX, PLAIN, AUTHPROXY)


class Testbed:
    """A folder, a target and an identity, on all cores but the first.

    What `start` starts runs on the first core unless told otherwise; leaving
    the context ends it all.
    """

    def __init__(self) -> None:
        self.own, self.others = choose_cores()
        self._stack = ExitStack()

    def __enter__(self) -> Testbed:
        with self._stack:
            # The stand-in's threads stay where they were started.
            self._stack.enter_context(pinned(self.others))
            folder = self._stack.enter_context(TemporaryDirectory(prefix="authproxy-bench-"))
            self.folder = Path(folder)
            self.certificate = servers.Certificate(self.folder)
            self.entra = self._stack.enter_context(StandInEntra())
            self.target_clear_port = free_port()
            self.target = self._stack.enter_context(
                servers.target(
                    self.certificate,
                    self.target_clear_port,
                    self.folder / "target",
                    self.others,
                )
            )
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def identity(self) -> dict[str, str]:
        """The settings that give authproxy its identity."""
        return {
            "IDENTITY_TYPE": "systemassigned",
            "AUDIENCE": METRICS_INGESTION,
            **self.entra.managed_identity_environment(),
        }

    def start(self, name: str) -> Program:
        """Start a proxy of the table."""
        starters: dict[str, Callable[[], Program]] = {
            NGINX: lambda: self._with_token(servers.nginx),
            PLAIN: lambda: self._with_token(servers.plain),
            AUTHPROXY: self.authproxy,
        }
        return starters[name]()

    def authproxy(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        checkout: Checkout = THIS,
        cores: Iterable[int] | None = None,
        launcher: Sequence[str] = ("authproxy",),
    ) -> Program:
        """Start authproxy, its metrics on unless `settings` say otherwise."""
        if settings is None:
            settings = {"METRICS_PORT": str(free_port())}
        program = servers.authproxy(
            self.target.port,
            {**self.identity, **settings},
            self.certificate,
            self._new_folder(AUTHPROXY),
            cores or self.own,
            checkout=checkout,
            launcher=launcher,
        )
        return self._stack.enter_context(program)

    def _with_token(self, starter: Callable[..., Program]) -> Program:
        name = starter.__name__
        token = self.entra.issue(METRICS_INGESTION, name, name).value
        program = starter(
            self.target.port, token, self.certificate, self._new_folder(name), self.own
        )
        return self._stack.enter_context(program)

    def _new_folder(self, name: str) -> Path:
        taken = sum(1 for _ in self.folder.iterdir())
        return self.folder / f"{taken}-{name}"

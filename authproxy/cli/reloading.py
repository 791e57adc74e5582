"""On SIGHUP, the settings are read again; if they have faults, those in force stay."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

from authproxy.app import ReloadRefused, Services, tell_routes
from authproxy.errors import SettingsError
from authproxy.settings import Loaded, Settings

log = logging.getLogger(__name__)

#: Reads the settings from where they came at the start. Raises SettingsError.
Reread = Callable[[], Loaded]

#: Seconds in which new routes may get their first tokens, before they replace the old ones.
PATIENCE_SECONDS = 30.0

#: The shortest time between two reloads. Signals that come meanwhile cause one.
_PAUSE_SECONDS = 1.0


class ReloadRequests:
    """Signals that request a reload; one thread waits for them."""

    def __init__(self) -> None:
        # Its `put` may interrupt itself, as a signal handler can.
        self._signals: SimpleQueue[int] = SimpleQueue()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signals.empty():
            self._signals.put(number)

    def listen(self) -> None:
        """Have SIGHUP request a reload in this process, and unblock it."""
        signal.signal(signal.SIGHUP, self.on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def wait(self) -> None:
        """Wait for a request; several that came meanwhile are one."""
        self._signals.get()


def reload_on_request(requests: ReloadRequests, reread: Reread, services: Services) -> None:
    """Start the thread that reloads: one reload at a time, and with pauses."""

    def run() -> None:
        while True:
            requests.wait()
            reload_settings(reread, services)
            time.sleep(_PAUSE_SECONDS)

    services.vital_threads.start("reload", run)


def reload_settings(reread: Reread, services: Services) -> None:
    """Read the settings and put them in force, or log why not."""
    try:
        loaded = settings_again(reread, services.lifecycle.reloaded)
        if loaded is not None:
            reload(loaded, services)
    except Exception:  # a bug must not end the thread: the settings before are in force
        log.exception("Settings not reloaded, those before stay in force")
        services.lifecycle.reloaded("a fault in authproxy: its log has the traceback")


def settings_again(reread: Reread, refused: Callable[[str], object]) -> Loaded | None:
    """Read the settings; where they have faults, log these and return None.

    `refused` is called with the names of those that have faults; only the log has values.
    """
    try:
        return reread()
    except SettingsError as error:
        _refuse(error, refused)
        return None


def reload(loaded: Loaded, services: Services) -> None:
    """Put these settings in force, or log why not."""
    try:
        services.reload(loaded.settings, PATIENCE_SECONDS)
    except (ReloadRefused, SettingsError) as error:
        _refuse(error, services.lifecycle.reloaded)
        return
    services.lifecycle.reloaded()
    log.info("Settings reloaded")
    tell_routes(services.routes.settings)
    if later := changed_of_process(services.settings, loaded.settings):
        log.warning(
            "Some changed settings take effect only after a restart",
            extra={"fields": {"Settings": ", ".join(later)}},
        )


def _refuse(error: ReloadRefused | SettingsError, refused: Callable[[str], object]) -> None:
    """Report why the settings before stay: in the log with their values, else without."""
    why = summary = str(error)
    if isinstance(error, SettingsError):
        why = "; ".join(map(str, error.faults))
        names = dict.fromkeys(f"{fault.place}{fault.setting}" for fault in error.faults)
        summary = f"faults in {', '.join(names)}; the log has them"
    refused(summary)
    log.error("Settings not reloaded, those before stay in force", extra={"fields": {"Error": why}})


def changed_of_process(before: Settings, now: Settings) -> list[str]:
    """Return the settings that differ and hold for the process as long as it lives."""
    kept = before.effective()
    return [
        name
        for name, value in now.effective().items()
        if value != kept[name] and name in Settings.fixed_variables()
    ]

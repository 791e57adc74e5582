"""Reloads within the process, many of them: what is kept, and that nothing is left behind."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from prometheus_client.samples import Sample

from authproxy.app import ReloadRefused, Services, create_app
from authproxy.errors import SettingsError
from authproxy.settings import Settings, load_settings
from tests.support.process import wait_until
from tests.support.stand_ins.entra import StandInEntra

RELOADS = 25
PATIENCE = 30.0


def settings(target: str, **changes: str) -> Settings:
    given = {
        "TARGET_HOST": f"{target}.example.com",
        "AUDIENCE": "https://monitor.azure.com",
        "IDENTITY_TYPE": "systemassigned",
        "METRICS_PORT": "9090",  # where nothing is opened
    }
    return load_settings({}, {**given, **changes}, serving=False).settings


@pytest.fixture
def entra(entra: StandInEntra, monkeypatch: pytest.MonkeyPatch) -> StandInEntra:
    for name, value in entra.managed_identity_environment().items():
        monkeypatch.setenv(name, value)
    return entra


@pytest.fixture
def app(entra: StandInEntra) -> Iterator[Flask]:
    level = logging.getLogger("authproxy").level
    made = create_app(settings("first"))
    services: Services = made.extensions["authproxy"]
    services.start()
    wait_until("there is a token", lambda: services.routes.ready)
    yield made
    services.close()
    logging.getLogger("authproxy").setLevel(level)


@pytest.fixture
def services(app: Flask) -> Services:
    services: Services = app.extensions["authproxy"]
    return services


class Holdings:
    """Descriptors, threads and series at one moment, with no attempt under way."""

    def __init__(self, services: Services) -> None:
        refresher = services._resources.refresher
        wait_until("no attempt is under way", lambda: not refresher._runs)
        self._services = services
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.threads = set(threading.enumerate())
        self.series = {
            (sample.name, *sorted(sample.labels.items()))
            for sample in samples(services)
            if sample.name.startswith("aad_auth_proxy")
        }

    def assert_nothing_was_added(self) -> None:
        assert Holdings(self._services).series == self.series
        # The stand-in's own end a moment after the fetches that they served.
        wait_until("threads have ended", lambda: set(threading.enumerate()) <= self.threads)
        wait_until(
            "descriptors are closed", lambda: len(os.listdir("/proc/self/fd")) <= self.descriptors
        )


def samples(services: Services) -> list[Sample]:
    collector = services.telemetry.collector
    assert collector is not None
    return [sample for family in collector.collect() for sample in family.samples]


def test_reloads_of_the_same_settings_ask_nobody_and_leave_nothing_behind(
    services: Services, entra: StandInEntra
) -> None:
    before, token = Holdings(services), services.routes.routes[0].tokens.current()
    for _ in range(RELOADS):
        services.reload(settings("first"), PATIENCE)
    before.assert_nothing_was_added()
    assert services.routes.routes[0].tokens.current() is token
    assert len(entra.requests) == 1


def test_refused_reloads_leave_nothing_behind(services: Services, entra: StandInEntra) -> None:
    before = Holdings(services)
    for number in range(RELOADS):
        with pytest.raises(ReloadRefused):
            services.reload(
                settings("other", IDENTITY_TYPE="userassigned", AAD_CLIENT_ID=f"nobody-{number}"),
                patience=0.0,
            )
    before.assert_nothing_was_added()
    # Nor do those identities ask any longer.
    asked = len(entra.requests)
    services._resources.refresher.wake()
    before.assert_nothing_was_added()
    assert len(entra.requests) == asked


def test_reloads_to_and_fro_leave_nothing_behind(services: Services, entra: StandInEntra) -> None:
    identities = [entra.assign().client_id for _ in range(2)]

    def there_and_back() -> None:
        for number, client_id in enumerate(identities):
            identity = {"IDENTITY_TYPE": "userassigned", "AAD_CLIENT_ID": client_id}
            services.reload(settings(f"target-{number}", **identity), PATIENCE)
        services.reload(settings("first"), PATIENCE)

    there_and_back()
    before = Holdings(services)
    for _ in range(RELOADS // 5):
        there_and_back()
    before.assert_nothing_was_added()


def test_a_reload_that_fails_half_way_leaves_nothing_behind(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Holdings(services)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/at/all")
    for _ in range(RELOADS // 5):
        with pytest.raises(SettingsError):
            services.reload(settings("other"), PATIENCE)
    before.assert_nothing_was_added()
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    services.reload(settings("first"), PATIENCE)
    assert services.routes.ready


def test_what_identities_did_before_they_came_back_is_counted_on(
    services: Services, entra: StandInEntra
) -> None:
    client_id = entra.assign().client_id
    identity = {"IDENTITY_TYPE": "userassigned", "AAD_CLIENT_ID": client_id}
    for _ in range(3):
        services.reload(settings("second", **identity), PATIENCE)
        services.reload(settings("first"), PATIENCE)
    counted = {
        (sample.labels["client_id"], sample.labels["is_success"]): sample.value
        for sample in samples(services)
        if sample.name == "aad_auth_proxy_token_refresh_total"
    }
    assert counted[client_id, "true"] == 3
    assert counted["", "true"] == 4


def test_a_vital_thread_that_has_ended_is_named_by_health(app: Flask, services: Services) -> None:
    client = app.test_client()
    assert client.get("/health").status_code == 200
    thread = threading.Thread(target=lambda: None)
    services.vital_threads.watch("log", thread.is_alive)
    response = client.get("/health")
    assert response.status_code == 503
    assert response.get_json()["status"] == "a thread has ended: log"
    services.vital_threads.forget("log")
    assert client.get("/health").status_code == 200

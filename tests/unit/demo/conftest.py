"""What the tests of the stand-ins share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.stand_ins.entra import StandInEntra
from tests.support.stand_ins.store import StandInStore


@pytest.fixture
def ca_file(entra: StandInEntra, tmp_path: Path) -> Path:
    """The CA of the v2.0 endpoints and of the store."""
    return entra.authority.write_bundle(tmp_path / "ca.pem")


@pytest.fixture
def store(entra: StandInEntra) -> Iterator[StandInStore]:
    with StandInStore(entra.signing_key, authority=entra.authority) as store:
        yield store


@pytest.fixture
def http(ca_file: Path) -> Iterator[requests.Session]:
    """A client that trusts the stand-ins' CA and nothing of the environment."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(ca_file)
        yield session

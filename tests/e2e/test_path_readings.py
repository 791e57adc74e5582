"""What real servers read in a path is what their models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from authproxy.settings.match import Match
from tests.support.path_models import read_by
from tests.support.path_servers import asks_for_secret, serving_secret
from tests.support.path_spellings import SPELLINGS, made_of_pieces

OPEN, SECRET = Match(path="/"), Match(path="/secret")


@pytest.mark.parametrize(
    "server",
    [pytest.param(name, marks=pytest.mark.real(name)) for name in ("nginx", "apache2")],
)
def test_the_models_read_what_the_real_ones_do(server: str, tmp_path: Path) -> None:
    paths = [*SPELLINGS, *made_of_pieces(500)]
    with serving_secret(server, tmp_path) as port:
        real = {path: asks_for_secret(port, path.encode("latin-1")) for path in paths}
    for path, is_secret in real.items():
        reading = read_by(server, path)
        assert (reading is not None and SECRET.covers(reading)) is is_secret, (path, reading)
    assert 10 < sum(real.values()) < len(paths) / 2

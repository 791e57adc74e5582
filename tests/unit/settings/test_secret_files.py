"""Files with secrets that every user of the machine can get at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authproxy.settings import load_settings
from authproxy.settings.secret_files import OpenFile, open_secret_files
from tests.support.client_certificates import client_authority

BASE = {
    "TARGET_HOST": "metrics.example.com",
    "AUDIENCE": "https://a",
    "IDENTITY_TYPE": "aadApplication",
    "AAD_CLIENT_ID": "00000000-0000",
    "AAD_TENANT_ID": "example.com",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others may enter; those of pytest they may not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def found(**environ: str) -> list[OpenFile]:
    return list(open_secret_files(load_settings(environ={**BASE, **environ}, serving=False)))


def write(path: Path, content: bytes, mode: int) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("mode", "is_open"),
    [(0o644, True), (0o604, True), (0o602, True), (0o640, False), (0o600, False), (0o661, False)],
)
def test_a_file_that_others_can_read_or_change_is_open(
    folder: Path, mode: int, is_open: bool
) -> None:
    path = write(folder / "secret", b"s3cret", mode)
    expected = [OpenFile("AAD_CLIENT_SECRET_FILE", path, f"{mode:04o}")] if is_open else []
    assert found(AAD_CLIENT_SECRET_FILE=path) == expected


def test_a_folder_that_others_cannot_enter_keeps_its_files(folder: Path) -> None:
    path = write(folder / "secret", b"s3cret", 0o644)
    folder.chmod(0o750)
    assert found(AAD_CLIENT_SECRET_FILE=path) == []


def test_what_counts_is_the_file_that_a_link_leads_to(folder: Path) -> None:
    (folder / "..data").mkdir(mode=0o755)
    write(folder / "..data" / "secret", b"s3cret", 0o640)
    link = folder / "secret"
    link.symlink_to("..data/secret")
    assert found(AAD_CLIENT_SECRET_FILE=str(link)) == []
    (folder / "..data" / "secret").chmod(0o644)
    assert [file.path for file in found(AAD_CLIENT_SECRET_FILE=str(link))] == [str(link)]


def test_certificate_password_and_inbound_tokens_count_as_well(folder: Path) -> None:
    pem = client_authority().issue().pem(b"pa55word")
    paths = {
        "AAD_CLIENT_CERTIFICATE_PATH": write(folder / "client.pem", pem, 0o644),
        "AAD_CLIENT_CERTIFICATE_PASSWORD_FILE": write(folder / "password", b"pa55word", 0o644),
        "INBOUND_TOKEN_FILE": write(folder / "tokens", b"0123456789abcdef", 0o644),
    }
    assert {file.setting: file.path for file in found(**paths)} == paths


def test_the_settings_file_counts_where_a_secret_is_in_it(folder: Path) -> None:
    with_secret = write(folder / "with.yaml", b"aad_client_secret: s3cret", 0o644)
    (file,) = found(AUTHPROXY_CONFIG=with_secret)
    assert (file.setting, file.path) == ("AUTHPROXY_CONFIG", with_secret)
    without = write(folder / "without.yaml", b"threads: 3", 0o644)
    assert found(AUTHPROXY_CONFIG=without, AAD_CLIENT_SECRET="s3cret") == []

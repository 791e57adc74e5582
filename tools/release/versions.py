"""The version: everywhere it stands, whether all agree, and how to change it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: The form that a version has here: three numbers (https://semver.org).
VERSION = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}")

#: Files, and what in them is the version: the one group of the expression.
PLACES = (
    ("authproxy/__init__.py", r'^__version__ = "(.+)"$'),
    ("authproxy/authproxy.1", r'^\.TH AUTHPROXY 1 "" "authproxy (.+?)"'),
    ("docker/Dockerfile", r"^ARG VERSION=(.+)$"),
    ("helm/authproxy/Chart.yaml", r"^(?:version|appVersion): (.+)$"),
    *(
        (files, r"\b(?:authproxy:|image\.tag=)(\d+\.\d+\.\d+)\b")
        for files in ("deploy/**/*", "docker/*.yaml", "docs/**/*.md", "helm/*/examples/*", "*.md")
    ),
)

_HEADING = re.compile(r"^## \[(.+?)\](.*)\n", re.MULTILINE)


class ReleaseError(Exception):
    """A release cannot be made; the message lists every reason."""


class Found(NamedTuple):
    """A version in a file, at these offsets of its text."""

    path: Path
    start: int
    end: int
    version: str


def found_in(root: Path) -> Iterator[Found]:
    """Yield each version that stands in a place of PLACES."""
    for files, pattern in PLACES:
        for path in sorted(root.glob(files)):
            if path.is_file() and path.name != "CHANGELOG.md":
                for match in re.finditer(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
                    yield Found(path, match.start(1), match.end(1), match[1])


def sections(changelog: str) -> dict[str, str]:
    """Return the text of each version's section, and of "Unreleased"."""
    headings = list(_HEADING.finditer(changelog))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    return {
        heading[1]: changelog[heading.end() : end].strip()
        for heading, end in zip(headings, ends, strict=True)
    }


def notes(root: Path, version: str) -> str:
    """Return what the changelog says of a version; raises ReleaseError where it says nothing."""
    text = sections((root / "CHANGELOG.md").read_text(encoding="utf-8")).get(version)
    if not text:
        raise ReleaseError(f"CHANGELOG.md has no section [{version}], or an empty one")
    return f"{text}\n"


def disagreements(root: Path, version: str) -> list[str]:
    """Return a line for each place that speaks against a release of this version."""
    if not VERSION.fullmatch(version):
        return [f"VERSION is {version or 'not given'}: say make release VERSION=1.2.3"]
    wrong = [
        f"{found.path.relative_to(root)}: {found.version}"
        for found in found_in(root)
        if found.version != version
    ]
    problems = [f"another version stands in {', '.join(dict.fromkeys(wrong))}"] if wrong else []
    by_version = sections((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if not by_version.get(version):
        problems.append(f"CHANGELOG.md has no section [{version}], or an empty one")
    if by_version.get("Unreleased"):
        problems.append("CHANGELOG.md has changes under [Unreleased] still")
    return problems


def uncommitted(root: Path, version: str) -> list[str]:
    """Return a line for each way in which the commit that is checked out is not the release."""
    problems = []
    if changed := _git(root, "status", "--porcelain"):
        listed = ", ".join(line[3:] for line in changed.splitlines()[:5])
        problems.append(f"the tree is not clean: {listed}: commit or remove that")
    tag = f"v{version}"
    if _git(root, "tag", "--list", tag) and tag not in _git(
        root, "tag", "--points-at", "HEAD"
    ).split("\n"):
        problems.append(f"{tag} is the tag of another commit: a released version never changes")
    return problems


def check(root: Path, version: str) -> None:
    """Raise ReleaseError, with all reasons, where the checkout is no release of this version."""
    problems = [*disagreements(root, version), *uncommitted(root, version)]
    if problems:
        raise ReleaseError("\n".join(problems))


def bump(root: Path, version: str, day: str) -> None:
    """Write the version into all its places; what was unreleased becomes its section."""
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"VERSION is {version or 'not given'}: say make bump VERSION=1.2.3")
    for found in sorted(found_in(root), key=lambda each: each.start, reverse=True):
        text = found.path.read_text(encoding="utf-8")
        found.path.write_text(text[: found.start] + version + text[found.end :], encoding="utf-8")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if version not in sections(text):
        heading = f"## [Unreleased]\n\n## [{version}] - {day}\n"
        changelog.write_text(text.replace("## [Unreleased]\n", heading, 1), encoding="utf-8")


def _git(root: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["git", *arguments], cwd=root, stdout=subprocess.PIPE, text=True, check=True
    )
    return ended.stdout.strip("\n")

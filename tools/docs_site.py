"""What the site is made of: a hook of mkdocs.

Pages link to files beside them and to files anywhere in the repository, and
have to be right in the repository's own view too. So every page stands in the
site where it stands in the repository, and each file that one links to is
copied along. What no page needs stays out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
#: The README of the repository is the front page.
PAGES = ("*.md", "docs/**/*.md", "helm/*/README.md", "lab/benchmarks/README.md")

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)")


def pages() -> list[Path]:
    """Return the pages of the site, and of the repository's documentation."""
    return sorted({page for pattern in PAGES for page in ROOT.glob(pattern)})


def linked(page: Path) -> Iterator[Path]:
    """Yield the files of the repository that a page links to."""
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / link).resolve()
        if target.is_file() and target.is_relative_to(ROOT):
            yield target


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put the repository's files in the place of those below docs_dir; keep the theme's."""
    for file in [one for one in files if one.src_dir == config.docs_dir]:
        files.remove(file)
    everything = {*pages(), *(target for page in pages() for target in linked(page))}
    for path in sorted(everything):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files

"""The documentation as a site: whole, and with nothing from another host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.pages import blocks_of
from tests.support.source import ROOT
from tools.docs_site import linked, pages

#: What is wider than its place, so that it is cut off or has to be scrolled.
CUT_OFF = """[...document.querySelectorAll("pre > code")]
    .filter(code => code.scrollWidth > code.clientWidth + 1)
    .map(code => code.textContent)"""
COPIED = """addEventListener("copy", () => window.copied = document.activeElement.value, true)"""

#: Which attribute makes a browser fetch something, by element. A link of <a> is followed by people.
FETCHED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}


class Page(HTMLParser):
    """What a page fetches, and what it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.tables = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tables += tag == "table"
        self.classes.update((given.get("class") or "").split())
        if address := given.get(FETCHED.get(tag, "")):
            self.fetched.append(address)


def build(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a repository as `make site` does."""
    [command] = re.findall(r"mkdocs (build .*)$", (ROOT / "Makefile").read_text(), re.M)
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *command.split(), "--site-dir", folder],
        cwd=source,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_a_broken_link_or_an_unlisted_page_fails(tmp_path: Path) -> None:
    source = tmp_path / "repository"
    wanted = {*pages(), *(file for page in pages() for file in linked(page))}
    wanted |= {
        ROOT / "mkdocs.yml",
        ROOT / "tools/docs_site.py",
        *(ROOT / "tools/site_theme").iterdir(),
    }
    for file in wanted:
        copy = source / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    page = source / "docs" / "routes.md"
    page.write_text(f"{page.read_text()}\n[a](kubernetes.md#nowhere) [b](nowhere.md)\n")
    (source / "docs" / "unlisted.md").write_text("# Unlisted\n")
    done = build(source, tmp_path / "site")
    assert done.returncode == 1
    warnings = re.findall(r"^WARNING.*|^  - .*", done.stderr, re.M)
    for told in ("'#nowhere'", "'nowhere.md'", "docs/unlisted.md"):
        assert any(told in warning for warning in warnings), done.stderr


def built(site: Path, page: Path) -> Path:
    name = page.relative_to(ROOT)
    return site / (
        name.with_name("index.html") if name.stem == "README" else name.with_suffix(".html")
    )


def rendered(site: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(site.rglob("*.html")):
        yield path, path.read_text()


def test_each_page_is_there_with_what_it_links_to(site: Path) -> None:
    assert len(pages()) > 15
    for page in pages():
        assert built(site, page).is_file(), page
        for file in linked(page):
            if file not in pages():
                assert (site / file.relative_to(ROOT)).read_bytes() == file.read_bytes()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = {address for _, html in rendered(site) for address in Page(html).fetched}
    assert any(address.endswith(".js") for address in fetched)
    assert any(address.endswith(".css") for address in fetched)
    outside = {address for address in fetched if re.match(r"(?:[a-z]+:)?//", address)}
    assert outside == set()
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text()) == [], sheet


def test_nothing_makes_the_themes_script_load_a_library(site: Path) -> None:
    """It would get Mermaid from another host, for a page with such a drawing."""
    for path, html in rendered(site):
        assert "mermaid" not in Page(html).classes, path


def test_tables_and_lists_come_out_as_in_the_repositorys_view(site: Path) -> None:
    """The site's Markdown wants an empty line before them, the repository's does not."""
    for page in pages():
        source = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        html = built(site, page).read_text()
        assert Page(html).tables == len(re.findall(r"^\|(?:[ :]*-+[ :]*\|)+$", source, re.M)), page
        assert re.findall(r"<p>[^<]*\n(?:[-*|] |\d+\. )[^<]*", html) == [], page


def test_the_front_page_has_the_picture_and_leads_to_the_three_homes(site: Path) -> None:
    html = built(site, ROOT / "README.md").read_text()
    assert 'src="docs/status/status.png"' in html
    homes = re.findall(r'<th><a href="#([\w-]+)">', html)
    assert homes == ["on-kubernetes", "under-apache", "on-a-vm"]
    for home in homes:
        assert f'id="{home}"' in html


@pytest.mark.real("chromium")
def test_from_a_folder_commands_are_seen_and_copied_whole_and_found(site: Path) -> None:
    """In a narrow window of a real browser, which takes the pages from files."""
    support = pytest.importorskip("tests.support.browser", exc_type=ImportError)
    with support.chromium() as browser:
        tab = browser.new_context(viewport={"width": 360, "height": 800}).new_page()
        said: list[str] = []
        tab.on("console", lambda line: said.append(line.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        for name in ("README.md", "docs/kubernetes.md", "docs/systemd.md"):
            page = ROOT / name
            tab.goto(built(site, page).as_uri(), wait_until="load")
            assert tab.evaluate(CUT_OFF) == [], name
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            code = [block.code for block in blocks_of(page)]
            tab.evaluate(COPIED)
            for number, button in enumerate(tab.locator(".highlight").get_by_role("button").all()):
                button.evaluate("button => button.click()")
                assert tab.evaluate("copied") == code[number].rstrip(), name
        tab.locator("label.md-header__button[for=__search]").click()
        tab.get_by_text("Type to start searching").wait_for(state="attached")
        tab.keyboard.type("federated")
        tab.locator(".md-search-result__item a").first.click()
        tab.wait_for_url(re.compile(r"^file://.*\.html\?h=federated"))
        assert said == []

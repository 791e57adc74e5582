"""/status as people and scripts get it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from tests.support.process import wait_until
from tests.support.scrape import get

#: Elements without an end.
_VOID = {"meta", "link", "br", "hr", "img"}


def status_of(port: int) -> dict[str, Any]:
    """Return what /status.json tells."""
    got = get(port, "/status.json")
    assert got.status == 200, got.body
    told: dict[str, Any] = json.loads(got.body)
    return told


def settled_status(port: int) -> dict[str, Any]:
    """Return it once no request is in flight and each worker reports.

    A client has its response a moment before it is counted.
    """
    told: list[dict[str, Any]] = []

    def all_told() -> bool:
        told[:] = [status_of(port)]
        return bool(told[0]["in_flight"] == 0 and not told[0]["silent_workers"])

    wait_until("every worker reports, and no request is in flight", all_told)
    return told[0]


@dataclass
class Page(HTMLParser):
    """A page taken apart; every element must end where it has to."""

    text: str = ""
    elements: Counter[str] = field(default_factory=Counter)
    attributes: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, html: str) -> Page:
        page = cls()
        page.feed(html)
        page.close()
        assert page._open == [], page._open
        page.text = " ".join(page.text.split())
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        opened = self._open.pop()
        assert opened == tag, f"</{tag}> ends <{opened}>"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += f" {data}"


def page_of(port: int, path: str = "/status") -> Page:
    """Return the page for people."""
    got = get(port, path)
    assert got.status == 200, got.body
    return Page.of(got.body)

"""/status for people, /status.json for scripts."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from authproxy.admin.status_chart import NAMES, chart_of
from authproxy.admin.status_data import Data, with_dates
from authproxy.admin.status_state import headline
from authproxy.clock import rfc3339
from authproxy.errors import LocalResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: `/status?refresh` is reloaded at this interval; never by default, as readers lose their place.
REFRESH_SECONDS = 15

_COMMON = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]


class StatusPages:
    """Both pages, of the same data."""

    def __init__(self, gather: Callable[[], Data]) -> None:
        """`gather` returns the data as it is now."""
        self._gather = gather
        environment = Environment(
            loader=FunctionLoader(_part),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "clock": clock,
            "span": span,
            "rfc3339": rfc3339,
            "count": count,
            "per_second": per_second,
            "latency": latency,
        }
        self._template = environment.get_template("status.html")
        style = _part("status.css")
        self._style = Markup(style)  # a file of the package
        digest = b64encode(sha256(style.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", policy),
            ("Referrer-Policy", "no-referrer"),
            *_COMMON,
        ]

    def html(self, environ: WSGIEnvironment) -> LocalResponse:
        """Return the page for people."""
        refreshes = environ.get("QUERY_STRING") == "refresh"
        headers = [*self._headers]
        if refreshes:
            headers.append(("Refresh", str(REFRESH_SECONDS)))
        data = self._gather()
        page = self._template.render(
            data,
            headline=headline(data["state"], data["reasons"]),
            rate=sum(route["traffic"]["rate"] for route in _first_of_each_target(data["routes"])),
            style=self._style,
            chart=chart_of(data["requests"]["minutes"]),
            names=NAMES,
            refreshes=refreshes,
            refresh_seconds=REFRESH_SECONDS,
        )
        # A client's path may hold lone surrogates.
        return LocalResponse(HTTPStatus.OK, headers, page.encode(errors="replace"))

    def json(self, environ: WSGIEnvironment) -> LocalResponse:
        """Return the same data for scripts."""
        body = json.dumps(with_dates(self._gather()), indent=2).encode() + b"\n"
        return LocalResponse(HTTPStatus.OK, [("Content-Type", "application/json"), *_COMMON], body)


def _part(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def clock(at: float, now: float) -> str:
    """Return a time in UTC, with the date if that is not today's."""
    then, today = time.gmtime(at), time.gmtime(now)
    form = "%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, then)


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    whole = max(0, round(seconds))
    days, hours = divmod(whole // 3600, 24)
    minutes, left = whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def count(number: int) -> str:
    """Return a number with commas between thousands."""
    return f"{number:,}"


def per_second(rate: float) -> str:
    """Return a rate; below ten with one decimal."""
    return f"{rate:,.{0 if rate >= 10 else 1}f}/s"


def latency(milliseconds: float) -> str:
    """Return a time that a response took in the unit that suits it."""
    if milliseconds < 1000:
        return f"{milliseconds:.{0 if milliseconds >= 10 else 1}f} ms"
    return f"{milliseconds / 1000:.1f} s"


def _first_of_each_target(routes: Iterable[Data]) -> Iterable[Data]:
    """Return routes so that each target that had requests counts once."""
    return {route["target"]: route for route in routes if route["traffic"]}.values()

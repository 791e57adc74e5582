"""What `authproxy demo` prints on a terminal, with the ports and names that it usually has."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.diagnosing import on_a_terminal

_LAST = "Ctrl-C ends all of it."


def record(home: Path) -> str:
    """Run the demonstration until it stays, and return its lines, with their colours."""
    command = ("demo", "--proxy-port", "0")
    printed = on_a_terminal(home, {}, 80, command, until=_LAST)
    story, last, _ = printed.partition(_LAST)
    story = re.sub(r":\d+/status", ":9464/status", story)
    story = re.sub(r"(http://127\.0\.0\.1):(?!9464)\d+", r"\1:8081", story)
    return re.sub(r"/[\w/.-]*/authproxy-demo-\w+/", "/tmp/authproxy-demo/", story) + last

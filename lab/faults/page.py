"""Writes docs/reliability.md from what the rows measured: `python -m lab.faults.page FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.faults.bench import Measured
from lab.faults.matrix import GROUPS
from lab.faults.row import Row
from tests.support.source import ROOT

PAGE = ROOT / "docs" / "reliability.md"

TITLES = {
    "identity": "The identity endpoint",
    "target": "The target",
    "client": "Clients",
    "machine": "The machine",
}

COLUMNS = (
    *("fault", "stage", "clients see", "how long", "bounded by", "lost", "heals by itself"),
    *("`/ready`", "the log says"),
)

HEAD = """\
# Reliability

What clients see when something breaks, for how long, and what is lost. Written by the tests
themselves (`make reliability`): each row starts the real proxy between a stand-in Entra and a
target that records what it takes, lets traffic flow, brings the fault about, ends it, and waits
until all is well again.

**The traffic.** Two clients send numbered remote writes as Prometheus does: what is not taken is
sent again. One asks numbered queries. A row fails if a response of 2xx was given to a remote write
that is not at the target, whole and unchanged; if a query gets another's response; if clients see
anything but what the row expects; or if they are not all served again without help.

**How to read it.**

- *Clients see*: what they got in place of the target's response, as status and
  [code](troubleshooting.md#codes-of-the-proxys-own). "nothing" means that every request was served.
  What is in flight when a connection breaks is the client's to send again: the proxy does so
  itself only where [that is safe](architecture.md).
- *How long*: the fault itself + the time from its end until every client was served again. Where
  clients saw nothing: the slowest response, if that took a second or more.
- *Bounded by*: what that time depends on. The tests run with `TARGET_CONNECT_TIMEOUT_SECONDS=1`,
  `TARGET_READ_TIMEOUT_SECONDS=2` and `THREADS=8`, where the defaults are 5, 150 and 32.
- *Lost*: remote writes that were acknowledged and are not at the target.
- *`/ready`*: what it said besides 200. `/health` said 200 throughout, except where no process was
  there to respond.

Times are of one run on a shared machine with two cores, in whole seconds.
"""

TABLE_NOTES = {
    "identity": """\
Tokens are refreshed long before they expire, so that no client sees an outage that a refresh
meets. *Start*: the proxy starts within the fault. *Refresh*: a valid token is due for a refresh.
*Expired*: the fault lasts until the token has expired.""",
    "target": """\
A remote write that fails here was not acknowledged, and Prometheus sends it again. *Between
requests*: on kept connections while nothing is under way.""",
    "client": """\
What the others see while a crowd of 30 misbehaves, where it says nothing else.""",
    "machine": """\
Each row has a process of its own.""",
}


def write(folder: Path) -> str:
    """Return the page for the measurements in `folder`. Raises if a row was not measured."""
    parts = [HEAD]
    for group, rows in GROUPS.items():
        parts.append(f"## {TITLES[group]}\n\n{TABLE_NOTES[group]}\n")
        lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
        lines += [_line(_cells(row, _measured(folder, row))) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _measured(folder: Path, row: Row) -> Measured:
    return Measured(**json.loads((folder / f"{row.file_name}.json").read_text()))


def _cells(row: Row, measured: Measured) -> list[str]:
    return [
        row.fault,
        row.stage or "",
        ", ".join(measured.seen) or "nothing",
        _how_long(measured),
        row.bound or "",
        str(measured.lost),
        f"no: {row.helper}" if row.helper else "yes",
        ", ".join(_said(each) for each in measured.ready if each != "200") or "",
        ", ".join(f"`{each}`" for each in measured.log) or "",
    ]


def _said(status: str) -> str:
    return "no response" if status == "none" else status


def _how_long(measured: Measured) -> str:
    if measured.seen:
        return f"{_rounded(measured.fault)} + {_rounded(measured.after)}"
    if measured.slowest >= 1:
        return f"slowest response {_rounded(measured.slowest)}"
    return ""


def _rounded(seconds: float) -> str:
    return "< 1 s" if seconds < 1 else f"{seconds:.0f} s"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def rows_of(page: str) -> dict[str, list[tuple[str, str]]]:
    """Return fault and stage of each row of each table of the page, by heading."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for line in page.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| fault ", "| --- ")):
            fault, stage, *_ = line.removeprefix("| ").split(" | ")
            found.setdefault(heading, []).append((fault, stage))
    return found


if __name__ == "__main__":
    PAGE.write_text(write(Path(sys.argv[1])))

"""Where authproxy's CPU time goes under one row's load: python -m benchmarks.profile ROW

py-spy looks at the running process from outside, so that the profile has the
proportions of the real thing: nothing in the process is slowed down.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import click

from benchmarks.load import FailedRequests, run
from benchmarks.processes import Program
from benchmarks.rows import ROWS, TAIL, Row
from benchmarks.testbed import Testbed

_BY_KEY = {row.key: row for row in (*ROWS, TAIL)}

#: Samples a second. More of them disturb the process.
_RATE = 250


def record(program: Program, stacks: Path, seconds: int, native: bool) -> subprocess.Popen[bytes]:
    """Start py-spy on the program; it writes one line for each distinct stack."""
    py_spy = Path(sys.executable).with_name("py-spy")
    command = [str(py_spy), "record", "--pid", str(program.pid), "--output", str(stacks)]
    command += ["--format", "raw", "--duration", str(seconds), "--rate", str(_RATE)]
    command += ["--subprocesses", "--function"]
    if native:
        command.append("--native")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def count(stacks: str) -> tuple[Counter[str], Counter[str], int]:
    """Return the samples in each function itself, those at or below it, and all of them."""
    inside: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        total += int(number)
        inside[frames[-1]] += int(number)
        for frame in set(frames):
            below[frame] += int(number)
    return inside, below, total


def show(stacks: str, microseconds: float, top: int) -> str:
    """Return the functions that take most time themselves, `microseconds` being all of it."""
    inside, below, total = count(stacks)
    lines = [f"{'self':>6} {'us':>7}  {'below':>6}  function"]
    for function, samples in inside.most_common(top):
        share = samples / total
        lines.append(
            f"{share:6.1%} {share * microseconds:7.1f}  {below[function] / total:6.1%}  {function}"
        )
    return "\n".join(lines)


def profiled(row: Row, seconds: int, native: bool, top: int, keep: Path | None) -> str:
    """Load authproxy, and return where the time went."""
    with Testbed() as bed:
        proxy = bed.start("authproxy")
        run(proxy, row.workload, 1, bed.others)
        plain = run(proxy, row.workload, max(seconds // 2, 1), bed.others)
        stacks = keep or bed.folder / "stacks"
        py_spy = record(proxy, stacks, seconds, native)
        try:
            run(proxy, row.workload, seconds, bed.others)
        finally:
            _, said = py_spy.communicate(timeout=60)
        if py_spy.returncode:
            raise click.ClickException(f"py-spy failed:\n{said.decode()}")
        microseconds = plain.cpu_seconds_per_thousand * 1000
        head = f"{row.title}: {microseconds:.0f} us of CPU time for each request\n"
        return head + show(stacks.read_text(), microseconds, top)


@click.command()
@click.argument("key", metavar="ROW", type=click.Choice(list(_BY_KEY)))
@click.option("--seconds", default=8, show_default=True, type=click.IntRange(1, 600))
@click.option("--native", is_flag=True, help="Look into C extensions as well.")
@click.option("--top", default=40, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--stacks",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the stacks here, for flamegraph.pl or speedscope.",
)
def main(key: str, seconds: int, native: bool, top: int, stacks: Path | None) -> None:
    """Show where authproxy's CPU time goes under the load of ROW."""
    try:
        click.echo(profiled(_BY_KEY[key], seconds, native, top, stacks and stacks.resolve()))
    except FailedRequests as error:
        click.echo(f"Requests failed: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

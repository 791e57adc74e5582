"""Where authproxy's CPU time goes under one row's load: python -m lab.benchmarks.profile ROW"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import click

from lab.benchmarks.load import WARM_UP_SECONDS, FailedRequests, run
from lab.benchmarks.rows import BY_KEY, Row
from lab.benchmarks.testbed import Testbed

_SAMPLE = re.compile(r"^(?:Current thread|Stack) .*$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)

_PIECE_SECONDS = 2
#: faulthandler reads a frame now and then that is just being made; see lab.benchmarks.sampled.
_MOST_CRASHES = 10

#: A stack of functions, outermost first.
Stack = tuple[str, ...]


def parse(samples: str) -> Iterator[Stack]:
    """Yield the stacks that faulthandler wrote."""
    for sample in _SAMPLE.split(samples)[1:]:
        frames = [f"{name} ({_short(file)})" for file, _, name in _FRAME.findall(sample)]
        yield tuple(reversed(frames)) or ("(no Python)",)


def _short(file: str) -> str:
    """Return a source file's path from its package on."""
    for root in sorted(map(str, sys.path), key=len, reverse=True):
        if root and file.startswith(root + "/"):
            return file[len(root) + 1 :]
    return file


def by_package(stacks: Counter[Stack], microseconds: float) -> str:
    """Return what each package takes itself, `microseconds` being all of it."""
    packages: Counter[str] = Counter()
    for stack, samples in stacks.items():
        packages[stack[-1].rpartition("(")[2].rstrip(")").partition("/")[0]] += samples
    return "\n".join(
        f"{samples / stacks.total():6.1%} {samples / stacks.total() * microseconds:7.1f}  {name}"
        for name, samples in packages.most_common(20)
    )


def by_function(stacks: Counter[Stack], microseconds: float, top: int, inclusive: bool) -> str:
    """Return the functions that take most time, with or without what they call."""
    inside: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for stack, samples in stacks.items():
        inside[stack[-1]] += samples
        for function in set(stack):
            below[function] += samples
    total = stacks.total()
    lines = [f"{'self':>6} {'us':>7}  {'with callees':>12} {'us':>7}  function"]
    for function, _ in (below if inclusive else inside).most_common(top):
        own, whole = inside[function] / total, below[function] / total
        lines.append(
            f"{own:6.1%} {own * microseconds:7.1f}  "
            f"{whole:12.1%} {whole * microseconds:7.1f}  {function}"
        )
    return "\n".join(lines)


def profiled(row: Row, seconds: int) -> tuple[Counter[Stack], float]:
    """Load authproxy, and return its stacks and the CPU microseconds of one request.

    The load comes in pieces: those before a crash count. Raises FailedRequests
    where requests failed for another reason.
    """
    stacks: Counter[Stack] = Counter()
    costs: list[float] = []
    crashes = 0
    with Testbed() as bed:
        while len(costs) * _PIECE_SECONDS < seconds:
            if crashes == _MOST_CRASHES:
                raise click.ClickException(f"the sampler crashed the process {crashes} times")
            samples = bed.folder / f"samples-{crashes}"
            proxy = bed.authproxy(launcher=("lab.benchmarks.sampled", str(samples)))
            run(proxy, row.workload, WARM_UP_SECONDS, bed.others)
            os.kill(proxy.pid, signal.SIGUSR2)
            try:
                while len(costs) * _PIECE_SECONDS < seconds:
                    before = samples.stat().st_size
                    piece = run(proxy, row.workload, _PIECE_SECONDS, bed.others)
                    stacks.update(parse(samples.read_bytes()[before:].decode(errors="replace")))
                    costs.append(piece.cpu_seconds_per_thousand)
            except FailedRequests:
                if not proxy.crashed:
                    raise
                crashes += 1
    return stacks, median(costs) * 1000


@click.command()
@click.argument("key", metavar="ROW", type=click.Choice(list(BY_KEY)))
@click.option("--seconds", default=10, show_default=True, type=click.IntRange(1, 600))
@click.option("--top", default=40, show_default=True, type=click.IntRange(1, 1000))
@click.option("--inclusive", is_flag=True, help="Order by the time with what is called.")
@click.option(
    "--stacks",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the stacks here, collapsed, for speedscope or flamegraph.pl.",
)
def main(key: str, seconds: int, top: int, inclusive: bool, stacks: Path | None) -> None:
    """Show where authproxy's CPU time goes under the load of ROW."""
    row = BY_KEY[key]
    try:
        counted, microseconds = profiled(row, seconds)
    except FailedRequests as error:
        click.echo(f"Requests failed: {error}", err=True)
        sys.exit(1)
    click.echo(f"{row.title}: {microseconds:.0f} us of CPU time each, {counted.total()} samples")
    click.echo(f"\nby package:\n{by_package(counted, microseconds)}")
    click.echo(f"\nby function:\n{by_function(counted, microseconds, top, inclusive)}")
    if stacks is not None:
        lines = (f"{';'.join(stack)} {number}\n" for stack, number in counted.items())
        stacks.write_text("".join(lines))


if __name__ == "__main__":
    main()

"""How much Python a request of one row executes: python -m lab.benchmarks.bytecodes ROW

Bytecodes are the same in each run, on whatever machine and however busy it is. They tell nothing
of what C does: TLS, regular expressions, the kernel.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from http.client import HTTPConnection

import click

from lab.benchmarks.load import Workload
from lab.benchmarks.processes import START_DEADLINE, Program
from lab.benchmarks.rows import BY_KEY
from lab.benchmarks.testbed import Testbed

_WARM_UP = 20
_REQUESTS = 50

#: A function as `counted` names it; the part of the path from its package on.
_FUNCTION = re.compile(r"(.*) \((?:.*/(?:site-packages|python3\.[0-9]+|(?=authproxy/)))?/?(.*)\)")


def counted(workload: Workload) -> Counter[str]:
    """Return the bytecodes of one request by function, the process's own upkeep among them."""
    with Testbed() as bed:
        file = bed.folder / "bytecodes.json"
        proxy = bed.authproxy(launcher=("lab.benchmarks.counted", str(file)))
        _send(proxy, workload, _WARM_UP)
        os.kill(proxy.pid, signal.SIGUSR2)
        _send(proxy, workload, _REQUESTS)
        os.kill(proxy.pid, signal.SIGUSR2)
        give_up = time.monotonic() + START_DEADLINE
        while not file.exists():
            if time.monotonic() > give_up:
                raise click.ClickException("the process has not written what it counted")
            time.sleep(0.05)
        return Counter({_shown(each): n for each, n in json.loads(file.read_text()).items()})


def _send(proxy: Program, workload: Workload, requests: int) -> None:
    """Send requests one after the other, each as soon as the one before has its response."""
    connection = HTTPConnection("127.0.0.1", proxy.port)
    body = bytes(workload.body_bytes) or None
    for _ in range(requests):
        connection.request(workload.method, workload.path, body)
        response = connection.getresponse()
        response.read()
        if response.status // 100 != 2:
            raise click.ClickException(f"a request failed with {response.status}")
    connection.close()


def _shown(function: str) -> str:
    match = _FUNCTION.fullmatch(function)
    return f"{match[1]} ({match[2]})" if match else function


def by_package(counts: Counter[str]) -> Counter[str]:
    """Return the sums of the packages, and of authproxy's own."""
    packages: Counter[str] = Counter()
    for function, count in counts.items():
        path = function.rpartition("(")[2].rstrip(")").split("/")
        packages["/".join(path[:2]) if path[0] == "authproxy" else path[0]] += count
    return packages


@click.command()
@click.argument("key", metavar="ROW", type=click.Choice(list(BY_KEY)))
@click.option("--top", default=40, show_default=True, type=click.IntRange(1, 1000))
def main(key: str, top: int) -> None:
    """Show how many bytecodes a request of ROW takes, by package and function."""
    counts = counted(BY_KEY[key].workload)
    click.echo(f"{BY_KEY[key].title}: {counts.total() / _REQUESTS:.0f} bytecodes each")
    for heading, found in (("package", by_package(counts)), ("function", counts)):
        click.echo(f"\nby {heading}:")
        for name, count in found.most_common(top):
            click.echo(f"{count / _REQUESTS:8.1f}  {name}")


if __name__ == "__main__":
    main()

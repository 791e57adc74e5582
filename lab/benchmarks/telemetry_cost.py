"""What telemetry costs a request: python -m lab.benchmarks.telemetry_cost

Proxies that differ in nothing but their telemetry take turns under the same
load, in one run, so that a slow moment of the machine hits all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import Any

import click
import grpc

from lab.benchmarks.load import WARM_UP_SECONDS, Run, run, write
from lab.benchmarks.processes import free_port
from lab.benchmarks.testbed import Testbed

WORKLOAD = write(1_000, 8)


class _Sink(grpc.GenericRpcHandler):
    """Takes whatever is exported, unread."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


@contextmanager
def collector() -> Iterator[str]:
    """Run a collector, and give its endpoint."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=(_Sink(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


def variants(endpoint: str, absent: str) -> dict[str, dict[str, str]]:
    """Return the settings to compare, by name."""
    return {
        "off": {},
        "METRICS_PORT": {"METRICS_PORT": str(free_port())},
        "OTLP": {"OTEL_GRPC_ENDPOINT": endpoint},
        "OTLP, a tenth sampled": {
            "OTEL_GRPC_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
        },
        "OTLP, no collector": {"OTEL_GRPC_ENDPOINT": absent},
    }


def measure(rounds: int, seconds: int) -> dict[str, list[Run]]:
    """Return the runs of each variant."""
    runs: dict[str, list[Run]] = {}
    with Testbed() as bed, collector() as endpoint:
        settings = variants(endpoint, f"127.0.0.1:{free_port()}")
        proxies = {name: bed.authproxy(each) for name, each in settings.items()}
        for proxy in proxies.values():
            run(proxy, WORKLOAD, WARM_UP_SECONDS, bed.others)
        for _ in range(rounds):
            for name, proxy in proxies.items():
                runs.setdefault(name, []).append(run(proxy, WORKLOAD, seconds, bed.others))
    return runs


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=4, show_default=True, help="Length of one run.")
def main(rounds: int, seconds: int) -> None:
    """Print a table in Markdown."""
    runs = measure(rounds, seconds)
    click.echo(f"POST of 1 KB, 8 connections, medians of {rounds} runs\n")
    click.echo("| telemetry | CPU s per 1,000 | against off | p50 ms | p99 ms | memory MiB |")
    click.echo("|---|---|---|---|---|---|")
    base = median(each.cpu_seconds_per_thousand for each in runs["off"])
    for name, each in runs.items():
        cpu = median(one.cpu_seconds_per_thousand for one in each)
        latency = [median(getattr(one, field) for one in each) for field in ("p50_ms", "p99_ms")]
        memory = median(one.memory_mib for one in each)
        click.echo(
            f"| {name} | {cpu:.3f} | +{(cpu / base - 1):.0%} | {latency[0]:.2f} | "
            f"{latency[1]:.2f} | {memory:.0f} |"
        )


if __name__ == "__main__":
    main()

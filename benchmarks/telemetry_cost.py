"""What telemetry costs a request: python -m benchmarks.telemetry_cost

Proxies that differ in nothing but their telemetry take turns under the same
load, in one run, so that a slow moment of the machine hits all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
import grpc

from authproxy.demo.directory import METRICS_INGESTION
from authproxy.demo.entra import StandInEntra
from benchmarks import programs
from benchmarks.compare import WARM_UP_SECONDS, choose_cores
from benchmarks.load import WORKLOADS, Run, run

WORKLOAD = WORKLOADS[1]
CONNECTIONS = 8


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
        "METRICS_PORT": {"METRICS_PORT": str(programs.free_port())},
        "OTLP": {"OTEL_GRPC_ENDPOINT": endpoint},
        "OTLP, a tenth sampled": {
            "OTEL_GRPC_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
        },
        "OTLP, no collector": {"OTEL_GRPC_ENDPOINT": absent},
    }


def measure(rounds: int, seconds: float) -> dict[str, list[Run]]:
    """Return the runs of each variant."""
    own, others = choose_cores()
    runs: dict[str, list[Run]] = {}
    with ExitStack() as stack, programs.pinned(others):
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="authproxy-bench-")))
        certificate = programs.Certificate(folder)
        entra = stack.enter_context(StandInEntra())
        identity = {
            "IDENTITY_TYPE": "systemassigned",
            "AUDIENCE": METRICS_INGESTION,
            **entra.managed_identity_environment(),
        }
        target = stack.enter_context(programs.target(certificate, folder / "target", others))
        absent = f"127.0.0.1:{programs.free_port()}"
        settings = variants(stack.enter_context(collector()), absent)
        proxies = {
            name: stack.enter_context(
                programs.authproxy(
                    target.port, {**identity, **each}, certificate, folder / str(number), own
                )
            )
            for number, (name, each) in enumerate(settings.items())
        }
        for number in range(rounds + 1):
            for name, proxy in proxies.items():
                length = seconds if number else WARM_UP_SECONDS
                result = run(proxy, WORKLOAD, length, CONNECTIONS, others)
                if number:
                    runs.setdefault(name, []).append(result)
    return runs


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of one run.")
def main(rounds: int, seconds: float) -> None:
    """Print a table in Markdown."""
    runs = measure(rounds, seconds)
    click.echo(f"{WORKLOAD.name}, {CONNECTIONS} connections, medians of {rounds} runs\n")
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

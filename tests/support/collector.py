"""A collector that keeps what it is sent: OTLP over gRPC and over HTTP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response
from tests.support.wire import DEADLINE

Attributes = dict[str, Any]


def plain(value: Any) -> Any:
    """Return an AnyValue as a plain one."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def attributes_of(pairs: Any) -> Attributes:
    return {pair.key: plain(pair.value) for pair in pairs}


@dataclass(frozen=True)
class Span:
    """A span as it was exported, its ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Attributes
    status: int
    message: str
    start: int
    end: int


@dataclass(frozen=True)
class LogLine:
    body: str
    severity: str
    attributes: Attributes
    trace_id: str
    span_id: str


@dataclass(frozen=True)
class Point:
    """The latest value of one series."""

    kind: str
    unit: str
    attributes: Attributes
    value: float
    bounds: tuple[float, ...] = ()


@dataclass
class Received:
    """What has come, whichever way."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    payloads: list[bytes] = field(default_factory=list)
    resources: list[Attributes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    metrics: dict[tuple[str, str, frozenset[tuple[str, Any]]], Point] = field(default_factory=dict)

    def take_traces(self, request: Any) -> None:
        with self.changed:
            self.payloads.append(request.SerializeToString())
            for group in request.resource_spans:
                self.resources.append(attributes_of(group.resource.attributes))
                for scope in group.scope_spans:
                    self.spans.extend(map(_span, scope.spans))
            self.changed.notify_all()

    def take_metrics(self, request: Any) -> None:
        with self.changed:
            self.payloads.append(request.SerializeToString())
            for group in request.resource_metrics:
                resource = attributes_of(group.resource.attributes)
                self.resources.append(resource)
                instance = resource["service.instance.id"]
                for scope in group.scope_metrics:
                    for metric in scope.metrics:
                        for point in _points(metric):
                            labels = frozenset(point.attributes.items())
                            self.metrics[instance, metric.name, labels] = point
            self.changed.notify_all()

    def take_logs(self, request: Any) -> None:
        with self.changed:
            self.payloads.append(request.SerializeToString())
            for group in request.resource_logs:
                self.resources.append(attributes_of(group.resource.attributes))
                for scope in group.scope_logs:
                    self.lines.extend(map(_line, scope.log_records))
            self.changed.notify_all()

    # -- looking ---------------------------------------------------------------

    def wait_for(self, what: str, condition: Callable[[], Any]) -> Any:
        """Return what `condition` does, once that is something."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = [condition()]
            return bool(found[0])

        with self.changed:
            assert self.changed.wait_for(look, timeout=DEADLINE), (
                f"{what}: not in time; {[span.name for span in self.spans]}, {self.names}"
            )
        return found[0]

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        return {name for _, name, _ in self.metrics}

    def points(self, name: str, **labels: Any) -> list[Point]:
        """Return the series of one metric whose labels include these."""
        return [
            point
            for (_, metric, _), point in self.metrics.items()
            if metric == name and labels.items() <= point.attributes.items()
        ]

    def spans_named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def _span(span: Any) -> Span:
    return Span(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        attributes_of(span.attributes),
        span.status.code,
        span.status.message,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _line(record: Any) -> LogLine:
    return LogLine(
        plain(record.body),
        record.severity_text,
        attributes_of(record.attributes),
        record.trace_id.hex(),
        record.span_id.hex(),
    )


def _points(metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    if kind == "sum":
        kind = "counter" if data.is_monotonic else "up-down counter"
    for point in data.data_points:
        attributes = attributes_of(point.attributes)
        if kind == "histogram":
            yield Point(kind, metric.unit, attributes, point.count, tuple(point.explicit_bounds))
        else:
            number = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
            yield Point(kind, metric.unit, attributes, number)


class Collector(Received):
    """A gRPC server with the three services of OTLP, on a port of its own."""

    def __init__(self, *, credentials: grpc.ServerCredentials | None = None) -> None:
        super().__init__()
        #: Answers every export with this status instead of taking it.
        self.refusal: grpc.StatusCode | None = None
        self.calls = 0
        self.metadata: list[Mapping[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        # What is generated from the services' definitions has no types.
        services: list[tuple[Any, Callable[[Any], None], Any]] = [
            (
                trace_service_pb2_grpc.add_TraceServiceServicer_to_server,
                self.take_traces,
                trace_service_pb2.ExportTraceServiceResponse,
            ),
            (
                metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server,
                self.take_metrics,
                metrics_service_pb2.ExportMetricsServiceResponse,
            ),
            (
                logs_service_pb2_grpc.add_LogsServiceServicer_to_server,
                self.take_logs,
                logs_service_pb2.ExportLogsServiceResponse,
            ),
        ]
        for add, take, response in services:
            add(_Service(self, take, response), self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    @property
    def endpoint(self) -> str:
        return f"localhost:{self.port}"

    def __enter__(self) -> Collector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace=None).wait(DEADLINE)


class _Service:
    def __init__(self, collector: Collector, take: Callable[[Any], None], reply: Any) -> None:
        self._collector, self._take, self._reply = collector, take, reply

    def Export(self, request: Any, context: Any) -> Any:  # the service's own name
        with self._collector.changed:
            self._collector.calls += 1
            self._collector.metadata.append(dict(context.invocation_metadata()))
            self._collector.changed.notify_all()
        if self._collector.refusal is not None:
            context.abort(self._collector.refusal, "not today")
        self._take(request)
        return self._reply()


class HTTPCollector(Received):
    """An HTTP server that takes OTLP in protobuf form."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[str, tuple[Any, Callable[[Any], None]]] = {
            "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, self.take_traces),
            "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, self.take_metrics),
            "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, self.take_logs),
        }
        self.headers: list[Mapping[str, str]] = []
        self._server = LoopbackServer(self._answer)

    def _answer(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        zipped = request.headers["Content-Encoding"] == "gzip"
        message, take = self._takers[request.target]
        take(message.FromString(gzip.decompress(request.body) if zipped else request.body))
        return Response(200, headers={"Content-Type": "application/x-protobuf"})

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> HTTPCollector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

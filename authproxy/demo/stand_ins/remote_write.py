"""Prometheus remote write 1.0: snappy-compressed protocol buffers.

The wire format is that of https://prometheus.io/docs/specs/prw/remote_write_spec/;
what this does not know (metadata, exemplars, histograms) is skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from authproxy.demo.stand_ins.snappy import NotSnappy, compress, decompress

#: The fields that Prometheus sends with a remote write.
HEADERS: Mapping[str, str] = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

#: Against decompression bombs; Prometheus itself stops at 32 MiB.
_LONGEST_DECODED = 256 * 1024 * 1024

_Field = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class Sample:
    """One value of one series; `timestamp` in milliseconds since the epoch.

    `labels` are sorted pairs, the metric's name among them as `__name__`.
    """

    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: int

    @classmethod
    def of(cls, name: str, value: float, timestamp: int, **labels: str) -> Sample:
        """Return a sample of the metric `name`."""
        return cls(tuple(sorted({"__name__": name, **labels}.items())), value, timestamp)

    @property
    def name(self) -> str:
        return dict(self.labels).get("__name__", "")


class NotRemoteWrite(ValueError):
    """The body is no remote write; the message says why."""


def encode(samples: Iterable[Sample]) -> bytes:
    """Return the body of a remote write with these samples."""
    request = _WriteRequest()
    for sample in samples:
        series = request.timeseries.add()
        for name, value in sample.labels:
            series.labels.add(name=name, value=value)
        series.samples.add(value=sample.value, timestamp=sample.timestamp)
    return compress(request.SerializeToString())


def decode(body: bytes) -> list[Sample]:
    """Return the samples in the body of a remote write. Raises NotRemoteWrite."""
    request = _WriteRequest()
    try:
        request.ParseFromString(decompress(body, _LONGEST_DECODED))
    except NotSnappy as error:
        raise NotRemoteWrite(f"not a snappy block: {error}") from error
    except DecodeError as error:
        raise NotRemoteWrite(f"not a WriteRequest: {error}") from error
    return [
        Sample(labels, sample.value, sample.timestamp)
        for series in request.timeseries
        for labels in [tuple(sorted((label.name, label.value) for label in series.labels))]
        for sample in series.samples
    ]


def _write_request_class() -> Any:
    """Build prometheus.WriteRequest from its description, without generated code."""
    file = descriptor_pb2.FileDescriptorProto(
        name="authproxy/remote_write.proto", package="prometheus", syntax="proto3"
    )

    def message(name: str, *fields: tuple[str, int, int, str | None]) -> None:
        described = file.message_type.add(name=name)
        for field_name, number, kind, element in fields:
            added = described.field.add(
                name=field_name, number=number, type=kind, label=_Field.LABEL_OPTIONAL
            )
            if element is not None:
                added.label = _Field.LABEL_REPEATED
                added.type_name = f".prometheus.{element}"

    message("Label", ("name", 1, _Field.TYPE_STRING, None), ("value", 2, _Field.TYPE_STRING, None))
    message(
        "Sample", ("value", 1, _Field.TYPE_DOUBLE, None), ("timestamp", 2, _Field.TYPE_INT64, None)
    )
    message(
        "TimeSeries",
        ("labels", 1, _Field.TYPE_MESSAGE, "Label"),
        ("samples", 2, _Field.TYPE_MESSAGE, "Sample"),
    )
    message("WriteRequest", ("timeseries", 1, _Field.TYPE_MESSAGE, "TimeSeries"))
    # A pool of its own: another package may describe the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


_WriteRequest = _write_request_class()

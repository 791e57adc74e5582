"""Who sends this telemetry: OpenTelemetry's resource."""

from __future__ import annotations

import os
import platform
import socket
import uuid

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.util.types import AttributeValue

from authproxy import __version__
from authproxy.settings import Settings


def resource(service_name: str, workers: int) -> Resource:
    """Return the attributes of this process; made after the fork.

    `service.instance.id` differs from process to process, or the workers'
    metrics would overwrite one another where they are stored. Attributes
    of OTEL_RESOURCE_ATTRIBUTES come first, except for OTEL_SERVICE_NAME.
    """
    given = OTELResourceDetector().detect().attributes
    named = {"service.name": service_name}
    instance = given.get("service.instance.id")
    if instance is None:
        named["service.instance.id"] = str(uuid.uuid4())
    elif workers > 1:
        named["service.instance.id"] = f"{instance}/{os.getpid()}"
    if service_name == Settings.otel_service_name.default:
        named["service.name"] = str(given.get("service.name", service_name))
    defaults: dict[str, AttributeValue] = {
        "service.version": __version__,
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    return Resource.create({**defaults, **given, **named})

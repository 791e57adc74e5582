"""Something to scrape: some hundred series, no two values the same."""

from __future__ import annotations

import threading

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response

METRIC = "soak_value"
SERIES = 300


class Exporter:
    """Serves `SERIES` series; each scrape finds values that no other scrape finds."""

    def __init__(self) -> None:
        self.scrapes = 0
        self._lock = threading.Lock()
        self.server = LoopbackServer(self._answer)

    def _answer(self, request: Request) -> Response:
        with self._lock:
            self.scrapes += 1
            base = self.scrapes * SERIES
        lines = [f'{METRIC}{{series="{index}"}} {base + index}' for index in range(SERIES)]
        body = f"# TYPE {METRIC} gauge\n" + "\n".join(lines) + "\n"
        return Response(200, body.encode(), {"Content-Type": "text/plain; version=0.0.4"})

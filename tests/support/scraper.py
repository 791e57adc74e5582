"""A real Prometheus that scrapes proxies, and evaluates rules if there are any."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.process import wait_until
from tests.support.prometheus import Prometheus

Series = dict[str, Any]


def job(port: int, instance: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a scrape configuration for one METRICS_PORT; `instance` replaces its address."""
    static: dict[str, Any] = {"targets": [f"127.0.0.1:{port}"]}
    if instance is not None:
        static["labels"] = {"instance": instance}
    return {"job_name": "authproxy", "static_configs": [static], **more}


class Scraper(Prometheus):
    """Scrapes `jobs` at short intervals, and evaluates `rules` as often."""

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Mapping[str, Any]],
        *,
        rules: Path | None = None,
        interval: str = "250ms",
    ) -> None:
        super().__init__(folder)
        self._configuration = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "scrape_configs": [*jobs],
            "rule_files": [] if rules is None else [str(rules)],
        }

    def _write_configuration(self, port: int) -> None:
        (self.folder / "prometheus.yml").write_text(json.dumps(self._configuration))

    def ask_for(self, query: str, at: float | None = None) -> list[Series]:
        """Return the series of an instant query at a time in epoch seconds, or now."""
        result: list[Series] = self.query(query, time.time() if at is None else at)["result"]
        return result

    def value(self, query: str, at: float | None = None) -> float | None:
        """Return the first value of an instant query; None where there is none."""
        result = self.ask_for(query, at)
        return float(result[0]["value"][1]) if result else None

    def wait_for(self, what: str, query: str, value: float) -> float:
        """Return a time at which the query has this value, every target having been scraped.

        What was scraped is there at that time, though it end with a later scrape that fails: a
        scrape may take no longer than the interval.
        """
        moments: list[float] = []

        def holds() -> bool:
            moment = self.value("min(timestamp(up))")
            if moment is None or self.value("min(up)", moment) != 1:
                return False
            moments[:] = [moment]
            return self.value(query, moment) == value

        wait_until(what, holds)
        return moments[0]

    def history(self, query: str, since: float, until: float, step: float) -> list[Series]:
        """Return the series of a range query; times are seconds since the epoch."""
        span = {"query": query, "start": since, "end": until, "step": step}
        found: list[Series] = self._get("query_range", span)["result"]
        return found

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return the values that a label has among the selected series."""
        found: list[str] = self._get(f"label/{label}/values", {"match[]": selector})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules with their state, and what went wrong with them."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing, with their annotations filled in."""
        found: list[dict[str, Any]] = self._get("alerts", {})["alerts"]
        return found

    def _get(self, what: str, parameters: Mapping[str, Any]) -> Any:
        return self.ask("GET", f"/api/v1/{what}?{urlencode(parameters)}").data()

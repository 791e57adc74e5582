"""The pages on METRICS_PORT: /metrics for scrapers, /status for people."""

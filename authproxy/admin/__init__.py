"""What METRICS_PORT opens: /metrics for scrapers, /status for people."""

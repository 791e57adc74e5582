"""Draws docs/telemetry/dashboard.png: `make dashboard-picture`.

Two real proxies have two minutes of good and bad times, a real Prometheus
scrapes them, and what it responds to the dashboard's expressions is drawn in
the dashboard's layout.
"""

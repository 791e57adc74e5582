"""Every setting: declared once, read from all its sources, and judged."""

from __future__ import annotations

from authproxy.settings.model import Route, Settings
from authproxy.settings.reading import Loaded, load_settings

__all__ = ["Loaded", "Route", "Settings", "load_settings"]

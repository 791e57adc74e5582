"""A reverse proxy that puts Microsoft Entra ID tokens on HTTP requests."""

__version__ = "0.1.0"

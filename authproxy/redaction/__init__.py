"""Masks secrets in all that is logged or shown."""

from authproxy.redaction.redactor import MASK, Redactor, masked

__all__ = ["MASK", "Redactor", "masked"]

"""The grammar that several rules share, under the RFCs' own names."""

from __future__ import annotations

#: What names fields, methods and products (RFC 9110 section 5.6.2): a pattern, for regular
#: expressions.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

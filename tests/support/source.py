"""The source of the proxy, for tests that hold the documentation to it."""

from __future__ import annotations

from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "authproxy"

#: Each module's text, by its path in the package. The demonstration is none of the proxy's.
MODULES = {
    path.relative_to(PACKAGE).as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
    if "demo" not in path.relative_to(PACKAGE).parts
}

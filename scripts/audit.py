#!/usr/bin/env python3
"""audit.py LOCK...: fails if an advisory is known for what the locks pin, by pip-audit.

Asks OSV, or PyPI where OSV cannot be reached. Where neither can, it says loudly that nothing was
audited, and ends well: PyPI's package index alone, as most mirrors have it, knows no advisories.

AUDIT_SERVICES: which to ask, in this order (osv pypi). AUDIT_OSV_URL: another OSV.
AUDIT_IGNORE: ids of advisories that do not concern us; say why beside it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

OSV_URL = os.environ.get("AUDIT_OSV_URL") or "https://api.osv.dev/v1/query"
SERVICES = (os.environ.get("AUDIT_SERVICES") or "osv pypi").split()
IGNORED = (os.environ.get("AUDIT_IGNORE") or "").split()

#: Seconds that a service may take for one answer.
PATIENCE = 10


def first_pin(lock: Path) -> tuple[str, str]:
    """Return name and version of the first package in a lock."""
    found = re.search(r"^([A-Za-z0-9._-]+)==([^\s;]+)", lock.read_text(), re.M)
    if found is None:
        raise SystemExit(f"audit: {lock} pins nothing")
    return found[1], found[2]


def why_not(service: str, lock: Path) -> str | None:
    """Return why advisories cannot be had of a service; None if they can."""
    name, version = first_pin(lock)
    try:
        if service == "osv":
            query = {"package": {"name": name, "ecosystem": "PyPI"}, "version": version}
            answer = requests.post(OSV_URL, json=query, timeout=PATIENCE)
        else:
            url = f"https://pypi.org/pypi/{name}/{version}/json"
            answer = requests.get(url, timeout=PATIENCE)
        answer.raise_for_status()
        content = answer.json()
    except requests.HTTPError as error:
        return f"answered {error.response.status_code}"
    except requests.JSONDecodeError:
        return "answered no JSON"
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"
    return None if isinstance(content, dict) else "answered something else"


def audited(service: str, locks: list[Path]) -> list[dict[str, Any]]:
    """Return each pinned package with its advisories. Ends the program if that fails."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off"]
    command += ["--format", "json", "--timeout", str(PATIENCE), "--vulnerability-service", service]
    command += ["--osv-url", OSV_URL]
    for lock in locks:
        command += ["--requirement", str(lock)]
    for advisory in IGNORED:
        command += ["--ignore-vuln", advisory]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise SystemExit(f"audit: pip-audit failed:\n{run.stderr[-2000:]}") from None
    return dependencies


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def skip(reasons: list[str]) -> None:
    """Say that nothing was audited, in a way that is not overlooked."""
    say("*" * 70)
    say("AUDIT SKIPPED: no advisories can be had, so NOTHING was audited.")
    for reason in reasons:
        say(f"  {reason}")
    say("Run `make audit` where one of them can be reached.")
    say("*" * 70)


def judge(service: str, dependencies: list[dict[str, Any]]) -> int:
    """Say what was found; return the exit status."""
    unknown = [each["name"] for each in dependencies if "skip_reason" in each]
    if unknown:
        say(f"AUDIT INCOMPLETE: {service} knows nothing of {', '.join(unknown)}")
    found = [each for each in dependencies if each.get("vulns")]
    for each in found:
        for advisory in each["vulns"]:
            ids = ", ".join([advisory["id"], *advisory.get("aliases", [])])
            fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
            say(f"VULNERABLE: {each['name']} {each['version']}: {ids}; fixed in {fixed}")
            say(f"  {advisory['description'][:300]}")
    if found:
        say("Mend: make lock LOCK_ARGS='--upgrade-package NAME', then make test.")
        return 1
    count = len(dependencies) - len(unknown)
    if not count:
        skip([f"{service}: knows none of the locked packages"])
        return 0
    say(f"No advisory is known for the {count} locked packages ({service}).")
    return 0


def main() -> int:
    """Audit by the first service that can be reached."""
    locks = [Path(name) for name in sys.argv[1:]]
    if not locks:
        raise SystemExit("usage: audit.py LOCK...")
    if unknown := set(SERVICES) - {"osv", "pypi"}:
        raise SystemExit(f"audit: AUDIT_SERVICES={' '.join(sorted(unknown))}: use osv, pypi")
    reasons = []
    for service in SERVICES:
        reason = why_not(service, locks[0])
        if reason is None:
            return judge(service, audited(service, locks))
        where = OSV_URL if service == "osv" else "https://pypi.org/pypi/NAME/VERSION/json"
        reasons.append(f"{service}: {where} {reason}")
    skip(reasons)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A CycloneDX bill of materials of what the run-time lock installs: `python -m tools.sbom OUTPUT`.

What is installed, and with which hashes, the lock says; licences and who needs whom say the
packages themselves, as they are installed in the environment of this Python. The same lock and
SOURCE_DATE_EPOCH give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from authproxy import __version__

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "runtime.txt"
PROJECT = "entra-auth-proxy"
SPECIFICATION = "1.6"

Json = dict[str, Any]

#: Licences of packages whose metadata name none, from the licence files that they bring.
LICENSES = {"protobuf": "BSD-3-Clause"}


def normal(name: str) -> str:
    """Return a package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(*arguments: str) -> Json:
    """Return what cyclonedx-py lists."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "bom.json"
        command = [sys.executable, "-m", "cyclonedx_py", *arguments, "--output-reproducible"]
        command += ["--spec-version", SPECIFICATION, "--output-file", str(output)]
        # Validated at the end, as a whole.
        run = subprocess.run([*command, "--no-validate"], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"sbom: cyclonedx-py failed:\n{run.stderr}")
        content: Json = json.loads(output.read_text())
        return content


def described(locked: Json, installed: Json | None) -> Json:
    """Return one component: `installed` describes it, whatever version it is of."""
    component = {key: locked[key] for key in ("name", "purl", "type", "version")}
    component["bom-ref"] = locked["purl"]
    for key in ("description", "licenses"):
        if installed is not None and key in installed:
            component[key] = installed[key]
    license_id = LICENSES.get(normal(locked["name"]))
    if license_id and "licenses" not in component:
        component["licenses"] = [{"license": {"acknowledgement": "concluded", "id": license_id}}]
    # From the index, as a file with any of these hashes.
    component["externalReferences"] = locked["externalReferences"]
    marker = re.search(r"== *\S+ ; (.+?) +--hash", locked["description"])
    if marker:
        component["properties"] = [{"name": "authproxy:marker", "value": marker[1]}]
    return component


def check_versions(locked: list[Json], installed: dict[str, Json]) -> None:
    """End where the environment has another version than the lock has for it."""
    versions: dict[str, set[str]] = {}
    for each in locked:
        versions.setdefault(normal(each["name"]), set()).add(each["version"])
    for name, pinned in versions.items():
        here = installed.get(name, {}).get("version")
        if here is not None and here not in pinned:
            raise SystemExit(
                f"sbom: {name} {here} is installed, and the lock has "
                f"{' and '.join(sorted(pinned))}: run `make install`"
            )


def bill() -> Json:
    """Return the bill of materials."""
    locked = listed("requirements", str(LOCK))
    environment = listed("environment", sys.executable)
    installed = {normal(each["name"]): each for each in environment["components"]}
    check_versions(locked["components"], installed)
    components = [
        described(each, installed.get(normal(each["name"]))) for each in locked["components"]
    ]
    refs = {}
    for each in components:
        name = normal(each["name"])
        if name not in refs or installed.get(name, {}).get("version") == each["version"]:
            refs[name] = each["bom-ref"]
    root = {key: installed[PROJECT][key] for key in ("description", "licenses", "name")}
    # Not of PyPI, where there is no such package. The version installed may be of an older commit.
    root |= {"type": "application", "version": __version__}
    root["purl"] = f"pkg:generic/{PROJECT}@{__version__}"
    root["bom-ref"] = refs[PROJECT] = root["purl"]
    of_installed = {each["bom-ref"]: refs[name] for name, each in installed.items() if name in refs}
    # Without what only an extra wants, though it may be installed here.
    asked_for = {
        normal(re.split(r"[^\w.-]", each)[0])
        for each in importlib.metadata.requires(PROJECT) or []
        if "extra ==" not in each
    }
    needs = {
        of_installed[each["ref"]]: [
            of_installed[one] for one in each.get("dependsOn", []) if one in of_installed
        ]
        for each in environment["dependencies"]
        if each["ref"] in of_installed
    }
    needs[root["bom-ref"]] = [refs[name] for name in asked_for]
    content = {
        **environment,
        "metadata": {**environment["metadata"], "component": root},
        "components": sorted(components, key=lambda each: each["bom-ref"]),
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(needed)} for ref, needed in sorted(needs.items())
        ],
    }
    # A name for exactly this content.
    digest = json.dumps(content, sort_keys=True)
    content["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, digest).urn
    return content


def check(text: str) -> None:
    """End where the text is not as CycloneDX's schema wants it."""
    # Slow to load.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.from_version(SPECIFICATION)).validate_str(text)
    if error is not None:
        raise SystemExit(f"sbom: not valid CycloneDX: {error}")


def main() -> None:
    """Write the file, if it is as the schema wants it."""
    parser = argparse.ArgumentParser(description="Write the bill of materials.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--no-validate", action="store_true", help="do not check the result")
    options = parser.parse_args()
    text = json.dumps(bill(), indent=2, sort_keys=True) + "\n"
    if not options.no_validate:
        check(text)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)


if __name__ == "__main__":
    main()

"""docs/settings.md: its text, with what the settings' declarations say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from authproxy.settings import Settings
from authproxy.settings.azure_services import SERVICES
from authproxy.settings.declaration import Group, Setting


def made(root: Path, model: type[Settings]) -> dict[Path, str]:
    """Return the page, by its path."""
    every = list(model.declared.values())
    parts = {
        "route groups": _joined(f'"{each.title}"' for each in Group if _is_for_routes(each, every)),
        "reloaded": _joined(f"`{one.variable}`" for one in every if one.reloaded),
        "secret files": _joined(f"`{one.file.variable}`" for one in every if one.file),
        "other variables": "\n".join(
            f"| `{other}` | `{one.variable}` |" for one in every for other in one.also
        ),
        "audiences": "\n".join(_audiences()),
        "settings": "\n\n".join(_tables(model)),
    }
    text = (root / "docs" / "settings.md.in").read_text()
    for name, part in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", part)
    return {root / "docs" / "settings.md": text}


def _is_for_routes(group: Group, every: Iterable[Setting[Any]]) -> bool:
    return group.per_route and any(one.group is group for one in every)


def _joined(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _audiences() -> Iterator[str]:
    """Yield a row for each audience of each service, by name."""
    for service in sorted(SERVICES, key=lambda each: each.name):
        hosts = _joined(f"`*{suffix}`" for suffix in service.suffixes)
        audience = f"`{service.audience}`" if service.certain else f"set it: `{service.audience}`"
        yield f"| [{service.name}]({service.page}) | {hosts} | {audience} | {service.roles} |"


def _tables(model: type[Settings]) -> Iterator[str]:
    for group, members in groupby(model.declared.values(), key=lambda one: one.group):
        head = f"## {group.title}\n\n| variable | default | meaning |\n|---|---|---|\n"
        yield head + "\n".join(_row(model, one) for one in members)


def _row(model: type[Settings], one: Setting[Any]) -> str:
    default = f"`{one.literal}`" if one.literal else model.unset(one)
    notes = [one.doc]
    if one.kind.takes and not one.kind.words:
        notes.append(f"{one.kind.takes[0].upper()}{one.kind.takes[1:]}.")
    if one.needs and not one.required:
        notes.append(f"Only with {one.needs}.")
    if one.only_serve:
        notes.append("Only `authproxy serve` uses it.")
    if one.kind.secret:
        notes.append("Masked wherever it is shown.")
    return f"| `{one.variable}` | {default} | {' '.join(notes)} |"

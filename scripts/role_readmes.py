"""Writes each role's README from its `meta/argument_specs.yml`.

Usage: python scripts/role_readmes.py [--check]
"""  # noqa: INP001

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROLES: Final = Path(__file__).parents[1] / "roles"


def _text(said: str | list[str]) -> str:
    """Ansible's markup as Markdown's."""
    lines = [said] if isinstance(said, str) else said
    return "\n\n".join(re.sub(r"\bC\(([^()]*)\)", r"`\1`", line).strip() for line in lines)


def _type(option: dict[str, Any]) -> str:
    kind = f"{option['type']} of {option['elements']}" if "elements" in option else str(option["type"])
    if choices := option.get("choices"):
        kind += f": {', '.join(map(str, choices))}"
    return kind


def _default(value: object) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def generate(role: Path) -> str:
    """Return the text of a role's README.

    Args:
        role: the role's folder.

    Raises:
        OSError: the role has no argument specs.
    """
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    main = specs["main"]
    text = f"# {role.name}\n\n{_text(main['short_description'])}.\n\n{_text(main.get('description', ''))}\n"
    if options := main["options"]:
        text += "\n| Variable | Type | Default | |\n|---|---|---|---|\n"
        for name, option in options.items():
            text += _row(f"`{name}`", _type(option), _default(option["default"]), _text(option["description"]))
    return text


def main() -> None:
    """Write the files, or with `--check` fail if they would change."""
    for specs in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        role = specs.parents[1]
        readme, text = role / "README.md", generate(role)
        if readme.exists() and readme.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            raise SystemExit(
                f"{readme} does not fit argument_specs.yml; write it anew with: python scripts/role_readmes.py"
            )
        readme.write_text(text)


if __name__ == "__main__":
    main()

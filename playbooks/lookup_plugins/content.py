# ruff: noqa: INP001 # Ansible finds it by its folder
"""Lookup ``content``: a digest of files and folders, for tags that change when what they name changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = """
name: content
short_description: A digest of files and folders
description:
  - Gives one SHA-256 over the names, the bytes and the executable bits of files.
  - Where the files are, who owns them and when they were changed makes no difference. Compiled Python is left out.
options:
  _terms:
    description: Files, and folders with all that is in them.
    required: true
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('content', 'src', 'pyproject.toml') }}"
"""

RETURN = """
_list:
  description: The digest, as hexadecimal digits.
  type: list
  elements: str
"""


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    if root.is_file():
        yield root.name, root
        return
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and "__pycache__" not in name.parts:
            yield f"{root.name}/{name.as_posix()}", path


def digest(roots: list[Path]) -> str:
    """Digest files and folders.

    Raises:
        AnsibleLookupError: one of them does not exist.
    """
    whole = hashlib.sha256()
    for root in roots:
        if not root.exists():
            raise AnsibleLookupError(f"{root} does not exist; name a file or a folder that does")
        for name, path in _files(root):
            executable = bool(path.stat().st_mode & 0o100)
            whole.update(f"{name}\0{executable}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


class LookupModule(LookupBase):  # type: ignore[misc] # Ansible has no types
    """Gives what the documentation above says."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Digest what is named."""
        self.set_options(var_options=variables, direct=kwargs)
        return [digest([Path(term) for term in terms])]

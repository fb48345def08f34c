# ruff: noqa: INP001 # Ansible finds it by its folder
"""Lookup ``pin``: the version, files and images of a pin in ``mirror/pins.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCUMENTATION = """
name: pin
short_description: What a pin of mirror/pins.yaml stands for
description:
  - Gives the version of a pin, the addresses and checksums of its files, and the names of its images.
  - mirror/pins.yaml is the only place where a version stands.
options:
  _terms:
    description: Names of pins.
    required: true
  base_url:
    description:
      - What goes before an upstream path.
      - C(https:/) is upstream itself; the address of a mirror has the same paths below it.
    default: "https:/"
"""

EXAMPLES = """
- ansible.builtin.get_url:
    url: "{{ lookup('pin', 'runc').files['runc.amd64'].url }}"
    checksum: "{{ lookup('pin', 'runc').files['runc.amd64'].checksum }}"
    dest: /usr/local/sbin/runc
    mode: "0755"
"""

RETURN = """
_list:
  description: >-
    For each pin a dictionary with its C(version), the names of its C(images) in a mirror and C(upstream_images),
    C(containers): the image of each container in Knative's manifests, and C(files): by the last part of its path,
    each file's C(url) and C(checksum) as get_url takes them.
  type: list
  elements: dict
"""

_PINS = Path(__file__).parents[2] / "mirror" / "pins.yaml"


@cache
def _load() -> dict[str, Any]:
    try:
        from airflow_knative.mirror import pins  # noqa: PLC0415 # its absence gets a message
    except ImportError as error:
        raise AnsibleLookupError(
            f"cannot import airflow_knative.mirror in Ansible's Python ({error}); install this checkout beside Ansible:"
            " pip install '.[cluster]'"
        ) from error
    return dict(pins.load(_PINS).pins)


class LookupModule(LookupBase):  # type: ignore[misc] # Ansible has no types
    """Gives what the documentation above says."""

    def run(self, terms: Sequence[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Look pins up.

        Raises:
            AnsibleLookupError: there is no such pin, or the file of pins cannot be read.
        """
        self.set_options(var_options=variables, direct=kwargs)
        base = str(self.get_option("base_url"))
        known = _load()
        found = []
        for name in terms:
            if name not in known:
                raise AnsibleLookupError(f"mirror/pins.yaml has no pin {name!r}; it has {', '.join(known)}")
            pin = known[name]
            files = {
                file.path.rpartition("/")[2]: {
                    "url": f"{base}/{file.path}",
                    "checksum": f"sha256:{file.sha256 or f'{base}/{file.checksum}'}",
                }
                for file in pin.files
            }
            found.append(
                {
                    "version": pin.version,
                    "files": files,
                    "images": [image.name for image in pin.images],
                    "upstream_images": [image.upstream or image.name for image in pin.images],
                    "containers": {image.container: image.name for image in pin.images if image.container},
                }
            )
        return found

"""The mirror's folder, as the tests use it: files by pin, images by name."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from airflow_knative.mirror import manifest, pins
from testnodes.errors import NodeError
from testnodes.images import REPOSITORY

__all__ = ["Mirror"]


class Mirror:
    """A filled mirror.

    Raises:
        NodeError: it has not been filled.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(os.environ.get("AIRFLOW_KNATIVE_MIRROR", REPOSITORY / "dist" / "mirror"))
        if not (self.folder / manifest.NAME).exists():
            raise NodeError(f"{self.folder} is no mirror; run `make mirror` first")
        self.pins = pins.load(REPOSITORY / "mirror" / "pins.yaml").pins
        self.manifest = manifest.read(self.folder)

    def file(self, pin: str, ending: str = "") -> Path:
        """The file of a pin whose upstream path ends like this."""
        for output in self.pins[pin].files:
            if output.path.endswith(ending):
                return self.folder / "files" / output.path
        raise NodeError(f"the pin {pin} has no file that ends in {ending!r}")

    def unpack(self, pin: str, target: Path) -> None:
        """Unpack the only archive of a pin."""
        with tarfile.open(self.file(pin)) as tar:
            tar.extractall(target, filter="data")

    def image(self, name: str) -> Path:
        """The archive of an image."""
        try:
            return self.folder / self.manifest.images[name].file
        except KeyError:
            raise NodeError(f"the mirror has no image {name}") from None

    def images(self, *names: str) -> list[str]:
        """The full names of all images of these pins."""
        return [image.name for name in names for image in self.pins[name].images]

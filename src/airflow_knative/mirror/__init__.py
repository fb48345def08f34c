"""Fills a folder with every file and image that a cluster needs, from upstream or built from source."""

from __future__ import annotations

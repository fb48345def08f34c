#!/bin/sh
# Install what this package needs with an extra and in containers, as locked, into /opt/venv: packages.sh EXTRA
set -eu
[ -d /opt/venv ] || uv venv --quiet --no-project /opt/venv
index.sh uv pip install --constraints requirements.lock --requirements pyproject.toml --extra "$1" --extra container

#!/bin/sh
# Install the uv of requirements.lock into a folder: install-uv.sh PYTHON FOLDER
#
# `pip install --target` needs neither venv nor ensurepip, which Debian packages apart, and leaves the system alone.
set -eu
python=$1
folder=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "'$python' is not Python 3.11 or later ($("$python" --version 2>/dev/null || echo 'not found'));" \
        "name one that is: make PYTHON=python3.12" >&2
    exit 1
fi
if ! "$python" -m pip --version >/dev/null 2>&1; then
    echo "'$python' has no pip; install it (on Debian and Ubuntu: apt-get install python3-pip)" \
        "or name another Python: make PYTHON=..." >&2
    exit 1
fi
mkdir -p "$folder"
awk '/^uv==/ {found = 1} found {print} found && !/\\$/ {exit}' requirements.lock >"$folder/uv.lock"
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-warn-script-location --no-deps --require-hashes \
    --upgrade --target "$folder" --requirement "$folder/uv.lock"
touch "$folder/bin/uv"

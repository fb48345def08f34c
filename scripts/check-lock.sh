#!/bin/sh
# Fail if requirements.lock does not fit pyproject.toml, without looking for newer versions: check-lock.sh COMPILE...
set -eu
mkdir -p build
cp requirements.lock build/requirements.lock
"$@" --output-file build/requirements.lock
if ! cmp -s requirements.lock build/requirements.lock; then
    diff requirements.lock build/requirements.lock | grep '^[<>] [a-z]' >&2 || true
    echo "requirements.lock does not fit pyproject.toml; write it anew with: make lock" >&2
    exit 1
fi
if grep -nE 'https?://|index-url|find-links' requirements.lock >&2; then
    echo "requirements.lock names a place to fetch from; it has to fit every network" >&2
    exit 1
fi
echo "requirements.lock fits pyproject.toml"

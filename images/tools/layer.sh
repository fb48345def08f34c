#!/bin/sh
# Run a command that adds packages to /opt/venv, compile what is new, and copy that to /layer: layer.sh COMMAND ARGUMENTS...
#
# So an image holds each step's files as a layer of its own, without what the step needed.
set -eu
mark=$(mktemp)
touch "$mark"
sleep 0.1 # a file system's clock ticks, and what is new must be newer
"$@"
rm -rf /layer
mkdir -p /layer/opt/venv
cd /opt/venv
find . -name '*.py' -cnewer "$mark" | compile.sh
find . ! -type d -cnewer "$mark" -print0 | tar --create --null --files-from - | tar --extract --directory /layer/opt/venv
rm "$mark"

#!/bin/sh
# Run uv with the package index that pip is set up for: uv.sh PYTHON UV ARGUMENTS...
#
# uv does not read pip's settings, and in a network with an index of its own pip's is the one to use.
set -eu
python=$1
uv=$2
shift 2
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=$("$python" -m pip config get global.index-url 2>/dev/null || true)
    index=${PIP_INDEX_URL:-$index}
    if [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index"
    fi
fi
exec "$uv" "$@"

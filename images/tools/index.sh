#!/bin/sh
# Run a command with the package index and the certificates that the build was given as secrets, if any:
# index.sh COMMAND ARGUMENTS...
#
# Secrets are there while one step runs: neither an image nor its history holds them.
set -eu
if [ -f /run/secrets/index ]; then
    UV_DEFAULT_INDEX=$(cat /run/secrets/index)
    export UV_DEFAULT_INDEX PIP_INDEX_URL="$UV_DEFAULT_INDEX"
fi
if [ -f /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi
exec "$@"

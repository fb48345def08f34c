#!/bin/sh
# Move something below the current folder to the same place below another: part.sh FOLDER PATH
set -eu
mkdir -p "$1/$(dirname "$2")"
mv "$2" "$1/$2"

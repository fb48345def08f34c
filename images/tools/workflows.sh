#!/bin/sh
# Part a folder of workflows: what they require goes to one file, the rest with its bytecode to a folder:
# workflows.sh FOLDER REQUIREMENTS DAGS
set -eu
cd "$1"
for file in *requirements.txt; do
    [ -f "$file" ] && cat "$file" && echo
done >"$2"
mkdir -p "$3"
tar --create --exclude __pycache__ --exclude './*requirements.txt' . | tar --extract --no-same-owner --directory "$3"
chmod -R u=rwX,go=rX "$3"
find "$3" -name '*.py' | compile.sh

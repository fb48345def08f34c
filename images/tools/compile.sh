#!/bin/sh
# Write bytecode for the Python files that standard input names, one a line.
#
# It is never compared with its source again: the source does not change in an image, and file times differ from build to
# build. A file that is no Python of this version is named, and left without.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -i - || true

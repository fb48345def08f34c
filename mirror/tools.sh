#!/bin/sh
# Installs the Debian packages that building the mirror needs, where they are missing. Argument: the mirror's source.
set -eu

[ "${1:-build}" != download ] || exit 0
missing=
need() {
    # $1: a program or a file, $2: the package that has it
    case $1 in
        /*) [ -e "$1" ] || missing="$missing $2" ;;
        *) command -v "$1" >/dev/null 2>&1 || missing="$missing $2" ;;
    esac
}
need mmdebstrap mmdebstrap
need gcc gcc
need /usr/include/seccomp.h libseccomp-dev
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "building the mirror needs the Debian packages$missing; install them, or run this as root" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list
apt-get install -qq --yes --no-install-recommends $missing >/dev/null

#!/bin/bash
# What the upstream image's entrypoint does, for what charts use of it: makes the database in PGDATA on the first
# start from POSTGRES_USER, POSTGRES_PASSWORD(_FILE), POSTGRES_DB, POSTGRES_INITDB_ARGS and
# POSTGRES_HOST_AUTH_METHOD, runs /docker-entrypoint-initdb.d/*.{sh,sql}, and then becomes the server.
set -euo pipefail

die() {
    echo "postgres: $1" >&2
    exit 1
}

from_file() {
    local name=$1 file_name="${1}_FILE"
    [[ -z ${!name:-} || -z ${!file_name:-} ]] || die "$name and $file_name are both set; set one of them"
    if [[ -n ${!file_name:-} ]]; then
        printf -v "$name" '%s' "$(<"${!file_name}")"
    fi
}

make_database() {
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    local user=${POSTGRES_USER:-postgres} database method password_file
    database=${POSTGRES_DB:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    [[ -n ${POSTGRES_PASSWORD:-} || $method == trust ]] ||
        die "POSTGRES_PASSWORD is empty; set it, or POSTGRES_HOST_AUTH_METHOD=trust to let everybody in"
    password_file=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-unused}" >"$password_file"
    # shellcheck disable=SC2086 # the arguments are a list
    initdb --username="$user" --pwfile="$password_file" --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host="$method" -D "$PGDATA" ${POSTGRES_INITDB_ARGS:-}
    rm -f "$password_file"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    # Only on the socket: nobody may connect before everything is in place.
    pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    local sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$user")
    if [[ $database != postgres ]]; then
        # psql fills variables into what it reads, not into --command.
        "${sql[@]}" --dbname postgres -v name="$database" <<<'CREATE DATABASE :"name";'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh)
                # shellcheck disable=SC1090 # given by the user
                . "$file"
                ;;
            *.sql) "${sql[@]}" --dbname "$database" --file "$file" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
}

[[ ${1:-postgres} != -* ]] || set -- postgres "$@"
# Only a server needs a database; "postgres --version" does not.
if [[ $1 == postgres && ! " $* " =~ \ (--version|-V|--help|-\?|--describe-config)\  ]]; then
    if [[ $(id -u) == 0 ]]; then
        mkdir -p "$PGDATA" /run/postgresql
        chown -R postgres "$PGDATA"
        chown postgres /run/postgresql
        exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
    fi
    mkdir -p "$PGDATA"
    chmod 0700 "$PGDATA"
    if [[ ! -s $PGDATA/PG_VERSION ]]; then
        make_database
    fi
    set -- "$@" -c listen_addresses='*' -c unix_socket_directories="${PGSOCKET:-/run/postgresql}"
fi
exec "$@"
